# The units that the modules make of the host of inventories/ssh.yaml, as text, for a systemd that is not NixOS's:
# `cargo xtask nix-farm` runs them. Programs are named by their paths in a store that is not there.
let
  lib = import ./stand-ins/nixpkgs/lib.nix;
  pure = import ../lib;
  crane = (import ./stand-ins/crane/flake.nix).outputs { };
  modules = import ../modules { overlay = import ../overlay.nix { inherit crane; }; };

  case = (import ./cases.nix)."ssh/farm-1";
  settings = pure.cluster { inherit (case) document hostName; };
  host =
    (import ./stand-ins/nixpkgs/nixos-system.nix {
      system = "x86_64-linux";
      modules = [
        modules.default
        {
          networking.hostName = case.hostName;
          services.autonomys.cluster = {
            enable = true;
            inventory = case.document;
          };
          system.stateVersion = "26.05";
        }
      ];
    }).config;

  show =
    value:
    if value == true then
      "yes"
    else if value == false then
      "no"
    else
      toString value;
  # A list is a line for each member.
  section =
    name: entries:
    [ "[${name}]" ]
    ++ builtins.concatLists (
      lib.mapAttrsToList (
        key: value: map (value: "${key}=${show value}") (if builtins.isList value then value else [ value ])
      ) entries
    );
  unit =
    service:
    builtins.concatStringsSep "\n" (
      section "Unit" (
        {
          Description = service.description;
          After = service.after or [ ];
          Wants = service.wants or [ ];
          BindsTo = service.bindsTo or [ ];
        }
        // (service.unitConfig or { })
      )
      ++ section "Service" service.serviceConfig
      ++ lib.mapAttrsToList (name: value: ''Environment="${name}=${value}"'') (service.environment or { })
    )
    + "\n";
in
{
  units = builtins.mapAttrs (_: unit) host.systemd.services;
  wanted = builtins.attrNames (
    lib.filterAttrs (_: service: service ? wantedBy) host.systemd.services
  );
  users = builtins.attrNames host.users.users;
  tmpfiles = host.systemd.tmpfiles.rules;
  nats_conf = pure.natsConf settings.nats;
  secret_file = settings.shared.secretFile;
  inherit (settings.shared) address;
  rpc = settings.node.rpcListenOn;
}
