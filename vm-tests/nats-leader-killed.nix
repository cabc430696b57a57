{ lib, support, ... }:
{
  nodes = lib.genAttrs support.guideHosts support.guideHost;

  testScript = ''
    nodes = {"guide-node-1": node_1, "guide-node-2": node_2, "guide-node-3": node_3}

    def leader(asked):
        return json.loads(asked.succeed("curl --fail --silent http://127.0.0.1:8222/jsz"))["meta_cluster"].get("leader")

    start_all()
    with subtest("three servers are one cluster"):
        for node in nodes.values():
            node.wait_for_unit("autonomys-nats-ready.service", timeout=300)
        size = json.loads(node_1.succeed("curl --fail --silent http://127.0.0.1:8222/jsz"))["meta_cluster"]["cluster_size"]
        assert size == 3, size

    storage_1.wait_for_unit("autonomys-plot-client-ready.service", timeout=900)
    wait_for_solutions(node_1, 0, "192.168.1.1:9944")
    first = leader(node_1)
    others = {name: node for name, node in nodes.items() if name != first}
    # The chain is on node-1: that node stays, only its NATS server may go.
    nodes[first].succeed("systemctl kill --signal KILL autonomys-nats && systemctl stop autonomys-nats")

    with subtest("another server leads"):
        asked = next(iter(others.values()))
        asked.wait_until_succeeds(
            "curl --fail --silent http://127.0.0.1:8222/jsz | jq --exit-status "
            f"'.meta_cluster.leader != null and .meta_cluster.leader != \"{first}\"'",
            timeout=60,
        )

    with subtest("solutions are accepted after the leader is gone"):
        wait_for_solutions(node_1, accepted(node_1, "192.168.1.1:9944"), "192.168.1.1:9944")

    with subtest("the killed server comes back"):
        nodes[first].succeed("systemctl start autonomys-nats autonomys-nats-ready")
  '';
}
