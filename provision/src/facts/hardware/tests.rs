//! What the script says on machines of many kinds, and what is made of it.

use super::*;

/// `grep`'s lines of a machine whose CPUs n and n + `cores` are siblings.
fn cpus(online: &str, cores: u32, nodes: &[&str], allowed: &str) -> String {
    let root = "/sys/devices/system";
    let mut text = format!("{root}/cpu/online:{online}\n");
    for cpu in 0..2 * cores {
        let list = format!("{},{}", cpu % cores, cpu % cores + cores);
        text += &format!("{root}/cpu/cpu{cpu}/topology/thread_siblings_list:{list}\n");
    }
    for (node, list) in nodes.iter().enumerate() {
        text += &format!("{root}/node/node{node}/cpulist:{list}\n");
    }
    text + &format!(
        "/proc/self/status:Cpus_allowed_list:\t{allowed}\n/proc/self/status:Mems_allowed_list:\t0-1\n"
    )
}

/// The guides' plotter.
fn guide() -> Hardware {
    let cpus = cpus("0-191", 96, &["0-47,96-143", "48-95,144-191"], "0-191");
    Hardware::parse(&Sections {
        cpus: &cpus,
        memory: "/proc/meminfo:MemTotal:       528280864 kB\n\
                 /sys/devices/system/node/node0/meminfo:Node 0 MemTotal:       263856128 kB\n\
                 /sys/devices/system/node/node1/meminfo:Node 1 MemTotal:       264424736 kB\n\
                 /sys/fs/cgroup/memory.max:max\n",
        gpus: "0000:01:00.0\t0x030000\t0\t0-47,96-143\n0000:41:00.0\t0x030000\t0\t0-47,96-143\n\
               0000:81:00.0\t0x030000\t1\t48-95,144-191\n0000:c1:00.0\t0x030200\t1\t48-95,144-191\n",
        gpu_driver: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n\
                     /dev/nvidia0\n/dev/nvidia1\n/dev/nvidia2\n/dev/nvidia3\n",
        smi_gpus: "0, 00000000:01:00.0, NVIDIA GeForce RTX 4090, 24564, 535.129.03\n\
                   1, 00000000:41:00.0, NVIDIA GeForce RTX 4090, 24564, 535.129.03\n\
                   2, 00000000:81:00.0, NVIDIA GeForce RTX 4090, 24564, 535.129.03\n\
                   3, 00000000:C1:00.0, NVIDIA H100 PCIe, 81559, 535.129.03\n",
        smi_topology: include_str!("../../../tests/fixtures/topo/01-guide-4gpu-2nic.txt"),
        network: "/sys/class/net/bond0/speed:20000\n/sys/class/net/eth0/speed:10000\n/sys/class/net/eth1/speed:-1\n\
                  1: lo    inet 127.0.0.1/8 scope host lo\\ valid_lft forever\n\
                  4: bond0    inet 192.168.1.4/24 brd 192.168.1.255 scope global bond0\\ valid_lft forever\n\
                  4: bond0    inet6 fd00::4/64 scope global\n7: veth1@if6    inet 10.0.0.1 peer 10.0.0.2/32 scope global\n",
    })
}

#[test]
fn the_guides_plotter() {
    let host = guide();
    assert_eq!(host.cpus_text(), "192, 96 cores with SMT");
    assert_eq!(host.memory_bytes, Some(528_280_864 << 10));
    let nodes: Vec<_> = host
        .nodes()
        .iter()
        .map(|node| (node.node, cpu_list(&node.cpus), node.memory_bytes.map(|bytes| bytes >> 30)))
        .collect();
    assert_eq!(
        nodes,
        [(0, "0-47,96-143".to_string(), Some(251)), (1, "48-95,144-191".to_string(), Some(252))]
    );
    assert_eq!(host.driver, Some((535, 129, 3)));
    assert!(host.gpus_without_driver.is_empty());
    let last = &host.gpus[3];
    assert_eq!((last.index, last.pci.as_deref(), last.numa_node), (3, Some("0000:c1:00.0"), Some(1)));
    assert_eq!((last.model.as_deref(), last.memory_bytes), (Some("NVIDIA H100 PCIe"), Some(81_559 << 20)));
    assert_eq!(cpu_list(&last.cpus), "48-95,144-191");
    assert_eq!(host.smi.len(), 4);
    let speeds: Vec<_> =
        host.interfaces.iter().map(|interface| (interface.name.as_str(), interface.megabits)).collect();
    assert_eq!(speeds, [("bond0", Some(20_000)), ("eth0", Some(10_000)), ("lo", None), ("veth1", None)]);
    assert_eq!(host.interfaces[0].addresses.len(), 2);
}

#[test]
fn a_machine_that_says_nothing_or_nonsense_is_empty() {
    assert_eq!(Hardware::parse(&Sections::default()), Hardware::default());
    let nonsense = "a\nb:c\n:\n/sys/devices/system/cpu/cpuX/topology/thread_siblings_list:0\n\
                    /sys/devices/system/node/node-1/cpulist:0\n/sys/devices/system/cpu/cpu99999/topology/thread_siblings_list:0\n\
                    /proc/meminfo:MemTotal: 99999999999999999999 kB\n\t\t\t\n0000:zz:00.0\t0x030000\t0\t0\n\
                    NVRM version: unknown\n/dev/nvidiactl\n, , ,\n1: lo inet x\n/sys/class/net/x/speed:fast\n";
    let facts = Hardware::parse(&Sections {
        cpus: nonsense,
        memory: nonsense,
        gpus: nonsense,
        gpu_driver: nonsense,
        smi_gpus: nonsense,
        smi_topology: nonsense,
        network: nonsense,
    });
    assert_eq!(facts, Hardware::default());
    assert!(facts.nodes().is_empty());
}

#[test]
fn a_cgroup_leaves_what_it_leaves() {
    let cpus = cpus("0-191", 96, &["0-47,96-143", "48-95,144-191"], "0-7,96-103");
    let memory = "/proc/meminfo:MemTotal: 528280864 kB\n/sys/fs/cgroup/memory.max:68719476736\n";
    let host = Hardware::parse(&Sections { cpus: &cpus, memory, ..Sections::default() });
    assert_eq!(host.memory_bytes, Some(64 << 30));
    assert_eq!(host.cpus_text(), "16 (of 192; a cgroup leaves 0-7,96-103), 8 cores with SMT");
    let nodes: Vec<_> = host.nodes().iter().map(|node| (node.node, cpu_list(&node.cpus))).collect();
    assert_eq!(nodes, [(0, "0-7,96-103".to_string())]);
}

#[test]
fn a_kernel_without_numa_has_one_node() {
    let host =
        Hardware::parse(&Sections { cpus: "/sys/devices/system/cpu/online:0-3\n", ..Sections::default() });
    assert_eq!(host.nodes().len(), 1);
    assert_eq!(host.cores(&host.usable_cpus()).len(), 4);
}

#[test]
fn cards_without_a_driver_are_no_gpus() {
    let gpus = "0000:01:00.0\t0x030000\t-1\t0-11\n0000:02:00.0\t0x030200\t-1\t0-11\n";
    let host = Hardware::parse(&Sections { gpus, ..Sections::default() });
    assert!(host.gpus.is_empty());
    assert_eq!(host.gpus_without_driver, ["0000:01:00.0", "0000:02:00.0"]);
}

#[test]
fn without_nvidia_smi_the_kernel_and_the_driver_know_enough() {
    let gpus = "0000:01:00.0\t0x030000\t-1\t0-11\n0000:41:00.0\t0x030200\t1\t12-23\n";
    let gpu_driver = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build\n\
                      /proc/driver/nvidia/gpus/0000:41:00.0/information:Model: \t\t NVIDIA H200\n\
                      /proc/driver/nvidia/gpus/0000:41:00.0/information:Device Minor: \t 1\n\
                      /proc/driver/nvidia/gpus/0000:01:00.0/information:Model: \t\t NVIDIA A2\n\
                      /proc/driver/nvidia/gpus/0000:01:00.0/information:Device Minor: \t 0\n";
    let both = format!("{gpu_driver}/dev/nvidia0\n/dev/nvidia1\n");
    let host = Hardware::parse(&Sections { gpus, gpu_driver: &both, ..Sections::default() });
    assert_eq!(host.driver, Some((580, 105, 8)));
    let seen: Vec<_> = host.gpus.iter().map(|gpu| (gpu.index, gpu.model.as_deref(), gpu.numa_node)).collect();
    assert_eq!(seen, [(0, Some("NVIDIA A2"), None), (1, Some("NVIDIA H200"), Some(1))]);
    // A container that was given the second card only.
    let second = format!("{gpu_driver}/dev/nvidia1\n");
    let host = Hardware::parse(&Sections { gpus, gpu_driver: &second, ..Sections::default() });
    let seen: Vec<_> = host.gpus.iter().map(|gpu| (gpu.index, gpu.pci.as_deref())).collect();
    assert_eq!(seen, [(0, Some("0000:41:00.0"))]);
    assert!(host.gpus_without_driver.is_empty());
}

#[test]
fn devices_alone_are_gpus_of_which_nothing_is_known() {
    let gpu_driver = "/dev/nvidia0\n/dev/nvidia2\n";
    let gpus = "0000:01:00.0\t0x030000\t0\t0-11\n";
    let host = Hardware::parse(&Sections { gpus, gpu_driver, ..Sections::default() });
    assert_eq!(host.gpus.iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [0, 2]);
    assert!(host.gpus_without_driver.is_empty(), "which card is which is not known");
}

#[test]
fn the_node_of_a_gpu_comes_from_whoever_knows_it() {
    let mut host = guide();
    let node = |host: &Hardware| host.node_of_gpu(&host.gpus[2]);
    assert_eq!(node(&host), Some(1));
    host.gpus[2].numa_node = None;
    assert_eq!(node(&host), Some(1), "by its CPUs");
    host.gpus[2].cpus = parse_cpus("0-191");
    assert_eq!(node(&host), Some(1), "by nvidia-smi");
    host.smi.clear();
    assert_eq!(node(&host), None);
}
