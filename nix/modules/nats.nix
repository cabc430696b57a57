# nats-server with JetStream.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption mkEnableOption types;
  shared = config.services.autonomys;
  cfg = shared.nats;
  pure = import ../lib;
  name = "autonomys-nats";

  # With a secret, NATS asks for passwords that follow from it.
  passwords = shared.secretFile != null;
  withUser =
    route:
    if passwords && !lib.hasInfix "@" route then
      builtins.replaceStrings [ "://" ] [ "://autonomys-route:NATS-ROUTE-PASSWORD@" ] route
    else
      route;

  # A file of the store: it names certificates, and marks stand in the places of passwords.
  template = pkgs.writeText "nats-server.conf" (
    pure.natsConf {
      inherit (cfg)
        serverName
        address
        port
        monitorPort
        maxPayloadBytes
        storeDir
        tls
        ;
      cluster =
        if cfg.routes == [ ] then
          null
        else
          {
            name = shared.clusterName;
            port = cfg.clusterPort;
            routes = map withUser cfg.routes;
          };
      inherit passwords;
    }
  );
  configFile = if passwords then "%t/${name}/nats-server.conf" else template;
  program = pure.commands.nats { inherit configFile; };
  distinct = lib.unique cfg.routes;
in
{
  options.services.autonomys.nats = {
    enable = mkEnableOption "nats-server for the cluster";
    package = mkOption {
      type = types.package;
      default = pkgs.nats-server;
      description = "nats-server; pkgs.autonomys.packages.nats-server_2_10_22 is the guides'.";
    };
    serverName = mkOption {
      type = types.str;
      default = config.networking.hostName;
      description = "Its name, its own in the cluster.";
    };
    address = mkOption {
      type = types.str;
      default = shared.address;
      description = "Address that clients and other servers reach it at.";
    };
    port = mkOption {
      type = types.port;
      default = 4222;
      description = "Port of clients.";
    };
    monitorPort = mkOption {
      type = types.port;
      default = 8222;
      description = "Port of /healthz and /jsz, on 127.0.0.1 alone.";
    };
    clusterPort = mkOption {
      type = types.port;
      default = 4248;
      description = "Port of the other servers.";
    };
    routes = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "nats://192.168.1.1:4248"
        "nats://192.168.1.2:4248"
        "nats://192.168.1.3:4248"
      ];
      description = "Every server of the NATS cluster, itself included, each once; none of a server that is alone.";
    };
    maxPayloadBytes = mkOption {
      type = types.ints.positive;
      default = 3000000;
      description = "Largest message; roles refuse a server below 2 MiB.";
    };
    storeDir = mkOption {
      type = types.str;
      default = "${shared.stateDir}/data/nats";
      description = "Directory of JetStream.";
    };
    tls = mkOption {
      type = types.nullOr types.raw;
      default = null;
      description = "`{ cert, key, ca }`: PEM files that nats-server reads itself; its user autonomys-nats has to be able to.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.autonomys.units.${name} = {
      inherit (program) command environment;
      description = "NATS server of the Autonomys cluster";
      rank = 10;
      program = lib.getExe' cfg.package "nats-server";
      directories = [ cfg.storeDir ];
      needsSecret = passwords;
      prepare = lib.optional passwords "${lib.getExe' shared.package "autonomys-farmer"} util nats-configuration --cluster-secret-file %d/cluster-secret ${template} %t/${name}/nats-server.conf";
      ports = [ cfg.port ] ++ lib.optional (cfg.routes != [ ]) cfg.clusterPort;
      gate = [
        "nats"
        "127.0.0.1:${toString cfg.monitorPort}"
      ];
      readySeconds = 30;
    };
    assertions = [
      {
        assertion = distinct == cfg.routes;
        message = "services.autonomys.nats.routes names a server twice (${builtins.concatStringsSep ", " cfg.routes}): the guides do, and the server that is missing is then never reached; name each once";
      }
      {
        assertion = cfg.maxPayloadBytes >= 2097152;
        message = "services.autonomys.nats.maxPayloadBytes is ${toString cfg.maxPayloadBytes}: roles refuse a server that takes less than 2 MiB, a proof request has 1.06 MB";
      }
    ];
  };
}
