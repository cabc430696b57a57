# What all services of a cluster on a host are told alike.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.autonomys;
  tls = types.submodule {
    options = {
      cert = mkOption {
        type = types.str;
        description = "PEM file with this member's certificate. A path of the host: nothing of it is copied into the store.";
      };
      key = mkOption {
        type = types.str;
        description = "PEM file with the certificate's key.";
      };
      ca = mkOption {
        type = types.str;
        description = "PEM file with the authority of all members.";
      };
    };
  };
in
{
  options.services.autonomys = {
    package = mkOption {
      type = types.package;
      default = pkgs.autonomys.packages.autonomys-farmer;
      description = "Package with autonomys-farmer and autonomys-dev-node.";
    };
    clusterName = mkOption {
      type = types.str;
      default = "default";
      description = "Name of the cluster, part of every NATS subject.";
    };
    address = mkOption {
      type = types.str;
      default = "127.0.0.1";
      description = "This host's address in the cluster: servers listen there.";
    };
    stateDir = mkOption {
      type = types.path;
      default = "/var/lib/autonomys/${cfg.clusterName}";
      description = "Directory of what the services keep, where they are not given others.";
    };
    natsServers = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "nats://192.168.1.1:4222" ];
      description = "URL of each NATS server of the cluster.";
    };
    natsCa = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "PEM file with the authority of the NATS servers' certificates, where NATS has TLS.";
    };
    secretFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/keys/autonomys-cluster-secret";
      description = ''
        File with the secret that members of the cluster prove to each other. systemd hands it to the services as a credential: only
        root has to be able to read it. A path of the host, as a string: a path literal would copy the secret into the
        store, which everybody reads, and is refused.
      '';
    };
    srs = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "The live network's reference string (eth-public-parameters.bin). Null on a development chain.";
    };
    devSrsCache = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "INSECURE, for the development chain only: directory of the development reference string.";
    };
    tls = mkOption {
      type = types.nullOr tls;
      default = null;
      description = "TLS of pieces and sectors between members.";
    };
    metricsAddress = mkOption {
      type = types.str;
      default = "127.0.0.1";
      description = "Address at which roles serve /metrics, /ready and /status.";
    };
    peers = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "192.168.1.2" ];
      description = ''
        Addresses of the cluster's hosts. With any, the ports of the services here are opened to them and to nobody else (nftables).
        A node's RPC lets whoever reaches it act as the farm: there is no option that opens ports to everybody.
      '';
    };
    journalMax = mkOption {
      type = types.str;
      default = "2G";
      description = "Size at which the journal, which has the services' logs, is rotated away.";
    };
  };

  config = lib.mkIf (cfg.units != { }) {
    users.groups.autonomys = { };
    systemd.tmpfiles.rules = [
      "d ${cfg.stateDir} 0751 root autonomys -"
      "d ${cfg.stateDir}/data 0751 root autonomys -"
    ]
    # Whoever needs the string first makes it for all: they write there as a group.
    ++ lib.optional (cfg.devSrsCache != null) "d ${cfg.devSrsCache} 2770 root autonomys -";
    services.journald.extraConfig = "SystemMaxUse=${cfg.journalMax}";
    assertions = [
      {
        assertion = cfg.secretFile == null || !lib.hasPrefix builtins.storeDir cfg.secretFile;
        message = "services.autonomys.secretFile is ${toString cfg.secretFile}, in the store, which everybody reads: give a path of the host as a string";
      }
      {
        assertion = cfg.srs == null || cfg.devSrsCache == null;
        message = "services.autonomys has both srs, the live network's reference string, and devSrsCache, the development chain's: set one of them to null";
      }
    ];
  };
}
