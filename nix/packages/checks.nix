# What is checked of the workspace, each as a derivation of its own over the same compiled dependencies.
{
  craneLib,
  shared,
  sources,
  programs,
}:
let
  inherit (shared) cargoArtifacts;
  tested = shared // {
    src = sources.test;
  };
in
{
  inherit (programs) autonomys-farmer provision;

  clippy = craneLib.cargoClippy (
    tested
    // {
      # The profile is crane's to name: release.
      cargoClippyExtraArgs = "--all-targets -- -D warnings";
    }
  );

  format = craneLib.cargoFmt {
    inherit (shared) pname version;
    src = sources.test;
  };

  docs = craneLib.cargoDoc (
    tested
    // {
      cargoDocExtraArgs = "--no-deps";
      RUSTDOCFLAGS = "-D warnings";
    }
  );

  # In the sandbox there is no network to fetch nats-server and Supervisor by, and no root for namespaces: what compares with the
  # reference runs here, the rest in `cargo xtask test`.
  conformance = craneLib.cargoNextest (
    tested
    // {
      inherit cargoArtifacts;
      cargoNextestExtraArgs = "-E 'test(/(^|::)vectors_/) - test(/(^|::)vectors_live_/)'";
    }
  );
}
