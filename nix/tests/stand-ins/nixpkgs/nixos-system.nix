{ system, modules }:
(import ./nixos.nix { lib = import ./lib.nix; }).system {
  inherit modules;
  pkgs = import ./. {
    inherit system;
    overlays = [ ];
  };
}
