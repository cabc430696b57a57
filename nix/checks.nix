# What is checked of the Nix files themselves.
{ pkgs }:
let
  sources = import ./packages/sources.nix { inherit (pkgs) lib; };
  # Fails while it is evaluated.
  units = import ./tests/run.nix;
  over =
    name: tools: command:
    pkgs.runCommand "autonomys-${name}" { nativeBuildInputs = tools; } ''
      cd ${sources.test}
      ${command}
      touch $out
    '';
in
{
  nix-units = pkgs.writeText "autonomys-nix-units" units;
  nix-format = over "nix-format" [ pkgs.nixfmt ] "nixfmt --check $(find nix vm-tests -name '*.nix')";
  nix-lint = over "nix-lint" [
    pkgs.statix
    pkgs.deadnix
  ] "statix check nix && statix check vm-tests && deadnix --fail nix vm-tests";
  shell-scripts = over "shell-scripts" [ pkgs.shellcheck ] "shellcheck --shell=bash nix/modules/*.sh .github/workflows/*.sh";
}
