{ lib, support, ... }:
{
  nodes = lib.genAttrs support.guideHosts support.guideHost;

  testScript = ''
    start_all()
    with subtest("the farm earns before"):
        storage_1.wait_for_unit("autonomys-plot-client-ready.service", timeout=1800)
        wait_for_solutions(node_1, 0, "192.168.1.1:9944")

    def plotted():
        said = storage_1.succeed("curl --fail --silent http://127.0.0.1:9864/status | jq .counters.sectors_plotted")
        return int(said)

    # All four farms of one sector.
    storage_1.wait_until_succeeds(
        "curl --fail --silent http://127.0.0.1:9864/status | jq --exit-status '.counters.sectors_plotted == 4'",
        timeout=1800,
    )
    for machine in machines:
        machine.crash()
    start_all()

    with subtest("every gate opens again after all machines lost power"):
        for node in [node_1, node_2, node_3]:
            for gate in ["nats", "node", "controller", "proof-server"]:
                node.wait_for_unit(f"autonomys-{gate}-ready.service", timeout=900)
        for plotter in [plotter_1, plotter_2]:
            for gate in ["sharded-cache", "full-piece", "plot-server-0", "plot-server-3"]:
                plotter.wait_for_unit(f"autonomys-{gate}-ready.service", timeout=900)
        for storage in [storage_1, storage_2]:
            storage.wait_for_unit("autonomys-plot-client-ready.service", timeout=900)

    with subtest("the farm earns again with what it had plotted"):
        assert plotted() == 4, "sectors were lost"
        wait_for_solutions(node_1, accepted(node_1, "192.168.1.1:9944"), "192.168.1.1:9944")
  '';
}
