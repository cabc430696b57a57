//! Facts of hosts that are not there.
#![allow(clippy::unwrap_used, dead_code, reason = "each test takes what it needs")]

use provision::facts::{
    BuildFacts, HostFacts, LinkFacts, OwnProcess, ProgramFacts, Python, SupervisorFacts, Tool,
};
use provision::layout::Layout;
use provision::resolve::{Cluster, Host};
use provision::supervisor::ProcessState;
use provision::{derive, render};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A bare machine on which our binaries were brought.
pub(crate) fn bare() -> HostFacts {
    let names = ["autonomys-farmer", "autonomys-dev-node"];
    HostFacts {
        machine: "x86_64".into(),
        uid: 1000,
        python: Some(Python {
            path: "/usr/bin/python3".into(),
            version: "3.11.2".into(),
            pip: true,
            ensurepip: true,
        }),
        build: BuildFacts {
            executables: names.map(|name| (name.to_string(), PathBuf::from("/t").join(name))).into(),
            digests: names.map(|name| (name.to_string(), "ab".repeat(32))).into(),
            ..BuildFacts::default()
        },
        ..HostFacts::default()
    }
}

/// The facts of a host after its plan was applied to [`bare`].
pub(crate) fn applied(cluster: &Cluster, host: &Host) -> HostFacts {
    let facts = bare();
    let layout = Layout::of(host);
    let (mut programs, _) = derive::programs(cluster, host, &facts);
    let files = render::files(cluster, host, &mut programs).unwrap();
    let binary = |name: &str| layout.artifact(&"ab".repeat(32), name);
    let mut links: BTreeMap<String, LinkFacts> = BTreeMap::new();
    for name in ["autonomys-farmer", "autonomys-dev-node", "nats-server"] {
        links.insert(name.into(), LinkFacts { target: binary(name), resolved: binary(name) });
    }
    let directories =
        [layout.bin(), layout.etc().join("supervisor.d"), layout.logs(), layout.run(), layout.state()];
    let data = provision::facts::data_paths(host);
    let all = directories.iter().chain(&data).flat_map(|path| path.ancestors().map(Path::to_path_buf));
    HostFacts {
        directories: all.chain([layout.data()]).collect(),
        secret: Some("0123456789abcdef".to_string()),
        files: files.iter().map(|file| (file.path.clone(), file.digest())).collect(),
        prefix_tools: ["nats-server", "supervisord", "supervisorctl"]
            .map(|name| (name.to_string(), Tool { path: layout.bin().join(name), version: (4, 3, 0) }))
            .into(),
        processes: (100..)
            .zip(&programs)
            .map(|(pid, program)| OwnProcess {
                pid,
                parent: 99,
                executable: links[program.role.binary()].resolved.clone(),
            })
            .collect(),
        supervisor: Some(SupervisorFacts {
            pid: 99,
            programs: (100..)
                .zip(&programs)
                .map(|(pid, program)| {
                    (program.name.clone(), ProgramFacts { state: ProcessState::Running, pid: Some(pid) })
                })
                .collect(),
            ..SupervisorFacts::default()
        }),
        links,
        ..facts
    }
}
