# `nix develop`: what `cargo xtask` asks for.
{ pkgs }:
pkgs.mkShell {
  packages = [
    pkgs.cargo
    pkgs.rustc
    pkgs.clippy
    pkgs.rustfmt
    pkgs.cargo-nextest
    pkgs.cargo-deny
    pkgs.python3
    pkgs.openssh
    pkgs.nats-server
    pkgs.python3Packages.supervisor
    pkgs.numactl
    pkgs.prometheus
    pkgs.jq
    pkgs.nixfmt
    pkgs.statix
    pkgs.deadnix
    pkgs.shellcheck
  ];
}
