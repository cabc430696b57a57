{ support, ... }:
{
  nodes.farm = support.farm;

  testScript = ''
    gates = ["nats", "node", "controller", "proof-server", "sharded-cache", "full-piece", "plot-server-0", "plot-client"]

    farm.start()
    with subtest("every gate opens in the order of the start"):
        for gate in gates:
            farm.wait_for_unit(f"autonomys-{gate}-ready.service", timeout=900)
        opened = [
            int(farm.succeed(f"systemctl show --property ActiveEnterTimestampMonotonic --value autonomys-{gate}-ready"))
            for gate in ["nats", "node", "controller", "proof-server", "plot-server-0", "plot-client"]
        ]
        assert opened == sorted(opened), opened

    with subtest("the chain accepts a solution"):
        wait_for_solutions(farm, 0)

    with subtest("no unit was started twice"):
        for gate in gates:
            restarts = farm.succeed(f"systemctl show --property NRestarts --value autonomys-{gate}").strip()
            assert restarts == "0", f"{gate}: {restarts}"
  '';
}
