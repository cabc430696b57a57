//! The facts of a simulated host, as the script would tell them: a Debian 12 with Python and pip, ten terabytes free, and
//! no hardware that could be told.

use super::commands::{PYTHON, version};
use super::files::Entry;
use super::machine::Host;
use crate::facts::{HostFacts, LinkFacts, OwnProcess, PathFacts, Python, Question, TakenPort, Tool};
use crate::layout::Layout;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes of every disk.
const DISK: u64 = 10_000_000_000_000;

/// The facts of a host, as far as the script tells them.
pub(super) fn of(host: &Host, question: &Question) -> HostFacts {
    let layout = Layout::new(&question.prefix);
    let files = &host.machine.files;
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let depth = layout.prefix.components().count() + 3;
    HostFacts {
        machine: "x86_64".to_string(),
        uid: 0,
        os_id: "debian".to_string(),
        os_name: "Debian GNU/Linux 12 (bookworm)".to_string(),
        libc: "glibc 2.36".to_string(),
        // Whoever reads no clock is not told that it is off.
        unix_time_ms: 0,
        python: Some(Python {
            path: PYTHON.into(),
            version: "3.11.2".to_string(),
            pip: true,
            ensurepip: false,
        }),
        apt_get: Some("/usr/bin/apt-get".into()),
        prefix_tools: tools(host, &layout),
        processes: (host.machine.processes.iter())
            .map(|(pid, process)| OwnProcess {
                pid: *pid,
                parent: process.parent,
                executable: process.executable.clone(),
            })
            .collect(),
        ports: ports(host, question),
        paths: std::iter::once(&question.prefix)
            .chain(&question.paths)
            .map(|path| of_path(host, path))
            .collect(),
        files: files
            .below(&layout.etc())
            .filter(|(path, entry)| matches!(entry, Entry::File(_)) && !hidden(path))
            .filter_map(|(path, _)| Some((path.clone(), files.digest(path)?)))
            .collect(),
        links: links(host, &layout),
        directories: files
            .below(&layout.prefix)
            .filter(|(path, entry)| **entry == Entry::Directory && path.components().count() <= depth)
            .map(|(path, _)| path.clone())
            .collect(),
        ..HostFacts::default()
    }
}

fn tools(host: &Host, layout: &Layout) -> BTreeMap<String, Tool> {
    let there = ["nats-server", "supervisord", "supervisorctl"].into_iter().filter_map(|name| {
        let path = layout.bin().join(name);
        host.machine.files.read(&path)?;
        let shown = version(host, name).unwrap_or_default();
        let numbers: Vec<u32> = shown
            .trim_start_matches(|c: char| !c.is_ascii_digit())
            .split('.')
            .filter_map(|number| number.trim().parse().ok())
            .collect();
        let version = <[u32; 3]>::try_from(numbers).map_or((0, 0, 0), Into::into);
        Some((name.to_string(), Tool { path, version }))
    });
    there.collect()
}

fn ports(host: &Host, question: &Question) -> Vec<TakenPort> {
    let taken = host.machine.processes.iter().flat_map(|(pid, process)| {
        let ports = process.listens().into_iter().map(|address| address.port());
        ports.map(|port| TakenPort { port, pid: Some(*pid), program: process.program.clone() })
    });
    taken.filter(|taken| question.ports.contains(&taken.port)).collect()
}

fn of_path(host: &Host, path: &Path) -> PathFacts {
    let files = &host.machine.files;
    let there = path.ancestors().find(|above| files.is_directory(above) || files.read(above).is_some());
    let there = there.unwrap_or(Path::new("/")).to_path_buf();
    PathFacts {
        path: path.to_path_buf(),
        directory: files.is_directory(&there),
        writable: true,
        free_bytes: Some(files.room.unwrap_or(DISK)),
        mount: PathBuf::from("/"),
        file_system: "ext4".to_string(),
        there,
        ..PathFacts::default()
    }
}

fn links(host: &Host, layout: &Layout) -> BTreeMap<String, LinkFacts> {
    let files = &host.machine.files;
    let bin = layout.bin();
    let links = files.below(&bin).filter_map(|(path, entry)| match entry {
        Entry::Link(target) => {
            let name = path.file_name()?.to_string_lossy().into_owned();
            // A name that `*` does not match.
            let seen = !name.starts_with('.');
            let resolved = files.resolve(path).unwrap_or_default();
            seen.then(|| (name, LinkFacts { target: target.clone(), resolved }))
        }
        _ => None,
    });
    links.collect()
}
