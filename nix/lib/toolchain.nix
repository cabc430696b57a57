# Whether a compiler is new enough for the workspace.
{
  # found -> minimum -> true, or an error that says what to do.
  assertRustc =
    found: minimum:
    if builtins.compareVersions found minimum >= 0 then
      true
    else
      throw "rustc ${found} of the pinned nixpkgs is older than ${minimum}, which Cargo.toml asks for (rust-version): update the pin with `nix flake update nixpkgs`";
}
