# The bill of materials of the appliance: every crate and every store path of its closure.
{
  pkgs,
  appliance,
  sbom,
  workspace,
}:
let
  lock = builtins.fromTOML (builtins.readFile ../../Cargo.lock);
  crates = sbom.ofLock {
    inherit lock;
    inherit (workspace) version;
  };
in
pkgs.runCommand "autonomys-appliance.cdx.json"
  {
    closure = pkgs.closureInfo { rootPaths = [ appliance ]; };
    crates = builtins.toJSON crates;
    passAsFile = [ "crates" ];
    nativeBuildInputs = [ pkgs.jq ];
  }
  ''
    sort "$closure/store-paths" | jq --raw-input --slurp --slurpfile crates "$cratesPath" '
      def component: {
        type: "application",
        name: (split("/")[-1] | .[33:]),
        "bom-ref": .
      };
      $crates[0] + {components: ($crates[0].components + (split("\n") | map(select(. != "") | component)))}
    ' > $out
  ''
