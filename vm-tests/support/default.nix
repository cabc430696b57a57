# What several tests need: hosts of the modules, bare hosts for provision, the control machine, and the scripts' helpers.
{
  pkgs,
  lib,
  module,
}:
let
  inherit (pkgs.autonomys.packages) autonomys-farmer provision;
  # nixpkgs' key pair for tests, which everybody knows.
  keys = import (pkgs.path + "/nixos/tests/ssh-keys.nix") pkgs;
  machine = {
    virtualisation = {
      memorySize = 3072;
      cores = 2;
      diskSize = 8192;
    };
    environment.systemPackages = [
      pkgs.curl
      pkgs.jq
      autonomys-farmer
    ];
  };
  secret = {
    environment.etc."cluster-secret".text = "a secret of the tests, which everybody may know";
    services.autonomys.secretFile = "/etc/cluster-secret";
  };
in
{
  python = builtins.readFile ./support.py;

  # One machine with everything, by the services' own options.
  farm =
    { config, ... }:
    {
      imports = [
        module
        machine
        secret
      ];
      services.autonomys = {
        clusterName = "vm";
        natsServers = [ "nats://127.0.0.1:4222" ];
        devSrsCache = "/var/lib/autonomys/vm/data/dev-srs";
        nats.enable = true;
        node = {
          enable = true;
          chain = {
            seed = "vm";
            pieces-in-sector = 4;
            archive-ahead = 1;
          };
        };
        controller.enable = true;
        proof-server.enable = true;
        sharded-cache.enable = true;
        full-piece-sharded-cache.enable = true;
        plot-server.instances.autonomys-plot-server-0 = {
          port = 9966;
          metricsPort = 9866;
        };
        plot-client = {
          enable = true;
          rewardAddress = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
          farms = [
            {
              path = "${config.services.autonomys.stateDir}/data/farm-0";
              sectors = 2;
            }
          ];
        };
      };
    };

  # The guides' seven: their names in order get the addresses 192.168.1.1 to .7, which the inventory has.
  guideHost = name: {
    imports = [
      module
      machine
      secret
    ];
    networking.hostName = name;
    services.autonomys.cluster = {
      enable = true;
      inventory =
        (builtins.fromJSON (builtins.readFile ../../nix/tests/cases/guide.json)).document;
    };
    # In the place of mounted disks.
    systemd.tmpfiles.rules = lib.optionals (lib.hasPrefix "storage-" name) (
      map (disk: "d /mnt/${disk}/farm 0755 root root -") [
        "nvme0n1"
        "nvme0n2"
        "nvme1n1"
        "nvme1n2"
      ]
    );
  };
  guideHosts = [
    "node-1"
    "node-2"
    "node-3"
    "plotter-1"
    "plotter-2"
    "storage-1"
    "storage-2"
  ];

  # A host that provision sets up: nothing of ours, but the programs that it would fetch where there is a network.
  target =
    { pkgs, ... }:
    {
      imports = [ machine ];
      services.openssh.enable = true;
      users.users.root.openssh.authorizedKeys.keys = [ keys.snakeOilEd25519PublicKey ];
      environment.systemPackages = [
        pkgs.python3
        pkgs.nats-server
        pkgs.python3Packages.supervisor
        pkgs.numactl
      ];
      networking.firewall.enable = false;
    };

  # Messages of what a configuration of the modules is refused with.
  failedAssertions =
    settings:
    let
      inherit
        (pkgs.nixos {
          imports = [
            module
            settings
          ];
          system.stateVersion = "26.05";
        })
        config
        ;
    in
    map (assertion: assertion.message) (
      builtins.filter (assertion: !assertion.assertion) config.assertions
    );

  # The machine that provision runs on. Names sort the addresses: `control` is 192.168.1.1, the targets follow.
  control =
    { pkgs, ... }:
    {
      imports = [ machine ];
      environment = {
        systemPackages = [
          provision
          pkgs.openssh
        ];
        variables.PROVISION_INVENTORY = "/root/inventory.yaml";
        etc."inventory.yaml".source = ./inventory.yaml;
        etc."three-nodes.yaml".source = ./three-nodes.yaml;
        etc."binaries".source = "${autonomys-farmer}/bin";
      };
      # ssh wants a key that nobody else reads.
      systemd.tmpfiles.rules = [
        "d /root/.ssh 0700 root root -"
        "C /root/.ssh/id_ed25519 0600 root root - ${keys.snakeOilEd25519PrivateKey}"
      ];
    };
}
