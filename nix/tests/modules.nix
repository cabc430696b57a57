# Tests of the modules under the stand-in module system: `nix eval --raw --file nix/tests/modules.nix`.
let
  lib = import ./stand-ins/nixpkgs/lib.nix;
  pure = import ../lib;
  check = import ./check.nix;
  cases = import ./cases.nix;
  crane = (import ./stand-ins/crane/flake.nix).outputs { };
  modules = import ../modules { overlay = import ../overlay.nix { inherit crane; }; };

  hostOf =
    settings:
    (import ./stand-ins/nixpkgs/nixos-system.nix {
      system = "x86_64-linux";
      modules = [
        modules.default
        settings
        { system.stateVersion = "26.05"; }
      ];
    }).config;
  is = got: wanted: { inherit got wanted; };
  fails =
    settings: !(builtins.tryEval (builtins.deepSeq (hostOf settings).system.build.toplevel.outPath true)).success;

  ofCase =
    case:
    hostOf {
      networking.hostName = case.hostName;
      services.autonomys.cluster = {
        enable = true;
        inventory = case.document;
      };
      services.autonomys.node.package = lib.mkIf (case.document.cluster ? network) networkNode;
    };
  # What this flake does not build: a network's node.
  networkNode = derivation {
    name = "autonomys-node";
    system = "x86_64-linux";
    builder = "/none";
  };
  isRole = name: lib.hasPrefix "autonomys-" name && !lib.hasInfix "-ready" name;
  units = host: builtins.filter isRole (builtins.attrNames host.systemd.services);
  # The words after the program, with the credential in the place of the file, as the unit has them.
  wordsOf = host: name: host.services.autonomys.units.${name}.command;
  expected =
    case: program:
    map (
      word:
      builtins.replaceStrings [ "/var/lib/autonomys/${case.document.cluster.name}/etc/cluster-secret" ] [
        "%d/cluster-secret"
      ] word
    ) program.command;

  unitNames = {
    nats-server = "autonomys-nats";
    autonomys-dev-node = "autonomys-node";
    first = "autonomys-first";
  };
  caseTest =
    case:
    let
      roles = builtins.filter (program: program.role != "nats-server") case.programs;
      host = ofCase case;
    in
    {
      got = builtins.seq host.system.build.toplevel.outPath {
        count = builtins.length (units host);
        words = map (program: wordsOf host (unitNames.${program.name} or program.name)) roles;
      };
      wanted = {
        count = builtins.length case.programs;
        words = map (expected case) roles;
      };
    };
  # A path below a home directory is no NixOS host's.
  hosts = lib.filterAttrs (name: _: !lib.hasPrefix "local/" name) cases;
  caseTests = lib.mapAttrs' (name: case: lib.nameValuePair "${name} units" (caseTest case)) hosts;

  node = ofCase cases."guide/node-2";
  service = name: node.systemd.services.${name};
  plotter = ofCase cases."by-hand/plotter-1";
  live = settings: {
    imports = [ settings ];
    services.autonomys.cluster = {
      enable = true;
      host = "farm-1";
      inventory = cases."ssh/farm-1".document // {
        cluster = cases."ssh/farm-1".document.cluster // {
          network = {
            chain = "mainnet";
            arguments = [ ];
            reference_string = "live";
          };
        };
      };
    };
  };
  fromFile = hostOf {
    services.autonomys.cluster = {
      enable = true;
      host = "node-2";
      inventory = builtins.toFile "cluster.json" (builtins.toJSON cases."guide/node-2".document);
    };
  };
  farm = {
    services.autonomys.plot-client = {
      enable = true;
      rewardAddress = "5Grw";
      farms = [
        {
          path = "/mnt/a";
          sectors = 1;
        }
      ];
    };
  };
in
check (
  caseTests
  // {
    "an inventory in a file is the same" = is (units fromFile) (units node);
    "a network's node has to be brought" = is (fails (live { })) true;
    "with a node the farm is the network's" =
      let
        settings = live { services.autonomys.node.package = networkNode; };
      in
      is {
        refused = fails settings;
        program = lib.hasSuffix "/bin/autonomys-node" (hostOf settings).services.autonomys.units.autonomys-node.program;
      } { refused = false; program = true; };
    "nothing is enabled by itself" = is (units (hostOf { })) [ ];
    "a controller waits for the gates of what starts before it" =
      is (service "autonomys-controller").after
        [
          "network-online.target"
          "autonomys-nats-ready.service"
          "autonomys-node-ready.service"
        ];
    "a secret comes as a credential" = is (service "autonomys-controller").serviceConfig.LoadCredential [
      "cluster-secret:/var/lib/autonomys/guide/etc/cluster-secret"
    ];
    "only a plot-server with a card sees cards" = is {
      card = plotter.systemd.services.autonomys-first.serviceConfig.PrivateDevices;
      cache = plotter.systemd.services.autonomys-sharded-cache.serviceConfig.PrivateDevices;
    } { card = false; cache = true; };
    "CPUs by hand are systemd's, without any the card decides" = is {
      byHand = plotter.systemd.services.autonomys-first.serviceConfig.CPUAffinity;
      placed = plotter.services.autonomys.units.autonomys-plot-server-1.placedAtStart != null;
      byHandPlaced = plotter.services.autonomys.units.autonomys-first.placedAtStart;
    } { byHand = "0-5,16"; placed = true; byHandPlaced = null; };
    "ports are open to the cluster alone" = is {
      rules = node.networking.firewall.extraInputRules;
      ports = node.networking.firewall.allowedTCPPorts;
    } {
      rules = "ip saddr { 192.168.1.1, 192.168.1.2, 192.168.1.3, 192.168.1.4, 192.168.1.5, 192.168.1.6, 192.168.1.7 } tcp dport { 4222, 4248, 9944 } accept";
      ports = [ ];
    };
    "an exporter where the inventory has hosts watched" =
      is (plotter.services.prometheus.exporters.node.port or null)
        9100;
    "a farm on a disk" = is (fails farm) false;
    "an option that does not exist is an error" = is (fails { services.autonomys.nats.prot = 1; }) true;
    "a value of another type is an error" = is (fails {
      services.autonomys.nats = {
        enable = true;
        port = "4222";
      };
    }) true;
    "the guides' route that stands twice is an error" = is (fails {
      services.autonomys.nats = {
        enable = true;
        routes = [
          "nats://192.168.1.1:4248"
          "nats://192.168.1.2:4248"
          "nats://192.168.1.2:4248"
        ];
      };
    }) true;
    "a secret in the store is an error" = is (fails (
      farm // { services.autonomys = farm.services.autonomys // { secretFile = "${builtins.storeDir}/x"; }; }
    )) true;
    "two reference strings are an error" = is (fails (
      farm
      // {
        services.autonomys = farm.services.autonomys // {
          srs = "/a";
          devSrsCache = "/b";
        };
      }
    )) true;
    "two plot-servers on one card are an error" = is (fails {
      services.autonomys.plot-server.instances =
        lib.genAttrs
          [
            "a"
            "b"
          ]
          (_: {
            gpu = 0;
            port = 1;
            metricsPort = 2;
          });
    }) true;
    "the compiler of the pin is asked" =
      is (pure.toolchain.assertRustc "1.95.0" pure.workspace.rust-version)
        true;
  }
)
