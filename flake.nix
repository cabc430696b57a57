{
  description = "Autonomys farming cluster: packages, appliance, NixOS modules and the VM tests that prove them";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    crane.url = "github:ipetkov/crane";
  };

  outputs = inputs: import ./nix/outputs.nix inputs;
}
