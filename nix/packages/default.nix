# The packages and the checks that share their dependencies: these are compiled once, in `cargoArtifacts`.
{ pkgs, craneLib }:
let
  inherit (pkgs) lib;
  pure = import ../lib;
  sources = import ./sources.nix { inherit lib; };

  common = {
    pname = "autonomys";
    inherit (pure.workspace) version;
    src = sources.build;
    strictDeps = true;
    # What only debuggers read would carry the paths of the build, and is not shipped.
    env.CARGO_PROFILE_RELEASE_DEBUG = "false";
    cargoExtraArgs = "--locked --workspace";
    # The tests are a check of their own: a package is not built again for them.
    doCheck = false;
  };
  cargoArtifacts = craneLib.buildDepsOnly common;
  shared = common // {
    inherit cargoArtifacts;
  };
  # Of the pinned compiler nothing is built that it is too old for.
  withToolchain =
    value:
    assert pure.toolchain.assertRustc pkgs.rustc.version pure.workspace.rust-version;
    value;

  kernels = import ./kernels.nix {
    inherit
      pkgs
      craneLib
      shared
      sources
      ;
    inherit (pure) pins;
  };
  programs = import ./programs.nix {
    inherit
      pkgs
      craneLib
      shared
      kernels
      ;
  };
  nats-server_2_10_22 = pkgs.callPackage ./nats-server.nix { pin = pure.pins.nats-server; };
  appliance = import ./appliance.nix { inherit pkgs programs; };
in
withToolchain {
  packages =
    programs
    // lib.optionalAttrs (kernels != null) { inherit kernels; }
    // {
      inherit nats-server_2_10_22;
      inherit (appliance) appliance appliance-archive;
      default = appliance.appliance;
      sbom = import ./sbom.nix {
        inherit pkgs;
        inherit (appliance) appliance;
        inherit (pure) sbom workspace;
      };
    };
  checks = import ./checks.nix {
    inherit
      craneLib
      shared
      sources
      programs
      ;
  };
}
