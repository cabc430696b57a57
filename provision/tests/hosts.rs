//! Hosts of many kinds: what is wrong with them for their inventory, and why their programs run where they run.
#![allow(clippy::unwrap_used, missing_docs)]

use provision::facts::{ClockSkew, GpuFacts, Hardware, HostFacts, InterfaceFacts, NumaNode, PathFacts, Tool};
use provision::inventory::{self, Source};
use provision::resolve::{Cluster, Host, Overrides, Surroundings, resolve};
use provision::topology::{parse_cpus, smi};
use provision::{check, error::Error, explain, output, plan};
use std::collections::BTreeSet;

/// The guides' machines with the network's sectors; what is to be said of a host stands in `plotter` and `storage`.
fn inventory(plotter: &str, storage: &str) -> Source {
    let text = format!(
        "version: 1
cluster: guide
reward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY
dev_chain: {{pieces_in_sector: 1000}}
binaries: {{farmer: /t/autonomys-farmer, dev_node: /t/autonomys-dev-node}}
defaults: {{prefix: /srv/autonomys, ssh: {{user: root}}}}
hosts:
  node-1: {{address: 192.168.1.1, node: {{proof_server: {{gpu: 0}}}}}}
  plotter-1:
    address: 192.168.1.4
    plotter:
      {plotter}
  storage-1:
    address: 192.168.1.6
    storage:
      farms:
        {storage}
"
    );
    Source { name: "guide.yaml".into(), text }
}

const FOUR_SERVERS: &str = "plot_servers: [{port: 9966}, {port: 9967}, {port: 9968, gpu_concurrency: 16}, {gpu: 3, name: autonomys-last}]";
const TWO_FARMS: &str =
    "- {path: /mnt/nvme0n1/farm, sectors: max}\n        - {path: /mnt/nvme0n2/farm, sectors: 7000}";

fn cluster(source: &Source) -> Cluster {
    let inventory = inventory::parse(source).unwrap_or_else(|findings| {
        panic!("{}", findings.iter().map(|finding| finding.render(source)).collect::<String>())
    });
    resolve(&inventory, &Overrides::default(), &Surroundings::default())
}

fn host<'a>(cluster: &'a Cluster, name: &str) -> &'a Host {
    cluster.hosts.iter().find(|host| host.name.value == name).unwrap()
}

fn path(path: &str, mount: &str, size: u64, free: u64) -> PathFacts {
    PathFacts {
        path: path.into(),
        there: path.into(),
        directory: true,
        writable: true,
        free_bytes: Some(free),
        size_bytes: Some(size),
        mount: mount.into(),
        file_system: "ext4".into(),
        rotational: Some(false),
        ..PathFacts::default()
    }
}

/// What every host has, and its own paths.
fn facts(hardware: Hardware, paths: Vec<PathFacts>) -> HostFacts {
    let mut all = vec![path("/srv/autonomys", "/", 1_920_000_000_000, 1_700_000_000_000)];
    all.extend(paths);
    HostFacts {
        machine: "x86_64".into(),
        os_name: "Ubuntu 22.04.5 LTS".into(),
        numactl: Some("/usr/bin/numactl".into()),
        path_tools: [(
            "supervisord".to_string(),
            Tool { path: "/usr/bin/supervisord".into(), version: (4, 2, 1) },
        )]
        .into(),
        hardware,
        paths: all,
        clock_skew: Some(ClockSkew { min_ms: -300, max_ms: 200 }),
        ..HostFacts::default()
    }
}

fn interface(name: &str, megabits: u32, address: &str) -> InterfaceFacts {
    InterfaceFacts { name: name.into(), megabits: Some(megabits), addresses: vec![address.parse().unwrap()] }
}

/// 96 cores with SMT on two nodes, 512 GB, four cards; `nvidia-smi topo -m` as in the guides.
fn plotter() -> HostFacts {
    let node =
        |node, cpus: &str| NumaNode { node, cpus: parse_cpus(cpus), memory_bytes: Some(264_000_000_000) };
    let gpu = |index: u16, pci: &str, node| GpuFacts {
        index,
        pci: Some(pci.into()),
        model: Some("NVIDIA GeForce RTX 4090".into()),
        memory_bytes: Some(24_564 << 20),
        numa_node: Some(node),
        cpus: parse_cpus(if node == 0 { "0-47,96-143" } else { "48-95,144-191" }),
    };
    let hardware = Hardware {
        cpus_online: parse_cpus("0-191"),
        cpus_allowed: parse_cpus("0-191"),
        siblings: (0..192).map(|cpu| (cpu, BTreeSet::from([cpu % 96, cpu % 96 + 96]))).collect(),
        numa_nodes: vec![node(0, "0-47,96-143"), node(1, "48-95,144-191")],
        memory_bytes: Some(528_000_000_000),
        gpus: vec![
            gpu(0, "0000:01:00.0", 0),
            gpu(1, "0000:41:00.0", 0),
            gpu(2, "0000:81:00.0", 1),
            gpu(3, "0000:c1:00.0", 1),
        ],
        driver: Some((535, 129, 3)),
        smi: smi::parse(include_str!("fixtures/topo/01-guide-4gpu-2nic.txt")).unwrap(),
        interfaces: vec![interface("bond0", 20_000, "192.168.1.4")],
        ..Hardware::default()
    };
    facts(hardware, Vec::new())
}

/// No GPU, two disks of 8 TB with ext4's reserve.
fn storage() -> HostFacts {
    let hardware = Hardware {
        cpus_online: parse_cpus("0-31"),
        siblings: (0..32).map(|cpu| (cpu, BTreeSet::from([cpu % 16, cpu % 16 + 16]))).collect(),
        numa_nodes: vec![NumaNode { node: 0, cpus: parse_cpus("0-31"), memory_bytes: None }],
        memory_bytes: Some(67_000_000_000),
        interfaces: vec![interface("bond0", 20_000, "192.168.1.6")],
        ..Hardware::default()
    };
    let disk = |name: &str| PathFacts {
        reserved_bytes: 400_000_000_000,
        ..path(&format!("/mnt/{name}/farm"), &format!("/mnt/{name}"), 8_000_000_000_000, 7_599_488_000_000)
    };
    facts(hardware, vec![disk("nvme0n1"), disk("nvme0n2")])
}

/// Problems and warnings of a host, as they are printed.
fn judged(source: &Source, name: &str, facts: &HostFacts) -> String {
    let cluster = cluster(source);
    let (mut problems, warnings) = plan::problems(&cluster, host(&cluster, name), facts);
    // Of the binaries other tests tell.
    problems.retain(|problem| problem.code != "no-binary");
    let warnings: String =
        warnings.iter().map(|warning| format!("warning[{}]: {}\n", warning.code, warning.message)).collect();
    match problems.is_empty() {
        true => warnings,
        false => output::error_text(&Error::Check { problems }) + &warnings,
    }
}

fn explained(source: &Source, name: &str, facts: &HostFacts) -> String {
    let cluster = cluster(source);
    output::explanation_text(&explain::explain(&cluster, host(&cluster, name), facts, source))
}

#[test]
fn the_guides_machines_are_fit() {
    let source = inventory(FOUR_SERVERS, TWO_FARMS);
    assert_eq!(judged(&source, "plotter-1", &plotter()), "");
    assert_eq!(judged(&source, "storage-1", &storage()), "");
}

#[test]
fn explanation_of_a_plotter() {
    insta::assert_snapshot!(explained(&inventory(FOUR_SERVERS, TWO_FARMS), "plotter-1", &plotter()));
}

#[test]
fn explanation_of_a_storage_host() {
    insta::assert_snapshot!(explained(&inventory(FOUR_SERVERS, TWO_FARMS), "storage-1", &storage()));
}

#[test]
fn explanation_of_a_node_host_of_which_little_is_known() {
    let source = inventory(FOUR_SERVERS, TWO_FARMS);
    insta::assert_snapshot!(explained(&source, "node-1", &HostFacts::default()));
}

#[test]
fn explanation_as_json() {
    let source = inventory(FOUR_SERVERS, TWO_FARMS);
    let cluster = cluster(&source);
    let explanation = explain::explain(&cluster, host(&cluster, "plotter-1"), &plotter(), &source);
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["version"], 1);
    let server = &json["programs"][2];
    assert_eq!(server["program"], "autonomys-plot-server-0");
    assert_eq!(server["role"], "plot-server");
    let lines = server["lines"].as_array().unwrap();
    let value = |what: &str| lines.iter().find(|line| line["what"] == what).unwrap()["value"].clone();
    for (what, expected) in
        [("GPU", "0"), ("cores", "0-23,96-119"), ("memory", "node 0"), ("records at once", "36")]
    {
        assert_eq!(value(what), expected, "{what}");
    }
}

/// The guides' own lists, on the guides' own machine.
#[test]
fn the_guides_cpu_lists_are_refused() {
    let servers = "plot_servers: [{cpus: 0-31}, {cpus: 96-127}, {cpus: 96-127}, {cpus: 144-175}]";
    let source = inventory(servers, TWO_FARMS);
    let findings = check::check(&cluster(&source));
    insta::assert_snapshot!(findings.iter().map(|finding| finding.render(&source)).collect::<String>());
    insta::assert_snapshot!(judged(&source, "plotter-1", &plotter()));
}

#[test]
fn a_plotter_below_the_guides_is_told_by_how_much() {
    let mut facts = plotter();
    let hardware = &mut facts.hardware;
    hardware.cpus_online = parse_cpus("0-31,96-99,150");
    hardware.memory_bytes = Some(128_000_000_000);
    hardware.driver = Some((515, 105, 1));
    hardware.interfaces = vec![interface("eth0", 1_000, "192.168.1.4")];
    hardware.smi[2].numa_node = Some(0);
    hardware.gpus.truncate(3);
    facts.clock_skew = Some(ClockSkew { min_ms: -90_400, max_ms: -90_000 });
    facts.paths.push(PathFacts {
        rotational: Some(true),
        ..path("/srv/autonomys/data/plot-server-0", "/", 1_920_000_000_000, 1_700_000_000_000)
    });
    facts.paths.push(path("/srv/autonomys/data/full-piece", "/", 480_000_000_000, 100_000_000_000));
    insta::assert_snapshot!(judged(&inventory(FOUR_SERVERS, TWO_FARMS), "plotter-1", &facts));
}

#[test]
fn cpus_that_are_not_there_and_numactl_that_is_not_there() {
    let servers = "sharded_cache: {cpus: 0-3}\n      plot_servers: [{cpus: 100-300}, {cpus: 8-11}]";
    let mut facts = plotter();
    facts.numactl = None;
    facts.hardware.cpus_allowed = parse_cpus("0-9,96-105");
    facts.hardware.gpus.clear();
    facts.hardware.gpus_without_driver = vec!["0000:01:00.0".into()];
    let source = inventory(servers, TWO_FARMS);
    insta::assert_snapshot!(judged(&source, "plotter-1", &facts));
}

#[test]
fn eight_thousand_sectors_do_not_fit_and_it_is_said_how_many_do() {
    let farms = "- {path: /mnt/nvme0n1/farm, sectors: 8000}\n        - {path: /mnt/nvme0n2/farm, size: 8TB}";
    let mut facts = storage();
    facts.clock_skew = Some(ClockSkew { min_ms: 1_500, max_ms: 2_500 });
    facts.paths[1].used_bytes = 1_000_000_000_000;
    facts.paths[1].free_bytes = Some(6_599_488_000_000);
    facts.paths[2].file_system = "xfs".into();
    facts.paths[2].rotational = Some(true);
    facts.paths[2].reserved_bytes = 0;
    let source = inventory(FOUR_SERVERS, farms);
    insta::assert_snapshot!(judged(&source, "storage-1", &facts));
}

#[test]
fn a_full_disk_holds_no_farm() {
    let mut facts = storage();
    facts.paths[1].free_bytes = Some(1_000_000_000);
    facts.paths[1].file_system = "tmpfs".into();
    insta::assert_snapshot!(judged(&inventory(FOUR_SERVERS, TWO_FARMS), "storage-1", &facts));
}

#[test]
fn a_node_host_needs_its_gpu_and_what_the_guides_say() {
    let mut facts = storage();
    facts.paths[0].size_bytes = Some(100_000_000_000);
    facts.hardware.gpus_without_driver = vec!["0000:01:00.0".into()];
    facts.hardware.memory_bytes = Some(32_000_000_000);
    insta::assert_snapshot!(judged(&inventory(FOUR_SERVERS, TWO_FARMS), "node-1", &facts));
}

#[test]
fn versions_that_differ_between_hosts_are_told() {
    let source = inventory(FOUR_SERVERS, TWO_FARMS);
    let cluster = cluster(&source);
    let (mut first, second) = (plotter(), storage());
    let hosts = [host(&cluster, "plotter-1"), host(&cluster, "storage-1")];
    assert_eq!(plan::mixed_versions(&[(hosts[0], &first), (hosts[1], &second)]), Vec::<String>::new());
    first
        .prefix_tools
        .insert("supervisord".into(), Tool { path: "/p/bin/supervisord".into(), version: (4, 3, 0) });
    assert_eq!(
        plan::mixed_versions(&[(hosts[0], &first), (hosts[1], &second)]),
        ["Supervisor is not the same everywhere: 4.2.1 on storage-1; 4.3.0 on plotter-1"]
    );
}
