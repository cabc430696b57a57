//! The script's reply: sections of text, taken apart. Pure.

use super::hardware::Sections;
use super::{
    BuildFacts, FarmFacts, Hardware, HostFacts, LinkFacts, OwnProcess, PathFacts, Python, TakenPort, Tool,
};
use crate::journal::LastRun;
use crate::layout::Layout;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Begins a section of the script's reply.
const SECTION: char = '\u{1e}';

/// The sections of the script's reply by their names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    schema: String,
    machine: String,
    uid: String,
    os_release: String,
    libc: String,
    unix_time: String,
    python: String,
    apt_get: String,
    numactl: String,
    tools: String,
    cpus: String,
    memory: String,
    gpus: String,
    gpu_driver: String,
    smi_gpus: String,
    smi_topology: String,
    network: String,
    processes: String,
    executables: String,
    ports: String,
    paths: String,
    file_systems: String,
    mounts: String,
    devices: String,
    files: String,
    links: String,
    directories: String,
    used: String,
    farms: String,
    end: String,
}

impl Reply {
    /// Takes the sections apart.
    ///
    /// # Errors
    /// One is missing, unknown or there twice, or the reply is of another version.
    pub(super) fn read(reply: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(reply);
        let mut sections = serde_json::Map::new();
        for section in text.split(SECTION).skip(1) {
            let (name, body) = section.split_once('\n').unwrap_or((section, ""));
            if sections.insert(name.to_string(), body.into()).is_some() {
                return Err(format!("the section {name:?} is there twice"));
            }
        }
        let reply: Self = serde_json::from_value(sections.into()).map_err(|error| error.to_string())?;
        match reply.schema.trim() {
            "2" if reply.end.is_empty() => Ok(reply),
            other => Err(format!("schema {other:?} instead of 2")),
        }
    }

    /// What the host is like; what makes no sense is absent.
    pub(super) fn parse(self, layout: &Layout) -> HostFacts {
        let release: BTreeMap<_, _> =
            self.os_release.lines().filter_map(|line| line.split_once('=')).collect();
        let release = |key| release.get(key).map_or("", |value: &&str| value.trim_matches('"')).to_string();
        let some_path = |text: &str| Some(text.trim()).filter(|text| !text.is_empty()).map(PathBuf::from);
        let (path_tools, prefix_tools) = parse_tools(&self.tools, layout);
        let used: BTreeMap<_, _> = self.used.lines().filter_map(|line| line.split_once('\t')).collect();
        let used: BTreeMap<_, u64> = used
            .into_iter()
            .filter_map(|(kib, path)| Some((path, kib.parse::<u64>().ok()?.checked_mul(1024)?)))
            .collect();
        let hardware = Hardware::parse(&Sections {
            cpus: &self.cpus,
            memory: &self.memory,
            gpus: &self.gpus,
            gpu_driver: &self.gpu_driver,
            smi_gpus: &self.smi_gpus,
            smi_topology: &self.smi_topology,
            network: &self.network,
        });
        let executables: BTreeMap<_, _> =
            self.executables.lines().filter_map(|line| line.split_once('\t')).collect();
        let storage = FileSystems::new(&self.file_systems, &self.mounts, &self.devices);
        HostFacts {
            machine: self.machine.trim().to_string(),
            uid: self.uid.trim().parse().unwrap_or(u32::MAX),
            os_id: release("ID"),
            os_name: release("PRETTY_NAME"),
            libc: self.libc.trim().to_string(),
            unix_time_ms: parse_milliseconds(self.unix_time.trim()).unwrap_or(0),
            clock_skew: None,
            python: parse_python(&self.python),
            apt_get: some_path(&self.apt_get),
            numactl: some_path(&self.numactl),
            path_tools,
            prefix_tools,
            hardware,
            processes: rows(&self.processes).filter_map(|row| parse_process(&row, &executables)).collect(),
            ports: rows(&self.ports).filter_map(|row| parse_port(&row)).collect(),
            paths: rows(&self.paths).filter_map(|row| parse_path(&row, &storage, &used)).collect(),
            farms: parse_farms(&self.farms),
            files: self
                .files
                .lines()
                .filter_map(|line| line.split_once("  "))
                .map(|(digest, path)| (PathBuf::from(path), digest.to_string()))
                .collect(),
            links: rows(&self.links)
                .filter_map(|row| {
                    let [name, target, resolved] = row[..] else { return None };
                    Some((name.to_string(), LinkFacts { target: target.into(), resolved: resolved.into() }))
                })
                .collect(),
            directories: self.directories.lines().map(PathBuf::from).collect(),
            secret: None,
            last_run: LastRun::default(),
            supervisor: None,
            build: BuildFacts::default(),
        }
    }
}

pub(super) fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| line.split('\t').collect())
}

fn parse_python(text: &str) -> Option<Python> {
    let mut lines = text.lines();
    Some(Python {
        path: lines.next().filter(|path| path.starts_with('/'))?.into(),
        version: lines.next()?.to_string(),
        pip: lines.next()? == "pip",
        ensurepip: lines.next()? == "ensurepip",
    })
}

type Tools = BTreeMap<String, Tool>;

fn parse_tools(text: &str, layout: &Layout) -> (Tools, Tools) {
    let (mut on_path, mut in_prefix) = (Tools::new(), Tools::new());
    for row in rows(text) {
        let [name, path, version] = row[..] else { continue };
        let path = PathBuf::from(path);
        let tools = if path.starts_with(layout.bin()) { &mut in_prefix } else { &mut on_path };
        tools.insert(name.to_string(), Tool { path, version: parse_version(version) });
    }
    (on_path, in_prefix)
}

/// The first `N.N[.N]` of a text such as "nats-server: v2.14.6".
pub(crate) fn parse_version(text: &str) -> (u32, u32, u32) {
    let word = text
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    let mut numbers = word.unwrap_or("").split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// Seconds since 1970 with or without a fraction.
fn parse_milliseconds(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits: String =
        fraction.chars().take_while(char::is_ascii_digit).chain("000".chars()).take(3).collect();
    seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(digits.parse().ok()?)
}

fn parse_process(row: &[&str], executables: &BTreeMap<&str, &str>) -> Option<OwnProcess> {
    let [pid, parent] = row else { return None };
    // A replaced executable is shown as "PATH (deleted)": then it is not the one that lies there.
    let executable = executables.get(format!("/proc/{pid}").as_str()).copied().unwrap_or_default();
    Some(OwnProcess { pid: pid.parse().ok()?, parent: parent.parse().ok()?, executable: executable.into() })
}

fn parse_port(row: &[&str]) -> Option<TakenPort> {
    let [port, pid, program] = row else { return None };
    Some(TakenPort { port: port.parse().ok()?, pid: pid.parse().ok(), program: (*program).to_string() })
}

/// The file systems that paths lie on, by the paths.
struct FileSystems<'a> {
    /// Type as `stat` has it, then bytes: all, free, free for us.
    sizes: BTreeMap<&'a str, (&'a str, u64, u64, u64)>,
    mounts: BTreeMap<&'a str, &'a str>,
    /// By mount point: type as the kernel has it, whether its disk turns.
    devices: BTreeMap<&'a str, (&'a str, Option<bool>)>,
}

impl<'a> FileSystems<'a> {
    fn new(sizes: &'a str, mounts: &'a str, devices: &'a str) -> Self {
        let size = |row: Vec<&'a str>| {
            let [path, kind, block, blocks, free, available] = row[..] else { return None };
            let block: u64 = block.parse().ok()?;
            let bytes = |blocks: &str| blocks.parse::<u64>().ok()?.checked_mul(block);
            Some((path, (kind, bytes(blocks)?, bytes(free)?, bytes(available)?)))
        };
        let device = |row: Vec<&'a str>| {
            let [mount, kind, turns] = row[..] else { return None };
            let turns = match turns {
                "0" => Some(false),
                "1" => Some(true),
                _ => None,
            };
            Some((mount, (kind, turns)))
        };
        Self {
            sizes: rows(sizes).filter_map(size).collect(),
            mounts: mounts.lines().filter_map(|line| line.split_once('\t')).collect(),
            // What was mounted last lies on top.
            devices: rows(devices).filter_map(device).collect(),
        }
    }
}

fn parse_path(row: &[&str], storage: &FileSystems<'_>, used: &BTreeMap<&str, u64>) -> Option<PathFacts> {
    let [path, there, kind, writable] = row else { return None };
    let size = storage.sizes.get(there);
    let mount = storage.mounts.get(there).copied().unwrap_or_default();
    let device = storage.devices.get(mount);
    Some(PathFacts {
        path: (*path).into(),
        there: (*there).into(),
        directory: *kind == "directory",
        writable: *writable == "yes",
        free_bytes: size.map(|(.., available)| *available),
        size_bytes: size.map(|(_, all, ..)| *all),
        reserved_bytes: size.map_or(0, |(_, _, free, available)| free.saturating_sub(*available)),
        mount: mount.into(),
        file_system: device
            .map(|(kind, _)| *kind)
            .or(size.map(|(kind, ..)| *kind))
            .unwrap_or_default()
            .into(),
        rotational: device.and_then(|(_, turns)| *turns),
        used_bytes: used.get(path).copied().unwrap_or(0),
    })
}

/// What `head` shows of farms' descriptions: `==> PATH/single_disk_farm.json <==`, then the JSON.
fn parse_farms(text: &str) -> BTreeMap<PathBuf, FarmFacts> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct V0 {
        pieces_in_sector: u16,
        allocated_space: u64,
    }
    #[derive(Deserialize)]
    struct Description {
        v0: V0,
    }
    let farm = |part: &str| {
        let (path, json) = part.split_once(" <==\n")?;
        let Description { v0 } = serde_json::from_str(json.trim()).ok()?;
        let facts = FarmFacts { allocated_bytes: v0.allocated_space, pieces_in_sector: v0.pieces_in_sector };
        Some((PathBuf::from(path.strip_suffix("/single_disk_farm.json")?), facts))
    };
    text.split("==> ").filter_map(farm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn versions_in_what_tools_print() {
        assert_eq!(parse_version("nats-server: v2.14.6"), (2, 14, 6));
        assert_eq!(parse_version("4.3.0"), (4, 3, 0));
        assert_eq!(parse_version("nats-server: v2.11.0-RC.2"), (2, 11, 0));
        assert_eq!(parse_version("nonsense"), (0, 0, 0));
    }

    /// A reply with these sections; the others are empty.
    fn reply(sections: &[(&str, &str)]) -> String {
        let names = "schema unix_time machine uid os_release libc apt_get numactl cpus memory gpus gpu_driver network \
                     processes executables ports paths file_systems mounts devices files links directories \
                     used farms python tools smi_gpus smi_topology end";
        let body = |name| sections.iter().find(|(given, _)| *given == name).map_or("", |(_, body)| body);
        let body = |name| if name == "schema" && body(name).is_empty() { "2\n" } else { body(name) };
        names.split_whitespace().map(|name| format!("{SECTION}{name}\n{}", body(name))).collect()
    }

    fn facts(sections: &[(&str, &str)]) -> HostFacts {
        Reply::read(reply(sections).as_bytes()).expect("a reply").parse(&Layout::new("/p".as_ref()))
    }

    #[test]
    fn a_reply_of_nothing_is_facts_of_nothing() {
        let nothing = facts(&[]);
        assert_eq!(nothing, HostFacts { uid: u32::MAX, ..HostFacts::default() });
    }

    #[test]
    fn a_reply_that_is_cut_off_or_of_another_version_is_refused() {
        let whole = reply(&[]);
        let cut = &whole[..whole.rfind(SECTION).expect("has sections")];
        for (text, why) in [
            (cut, "missing field `end`"),
            ("", "missing field"),
            (&reply(&[("schema", "1\n")]), "schema \"1\" instead of 2"),
            (&format!("{whole}{SECTION}more\n"), "unknown field `more`"),
            (&format!("{whole}{SECTION}uid\n0"), "there twice"),
        ] {
            let error = Reply::read(text.as_bytes()).map(|_| ()).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
        assert!(Reply::read(&[reply(&[("machine", "x")]).as_bytes(), b"\xff"].concat()).is_err());
    }

    #[test]
    fn a_disk_is_known_with_its_reserve() {
        let facts = facts(&[
            ("paths", "/mnt/a/farm\t/mnt/a\tdirectory\tyes\n/p\t/\tdirectory\tno\n"),
            // 8 TB of which 5 % are reserved.
            (
                "file_systems",
                "/mnt/a\text2/ext3\t4096\t1953125000\t1953000000\t1855343750\n/\toverlayfs\t?\t1\t1\t1\n",
            ),
            ("mounts", "/mnt/a\t/mnt/a\n/\t/\n"),
            ("devices", "/\text4\t1\n/\toverlay\t-\n/mnt/a\text4\t0\n"),
            ("used", "4\t/mnt/a/farm\nx\t/p\n"),
            (
                "farms",
                "==> /mnt/a/farm/single_disk_farm.json <==\n{\"v0\":{\"id\":\"01\",\"piecesInSector\":12,\
                 \"allocatedSpace\":5000}}\n==> /mnt/b/single_disk_farm.json <==\n{\"v9\":{}}\n==> /dev/null <==\n",
            ),
        ]);
        let [disk, root] = &facts.paths[..] else { panic!("two paths") };
        assert_eq!((disk.size_bytes, disk.free_bytes), (Some(8_000_000_000_000), Some(7_599_488_000_000)));
        assert_eq!((disk.reserved_bytes, disk.used_bytes), (400_000_000_000, 4096));
        assert_eq!((disk.file_system.as_str(), disk.rotational), ("ext4", Some(false)));
        assert_eq!((root.free_bytes, root.file_system.as_str(), root.rotational), (None, "overlay", None));
        let farm = FarmFacts { allocated_bytes: 5000, pieces_in_sector: 12 };
        assert_eq!(facts.farms, BTreeMap::from([(PathBuf::from("/mnt/a/farm"), farm)]));
    }

    #[test]
    fn programs_of_ours_have_the_executables_that_run() {
        let facts = facts(&[
            ("processes", "12\t1\n13\t12\nx\t1\n"),
            ("executables", "/proc/12\t/p/bin/a (deleted)\n"),
        ]);
        let executables: Vec<_> =
            facts.processes.iter().map(|process| (process.pid, process.executable.to_str())).collect();
        assert_eq!(executables, [(12, Some("/p/bin/a (deleted)")), (13, Some(""))]);
    }

    #[test]
    fn clocks_with_and_without_fractions() {
        assert_eq!(parse_milliseconds("1795913007.123456789"), Some(1_795_913_007_123));
        assert_eq!(parse_milliseconds("1795913007.5"), Some(1_795_913_007_500));
        assert_eq!(parse_milliseconds("1795913007"), Some(1_795_913_007_000));
        // A `date` that does not know %N.
        assert_eq!(parse_milliseconds("1795913007.%N"), Some(1_795_913_007_000));
        assert_eq!(parse_milliseconds("99999999999999999999"), None);
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        fs::write(&path, text).expect("written");
    }

    /// What the script makes of a machine that is described below `root`, with a `nvidia-smi` of our own.
    fn script(root: &Path) -> HostFacts {
        let smi =
            "#!/bin/sh\ncase $1 in\n--query*) cat \"$SMI/query\" ;;\ntopo) cat \"$SMI/topo\" ;;\nesac\n";
        put(root, "bin/nvidia-smi", smi);
        fs::set_permissions(root.join("bin/nvidia-smi"), fs::Permissions::from_mode(0o755))
            .expect("executable");
        let path = format!("{}:{}", root.join("bin").display(), env!("PATH"));
        let mut sh = std::process::Command::new("sh")
            .arg("-s")
            .env_clear()
            .env("PATH", path)
            .env("PREFIX", root.join("prefix"))
            .env("MARKER", "AUTONOMYS_PREFIX=/nowhere")
            .env("PORTS", "")
            .env("PATHS", format!("{0} {0}/deep/er", root.join("farm").display()))
            .env("FACTS_ROOT", root)
            .env("SMI", root)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("there is sh");
        sh.stdin.take().expect("piped").write_all(super::super::SCRIPT.as_bytes()).expect("taken");
        let output = sh.wait_with_output().expect("ended");
        Reply::read(&output.stdout).expect("a reply").parse(&Layout::new(&root.join("prefix")))
    }

    #[test]
    fn the_script_on_a_large_machine() {
        let root = tempfile::tempdir().expect("temporary directory");
        let (root, system) = (root.path(), "sys/devices/system");
        put(root, &format!("{system}/cpu/online"), "0-190\n");
        for cpu in 0..191 {
            let siblings =
                if cpu == 95 { "95".to_string() } else { format!("{},{}", cpu % 96, cpu % 96 + 96) };
            put(
                root,
                &format!("{system}/cpu/cpu{cpu}/topology/thread_siblings_list"),
                &format!("{siblings}\n"),
            );
        }
        // Off-line: the kernel takes its topology away.
        put(root, &format!("{system}/cpu/cpu191/online"), "0\n");
        for (node, cpus) in [(0, "0-47,96-143\n"), (1, "48-95,144-190\n"), (2, "\n")] {
            put(root, &format!("{system}/node/node{node}/cpulist"), cpus);
            put(
                root,
                &format!("{system}/node/node{node}/meminfo"),
                &format!("Node {node} MemTotal:  1024 kB\n"),
            );
        }
        put(root, "proc/meminfo", "MemTotal:       3072 kB\nMemFree:        1 kB\n");
        put(root, "proc/self/status", "Name:\tsh\nCpus_allowed_list:\t0-190\n");
        for (device, vendor, class, node, cpus) in [
            ("0000:01:00.0", "0x10de", "0x030000", "1\n", "48-95,144-190\n"),
            ("0000:01:00.1", "0x10de", "0x040300", "1\n", "48-95\n"),
            ("0000:02:00.0", "0x8086", "0x030000", "0\n", "0-47\n"),
            ("0000:03:00.0", "0x10de", "0x030200", "-1\n", ""),
        ] {
            let device = format!("sys/bus/pci/devices/{device}");
            put(root, &format!("{device}/vendor"), &format!("{vendor}\n"));
            put(root, &format!("{device}/class"), &format!("{class}\n"));
            put(root, &format!("{device}/numa_node"), node);
            put(root, &format!("{device}/local_cpulist"), cpus);
        }
        put(
            root,
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu\n",
        );
        put(root, "query", "0, 00000000:01:00.0, NVIDIA L4, 23034, 535.129.03\n");
        put(root, "topo", include_str!("../../tests/fixtures/topo/15-2xrtx-node1-2nic.txt"));
        put(root, "sys/class/net/bond0/speed", "20000\n");
        put(root, "farm/single_disk_farm.json", "{\"v0\":{\"piecesInSector\":1000,\"allocatedSpace\":7}}");

        let facts = script(root);
        let hardware = &facts.hardware;
        assert_eq!(hardware.cpus_text(), "191, 96 cores with SMT");
        assert_eq!((hardware.siblings.len(), hardware.numa_nodes.len()), (191, 2));
        assert_eq!(hardware.memory_bytes, Some(3 << 20));
        assert_eq!(hardware.numa_nodes[1].memory_bytes, Some(1 << 20));
        let [gpu] = &hardware.gpus[..] else { panic!("one card has a driver: {:?}", hardware.gpus) };
        assert_eq!((gpu.numa_node, gpu.memory_bytes, gpu.cpus.len()), (Some(1), Some(23_034 << 20), 95));
        assert_eq!(hardware.gpus_without_driver, ["0000:03:00.0"]);
        assert_eq!((hardware.driver, hardware.smi.len()), (Some((535, 129, 3)), 2));
        assert!(hardware.interfaces.iter().any(|link| link.name == "bond0" && link.megabits == Some(20_000)));
        assert_eq!(facts.farms[&root.join("farm")].allocated_bytes, 7);
        let [prefix, farm, deep] = &facts.paths[..] else { panic!("three paths") };
        assert_eq!((&*prefix.there, prefix.directory), (root, true));
        assert_eq!((&farm.there, &deep.there), (&root.join("farm"), &root.join("farm")));
        let (size, free) = (farm.size_bytes.expect("known"), farm.free_bytes.expect("known"));
        assert!(size >= free + farm.reserved_bytes && size > 0);
        assert!(!farm.file_system.is_empty() && farm.mount.is_absolute());
        assert!(facts.unix_time_ms > 1_700_000_000_000);
    }

    #[test]
    fn the_script_on_a_machine_without_anything() {
        let root = tempfile::tempdir().expect("temporary directory");
        // What is where it should be, but is not what it should be.
        fs::create_dir_all(root.path().join("sys/devices/system/cpu/online")).expect("made");
        put(root.path(), "sys/bus/pci/devices/x/vendor", "\u{1e}schema\n\0\n");
        put(
            root.path(),
            "query",
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
        );
        put(root.path(), "topo", "No devices were found\n");
        let interfaces = script(root.path()).hardware.interfaces;
        let expected = Hardware { interfaces, ..Hardware::default() };
        assert_eq!(script(root.path()).hardware, expected);
    }
}
