# The flake's outputs, from its inputs.
{
  self,
  nixpkgs,
  crane,
}:
let
  inherit (nixpkgs) lib;
  pure = import ./lib;

  # What needs a GPU or a virtual machine is for the first alone.
  systems = [
    "x86_64-linux"
    "aarch64-linux"
  ];
  pkgsOf =
    system:
    import nixpkgs {
      inherit system;
      overlays = [ self.overlays.default ];
    };
  eachSystem = make: lib.genAttrs systems (system: make (pkgsOf system));
  isFirst = pkgs: pkgs.stdenv.hostPlatform.system == "x86_64-linux";

  images =
    pkgs:
    import ./packages/images.nix {
      inherit nixpkgs;
      inherit (pkgs.stdenv.hostPlatform) system;
      module = self.nixosModules.default;
    };
in
{
  overlays.default = import ./overlay.nix { inherit crane; };

  nixosModules = import ./modules { overlay = self.overlays.default; };

  packages = eachSystem (
    pkgs: pkgs.autonomys.packages // lib.optionalAttrs (isFirst pkgs) (images pkgs)
  );

  checks = eachSystem (
    pkgs:
    pkgs.autonomys.checks
    // import ./checks.nix { inherit pkgs; }
    // lib.optionalAttrs (isFirst pkgs) (
      import ../vm-tests {
        inherit pkgs;
        module = self.nixosModules.services;
      }
    )
  );

  devShells = eachSystem (pkgs: {
    default = import ./shell.nix { inherit pkgs; };
  });

  formatter = eachSystem (pkgs: pkgs.nixfmt-tree);

  lib = pure // {
    # What an outside check prints and compares with the lock file: see .github/workflows/ci.yml.
    versions = eachSystem (pkgs: {
      nixpkgs = nixpkgs.rev or "not from a repository";
      crane = crane.rev or "not from a repository";
      rustc = pkgs.rustc.version;
      rustc_min = pure.workspace.rust-version;
      nats-server = pkgs.nats-server.version;
      nats-server_2_10_22 = pkgs.autonomys.packages.nats-server_2_10_22.version;
      nvrtc = pure.pins.nvrtc.version;
    });
  };
}
