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
    provision(control, APPLY)

    with subtest("the pieces are exported and verified"):
        said = provision(control, "export-piece --host farm --patience 4")
        assert "the pieces are in" in said, said

    with subtest("the full-piece cache serves them"):
        farm.succeed("test -n \"$(ls /var/lib/autonomys/vm/data/full-piece)\"")
        provision(control, "status")
  '';
}
