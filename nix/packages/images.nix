# Bootable images of a node, a plotter and a storage host: a bare machine comes up with the modules, sshd, and nothing that tells
# its cluster, which `services.autonomys.cluster` or `provision` adds.
{
  nixpkgs,
  system,
  module,
}:
let
  inherit (nixpkgs) lib;
  kinds = {
    node = { };
    # The driver is unfree, and only a plotter has cards.
    plotter = {
      nixpkgs.config.allowUnfreePredicate = package: lib.hasPrefix "nvidia" (lib.getName package);
      services.xserver.videoDrivers = [ "nvidia" ];
      hardware.graphics.enable = true;
      hardware.nvidia.open = true;
    };
    storage.boot.supportedFilesystems.xfs = true;
  };
  host =
    kind: settings:
    lib.nixosSystem {
      inherit system;
      modules = [
        module
        settings
        (
          { pkgs, ... }:
          {
            networking.hostName = lib.mkDefault "autonomys-${kind}";
            services.openssh = {
              enable = true;
              settings.PasswordAuthentication = false;
            };
            environment.systemPackages = [ pkgs.autonomys.packages.appliance ];
            system.stateVersion = "26.05";
          }
        )
      ];
    };
  ofKind =
    kind: settings:
    let
      inherit ((host kind settings).config.system.build) images;
    in
    [
      (lib.nameValuePair "iso-${kind}" images.iso)
      (lib.nameValuePair "image-${kind}" images.raw-efi)
    ];
in
lib.listToAttrs (lib.concatLists (lib.mapAttrsToList ofKind kinds))
