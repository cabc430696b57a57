# Everything of ours is below `pkgs.autonomys`: an overlay that adds one name collides with nobody.
{ crane }:
final: _prev: {
  autonomys = import ./packages {
    pkgs = final;
    craneLib = crane.mkLib final;
  };
}
