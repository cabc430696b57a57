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

    with subtest("the first apply ends with an accepted solution"):
        said = provision(control, APPLY)
        assert "the first accepted solution" in said, said

    before = pids(farm)
    with subtest("the second apply changes nothing"):
        said = provision(control, APPLY)
        assert "0 changes" in said, said

    with subtest("no program was started again by it"):
        assert pids(farm) == before
  '';
}
