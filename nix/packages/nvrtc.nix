# NVRTC as the wheel of PyPI has it: two libraries, nothing of the toolkit.
{
  stdenv,
  fetchurl,
  unzip,
  autoPatchelfHook,
  pin,
}:
stdenv.mkDerivation {
  pname = "nvrtc";
  inherit (pin) version;
  src = fetchurl { inherit (pin) url hash; };
  nativeBuildInputs = [
    unzip
    autoPatchelfHook
  ];
  unpackPhase = "unzip -q $src";
  installPhase = ''
    mkdir -p $out/lib $out/share/licenses
    cp nvidia/cuda_nvrtc/lib/*.so* $out/lib/
    cp *.dist-info/License.txt $out/share/licenses/nvrtc.txt
  '';
  # It opens its builtins by name, beside itself.
  appendRunpaths = [ "$ORIGIN" ];
}
