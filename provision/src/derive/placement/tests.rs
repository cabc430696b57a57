//! Machines of many kinds, and who gets which of their cores.

use super::*;
use crate::facts::GpuFacts;
use crate::topology::parse_cpus;
use std::path::PathBuf;

/// A host of these NUMA nodes on which CPU n and n + `cores` are siblings; 0 is a host without SMT.
fn host(nodes: &[&str], cores: u32) -> HostFacts {
    let lists: Vec<_> = nodes.iter().map(|list| parse_cpus(list)).collect();
    let online: BTreeSet<u32> = lists.iter().flatten().copied().collect();
    let siblings = |cpu: u32| match cores {
        0 => BTreeSet::from([cpu]),
        _ => BTreeSet::from([cpu % cores, cpu % cores + cores]),
    };
    let numa_nodes =
        (0..).zip(&lists).map(|(node, cpus)| NumaNode { node, cpus: cpus.clone(), memory_bytes: None });
    HostFacts {
        numactl: Some("/usr/bin/numactl".into()),
        hardware: Hardware {
            siblings: online.iter().map(|cpu| (*cpu, siblings(*cpu))).collect(),
            numa_nodes: numa_nodes.collect(),
            cpus_online: online,
            ..Hardware::default()
        },
        ..HostFacts::default()
    }
}

/// Puts a card into each of these NUMA nodes.
fn with_gpus(mut host: HostFacts, nodes: &[u32]) -> HostFacts {
    let gpu = |(index, node): (u16, &u32)| GpuFacts { index, numa_node: Some(*node), ..GpuFacts::default() };
    host.hardware.gpus = (0..).zip(nodes).map(gpu).collect();
    host
}

/// 96 cores with SMT on two nodes, and four GPUs.
fn guide() -> HostFacts {
    with_gpus(host(&["0-47,96-143", "48-95,144-191"], 96), &[0, 0, 1, 1])
}

fn server() -> PlotServer {
    let nowhere = Span::default();
    PlotServer {
        name: Spanned::new("autonomys-plot-server-0".to_string(), nowhere),
        port: Spanned::new(9966, nowhere),
        metrics_port: Spanned::new(9866, nowhere),
        path: Spanned::new(PathBuf::from("/spool"), nowhere),
        gpu: None,
        gpu_concurrency: None,
        cpus: None,
    }
}

fn plotter(servers: usize) -> Plotter {
    let nowhere = Span::default();
    let cache = Cache {
        port: Spanned::new(9950, nowhere),
        metrics_port: Spanned::new(9862, nowhere),
        path: Spanned::new(PathBuf::from("/cache"), nowhere),
        size: None,
        cpus: None,
    };
    let plot_servers = vec![server(); servers];
    Plotter { sharded_cache: cache.clone(), full_piece_cache: cache, plot_servers }
}

fn cpus(list: &str) -> Option<Spanned<BTreeSet<u32>>> {
    Some(Spanned::new(parse_cpus(list), Span { start: 7, end: 9 }))
}

/// GPU and CPUs of each plot-server; "all" where it is not bound.
fn placed(plotter: &Plotter, facts: &HostFacts) -> Vec<(Option<u16>, String)> {
    let placements = placements(plotter, facts);
    // Whatever the machine: only CPUs that are there, and nobody on another's cores.
    let usable = facts.hardware.usable_cpus();
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    let caches = placements.sharded_cache.value.iter();
    for affinity in
        placements.plot_servers.iter().filter_map(|placement| placement.affinity.value.as_ref()).chain(caches)
    {
        assert!(affinity.cpus.is_subset(&usable) && !affinity.cpus.is_empty(), "{}", affinity.list());
        let cores: BTreeSet<u32> =
            affinity.cpus.iter().flat_map(|cpu| facts.hardware.siblings[cpu].clone()).collect();
        assert!(taken.is_disjoint(&cores), "{} is shared", affinity.list());
        taken.extend(cores);
    }
    let shown = |placement: &Placement| {
        let list = placement.affinity.value.as_ref().map(Affinity::list);
        (placement.gpu.value, list.unwrap_or_else(|| "all".to_string()))
    };
    placements.plot_servers.iter().map(shown).collect()
}

fn lists(plotter: &Plotter, facts: &HostFacts) -> Vec<String> {
    placed(plotter, facts).into_iter().map(|(_, list)| list).collect()
}

fn cache_list(plotter: &Plotter, facts: &HostFacts) -> Option<String> {
    let placements = placements(plotter, facts);
    placements.sharded_cache.value.map(|affinity| affinity.list())
}

#[test]
fn the_guides_machine_is_split_as_it_should_have_been() {
    let expected = ["0-23,96-119", "24-47,120-143", "48-71,144-167", "72-95,168-191"];
    let expected: Vec<_> = (0..).zip(expected).map(|(gpu, list)| (Some(gpu), list.to_string())).collect();
    assert_eq!(placed(&plotter(4), &guide()), expected);
    let placements = placements(&plotter(4), &guide());
    let third = placements.plot_servers[2].affinity.value.as_ref().expect("bound");
    assert_eq!(third.nodes, [1], "numactl -l takes memory from where the cores are");
    assert_eq!(placements.sharded_cache.value, None, "nothing is left over");
    assert_eq!(placements.notes, ["plot-servers are bound with numactl over 2 NUMA nodes"]);
    let why = &placements.plot_servers[0].affinity.because;
    assert_eq!(
        *why,
        Because::Host("24 of the 48 cores of NUMA node 0, where GPU 0 is; 2 plot-servers divide them".into())
    );
}

#[test]
fn without_gpus_plot_servers_are_spread_over_the_nodes() {
    let facts = host(&["0-47,96-143", "48-95,144-191"], 96);
    let expected =
        [(None, "0-23,96-119"), (None, "48-71,144-167"), (None, "24-47,120-143"), (None, "72-95,168-191")];
    assert_eq!(placed(&plotter(4), &facts), expected.map(|(gpu, list)| (gpu, list.to_string())));
}

#[test]
fn one_gpu_on_one_node_is_not_bound() {
    let facts = with_gpus(host(&["0-31"], 16), &[0]);
    assert_eq!(placed(&plotter(1), &facts), [(Some(0), "all".to_string())]);
    let placements = placements(&plotter(1), &facts);
    assert_eq!(placements.notes, ["one NUMA node: plot-servers run without numactl"]);
}

#[test]
fn several_on_one_node_keep_off_each_other() {
    let facts = with_gpus(host(&["0-31"], 16), &[0, 0]);
    assert_eq!(lists(&plotter(2), &facts), ["0-7,16-23", "8-15,24-31"]);
    // A dwarf: two cores for four.
    let facts = host(&["0-1"], 0);
    assert_eq!(lists(&plotter(4), &facts), ["all"; 4]);
    let placements = placements(&plotter(4), &facts);
    assert_eq!(placements.notes, ["2 cores for 4 plot-servers: they run without numactl"]);
}

#[test]
fn eight_gpus_on_two_sockets() {
    let facts = with_gpus(host(&["0-63,128-191", "64-127,192-255"], 128), &[0, 0, 0, 0, 1, 1, 1, 1]);
    let lists = lists(&plotter(8), &facts);
    assert_eq!((lists[0].as_str(), lists[3].as_str()), ("0-15,128-143", "48-63,176-191"));
    assert_eq!((lists[4].as_str(), lists[7].as_str()), ("64-79,192-207", "112-127,240-255"));
}

#[test]
fn gpus_of_one_socket_leave_the_other_to_the_caches() {
    let facts = with_gpus(host(&["0-27,56-83", "28-55,84-111"], 56), &[1, 1]);
    assert_eq!(lists(&plotter(2), &facts), ["28-41,84-97", "42-55,98-111"]);
    assert_eq!(cache_list(&plotter(2), &facts).as_deref(), Some("0-27,56-83"));
}

#[test]
fn a_large_machine_spares_the_caches_four_cores_and_a_remainder_is_nobodys() {
    let facts = with_gpus(host(&["0-63,128-191", "64-127,192-255"], 128), &[0, 1]);
    assert_eq!(lists(&plotter(2), &facts)[0], "0-63,128-191");
    assert_eq!(lists(&plotter(2), &facts)[1], "64-123,192-251");
    assert_eq!(cache_list(&plotter(2), &facts).as_deref(), Some("124-127,252-255"));
    // 16 cores for three: one is left over, too little for the caches.
    let facts = with_gpus(host(&["0-31"], 16), &[0, 0, 0]);
    assert_eq!(lists(&plotter(3), &facts), ["0-4,16-20", "5-9,21-25", "10-14,26-30"]);
    assert_eq!(cache_list(&plotter(3), &facts), None);
}

#[test]
fn without_smt_a_core_is_a_cpu() {
    let facts = with_gpus(host(&["0-23", "24-47", "48-71", "72-95"], 0), &[0, 1, 2, 3]);
    assert_eq!(lists(&plotter(4), &facts), ["0-23", "24-47", "48-71", "72-95"]);
}

#[test]
fn four_nodes_a_socket() {
    // The DGX A100 of the samples: the GPUs' nodes are 3, 1, 7, 5, two each.
    let nodes = (0..8)
        .map(|node| format!("{}-{},{}-{}", node * 16, node * 16 + 15, node * 16 + 128, node * 16 + 143));
    let nodes: Vec<_> = nodes.collect();
    let nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
    let facts = with_gpus(host(&nodes, 128), &[3, 3, 1, 1, 7, 7, 5, 5]);
    let lists = lists(&plotter(8), &facts);
    assert_eq!(lists[..3], ["48-55,176-183", "56-63,184-191", "16-23,144-151"]);
    assert_eq!(lists[7], "88-95,216-223");
    let caches = cache_list(&plotter(8), &facts).expect("four nodes are nobody's");
    assert_eq!(caches, "0-15,32-47,64-79,96-111,128-143,160-175,192-207,224-239");
}

#[test]
fn off_line_cores_and_halves_are_left_out() {
    let mut facts = guide();
    facts.hardware.cpus_online = parse_cpus("0-10,48-60,96-100");
    let lists = lists(&plotter(4), &facts);
    assert_eq!(lists, ["0-4,96-100", "5-9", "48-53", "54-59"]);
}

#[test]
fn a_cgroup_leaves_what_it_leaves() {
    let mut facts = guide();
    facts.hardware.cpus_allowed = parse_cpus("0-7,96-103");
    let placements = placements(&plotter(4), &facts);
    let lists = lists(&plotter(4), &facts);
    assert_eq!(lists, ["0-1,96-97", "2-3,98-99", "4-5,100-101", "6-7,102-103"]);
    let Because::Host(why) = &placements.plot_servers[2].affinity.because else { panic!("derived") };
    assert!(why.contains("GPU 2 is on node 1, of which no CPU may be used"), "{why}");
}

#[test]
fn a_gpu_of_which_nobody_knows_the_node_goes_where_there_is_room() {
    let mut facts = guide();
    for gpu in &mut facts.hardware.gpus {
        gpu.numa_node = None;
    }
    let lists = lists(&plotter(4), &facts);
    assert_eq!(lists[..2], ["0-23,96-119", "48-71,144-167"]);
}

#[test]
fn what_is_given_by_hand_stays_and_the_others_keep_off_it() {
    let mut by_hand = plotter(4);
    by_hand.plot_servers[0].cpus = cpus("0-31");
    by_hand.plot_servers[1].gpu = Some(Spanned::new(3, Span { start: 1, end: 2 }));
    by_hand.sharded_cache.cpus = cpus("144-147");
    let facts = guide();
    let placed = placed(&by_hand, &facts);
    assert_eq!(placed[0], (Some(0), "0-31".to_string()));
    // GPU 3 is the second's, so the next free ones are 1 and 2.
    assert_eq!(placed[1], (Some(3), "52-73,148-169".to_string()));
    assert_eq!(
        placed[2],
        (Some(1), "32-47,128-143".to_string()),
        "the cores of which 0-31 are halves stay free"
    );
    assert_eq!(placed[3], (Some(2), "74-95,170-191".to_string()));
    let first = &placements(&by_hand, &facts).plot_servers[0];
    assert_eq!(first.affinity.because, Because::Inventory(Span { start: 7, end: 9 }));
}

#[test]
fn without_numactl_nothing_is_bound_and_that_is_said() {
    let facts = HostFacts { numactl: None, ..guide() };
    assert_eq!(lists(&plotter(4), &facts), ["all"; 4]);
    assert!(placements(&plotter(4), &facts).notes[0].contains("install the package `numactl`"));
}

#[test]
fn more_plot_servers_than_gpus_plot_on_cpus() {
    let facts = with_gpus(host(&["0-31"], 16), &[0]);
    let gpus: Vec<_> = placed(&plotter(2), &facts).into_iter().map(|(gpu, _)| gpu).collect();
    assert_eq!(gpus, [Some(0), None]);
}

#[test]
fn records_at_once_follow_the_card() {
    for (mib, records) in
        [(0, 1), (1664, 1), (8_192, 11), (10_240, 14), (24_564, 36), (81_559, 64), (143_771, 64)]
    {
        assert_eq!(records_on_card(mib << 20), records, "{mib} MiB");
    }
    let mut facts = guide();
    facts.hardware.gpus[0].memory_bytes = Some(10_240 << 20);
    let mut plotter = plotter(4);
    plotter.plot_servers[1].gpu_concurrency = Some(Spanned::new(9, Span { start: 3, end: 4 }));
    let concurrency: Vec<_> = placements(&plotter, &facts)
        .plot_servers
        .into_iter()
        .map(|placement| (placement.gpu_concurrency.value, placement.gpu_concurrency.because))
        .collect();
    let why = "(10240 MiB of the card - 1024) / 640 MiB a record";
    assert_eq!(concurrency[0], (Some(14), Because::Host(why.to_string())));
    assert_eq!(concurrency[1], (Some(9), Because::Inventory(Span { start: 3, end: 4 })));
    assert_eq!(concurrency[2].0, None, "the memory of the card is not known");
}
