{ support, ... }:
{
  nodes = {
    inherit (support) control;
    node-1 = support.target;
    node-2 = support.target;
    node-3 = support.target;
    storage-1 = support.target;
  };

  testScript = ''
    start_all()
    targets = [node_1, node_2, node_3, storage_1]
    for target in targets:
        target.wait_for_unit("sshd.service")
    control.wait_for_unit("multi-user.target")
    begin(control, "three-nodes.yaml")
    provision(control, APPLY)
    before = [pids(target) for target in targets]

    with subtest("the change is applied"):
        control.succeed("sed -i 's/max_payload: 3MB/max_payload: 4MB/' /root/inventory.yaml")
        provision(control, APPLY)
        for node in [node_1, node_2, node_3]:
            node.succeed("grep -q 'max_payload: 4000000' /var/lib/autonomys/vm/etc/nats-server.conf")

    with subtest("only the programs that it is of were started again"):
        for was, target in zip(before, targets):
            gone = set(was) - set(pids(target))
            assert all("nats-server" in line for line in gone), gone
            assert len(gone) == (0 if target is storage_1 else 1), gone
  '';
}
