# The NixOS modules: `services` are all of them, and none does anything until it is enabled; `default` has the packages with them. Whoever
# makes the package set himself, as the VM tests do, gives it the overlay and takes `services`.
{ overlay }:
let
  files = {
    units = ./units.nix;
    common = ./common.nix;
    nats = ./nats.nix;
    node = ./node.nix;
    controller = ./controller.nix;
    proof-server = ./proof-server.nix;
    sharded-cache = ./sharded-cache.nix;
    full-piece-sharded-cache = ./full-piece-sharded-cache.nix;
    plot-server = ./plot-server.nix;
    plot-client = ./plot-client.nix;
    exporter = ./exporter.nix;
    cluster = ./cluster.nix;
  };
in
rec {
  services.imports = builtins.attrValues files;
  default = {
    imports = [ services ];
    nixpkgs.overlays = [ overlay ];
  };
}
