{
  description = "Stands in for nixpkgs where there is none";
  outputs = _: { lib = import ./lib.nix; };
}
