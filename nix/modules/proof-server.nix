# The proof-server: proves winning chunks for plot-clients.
{ config, lib, ... }:
let
  inherit (lib) mkOption mkEnableOption types;
  shared = config.services.autonomys;
  cfg = shared.proof-server;
  pure = import ../lib;
  program = pure.commands.proofServer (pure.shared.of shared) cfg;
in
{
  options.services.autonomys.proof-server = {
    enable = mkEnableOption "a proof-server";
    gpu = mkOption {
      type = types.nullOr types.ints.unsigned;
      default = null;
      description = "The GPU it proves on, as nvidia-smi counts; null: the CPU.";
    };
    metricsPort = mkOption {
      type = types.port;
      default = 9861;
      description = "Port of /metrics, /ready and /status.";
    };
    memoryMax = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Memory beyond which it is killed and started again (systemd's MemoryMax).";
    };
  };

  config = lib.mkIf cfg.enable {
    services.autonomys.units.autonomys-proof-server = {
      inherit (program) command environment;
      inherit (cfg) memoryMax;
      description = "Autonomys proof-server";
      rank = 40;
      program = lib.getExe' shared.package "autonomys-farmer";
      gpu = cfg.gpu != null;
      credentials = pure.shared.credentials shared;
      ports = lib.optional (shared.metricsAddress != "127.0.0.1") cfg.metricsPort;
      gate = pure.shared.gate shared cfg.metricsPort;
      readySeconds = 180;
    };
  };
}
