# What the two caches have in common: options, then configuration. No module: sharded-cache.nix and full-piece-sharded-cache.nix
# call it.
{
  # Name of the service below services.autonomys.
  service,
  # Name of the unit, its description, and its words (nix/lib/commands.nix).
  unit,
  description,
  command,
  port,
  metricsPort,
  directory,
}:
{ config, lib, ... }:
let
  inherit (lib) mkOption mkEnableOption types;
  shared = config.services.autonomys;
  cfg = shared.${service};
  pure = import ../lib;
  program = command (pure.shared.of shared) cfg;
in
{
  options.services.autonomys.${service} = {
    enable = mkEnableOption description;
    path = mkOption {
      type = types.str;
      default = "${shared.stateDir}/data/${directory}";
      description = "Directory of the store.";
    };
    sizeBytes = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      description = "Bytes that the store may take; null: all that is free.";
    };
    port = mkOption {
      type = types.port;
      default = port;
      description = "TCP port that serves pieces.";
    };
    cpus = mkOption {
      type = types.nullOr (types.listOf types.int);
      default = null;
      description = "CPUs that it runs on; its memory is then taken from where they are.";
    };
    metricsPort = mkOption {
      type = types.port;
      default = metricsPort;
      description = "Port of /metrics, /ready and /status.";
    };
    memoryMax = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Memory beyond which it is killed and started again (systemd's MemoryMax). The store is mapped: its pages in the page cache count.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.autonomys.units.${unit} = {
      inherit (program) command environment;
      inherit (cfg) cpus memoryMax;
      description = "Autonomys ${description}";
      rank = 50;
      program = lib.getExe' shared.package "autonomys-farmer";
      directories = [ cfg.path ];
      credentials = pure.shared.credentials shared;
      ports = [ cfg.port ] ++ lib.optional (shared.metricsAddress != "127.0.0.1") cfg.metricsPort;
      gate = pure.shared.gate shared cfg.metricsPort;
      readySeconds = 300;
    };
  };
}
