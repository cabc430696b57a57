# The node: the development chain's, or the network's own by the command line that its package brings.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption mkEnableOption types;
  shared = config.services.autonomys;
  cfg = shared.node;
  pure = import ../lib;
  name = "autonomys-node";
  rpc = (import ../lib/address.nix).withPort cfg.address cfg.rpcPort;

  development = {
    program = lib.getExe' shared.package "autonomys-dev-node";
    inherit
      (pure.commands.devNode {
        inherit (cfg) dataDir follow chain;
        inherit (shared) devSrsCache;
        rpcListenOn = rpc;
      })
      command
      environment
      ;
  };
  network = {
    program = lib.getExe' cfg.package "autonomys-node";
    inherit
      (pure.commands.networkNode {
        inherit (cfg) dataDir networkChain extraArguments;
        rpcListenOn = rpc;
      })
      command
      environment
      ;
  };
in
{
  options.services.autonomys.node = {
    enable = mkEnableOption "a node";
    package = mkOption {
      type = types.nullOr types.package;
      default = null;
      description = "Package with the network's autonomys-node, which this flake does not build. Null: the development chain, whose rewards are worth nothing.";
    };
    networkChain = mkOption {
      type = types.str;
      default = "mainnet";
      description = "`--chain` of the network's node.";
    };
    extraArguments = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Further arguments of the network's node.";
    };
    address = mkOption {
      type = types.str;
      default = shared.address;
      description = "Address of its RPC. Whoever reaches it can act as the farm.";
    };
    rpcPort = mkOption {
      type = types.port;
      default = 9944;
      description = "Port of its RPC.";
    };
    dataDir = mkOption {
      type = types.str;
      default = "${shared.stateDir}/data/${if cfg.package == null then "dev-node" else "node"}";
      description = "Directory of its database.";
    };
    follow = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "ws://192.168.1.1:9944";
      description = "The development node that this one replicates; null of the one that makes the chain.";
    };
    chain = mkOption {
      type = types.attrsOf (types.nullOr types.raw);
      default = { };
      example = {
        seed = "farm";
        pieces-in-sector = 12;
      };
      description = "Parameters of the development chain, by its flags' names.";
      apply =
        given:
        lib.genAttrs [
          "pieces-in-sector"
          "seed"
          "slot-ms"
          "block-bytes"
          "archive-ahead"
          "confirmation-depth"
          "recent-segments"
          "min-sector-lifetime"
          "slots-per-block"
        ] (flag: given.${flag} or null);
    };
  };

  config = lib.mkIf cfg.enable {
    services.autonomys.units.${name} = (if cfg.package == null then development else network) // {
      description = "Autonomys node";
      rank = 20;
      directories = [ cfg.dataDir ];
      needsSecret = false;
      # It closes its database.
      stopSeconds = 60;
      ports = [ cfg.rpcPort ];
      gate = [
        "node"
        rpc
      ];
      readySeconds = 600;
    };
  };
}
