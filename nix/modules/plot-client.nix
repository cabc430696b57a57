# The plot-client: farms all disks of a storage host.
{ config, lib, ... }:
let
  inherit (lib) mkOption mkEnableOption types;
  shared = config.services.autonomys;
  cfg = shared.plot-client;
  pure = import ../lib;
  program = pure.commands.plotClient (pure.shared.of shared) cfg;
  isOwn = farm: lib.hasPrefix "${shared.stateDir}/" farm.path;

  farm = types.submodule {
    options = {
      path = mkOption {
        type = types.str;
        description = "Directory of the farm. Below stateDir it is made, elsewhere it has to be there.";
      };
      sectors = mkOption {
        type = types.nullOr types.ints.positive;
        default = null;
        description = "Number of its sectors.";
      };
      sizeBytes = mkOption {
        type = types.nullOr types.ints.positive;
        default = null;
        description = "Space it may take, in the place of `sectors`.";
      };
    };
  };
in
{
  options.services.autonomys.plot-client = {
    enable = mkEnableOption "a plot-client";
    rewardAddress = mkOption {
      type = types.str;
      description = "Address (SS58) that receives the rewards.";
    };
    farms = mkOption {
      type = types.listOf farm;
      default = [ ];
      description = "Farms, one a disk.";
    };
    newSegmentDelayMaxSeconds = mkOption {
      type = types.nullOr types.ints.unsigned;
      default = null;
      description = "Longest wait before sectors are checked for expiry after a new segment; null: the program's own.";
    };
    metricsPort = mkOption {
      type = types.port;
      default = 9864;
      description = "Port of /metrics, /ready and /status.";
    };
    memoryMax = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Memory beyond which it is killed and started again (systemd's MemoryMax).";
    };
  };

  config = lib.mkIf cfg.enable {
    services.autonomys.units.autonomys-plot-client = {
      inherit (program) command environment;
      inherit (cfg) memoryMax;
      description = "Autonomys plot-client";
      rank = 70;
      program = lib.getExe' shared.package "autonomys-farmer";
      directories = map (farm: farm.path) (lib.filter isOwn cfg.farms);
      disks = map (farm: farm.path) (lib.filter (farm: !isOwn farm) cfg.farms);
      credentials = pure.shared.credentials shared;
      # It finishes the write of a sector.
      stopSeconds = 30;
      ports = lib.optional (shared.metricsAddress != "127.0.0.1") cfg.metricsPort;
      gate = pure.shared.gate shared cfg.metricsPort;
      readySeconds = 300;
    };
    assertions = [
      {
        assertion = cfg.farms != [ ];
        message = "services.autonomys.plot-client.farms is empty: a plot-client without a farm does nothing";
      }
    ]
    ++ map (farm: {
      assertion = (farm.sectors == null) != (farm.sizeBytes == null);
      message = "services.autonomys.plot-client.farms: ${farm.path} needs either sectors or sizeBytes";
    }) cfg.farms;
  };
}
