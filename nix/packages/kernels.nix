# The bundle of CUDA kernels, compiled with the pinned NVRTC. Null where there are none: on other machines than those that
# NVIDIA's compiler runs on, and in a tree without `kernels/`.
{
  pkgs,
  craneLib,
  shared,
  sources,
  pins,
}:
let
  nvrtc = pkgs.callPackage ./nvrtc.nix { pin = pins.nvrtc; };
in
if !sources.hasKernels || pkgs.stdenv.hostPlatform.system != "x86_64-linux" then
  null
else
  craneLib.mkCargoDerivation (
    shared
    // {
      pname = "autonomys-kernels";
      env = shared.env // {
        AUTONOMYS_NVRTC = "${nvrtc}/lib/libnvrtc.so.12";
      };
      buildPhaseCargoCommand = ''
        cargo run --release --locked --bin xtask -- kernels --out kernels.bin
      '';
      doInstallCargoArtifacts = false;
      installPhaseCommand = ''
        mkdir -p $out
        cp kernels.bin $out/kernels.bin
      '';
    }
  )
