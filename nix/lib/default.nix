# Everything that needs no package set: pure functions over plain values, tested by nix/tests/run.nix without any input.
let
  manifest = builtins.fromTOML (builtins.readFile ../../Cargo.toml);
in
{
  # `version` and `rust-version` of the workspace.
  workspace = manifest.workspace.package;
  pins = import ./pins.nix;
  toolchain = import ./toolchain.nix;
  cluster = import ./cluster.nix;
  commands = import ./commands.nix;
  programs = import ./programs.nix;
  shared = import ./shared.nix;
  natsConf = import ./nats-conf.nix;
  inherit (import ./address.nix) withPort;
  execWord = import ./exec-word.nix;
  cpuList = import ./cpu-list.nix;
  sbom = import ./sbom.nix;
}
