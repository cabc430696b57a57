//! What the Nix side makes of an inventory is what this side makes of it: `nix/tests/cases` holds for each inventory what
//! `provision resolve` prints and what follows from it, checked here against `derive` and by `nix/tests/run.nix` against the NixOS
//! modules' functions. `UPDATE_GOLDEN=1` writes them anew.
#![allow(clippy::unwrap_used, missing_docs)]

use provision::derive::{self, Program};
use provision::document::Document;
use provision::facts::HostFacts;
use provision::inventory::{self, Source};
use provision::resolve::{Cluster, Host, Overrides, Surroundings, resolve};
use provision::topology::cpu_list;
use provision::{layout, render};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn cluster(name: &str, text: &str) -> Cluster {
    let source = Source { name: name.into(), text: text.into() };
    let inventory = inventory::parse(&source).unwrap_or_else(|findings| {
        panic!("{}", findings.iter().map(|f| f.render(&source)).collect::<String>())
    });
    let cluster = resolve(&inventory, &Overrides::default(), &Surroundings::default());
    assert!(!provision::check::has_errors(&provision::check::check(&cluster)));
    cluster
}

/// What the examples do not have: TLS of NATS, metrics that are scraped, another node, GPUs and CPUs by hand, a farm by size.
const BY_HAND: &str = "
version: 1
cluster: by-hand
reward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY
monitoring: {node_exporter_port: 9100}
dev_chain: {seed: by-hand, slot_ms: 500, archive_ahead: 2, slots_per_block: 6}
defaults: {ssh: {user: root}}
groups:
  nodes: {node: {nats: {tls: {cert: /etc/nats/server.pem, key: /etc/nats/server.key, ca: /etc/nats/ca.pem}}}}
hosts:
  node-1: {groups: [nodes], address: 10.0.0.10, port_offset: 10}
  node-2: {groups: [nodes], address: 10.0.0.9, node: {proof_server: {gpu: 1}}}
  node-3: {groups: [nodes], address: 'fd00::3'}
  plotter-1:
    address: 10.0.0.20
    plotter:
      sharded_cache: {size: 20GiB, cpus: 12-15}
      full_piece_cache: {port: 9999}
      plot_servers:
        - {name: first, gpu: 0, gpu_concurrency: 8, cpus: '0-5,16'}
        - {gpu: 1, path: /mnt/spool}
  storage-1:
    address: 10.0.0.30
    storage:
      new_segment_delay_max_s: 30
      farms: [{path: /mnt/a, size: 4TB}, {path: /mnt/b, sectors: 3600}]
";

const EXAMPLES: [&str; 5] = ["local", "ssh", "guide", "single-gpu", "dual-socket-8gpu"];

/// The CPUs that the inventory gives a program by hand; all others follow from what a host is, where Nix cannot look.
fn cpus_by_hand(host: &Host, program: &str) -> Option<String> {
    let plotter = host.plotter.as_ref()?;
    let cpus = match program {
        "autonomys-sharded-cache" => &plotter.sharded_cache.cpus,
        "autonomys-full-piece" => &plotter.full_piece_cache.cpus,
        _ => &plotter.plot_servers.iter().find(|server| server.name.value == program)?.cpus,
    };
    cpus.as_ref().map(|cpus| cpu_list(&cpus.value))
}

/// A program without what is a matter of `provision`'s directories: the binary's, and the marks in its environment.
fn shown(host: &Host, program: &Program) -> Value {
    let mut environment = program.environment.clone();
    environment.retain(|name, _| name != layout::MARKER_VARIABLE && name != "AUTONOMYS_CONFIG");
    json!({
        "name": program.name,
        "role": program.role.name(),
        "command": program.command[1..],
        "environment": environment,
        "cpus": cpus_by_hand(host, &program.name),
    })
}

fn nats_conf(cluster: &Cluster, host: &Host, programs: &mut [Program]) -> Value {
    let files = render::files(cluster, host, programs).unwrap();
    let conf = files.iter().find(|file| file.path.ends_with("nats-server.conf"));
    conf.map_or(Value::Null, |conf| {
        let lines = conf.text.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    })
}

fn case(cluster: &Cluster) -> Value {
    let of_host = |host: &Host| {
        let (mut programs, _) = derive::programs(cluster, host, &HostFacts::default());
        let shown: Vec<_> = programs.iter().map(|program| shown(host, program)).collect();
        let conf = nats_conf(cluster, host, &mut programs);
        (host.name.value.clone(), json!({"programs": shown, "nats_conf": conf}))
    };
    let hosts: serde_json::Map<_, _> = cluster.hosts.iter().map(of_host).collect();
    json!({"document": Document::of(cluster).unwrap(), "hosts": hosts})
}

#[test]
fn nix_cases_are_what_this_side_derives() {
    let directory = root().join("nix/tests/cases");
    let example =
        |name: &str| std::fs::read_to_string(root().join(format!("inventories/{name}.yaml"))).unwrap();
    let mut texts: Vec<(&str, String)> = EXAMPLES.iter().map(|name| (*name, example(name))).collect();
    texts.push(("by-hand", BY_HAND.to_string()));
    // Nix cannot look how much a disk has free.
    texts.push(("network", example("mainnet").replace("sectors: max", "sectors: 3600")));
    let mut expected = BTreeSet::new();
    for (name, text) in &texts {
        let path = directory.join(format!("{name}.json"));
        let text = format!("{:#}\n", case(&cluster(name, text)));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
        expected.insert(path);
    }
    let found = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(found.collect::<BTreeSet<_>>(), expected, "cases without an inventory");
}

#[test]
fn a_document_tells_nothing_of_secrets_and_the_control_machine() {
    let text = BY_HAND.replacen("defaults", "secret: {file: /root/farm-secret}\ndefaults", 1);
    let text = Document::of(&cluster("by-hand", &text)).map(|document| json!(document).to_string()).unwrap();
    for hidden in ["farm-secret", "build.json", "\"user\"", "\"secret\""] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
}

/// A machine of four cores with two threads each, CPUs 0–3 and their siblings 4–7, on two NUMA nodes, and a card at each.
fn machine(directory: &Path) {
    let write = |path: &str, text: &str| {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for cpu in 0..8 {
        let siblings = format!("{},{}\n", cpu % 4, cpu % 4 + 4);
        write(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), &siblings);
    }
    write("sys/devices/system/node/node0/cpulist", "0-1,4-5\n");
    write("sys/devices/system/node/node1/cpulist", "2-3,6-7\n");
    for (card, node) in [("0000:01:00.0", 0), ("0000:02:00.0", 0), ("0000:81:00.0", 1)] {
        write(&format!("nvidia/{card}/information"), "");
        write(&format!("sys/bus/pci/devices/{card}/numa_node"), &format!("{node}\n"));
    }
    // Says how it was called instead of binding.
    write("bin/numactl", "#!/bin/sh\necho \"$@\"\n");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.join("bin/numactl"), executable).unwrap();
}

#[test]
fn a_plot_server_of_nixos_is_placed_at_its_card() {
    let directory = tempfile::tempdir().unwrap();
    machine(directory.path());
    let place = |gpu: &str, all: &str| {
        let mut bash = Command::new("bash");
        bash.arg(root().join("nix/modules/place.sh")).args([gpu, all, "--", "echo", "plots"]);
        bash.env("PLACE_SYS", directory.path().join("sys"));
        bash.env("PLACE_NVIDIA", directory.path().join("nvidia"));
        let path = std::env::var("PATH").unwrap();
        bash.env("PATH", format!("{}:{path}", directory.path().join("bin").display()));
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    // Two cards at node 0 divide its cores, each core with its sibling.
    assert_eq!(place("0", "0,1,2"), "-C 0,4 -l echo plots");
    assert_eq!(place("1", "0,1,2"), "-C 1,5 -l echo plots");
    assert_eq!(place("2", "0,1,2"), "-C 2,6,3,7 -l echo plots");
    assert_eq!(place("0", "0"), "-C 0,4,1,5 -l echo plots");
    // A card that is not there: unbound, not refused.
    assert_eq!(place("7", "7"), "plots");
    std::fs::write(directory.path().join("sys/bus/pci/devices/0000:81:00.0/numa_node"), "-1\n").unwrap();
    assert_eq!(place("2", "0,1,2"), "plots");
}

/// A `curl` that fails so many times, says `answer` so many times, and then `at_last`.
fn curl(directory: &Path, failures: u32, answer: &str, at_last: &str) {
    let script = format!(
        "#!/bin/sh\necho x >> {0}/calls\nn=$(wc -l < {0}/calls)\n[ $n -gt {failures} ] || {{ echo refused >&2; exit 7; }}\n\
         if [ $n -gt $(({failures} + 2)) ]; then echo '{at_last}'; else echo '{answer}'; fi\n",
        directory.display()
    );
    let _ = std::fs::remove_file(directory.join("calls"));
    std::fs::write(directory.join("curl"), script).unwrap();
    std::fs::set_permissions(directory.join("curl"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_gate_of_nixos_opens_when_the_program_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let gate = |seconds: &str, kind: &str| {
        let mut bash = Command::new("bash");
        // As writeShellApplication calls it.
        bash.args(["-o", "errexit", "-o", "nounset", "-o", "pipefail"])
            .arg(root().join("nix/modules/ready.sh"));
        bash.args([seconds, kind, "127.0.0.1:1"]);
        let path = std::env::var("PATH").unwrap();
        let output = bash.env("PATH", format!("{}:{path}", directory.path().display())).output().unwrap();
        let calls =
            std::fs::read_to_string(directory.path().join("calls")).unwrap_or_default().lines().count();
        (output.status.code(), String::from_utf8(output.stderr).unwrap(), calls)
    };
    curl(directory.path(), 2, "", "");
    assert_eq!(gate("20", "role"), (Some(0), String::new(), 3));
    curl(directory.path(), 0, r#"{"result":{"syncing":true}}"#, r#"{"result":{"syncing":false}}"#);
    assert_eq!(gate("20", "node"), (Some(0), String::new(), 3));
    curl(directory.path(), 1000, "", "");
    let (status, said, _) = gate("0", "nats");
    assert_eq!((status, said.trim()), (Some(1), "nats at 127.0.0.1:1 was not ready within 0 s: refused"));
    let (status, said, _) = gate("0", "rolle");
    assert_eq!(status, Some(2), "{said}");
}

#[test]
fn a_farm_of_nixos_is_not_made_where_its_disk_should_be() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, own) = (directory.path().join("disk"), directory.path().join("own/store"));
    let give = || {
        let mut bash = Command::new("bash");
        bash.arg(root().join("nix/modules/directories.sh"));
        // Its own ids: whoever runs the tests may give what is theirs to themselves.
        let id = |flag| {
            let output = Command::new("id").arg(flag).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_string()
        };
        bash.args([id("-u"), id("-g")]).arg("--make").arg(&own).arg("--existing").arg(&disk).output().unwrap()
    };
    let refused = give();
    assert!(String::from_utf8(refused.stderr).unwrap().contains("is not there: mount its disk"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(!disk.exists());
    std::fs::create_dir(&disk).unwrap();
    assert!(give().status.success());
    assert_eq!(disk.metadata().unwrap().permissions().mode() & 0o777, 0o750);
    assert!(own.is_dir());
}
