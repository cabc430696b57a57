# The NixOS modules: `default` imports them all, and none does anything until it is enabled.
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
{
  default = {
    imports = builtins.attrValues files;
    nixpkgs.overlays = [ overlay ];
  };
}
