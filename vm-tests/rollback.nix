{ support, ... }:
{
  nodes = {
    inherit (support) control;
    farm = support.target;
  };

  testScript = ''
    conf = "/var/lib/autonomys/vm/etc/nats-server.conf"

    start_all()
    farm.wait_for_unit("sshd.service")
    control.wait_for_unit("multi-user.target")
    begin(control)
    provision(control, APPLY)
    before = farm.succeed(f"cat {conf}")

    with subtest("the change is on the host"):
        control.succeed("sed -i 's/max_payload: 3MB/max_payload: 4MB/' /root/inventory.yaml")
        provision(control, APPLY)
        assert farm.succeed(f"cat {conf}") != before

    with subtest("after the rollback the old configuration is on the host"):
        provision(control, "rollback --patience 4")
        assert farm.succeed(f"cat {conf}") == before

    with subtest("the farm is whole again"):
        provision(control, "status")
  '';
}
