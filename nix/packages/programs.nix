# Our programs, from one build of the workspace.
{
  pkgs,
  craneLib,
  shared,
  kernels,
}:
let
  inherit (pkgs) lib;
  binaries =
    names: "--locked " + builtins.concatStringsSep " " (map (name: "--bin ${name}") names);
in
{
  # The roles, the piece exporter and the development chain. The driver's libcuda is looked for at run time, where NixOS has it
  # too; without one the same commands run on the CPU.
  autonomys-farmer = craneLib.buildPackage (
    shared
    // {
      pname = "autonomys-farmer";
      cargoExtraArgs = binaries [
        "autonomys-farmer"
        "autonomys-export-piece"
        "autonomys-dev-node"
      ];
      nativeBuildInputs = [ pkgs.autoAddDriverRunpath ];
      env = shared.env // lib.optionalAttrs (kernels != null) { KERNELS_BUNDLE = "${kernels}/kernels.bin"; };
      meta.mainProgram = "autonomys-farmer";
    }
  );

  # With completions, manual pages and the templates for who wants to read them: it carries its own.
  provision = craneLib.buildPackage (
    shared
    // {
      pname = "provision";
      cargoExtraArgs = binaries [ "provision" ];
      nativeBuildInputs = [ pkgs.installShellFiles ];
      postInstall = ''
        mkdir -p man $out/share/autonomys
        $out/bin/provision man man
        installManPage man/*
        installShellCompletion --cmd provision \
          --bash <($out/bin/provision completions bash) \
          --fish <($out/bin/provision completions fish) \
          --zsh <($out/bin/provision completions zsh)
        cp -r templates $out/share/autonomys/templates
      '';
      meta.mainProgram = "provision";
    }
  );
}
