# All that a host runs, as one path to copy and as one archive for a host without Nix.
{ pkgs, programs }:
let
  appliance = pkgs.buildEnv {
    name = "autonomys-appliance";
    paths = [
      programs.autonomys-farmer
      programs.provision
      pkgs.nats-server
      pkgs.python3Packages.supervisor
      pkgs.numactl
      pkgs.openssh
    ];
    pathsToLink = [
      "/bin"
      "/share/autonomys"
      "/share/man"
    ];
  };
in
{
  inherit appliance;

  # Unpacked at the root of any Linux with `tar -C / -xf`: the closure has its place below /nix/store, and
  # /opt/autonomys/bin leads there. The same bytes for the same commit. (S: what a link leads to stays as it is.)
  appliance-archive =
    pkgs.runCommand "autonomys-appliance.tar.zst"
      {
        closure = pkgs.closureInfo { rootPaths = [ appliance ]; };
        nativeBuildInputs = [ pkgs.zstd ];
      }
      ''
        mkdir -p opt/autonomys
        ln -s ${appliance}/bin opt/autonomys/bin
        tar --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner --hard-dereference \
          --absolute-names --transform='s,^/,,S' \
          -cf - opt $(sort "$closure/store-paths") | zstd -19 -T1 -o $out
      '';
}
