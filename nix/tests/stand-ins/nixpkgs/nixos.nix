# What of NixOS our modules set, by name: anything may be said of these, and nothing of others.
{ lib }:
let
  open = lib.mkOption {
    type = lib.types.anything;
    default = { };
  };
  list = lib.mkOption {
    type = lib.types.listOf lib.types.anything;
    default = [ ];
  };
  text = lib.mkOption {
    type = lib.types.lines;
    default = "";
  };
  switch = lib.mkOption {
    type = lib.types.bool;
    default = false;
  };

  base = {
    options = {
      assertions = list;
      warnings = list;
      boot = open;
      environment = {
        systemPackages = list;
        variables = open;
        etc = open;
      };
      fileSystems = open;
      hardware = {
        graphics = open;
        nvidia = open;
      };
      networking = {
        hostName = lib.mkOption {
          type = lib.types.str;
          default = "nixos";
        };
        nftables.enable = switch;
        firewall = {
          enable = switch;
          allowedTCPPorts = list;
          extraInputRules = text;
        };
        interfaces = open;
        primaryIPAddress = lib.mkOption {
          type = lib.types.str;
          default = "192.168.1.1";
        };
      };
      nixpkgs = {
        overlays = list;
        config = open;
      };
      services = {
        journald = {
          extraConfig = text;
        };
        openssh = open;
        prometheus.exporters.node = open;
        xserver = open;
      };
      system = {
        stateVersion = lib.mkOption { type = lib.types.str; };
        build = open;
      };
      systemd = {
        services = open;
        targets = open;
        tmpfiles.rules = list;
      };
      users = {
        users = open;
        groups = open;
      };
      virtualisation = open;
    };
  };

  # A host of modules. Its closure names every unit, so that to evaluate it is to evaluate all of them.
  host =
    {
      modules,
      pkgs,
      specialArgs ? { },
      # Whether the package set is made outside: its overlays are then no host's to set.
      isGiven ? false,
    }:
    let
      evaluated = lib.evalModules {
        modules = [ base ] ++ modules;
        specialArgs = specialArgs // {
          pkgs =
            if isGiven && evaluated.config.nixpkgs.overlays != [ ] then
              throw "a host sets nixpkgs.overlays, whose package set is made by others"
            else
              builtins.foldl' (before: overlay: before.extend overlay) pkgs evaluated.config.nixpkgs.overlays;
        };
      };
      inherit (evaluated) config;
      failed = map (assertion: assertion.message) (
        builtins.filter (assertion: !assertion.assertion) config.assertions
      );
      closure =
        if failed == [ ] then
          pkgs.standIn "nixos" {
            inherit (config)
              environment
              networking
              systemd
              users
              ;
            # Ours follow from these: an option that nobody set and nobody asks for is none of the closure.
            services = builtins.removeAttrs config.services [ "autonomys" ];
          }
        else
          throw "assertions fail: ${builtins.concatStringsSep "; " failed}";
    in
    config
    // {
      system = config.system // {
        build = {
          toplevel = closure;
          images = {
            iso = closure;
            raw-efi = closure;
          };
        };
      };
    };
in
{
  system = arguments: { config = host arguments; };

  # `pkgs.testers.runNixOSTest`: every node is a host.
  test =
    pkgs: module:
    let
      inherit
        (lib.evalModules {
          modules = [
            {
              options = {
                name = lib.mkOption { type = lib.types.str; };
                defaults = lib.mkOption {
                  type = lib.types.raw;
                  default = { };
                };
                nodes = lib.mkOption { type = lib.types.attrsOf lib.types.raw; };
                testScript = lib.mkOption { type = lib.types.raw; };
                skipTypeCheck = switch;
              };
            }
            module
          ];
          specialArgs = { inherit pkgs; };
        })
        config
        ;
      nodes = builtins.mapAttrs (
        name: settings:
        host {
          modules = [
            config.defaults
            settings
            {
              networking.hostName = lib.mkDefault name;
              system.stateVersion = lib.mkDefault "26.05";
            }
          ];
          inherit pkgs;
          isGiven = true;
          specialArgs = { inherit nodes; };
        }
      ) config.nodes;
      script =
        if builtins.isFunction config.testScript then
          config.testScript { inherit nodes; }
        else
          config.testScript;
    in
    pkgs.standIn "vm-test-run-${config.name}" {
      inherit script;
      hosts = map (node: node.system.build.toplevel) (builtins.attrValues nodes);
    };
}
