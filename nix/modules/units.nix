# From what the services say of their programs to systemd units: hardened, ordered, each with a gate.
#
# The order of a host's start is that of `rank`, and a program waits for the gates of those before it. Gates are units of their own,
# and their deadlines do not end the program: one that is still waiting for a host that is down must not be killed for it. A
# gate that does not open delays the next program until its deadline and stops nothing; other hosts are waited for by the
# roles themselves, which try again every second.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.autonomys;
  pure = import ../lib;

  unit = types.submodule {
    options = {
      description = mkOption { type = types.str; };
      rank = mkOption {
        type = types.int;
        description = "Place in the order of the start: nats 10, node 20, controller 30, proof-server 40, caches 50, plot-servers 60, plot-client 70.";
      };
      program = mkOption {
        type = types.str;
        description = "The executable.";
      };
      command = mkOption {
        type = types.listOf types.str;
        description = "Its arguments.";
      };
      environment = mkOption {
        type = types.attrsOf types.str;
        default = { };
      };
      directories = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Directories that are its own and are made for it.";
      };
      disks = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Directories that are its own and must be there: an unmounted disk must not become a directory of its mount point.";
      };
      needsSecret = mkOption {
        type = types.bool;
        default = true;
      };
      readable = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Files that root hands to it as credentials are in `credentials`; these it reads by itself.";
      };
      credentials = mkOption {
        type = types.attrsOf types.str;
        default = { };
        description = "Files by the name under which it finds them in %d.";
      };
      prepare = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Commands before it, as its own user; what they write for it goes to /run/NAME.";
      };
      gpu = mkOption {
        type = types.bool;
        default = false;
        description = "Whether it may have NVIDIA's devices.";
      };
      cpus = mkOption {
        type = types.nullOr (types.listOf types.int);
        default = null;
        description = "CPUs that it runs on; its memory is then taken from where they are.";
      };
      placedAtStart = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "Words before the program that bind it when it starts.";
      };
      ports = mkOption {
        type = types.listOf types.port;
        default = [ ];
        description = "TCP ports that the cluster's hosts reach.";
      };
      memoryMax = mkOption {
        type = types.nullOr types.str;
        default = null;
      };
      stopSeconds = mkOption {
        type = types.int;
        default = 15;
      };
      gate = mkOption {
        type = types.listOf types.str;
        description = "Arguments of ready.sh.";
      };
      readySeconds = mkOption { type = types.int; };
    };
  };

  readyScript = pkgs.writeShellApplication {
    name = "autonomys-ready";
    runtimeInputs = [
      pkgs.curl
      pkgs.coreutils
      pkgs.gnugrep
    ];
    text = builtins.readFile ./ready.sh;
  };
  directoriesScript = pkgs.writeShellApplication {
    name = "autonomys-directories";
    runtimeInputs = [ pkgs.coreutils ];
    text = builtins.readFile ./directories.sh;
  };

  gateName = name: "${name}-ready";
  before =
    rank:
    map (name: "${gateName name}.service") (
      builtins.filter (name: cfg.units.${name}.rank < rank) (builtins.attrNames cfg.units)
    );

  hardened = unit: {
    NoNewPrivileges = true;
    CapabilityBoundingSet = "";
    AmbientCapabilities = "";
    ProtectSystem = "strict";
    ProtectHome = true;
    PrivateTmp = true;
    ProtectKernelTunables = true;
    ProtectKernelModules = true;
    ProtectKernelLogs = true;
    ProtectControlGroups = true;
    ProtectClock = true;
    ProtectHostname = true;
    ProtectProc = "invisible";
    LockPersonality = true;
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    RemoveIPC = true;
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
    ]
    # Which of this host's addresses a cache is at: asked of the kernel.
    ++ [ "AF_NETLINK" ];
    SystemCallArchitectures = "native";
    SystemCallFilter = [ "@system-service" ];
    UMask = "0027";
    # CUDA compiles in memory, and needs the devices.
    MemoryDenyWriteExecute = !unit.gpu;
    PrivateDevices = !unit.gpu;
    DevicePolicy = "closed";
    DeviceAllow = lib.optionals unit.gpu [
      "char-nvidia rw"
      "char-nvidia-frontend rw"
      "char-nvidia-uvm rw"
      "char-nvidia-caps rw"
    ];
    ReadWritePaths =
      map (path: "-${path}") (unit.directories ++ unit.disks)
      ++ lib.optional (cfg.devSrsCache != null) "-${cfg.devSrsCache}";
  };

  service =
    name: unit:
    let
      owned =
        map (path: "--make ${path}") unit.directories ++ map (path: "--existing ${path}") unit.disks;
    in
    {
      inherit (unit) description environment;
      wantedBy = [ "multi-user.target" ];
      wants = [
        "network-online.target"
        "${gateName name}.service"
      ]
      ++ before unit.rank;
      after = [ "network-online.target" ] ++ before unit.rank;
      unitConfig = {
        RequiresMountsFor = unit.directories ++ unit.disks;
        StartLimitIntervalSec = 0;
      };
      serviceConfig =
        hardened unit
        // {
          Type = "exec";
          User = name;
          Group = "autonomys";
          # As root, before everything is taken away.
          ExecStartPre =
            lib.optional (owned != [ ])
              "+${lib.getExe directoriesScript} ${name} autonomys ${builtins.concatStringsSep " " owned}"
            ++ unit.prepare;
          ExecStart = builtins.concatStringsSep " " (
            lib.optional (unit.placedAtStart != null) unit.placedAtStart ++ [ unit.program ] ++ map pure.execWord unit.command
          );
          LoadCredential =
            lib.optional (unit.needsSecret && cfg.secretFile != null) "cluster-secret:${cfg.secretFile}"
            ++ lib.mapAttrsToList (name: file: "${name}:${file}") unit.credentials;
          Restart = "always";
          RestartSec = 2;
          TimeoutStopSec = unit.stopSeconds;
          KillSignal = "SIGTERM";
          LimitNOFILE = 65536;
          OOMPolicy = "stop";
        }
        // lib.optionalAttrs (unit.prepare != [ ]) {
          RuntimeDirectory = name;
          RuntimeDirectoryMode = "0700";
        }
        // lib.optionalAttrs (unit.memoryMax != null) { MemoryMax = unit.memoryMax; }
        // lib.optionalAttrs (unit.cpus != null) {
          CPUAffinity = pure.cpuList.toText unit.cpus;
          # Of the nodes of these CPUs, as `numactl -l` has it.
          NUMAPolicy = "local";
        };
    };

  gate = name: unit: {
    description = "${unit.description} is ready";
    after = [ "${name}.service" ];
    # Started again with it, stopped with it.
    bindsTo = [ "${name}.service" ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      DynamicUser = true;
      ExecStart = "${lib.getExe readyScript} ${toString unit.readySeconds} ${builtins.concatStringsSep " " unit.gate}";
      TimeoutStartSec = unit.readySeconds + 30;
    };
  };

  ports = lib.unique (builtins.concatMap (unit: unit.ports) (builtins.attrValues cfg.units));
  isV6 = lib.hasInfix ":";
  rule =
    family: addresses:
    lib.optional (addresses != [ ])
      "${family} saddr { ${builtins.concatStringsSep ", " addresses} } tcp dport { ${lib.concatMapStringsSep ", " toString ports} } accept";
in
{
  options.services.autonomys.units = mkOption {
    type = types.attrsOf unit;
    default = { };
    description = "Programs of this host. Set by the services' modules, not by hand.";
  };

  config = {
    systemd.services = lib.mkMerge [
      (lib.mapAttrs service cfg.units)
      (lib.mapAttrs' (name: unit: lib.nameValuePair (gateName name) (gate name unit)) cfg.units)
    ];
    users.users = lib.mapAttrs (_: unit: {
      isSystemUser = true;
      group = "autonomys";
      inherit (unit) description;
    }) cfg.units;
    networking = lib.mkIf (cfg.peers != [ ] && ports != [ ]) {
      nftables.enable = true;
      firewall.extraInputRules = builtins.concatStringsSep "\n" (
        rule "ip" (builtins.filter (address: !isV6 address) cfg.peers)
        ++ rule "ip6" (builtins.filter isV6 cfg.peers)
      );
    };
  };
}
