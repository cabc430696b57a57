{ lib, support, ... }:
let
  cpus = {
    autonomys-plot-server-0 = [
      0
      1
    ];
    autonomys-plot-server-1 = [
      2
      3
    ];
  };
in
{
  nodes.farm = {
    imports = [ support.farm ];
    virtualisation = {
      cores = lib.mkForce 4;
      memorySize = lib.mkForce 4096;
      qemu.options = [
        "-object memory-backend-ram,id=ram0,size=2048M"
        "-object memory-backend-ram,id=ram1,size=2048M"
        "-numa node,nodeid=0,cpus=0-1,memdev=ram0"
        "-numa node,nodeid=1,cpus=2-3,memdev=ram1"
      ];
    };
    services.autonomys.plot-server.instances = {
      autonomys-plot-server-0.cpus = cpus.autonomys-plot-server-0;
      autonomys-plot-server-1 = {
        port = 9967;
        metricsPort = 9867;
        cpus = cpus.autonomys-plot-server-1;
      };
    };
  };

  testScript = ''
    wanted = {"autonomys-plot-server-0": ("0-1", 0), "autonomys-plot-server-1": ("2-3", 1)}

    farm.start()
    with subtest("the machine has two NUMA nodes"):
        assert farm.succeed("cat /sys/devices/system/node/online").strip() == "0-1"

    with subtest("each plot-server runs on its CPUs alone"):
        for unit, (cpus, _) in wanted.items():
            farm.wait_for_unit(f"{unit}-ready.service", timeout=900)
            pid = farm.succeed(f"systemctl show --property MainPID --value {unit}").strip()
            allowed = farm.succeed(f"grep Cpus_allowed_list /proc/{pid}/status").split()[1]
            assert allowed == cpus, f"{unit}: {allowed}"

    wait_for_solutions(farm, 0)
    with subtest("its memory comes from their node"):
        for unit, (_, node) in wanted.items():
            pid = farm.succeed(f"systemctl show --property MainPID --value {unit}").strip()
            pages = [
                int(farm.succeed(
                    f"awk '{{for (i = 1; i <= NF; i++) if ($i ~ /^N{other}=/ && /anon=/) {{split($i, a, \"=\"); sum += a[2]}}}} END {{print sum + 0}}' /proc/{pid}/numa_maps"
                ))
                for other in [0, 1]
            ]
            assert pages[node] > 9 * pages[1 - node], f"{unit}: {pages}"
  '';
}
