# A host of an inventory: everything else of services.autonomys follows from that. The same inventory as provision's, as
# `provision resolve INVENTORY > cluster.json` prints it, since Nix reads no YAML.
{ config, lib, ... }:
let
  inherit (lib) mkOption mkEnableOption types mkIf;
  cfg = config.services.autonomys.cluster;
  pure = import ../lib;
  settings = pure.cluster {
    document =
      if builtins.isAttrs cfg.inventory then
        cfg.inventory
      else
        builtins.fromJSON (builtins.readFile cfg.inventory);
    hostName = cfg.host;
  };
  # The settings of a service that this host has. Which ones there are must not depend on the inventory: the module system asks for
  # the names of all definitions, also where nothing is enabled.
  serviceOf =
    given: names:
    {
      enable = given != null;
    }
    // lib.genAttrs names (name: mkIf (given != null) given.${name});
  isClustered = nats: nats != null && nats.cluster != null;
  cacheSettings = [
    "port"
    "path"
    "sizeBytes"
    "cpus"
    "metricsPort"
  ];
in
{
  options.services.autonomys.cluster = {
    enable = mkEnableOption "this host's part of an Autonomys farming cluster";
    inventory = mkOption {
      type = types.either types.path (types.attrsOf types.raw);
      example = "./cluster.json";
      description = "File of what `provision resolve INVENTORY` printed, or that itself. It holds no secret.";
    };
    host = mkOption {
      type = types.str;
      default = config.networking.hostName;
      description = "Name of this host in the inventory.";
    };
  };

  config = mkIf cfg.enable {
    services.autonomys = {
      inherit (settings.shared)
        address
        natsServers
        clusterName
        natsCa
        metricsAddress
        stateDir
        ;
      secretFile = lib.mkDefault settings.shared.secretFile;
      # Where provision would put it; from the store, fetched by its hash, it is as good.
      srs = lib.mkDefault settings.shared.srs;
      devSrsCache = lib.mkDefault settings.shared.devSrsCache;
      # Itself included: programs of one host reach each other at its address, through the loopback, which is open.
      inherit (settings) peers;
      nats =
        serviceOf settings.nats [
          "serverName"
          "address"
          "port"
          "monitorPort"
          "maxPayloadBytes"
          "storeDir"
          "tls"
        ]
        // {
          clusterPort = mkIf (isClustered settings.nats) settings.nats.cluster.port;
          routes = mkIf (isClustered settings.nats) settings.nats.cluster.routes;
        };
      node = serviceOf settings.node [
        "rpcPort"
        "dataDir"
        "networkChain"
        "extraArguments"
        "follow"
        "chain"
      ];
      controller = serviceOf settings.controller [
        "metricsPort"
        "basePath"
        "nodeRpcUrl"
      ];
      proof-server = serviceOf settings.proofServer [
        "metricsPort"
        "gpu"
      ];
      sharded-cache = serviceOf settings.shardedCache cacheSettings;
      full-piece-sharded-cache = serviceOf settings.fullPieceShardedCache cacheSettings;
      plot-server.instances = builtins.listToAttrs (
        map (server: {
          inherit (server) name;
          value = builtins.removeAttrs server [ "name" ];
        }) settings.plotServers
      );
      plot-client = serviceOf settings.plotClient [
        "metricsPort"
        "rewardAddress"
        "newSegmentDelayMaxSeconds"
        "farms"
      ];
      exporter = {
        enable = settings.exporter != null;
        port = mkIf (settings.exporter != null) settings.exporter;
      };
    };
    assertions = [
      {
        assertion =
          settings.node == null || !settings.node.isNetworks || config.services.autonomys.node.package != null;
        message = "services.autonomys.cluster: the inventory farms for a network: set services.autonomys.node.package to a package with its autonomys-node, which this flake does not build";
      }
    ];
  };
}
