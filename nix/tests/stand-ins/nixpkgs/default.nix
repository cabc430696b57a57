# The names of nixpkgs that this repository uses; none of them builds anything.
{
  system,
  overlays ? [ ],
}:
let
  lib = import ./lib.nix;

  # A derivation that is evaluated as far as a real one would be: all of its arguments are in it.
  standIn =
    name: arguments:
    let
      carried = lib.filterAttrs (
        attribute: value:
        !builtins.elem attribute [
          "meta"
          "passthru"
        ]
        && !builtins.isFunction value
      ) arguments;
    in
    derivation {
      inherit name system;
      builder = "/stand-in";
      arguments = builtins.toJSON carried;
    }
    // {
      inherit name;
      pname = arguments.pname or name;
      version = arguments.version or "0";
      meta = arguments.meta or { };
      isStandIn = true;
    };
  package = name: standIn name { };
  packages = lib.genAttrs [
    "autoAddDriverRunpath"
    "autoPatchelfHook"
    "bash"
    "cargo"
    "cargo-deny"
    "cargo-nextest"
    "clippy"
    "coreutils"
    "curl"
    "deadnix"
    "gawk"
    "git"
    "gnugrep"
    "gnused"
    "installShellFiles"
    "iproute2"
    "jq"
    "natscli"
    "nixfmt"
    "nixfmt-tree"
    "nats-server"
    "numactl"
    "openssh"
    "openssl"
    "prometheus"
    "python3"
    "rustfmt"
    "shellcheck"
    "statix"
    "unzip"
    "util-linux"
    "zstd"
  ] package;

  base =
    self:
    packages
    // {
      inherit lib standIn;
      rustc = standIn "rustc" { version = "1.95.0"; };
      stdenv = {
        hostPlatform = { inherit system; };
        mkDerivation = arguments: standIn arguments.pname arguments;
      };
      python3Packages.supervisor = package "supervisor";
      callPackage =
        file: extra:
        let
          function = import file;
          wanted = builtins.functionArgs function;
        in
        function (builtins.intersectAttrs wanted self // extra);
      buildGoModule = arguments: standIn arguments.pname arguments;
      fetchFromGitHub = arguments: standIn "source" arguments;
      fetchurl = arguments: standIn "source" arguments;
      runCommand =
        name: environment: script:
        standIn name (environment // { inherit script; });
      writeText = name: text: standIn name { inherit text; };
      writeShellScript = name: text: standIn name { inherit text; };
      writeShellApplication =
        arguments: standIn arguments.name (arguments // { meta.mainProgram = arguments.name; });
      closureInfo = standIn "closure-info";
      buildEnv = arguments: standIn arguments.name arguments;
      mkShell = standIn "shell";
      path = ./.;
      nixos =
        module:
        (import ./nixos.nix { inherit lib; }).system {
          modules = [ module ];
          pkgs = self;
        };
      testers.runNixOSTest = (import ./nixos.nix { inherit lib; }).test self;
    };
  withOverlays =
    overlays:
    let
      self = builtins.foldl' (before: overlay: before // overlay self before) (base self) overlays // {
        extend = overlay: withOverlays (overlays ++ [ overlay ]);
      };
    in
    self;
in
withOverlays overlays
