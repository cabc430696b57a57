{ pkgs, support, ... }:
let
  # The guides' list of servers: .2 twice, .3 never. A module that took it would be a derivation that can be made.
  mistake = {
    services.autonomys.nats = {
      enable = true;
      routes = [
        "nats://192.168.1.1:4248"
        "nats://192.168.1.2:4248"
        "nats://192.168.1.2:4248"
      ];
    };
  };
  refusing = support.failedAssertions mistake;
in
{
  nodes = {
    inherit (support) control;
    node-1 = support.target;
  };

  testScript = ''
    start_all()
    node_1.wait_for_unit("sshd.service")
    control.wait_for_unit("multi-user.target")
    begin(control, "three-nodes.yaml")
    control.succeed(
        "sed -i '1a nats_servers: [nats://192.168.1.2:4222, nats://192.168.1.3:4222, nats://192.168.1.3:4222]' "
        "/root/inventory.yaml"
    )

    with subtest("provision names the server that stands twice"):
        status, said = control.execute(f"provision {APPLY} 2>&1")
        assert status != 0 and "nats://192.168.1.3:4222 is in `nats_servers` twice" in said, said

    with subtest("no host was touched"):
        node_1.fail("test -e /var/lib/autonomys")

    with subtest("the NixOS module refuses it too"):
        said = open("${pkgs.writeText "refused" (builtins.concatStringsSep "\n" refusing)}").read()
        assert "names a server twice" in said, said
  '';
}
