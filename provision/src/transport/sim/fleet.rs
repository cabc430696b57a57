//! The fleet as tests see it: hosts are made, faults are set, what is left is looked at.

use super::chance::Chance;
use super::files::Entry;
use super::machine::Host;
use super::{Fault, Happened, Session, Shared, World, locked};
use crate::apply::Connection;
use crate::error::Error;
use crate::resolve::Cluster;
use crate::transport::Transport;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a host has and does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Every file with its mode and contents.
    pub files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    /// Every link and where it points.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Programs that serve: supervisord's and those left behind by one, with the executable each runs.
    pub serving: BTreeMap<String, PathBuf>,
    /// supervisord's own file as it read it; none when it does not run.
    pub supervisord: Option<String>,
}

/// A fleet.
#[derive(Clone)]
pub struct Fleet {
    world: Shared,
}

impl Fleet {
    /// The hosts of a cluster, bare but for their mounted disks.
    pub fn new(cluster: &Cluster, seed: u64) -> Self {
        let world = World {
            hosts: BTreeMap::new(),
            began: tokio::time::Instant::now(),
            chance: Chance::new(seed),
            next: 0,
            commands: Vec::new(),
        };
        let fleet = Self { world: Arc::new(Mutex::new(world)) };
        fleet.extend(cluster, seed);
        fleet
    }

    /// Adds the hosts of a cluster that are not there yet.
    pub fn extend(&self, cluster: &Cluster, seed: u64) {
        let mut world = locked(&self.world);
        for (index, host) in cluster.hosts.iter().enumerate() {
            let name = &host.name.value;
            if world.hosts.contains_key(name) {
                continue;
            }
            let chance = Chance::new(seed.wrapping_add(1 + index as u64));
            let mut made = Host::new(name, host.address.value, &host.prefix, chance);
            for path in crate::facts::data_paths(host).iter().filter(|path| !path.starts_with(&host.prefix)) {
                made.machine.files.make_directory(path).expect("an empty disk has no file in the way");
            }
            made.machine.files.settle();
            world.hosts.insert(name.clone(), made);
        }
    }

    fn with<T>(&self, host: &str, work: impl FnOnce(&mut Host, Duration) -> T) -> T {
        let mut world = locked(&self.world);
        let now = world.now();
        work(world.hosts.get_mut(host).unwrap_or_else(|| panic!("there is no host {host}")), now)
    }

    /// Connects to every host of a cluster, as [`crate::apply::connect`] does with real ones.
    pub fn connect<'a>(&self, cluster: &'a Cluster) -> Vec<Connection<'a>> {
        let connecting = cluster.hosts.iter().map(|host| {
            let name = &host.name.value;
            let number = locked(&self.world).number();
            let up = self.with(name, |host, _| {
                if !host.lost {
                    host.sessions.insert(number);
                }
                !host.lost
            });
            let session = Session { world: Arc::clone(&self.world), host: name.clone(), number, near: false };
            let reached = match up {
                true => Ok(Arc::new(session) as Arc<dyn Transport>),
                false => Err(Error::Connection {
                    host: name.clone(),
                    message: "No route to host".to_string(),
                    hint: "look whether the host is up".to_string(),
                }),
            };
            (host, reached)
        });
        connecting.collect()
    }

    /// Has something go wrong at the `nth` operation of a host from now on, counted from 1.
    pub fn arm(&self, host: &str, nth: u64, fault: Fault) {
        self.with(host, |host, _| host.armed.push((host.operations + nth, fault)));
    }

    /// Has a program of a host end right after each start.
    pub fn break_program(&self, host: &str, program: &str) {
        self.with(host, |host, _| host.machine.failing.insert(program.to_string()));
    }

    /// Keeps a program of a host from ever being ready.
    pub fn shut_gate(&self, host: &str, program: &str) {
        self.with(host, |host, _| host.shut.insert(program.to_string()));
    }

    /// Kills supervisord on a host, or hangs it, or whatever else, at once.
    pub fn strike(&self, host: &str, fault: Fault) {
        self.with(host, |host, now| {
            match fault {
                Fault::SupervisordDies => host.kill_supervisord(now),
                Fault::SupervisordHangs => {
                    host.supervisord.iter_mut().for_each(|supervisord| supervisord.hangs = true)
                }
                Fault::Slow { milliseconds } => host.slow = Duration::from_millis(milliseconds),
                Fault::DiskFull { after } => host.machine.files.room = Some(after),
                Fault::Dropped | Fault::AnswerLost | Fault::Killed => host.sessions.clear(),
                Fault::PowerCut => host.strike(fault, 0, now),
            };
        });
    }

    /// Mends everything that went wrong or is to: hosts without power boot, disks have room, supervisord goes on.
    pub fn mend(&self) {
        for host in locked(&self.world).hosts.values_mut() {
            host.armed.clear();
            host.lost = false;
            host.slow = Duration::ZERO;
            host.machine.files.room = None;
            host.machine.failing.clear();
            host.shut.clear();
            host.unanswered.clear();
            host.supervisord.iter_mut().for_each(|supervisord| supervisord.hangs = false);
        }
    }

    /// Operations of a host so far.
    pub fn operations(&self, host: &str) -> u64 {
        self.with(host, |host, _| host.operations)
    }

    /// Writes a file as somebody else would who is on the host.
    pub fn put(&self, host: &str, path: &Path, bytes: &[u8]) {
        self.with(host, |host, _| {
            host.machine.files.put(path, bytes, 0o644).expect("there is room");
            host.machine.files.settle();
        });
    }

    /// What a host has and does now.
    pub fn left(&self, host: &str) -> Left {
        self.with(host, |host, now| {
            host.advance(now);
            let files = &host.machine.files;
            let mut left = Left {
                supervisord: host.supervisord.as_ref().map(|supervisord| supervisord.own_file.clone()),
                ..Left::default()
            };
            for (path, entry) in files.below(Path::new("/")) {
                match entry {
                    Entry::Directory => {}
                    Entry::File(_) => {
                        let (bytes, mode) = (files.read(path), files.mode(path));
                        let bytes = bytes.map(|(bytes, _)| bytes.to_vec()).unwrap_or_default();
                        left.files.insert(path.clone(), (mode.unwrap_or(0), bytes));
                    }
                    Entry::Link(target) => {
                        left.links.insert(path.clone(), target.clone());
                    }
                }
            }
            let serving = host
                .machine
                .processes
                .values()
                .filter(|process| process.serves && !process.listens().is_empty());
            left.serving.extend(serving.map(|process| (process.program.clone(), process.executable.clone())));
            left
        })
    }

    /// Every start and end of a program, in order of time.
    pub fn history(&self) -> Vec<Happened> {
        let world = locked(&self.world);
        let mut all: Vec<_> =
            world.hosts.values().flat_map(|host| host.machine.happened.iter().cloned()).collect();
        all.sort();
        all
    }

    /// Every command that was run, as process lists showed it.
    pub fn commands(&self) -> Vec<String> {
        locked(&self.world).commands.clone()
    }

    /// Time since the fleet began.
    pub fn now(&self) -> Duration {
        locked(&self.world).now()
    }
}
