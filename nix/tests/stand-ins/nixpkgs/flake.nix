{
  description = "Stands in for nixpkgs where there is none";
  outputs = _: {
    # As in nixpkgs, the flake's lib has one function more than that of a package set.
    lib = import ./lib.nix // {
      nixosSystem = import ./nixos-system.nix;
    };
  };
}
