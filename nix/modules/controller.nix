# The controller: connects the cluster to a node.
{ config, lib, ... }:
let
  inherit (lib) mkOption mkEnableOption types;
  shared = config.services.autonomys;
  cfg = shared.controller;
  pure = import ../lib;
  inherit (pure) withPort;
  program = pure.commands.controller (pure.shared.of shared) cfg;
in
{
  options.services.autonomys.controller = {
    enable = mkEnableOption "a controller";
    nodeRpcUrl = mkOption {
      type = types.str;
      default = "ws://${withPort shared.node.address shared.node.rpcPort}";
      description = "WebSocket address of a node that allows unsafe RPC to this host.";
    };
    basePath = mkOption {
      type = types.str;
      default = "${shared.stateDir}/data/controller";
      description = "Directory of this instance's identity.";
    };
    metricsPort = mkOption {
      type = types.port;
      default = 9860;
      description = "Port of /metrics, /ready and /status.";
    };
    memoryMax = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Memory beyond which it is killed and started again (systemd's MemoryMax).";
    };
  };

  config = lib.mkIf cfg.enable {
    services.autonomys.units.autonomys-controller = {
      inherit (program) command environment;
      inherit (cfg) memoryMax;
      description = "Autonomys controller";
      rank = 30;
      program = lib.getExe' shared.package "autonomys-farmer";
      directories = [ cfg.basePath ];
      credentials = pure.shared.credentials shared;
      ports = lib.optional (shared.metricsAddress != "127.0.0.1") cfg.metricsPort;
      gate = pure.shared.gate shared cfg.metricsPort;
      readySeconds = 180;
    };
  };
}
