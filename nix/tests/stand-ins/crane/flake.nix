{
  description = "Stands in for crane where there is none";
  outputs = _: {
    mkLib =
      pkgs:
      let
        build =
          suffix: arguments:
          assert builtins.isString arguments.src && builtins.isString arguments.version;
          pkgs.standIn "${arguments.pname}${suffix}" arguments;
        # All but the first take compiled dependencies.
        onDependencies =
          suffix: arguments:
          assert arguments.cargoArtifacts.isStandIn;
          build suffix arguments;
      in
      {
        buildDepsOnly = build "-deps";
        buildPackage = onDependencies "";
        cargoClippy = onDependencies "-clippy";
        cargoDoc = onDependencies "-doc";
        cargoFmt = build "-fmt";
        cargoNextest = onDependencies "-nextest";
        mkCargoDerivation =
          arguments:
          assert builtins.isString arguments.buildPhaseCargoCommand;
          onDependencies "" arguments;
      };
  };
}
