# Plot-servers: encode sectors for plot-clients, one for each GPU.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  shared = config.services.autonomys;
  cfg = shared.plot-server;
  pure = import ../lib;

  instance = types.submodule (
    { name, ... }:
    {
      options = {
        port = mkOption {
          type = types.port;
          description = "TCP port that plot-clients fetch sectors from.";
        };
        path = mkOption {
          type = types.str;
          default = "${shared.stateDir}/data/${name}";
          description = "Directory of the spool.";
        };
        gpu = mkOption {
          type = types.nullOr types.ints.unsigned;
          default = null;
          description = "Its GPU, as nvidia-smi counts; null: it plots on CPUs.";
        };
        gpuConcurrency = mkOption {
          type = types.nullOr types.ints.positive;
          default = null;
          description = "Records on its card at the same time; null: what the program chooses.";
        };
        cpus = mkOption {
          type = types.nullOr (types.listOf types.int);
          default = null;
          description = ''
            CPUs that it runs on; its memory is then taken from where they are. Null with a GPU: when it starts, it takes its share of
            the cores of the NUMA node that its card is at (place.sh). Null without one: all of them.
          '';
        };
        metricsPort = mkOption {
          type = types.port;
          description = "Port of /metrics, /ready and /status.";
        };
        memoryMax = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "Memory beyond which it is killed and started again (systemd's MemoryMax).";
        };
      };
    }
  );

  placeScript = pkgs.writeShellApplication {
    name = "autonomys-place";
    runtimeInputs = [
      pkgs.coreutils
      pkgs.numactl
    ];
    text = builtins.readFile ./place.sh;
  };
  gpus = lib.filter (gpu: gpu != null) (
    map (server: if server.cpus == null then server.gpu else null) (lib.attrValues cfg.instances)
  );
  place =
    server:
    if server.gpu == null || server.cpus != null then
      null
    else
      "${lib.getExe placeScript} ${toString server.gpu} ${builtins.concatStringsSep "," (map toString gpus)} --";

  # An inventory may call a plot-server anything; a unit and its user say whose they are.
  unitName = name: if lib.hasPrefix "autonomys-" name then name else "autonomys-${name}";
  unit =
    server:
    let
      program = pure.commands.plotServer (pure.shared.of shared) server;
    in
    {
      inherit (program) command environment;
      inherit (server) cpus memoryMax;
      description = "Autonomys plot-server${
        lib.optionalString (server.gpu != null) " on GPU ${toString server.gpu}"
      }";
      rank = 60;
      program = lib.getExe' shared.package "autonomys-farmer";
      placedAtStart = place server;
      gpu = server.gpu != null;
      directories = [ server.path ];
      credentials = pure.shared.credentials shared;
      ports = [
        server.port
      ]
      ++ lib.optional (shared.metricsAddress != "127.0.0.1") server.metricsPort;
      gate = pure.shared.gate shared server.metricsPort;
      readySeconds = 180;
    };
in
{
  options.services.autonomys.plot-server.instances = mkOption {
    type = types.attrsOf instance;
    default = { };
    example = {
      autonomys-plot-server-0 = {
        gpu = 0;
        port = 9966;
        metricsPort = 9866;
      };
    };
    description = "Plot-servers by name; the units are called so, with `autonomys-` in front where it is not there.";
  };

  config = lib.mkIf (cfg.instances != { }) {
    services.autonomys.units = lib.mapAttrs' (
      name: server: lib.nameValuePair (unitName name) (unit server)
    ) cfg.instances;
    assertions = [
      {
        assertion = lib.unique gpus == gpus;
        message = "services.autonomys.plot-server.instances: two plot-servers have the same GPU (${lib.concatMapStringsSep ", " toString gpus}); give each its own";
      }
    ];
  };
}
