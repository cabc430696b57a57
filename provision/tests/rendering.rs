//! What is rendered and planned, byte for byte: `templates/golden` holds it. `UPDATE_GOLDEN=1` writes it anew.
#![allow(clippy::unwrap_used, missing_docs)]

mod machines;

use machines::bare;
use provision::facts::{GpuFacts, Hardware, HostFacts, NumaNode, PathFacts, ProgramFacts};
use provision::inventory::{self, Source};
use provision::plan::{self, Change};
use provision::resolve::{Cluster, Overrides, Surroundings, resolve};
use provision::supervisor::ProcessState;
use provision::{derive, output, render};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PREFIX: &str = "/var/lib/autonomys/cluster";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn cluster(text: &str) -> Cluster {
    let source = Source { name: "test.yaml".into(), text: text.into() };
    let inventory = inventory::parse(&source).unwrap_or_else(|findings| {
        panic!("{}", findings.iter().map(|f| f.render(&source)).collect::<String>())
    });
    let overrides = Overrides { prefix: Some(PREFIX.into()), ..Overrides::default() };
    let cluster = resolve(&inventory, &overrides, &Surroundings::default());
    assert!(provision::check::check(&cluster).is_empty());
    cluster
}

fn example(name: &str) -> Cluster {
    cluster(&std::fs::read_to_string(root().join("inventories").join(name)).unwrap())
}

fn local() -> Cluster {
    example("local.yaml")
}

/// Two GPUs on two NUMA nodes, percent signs in a path, a farm by size.
fn dual_gpu() -> Cluster {
    cluster(
        "version: 1\ncluster: dual\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n\
         hosts:\n  big:\n    connection: local\n    address: 127.0.0.1\n    port_offset: 100\n    \
         node: {proof_server: {gpu: 0}}\n    plotter:\n      \
         plot_servers:\n        - {gpu: 0, gpu_concurrency: 8}\n        - {gpu: 1, path: /mnt/100%full/spool}\n    \
         storage:\n      farms:\n        - {path: /mnt/a, size: 4TB}\n        - {path: /mnt/b, sectors: 3600}\n",
    )
}

fn dual_socket() -> HostFacts {
    let cpus = |ranges: &[std::ops::Range<u32>]| ranges.iter().cloned().flatten().collect::<BTreeSet<u32>>();
    HostFacts {
        numactl: Some("/usr/bin/numactl".into()),
        hardware: Hardware {
            cpus_online: cpus(&[0..32, 32..64]),
            numa_nodes: vec![
                NumaNode { node: 0, cpus: cpus(&[0..16, 32..48]), memory_bytes: None },
                NumaNode { node: 1, cpus: cpus(&[16..32, 48..64]), memory_bytes: None },
            ],
            siblings: (0..64).map(|cpu| (cpu, BTreeSet::from([cpu % 32, cpu % 32 + 32]))).collect(),
            ..Hardware::default()
        },
        ..HostFacts::default()
    }
}

/// A GPU on each of these NUMA nodes.
fn with_gpus(mut host: HostFacts, nodes: &[u32]) -> HostFacts {
    let gpu = |(index, node): (u16, &u32)| GpuFacts { index, numa_node: Some(*node), ..GpuFacts::default() };
    host.hardware.gpus = (0..).zip(nodes).map(gpu).collect();
    host
}

fn check_golden(name: &str, cluster: &Cluster, facts: &HostFacts) {
    let host = &cluster.hosts[0];
    let (mut programs, _) = derive::programs(cluster, host, facts);
    let files = render::files(cluster, host, &mut programs).unwrap();
    let golden = root().join("templates/golden").join(name);
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut expected: BTreeSet<PathBuf> = BTreeSet::new();
    for file in &files {
        let path = golden.join(file.path.strip_prefix(&host.prefix).unwrap());
        if update {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &file.text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(there, file.text, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
        expected.insert(path);
    }
    let found = [golden.join("etc"), golden.join("etc/supervisor.d")].into_iter().flat_map(|directory| {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    });
    assert_eq!(found.collect::<BTreeSet<_>>(), expected, "golden files without a program");
}

#[test]
fn golden_local() {
    check_golden("local", &local(), &HostFacts::default());
}

#[test]
fn golden_mainnet() {
    check_golden("mainnet", &example("mainnet.yaml"), &HostFacts::default());
}

#[test]
fn golden_dual_gpu() {
    check_golden("dual-gpu", &dual_gpu(), &dual_socket());
}

#[test]
fn golden_single_gpu() {
    check_golden("single-gpu", &example("single-gpu.yaml"), &with_gpus(HostFacts::default(), &[0]));
}

#[test]
fn golden_dual_socket_8gpu() {
    let facts = with_gpus(dual_socket(), &[0, 0, 0, 0, 1, 1, 1, 1]);
    check_golden("dual-socket-8gpu", &example("dual-socket-8gpu.yaml"), &facts);
}

/// The only host after its plan was applied.
fn applied(cluster: &Cluster) -> HostFacts {
    machines::applied(cluster, &cluster.hosts[0])
}

fn plan_of(cluster: &Cluster, facts: &HostFacts) -> plan::Plan {
    plan::plan(cluster, &cluster.hosts[0], facts).unwrap()
}

fn changes(plan: &plan::Plan) -> Vec<&str> {
    plan.steps.iter().filter(|step| step.changes()).map(|step| step.id.as_str()).collect()
}

#[test]
fn plan_of_a_bare_machine() {
    let plan = plan_of(&local(), &bare());
    insta::assert_snapshot!(output::plans_text(std::slice::from_ref(&plan)));
    // The plan serialises, and the same inputs give the same plan.
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json, serde_json::to_value(plan_of(&local(), &bare())).unwrap());
    assert_eq!(json["steps"][0]["action"], "install_packages");
}

#[test]
fn an_applied_plan_leaves_nothing_to_do() {
    let plan = plan_of(&local(), &applied(&local()));
    assert_eq!(changes(&plan), Vec::<&str>::new());
    insta::assert_snapshot!(output::plans_text(&[plan]));
}

#[test]
fn one_change_restarts_only_what_it_touches() {
    let cluster = local();
    let applied = applied(&cluster);

    // A parameter of one program.
    let text = std::fs::read_to_string(root().join("inventories/local.yaml")).unwrap();
    let more = self::cluster(&text.replace("sectors: 4", "sectors: 5"));
    let plan = plan_of(&more, &applied);
    let expected = ["file:etc/supervisor.d/autonomys-plot-client.conf", "program:autonomys-plot-client"];
    assert_eq!(changes(&plan), expected);

    // nats-server's own file: the digest in its environment makes Supervisor see it.
    let payload = self::cluster(&text.replace("max_payload: 3MB", "max_payload: 4MB"));
    let plan = plan_of(&payload, &applied);
    let expected =
        ["file:etc/nats-server.conf", "file:etc/supervisor.d/nats-server.conf", "program:nats-server"];
    assert_eq!(changes(&plan), expected);

    // A new farmer restarts its six roles, not the node and not NATS.
    let mut facts = applied.clone();
    facts.build.digests.insert("autonomys-farmer".into(), "cd".repeat(32));
    let plan = plan_of(&cluster, &facts);
    assert_eq!(changes(&plan).len(), 1 + 6);
    assert!(!changes(&plan).iter().any(|step| step.contains("nats") || step.contains("dev-node")));

    // A build that is due may change nothing: programs are restarted only if it does.
    let mut facts = applied.clone();
    facts.build.due = Some("sources changed".into());
    let plan = plan_of(&cluster, &facts);
    let conditional = plan
        .steps
        .iter()
        .filter(|step| matches!(&step.action, plan::Action::Program { change: Change::RestartIfBuilt, .. }));
    assert_eq!(conditional.count(), 7);

    // A program that was killed for good, and one that runs an older binary.
    let mut facts = applied.clone();
    let supervisor = facts.supervisor.as_mut().unwrap();
    supervisor.programs.get_mut("autonomys-controller").unwrap().state = ProcessState::Fatal;
    facts.processes[3].executable = "/old/autonomys-farmer".into();
    let plan = plan_of(&cluster, &facts);
    assert_eq!(changes(&plan), ["program:autonomys-controller", "program:autonomys-proof-server"]);

    // supervisord died: what it left is stopped, and everything is started again.
    let mut facts = applied.clone();
    facts.supervisor = None;
    let plan = plan_of(&cluster, &facts);
    assert_eq!(changes(&plan)[..3], ["orphans", "supervisord", "program:nats-server"]);

    // A change that was written but never loaded, because the last run was cut off.
    let mut facts = applied.clone();
    facts.supervisor.as_mut().unwrap().stale.insert("autonomys-full-piece".into());
    let plan = plan_of(&cluster, &facts);
    assert_eq!(changes(&plan), ["program:autonomys-full-piece"]);

    // A program that the inventory has no more.
    let mut facts = applied;
    let gone = PathBuf::from(PREFIX).join("etc/supervisor.d/autonomys-plot-server-1.conf");
    facts.files.insert(gone, "00".into());
    let programs = &mut facts.supervisor.as_mut().unwrap().programs;
    let running = ProgramFacts { state: ProcessState::Running, pid: Some(77) };
    programs.insert("autonomys-plot-server-1".into(), running);
    let plan = plan_of(&cluster, &facts);
    let expected = ["file:etc/supervisor.d/autonomys-plot-server-1.conf", "program:autonomys-plot-server-1"];
    assert_eq!(changes(&plan), expected);
}

#[test]
fn an_unfit_host_is_told_everything_at_once() {
    let cluster = dual_gpu();
    let path = |path: &str, there: &str, directory, writable, free: u64| PathFacts {
        path: path.into(),
        there: there.into(),
        directory,
        writable,
        free_bytes: Some(free),
        mount: there.into(),
        file_system: "ext4".into(),
        ..PathFacts::default()
    };
    let facts = HostFacts {
        ports: vec![
            provision::facts::TakenPort { port: 4322, pid: Some(12), program: "nats-server".into() },
            provision::facts::TakenPort { port: 10044, pid: None, program: String::new() },
        ],
        hardware: Hardware { gpus: vec![GpuFacts::default()], ..Hardware::default() },
        paths: vec![
            path(PREFIX, "/var/lib", true, false, 1 << 40),
            path("/mnt/a", "/mnt/a", true, true, 1_000_000_000_000),
            path("/mnt/b", "/mnt", true, true, 1 << 50),
        ],
        ..HostFacts::default()
    };
    let (problems, _) = plan::problems(&cluster, &cluster.hosts[0], &facts);
    insta::assert_snapshot!(output::error_text(&provision::Error::Check { problems }));
}
