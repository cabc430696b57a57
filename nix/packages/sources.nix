# What of the repository goes into which derivation: a change of a page of the book compiles nothing again.
{ lib }:
let
  inherit (lib.fileset) toSource unions maybeMissing;
  root = ../..;
  code = [
    (root + "/Cargo.toml")
    (root + "/Cargo.lock")
    (root + "/.cargo")
    (root + "/farmer")
    (root + "/provision")
    (root + "/xtask")
    (root + "/templates")
    (maybeMissing (root + "/kernels"))
    # Compiled into what it is read by.
    (root + "/inventories/guide.yaml")
  ];
in
{
  inherit root;
  hasKernels = builtins.pathExists (root + "/kernels/Cargo.toml");
  # For the binaries.
  build = toSource {
    inherit root;
    fileset = unions code;
  };
  # For tests and lints: these read the vectors, the examples, the book and the Nix files, too.
  test = toSource {
    inherit root;
    fileset = unions (
      code
      ++ [
        (root + "/.config")
        (root + "/.github")
        (root + "/clippy.toml")
        (root + "/rustfmt.toml")
        (root + "/docs")
        (root + "/inventories")
        (root + "/nix")
        (root + "/testdata")
        (root + "/vm-tests")
      ]
    );
  };
}
