{ support, ... }:
{
  nodes = {
    inherit (support) control;
    farm = support.target;
  };

  testScript = ''
    data = "/var/lib/autonomys/vm/data/dev-node"

    start_all()
    farm.wait_for_unit("sshd.service")
    control.wait_for_unit("multi-user.target")
    begin(control)
    provision(control, APPLY)

    # An archive of the node's own database, from a stopped node, as the book has it.
    provision(control, "stop /root/inventory.yaml dev-node")
    farm.succeed(f"tar -czf /root/node-db.tar.gz -C {data} db && touch {data}/db/of-before")
    provision(control, "start /root/inventory.yaml --no-wait --patience 4")
    control.succeed("scp -o StrictHostKeyChecking=accept-new root@192.168.1.2:/root/node-db.tar.gz /root/node-db.tar.gz")

    with subtest("the archive is imported"):
        said = provision(control, "import-node-db /root/inventory.yaml /root/node-db.tar.gz --host farm --patience 4")
        assert "the node runs on what was in" in said, said

    with subtest("the node goes on with it"):
        assert chain(farm, "192.168.1.2:9944")["segments"]["archived"] > 0
        provision(control, "status")

    with subtest("the old database is gone"):
        farm.fail(f"test -e {data}/db/of-before")
  '';
}
