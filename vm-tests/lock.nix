{ support, ... }:
{
  nodes = {
    inherit (support) control;
    farm = support.target;
  };

  testScript = ''
    start_all()
    farm.wait_for_unit("sshd.service")
    control.wait_for_unit("multi-user.target")
    begin(control)

    with subtest("the second apply is refused while the first is at work"):
        control.succeed(f"systemd-run --unit first --setenv PATH=$PATH --setenv HOME=/root provision {APPLY} /root/inventory.yaml")
        control.wait_until_succeeds("provision --json lock status | grep -q '\"held\":{'", timeout=120)
        # The exit status of "another apply is at work".
        provision(control, APPLY, status=10)

    with subtest("the lock ends with the run that holds it"):
        control.succeed("systemctl kill --signal KILL first; systemctl stop first || true")
        control.wait_until_fails("provision --json lock status | grep -q '\"held\":{'", timeout=60)
        provision(control, APPLY)
  '';
}
