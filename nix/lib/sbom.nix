# A CycloneDX 1.5 list of what goes into the binaries: the crates of Cargo.lock. The paths of the closure are added where it is
# known, in nix/packages/sbom.nix.
{
  # { lock, version } -> attribute set that serialises to CycloneDX JSON. `lock` is a parsed Cargo.lock.
  ofLock =
    { lock, version }:
    let
      # A crate of the workspace has no source.
      foreign = builtins.filter (package: package ? source) lock.package;
      component = package: {
        type = "library";
        inherit (package) name version;
        purl = "pkg:cargo/${package.name}@${package.version}";
        hashes = [
          {
            alg = "SHA-256";
            content = package.checksum;
          }
        ];
      };
    in
    {
      bomFormat = "CycloneDX";
      specVersion = "1.5";
      version = 1;
      metadata.component = {
        type = "application";
        name = "autonomys-appliance";
        inherit version;
      };
      components = map component foreign;
    };
}
