import json


def chain(machine, address="127.0.0.1:9944"):
    """What the development node says of itself."""
    ask = '{"jsonrpc":"2.0","id":1,"method":"dev_stats","params":[]}'
    said = machine.succeed(
        f"curl --fail --silent --header 'content-type: application/json' --data '{ask}' http://{address}"
    )
    return json.loads(said)["result"]


def accepted(machine, address="127.0.0.1:9944"):
    """Solutions that the chain has accepted."""
    return chain(machine, address)["solutions"]["accepted"]


def wait_for_solutions(machine, more_than, address="127.0.0.1:9944", seconds=900):
    """Waits until the chain has accepted more solutions than so many."""
    ask = '{"jsonrpc":"2.0","id":1,"method":"dev_stats","params":[]}'
    machine.wait_until_succeeds(
        f"test $(curl --fail --silent --header 'content-type: application/json' --data '{ask}' "
        f"http://{address} | jq .result.solutions.accepted) -gt {more_than}",
        timeout=seconds,
    )


def provision(control, arguments, status=0):
    """Runs provision; gives what it says, to both streams."""
    found, said = control.execute(f"provision {arguments} 2>&1", timeout=1800)
    assert found == status, f"provision {arguments}: {status} was expected, {found} was found:\n{said}"
    return said


def begin(control, inventory="inventory.yaml"):
    """Puts the inventory where it may be changed, and pins the hosts' keys in it."""
    control.succeed(f"install -m 0644 /etc/{inventory} /root/inventory.yaml")
    provision(control, "trust --yes")


def pids(target):
    """Process ids of a target's programs by their command lines."""
    return sorted(target.succeed("pgrep -a 'autonomys|nats-server'").splitlines())


APPLY = "apply --binaries /etc/binaries --patience 4"
