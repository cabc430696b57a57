//! Our executables on their way to hosts: what they need of a host's C library, and what of them is not sent.

use crate::error::{Problem, Result};
use crate::events::{Event, Sink};
use crate::resolve::Cluster;
use crate::steps::Meter;
use crate::transfer::{Delivery, Origin, size};
use crate::transport::{Local, Transport, file_error};
use object::elf::{FileHeader64, SHT_DYNSYM};
use object::read::elf::{FileHeader, Sym};
use object::{Endianness, ReadCache};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;
use tempfile::TempPath;

/// The newest version of the C library that an executable refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GlibcNeed {
    /// 2.36 is (2, 36).
    pub version: (u32, u32),
    /// A symbol that has this version, where one is named.
    pub symbol: String,
}

/// Fetches to this machine what the inventory names by URL and is not here yet, told as it comes; what was cut off goes on.
/// Hosts get it from here, so only this machine needs the internet.
///
/// # Errors
/// A server does not give it, or what it gives has another digest.
pub(crate) async fn fetch(cluster: &Cluster, sink: &dyn Sink) -> Result<()> {
    for (name, artifact) in cluster.brought() {
        let path = artifact.path(&cluster.artifact_cache);
        if matches!(artifact.origin.value, Origin::File(_)) || path.is_file() {
            continue;
        }
        let note = |message: String| sink.event(&Event::Note { host: None, message });
        let delivery = Delivery {
            origin: artifact.origin.value.clone(),
            path: path.clone(),
            sha256: artifact.sha256.as_ref().map(|digest| digest.value.clone()),
            copies: 1,
            rate: None,
        };
        note(format!("fetching {name} from {}", delivery.origin));
        Local.make_directory(&cluster.artifact_cache, 0o755).await?;
        let mut meter = Meter::default();
        let mut told = |bytes: u64, of: u64| {
            if let Some((bytes_per_second, eta_seconds)) = meter.take(Instant::now(), bytes, of) {
                let (host, step) = ("this machine".to_string(), format!("fetch:{name}"));
                sink.event(&Event::Transfer { host, step, bytes, of, bytes_per_second, eta_seconds });
            }
        };
        Local.deliver(&delivery, &mut told).await?;
        note(format!("fetched {name}, {}", size(path.metadata().map_or(0, |state| state.len()))));
    }
    Ok(())
}

/// Reads from an executable's version needs what it asks of glibc; none for what is not linked to it, or is no ELF file.
///
/// # Errors
/// The file cannot be read.
pub fn glibc_need(path: &Path) -> Result<Option<GlibcNeed>> {
    let file = File::open(path).map_err(file_error("cannot read", path))?;
    // Only what is looked at is read. What cannot be parsed says nothing: the host tells when it does not start.
    Ok(newest(&ReadCache::new(file)).ok().flatten())
}

fn newest<'data>(data: impl object::ReadRef<'data>) -> object::read::Result<Option<GlibcNeed>> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let Some(versions) = sections.versions(endian, data)? else { return Ok(None) };
    let symbols = sections.symbols(endian, data, SHT_DYNSYM)?;
    let mut newest: Option<GlibcNeed> = None;
    for (index, symbol) in symbols.enumerate() {
        if !symbol.is_undefined(endian) {
            continue;
        }
        let Some(version) = versions.version(versions.version_index(endian, index))? else { continue };
        let Some(version) = parse_version(version.name()) else { continue };
        if newest.as_ref().is_none_or(|newest| version > newest.version) {
            let symbol = String::from_utf8_lossy(symbols.symbol_name(endian, symbol)?).into_owned();
            newest = Some(GlibcNeed { version, symbol });
        }
    }
    Ok(newest)
}

/// `GLIBC_2.34`; a patch level is left out, as new symbols come with minor versions.
fn parse_version(name: &[u8]) -> Option<(u32, u32)> {
    let mut numbers = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Why an executable does not start on a host with this C library (`glibc 2.36`, as the host's facts have it); none when it
/// does, or when that cannot be told. Pure.
pub fn too_new(name: &str, need: &GlibcNeed, libc: &str) -> Option<Problem> {
    let (major, minor) = libc.strip_prefix("glibc ")?.trim().split_once('.')?;
    let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
    let there: (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    (there < need.version).then(|| {
        let (major, minor) = need.version;
        Problem {
            code: "glibc-too-old",
            message: format!("{name} needs glibc {major}.{minor} ({}), the host has {}.{}", need.symbol, there.0, there.1),
            hint: format!(
                "build it on the oldest system among your hosts, or one with glibc {}.{} at most, and name it with \
                 `binaries:` or --binaries",
                there.0, there.1
            ),
        }
    })
}

/// An executable as it is sent.
#[derive(Debug, Clone)]
pub(crate) enum Slim {
    /// As it is.
    AsIs(PathBuf),
    /// A copy without debug information, removed with its last user.
    Copy(Arc<TempPath>),
}

impl Slim {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::AsIs(path) => path,
            Self::Copy(path) => path,
        }
    }
}

/// What is sent of an executable with this SHA-256: it without its debug information, which is most of it, when this
/// machine has `strip`, else all of it. What builds has `strip`, and what was downloaded is slim as a rule; the symbols stay,
/// so that a backtrace of a host still names functions, and the lines are looked up here.
pub(crate) fn slim(path: &Path, digest: &str) -> Slim {
    /// Copies that are in use: many hosts get the same at a time.
    static COPIES: Mutex<BTreeMap<String, Weak<TempPath>>> = Mutex::new(BTreeMap::new());
    // Held while a copy is made: the others wait for that one.
    let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(copy) = copies.get(digest).and_then(Weak::upgrade) {
        return Slim::Copy(copy);
    }
    match without_debug_information(path) {
        Some(copy) => {
            let copy = Arc::new(copy);
            copies.retain(|_, copy| copy.strong_count() > 0);
            copies.insert(digest.to_string(), Arc::downgrade(&copy));
            Slim::Copy(copy)
        }
        None => Slim::AsIs(path.to_path_buf()),
    }
}

fn without_debug_information(path: &Path) -> Option<TempPath> {
    let copy = tempfile::Builder::new().prefix("provision-").tempfile().ok()?.into_temp_path();
    let status = Command::new("strip")
        .args(["--strip-debug", "-o"])
        .arg(&copy)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let smaller = || Some(copy.metadata().ok()?.len() < path.metadata().ok()?.len());
    (status.is_ok_and(|status| status.success()) && smaller().unwrap_or(false)).then_some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Program;

    #[test]
    fn what_an_executable_needs_is_what_it_refers_to() {
        let own = std::env::current_exe().expect("known");
        let need = glibc_need(&own).expect("readable").expect("tests are linked to glibc");
        // Rust's own start calls `__libc_start_main`, which has version 2.34 where it was linked with that or a later one.
        assert!(need.version >= (2, 17) && !need.symbol.is_empty(), "{need:?}");
        let here = Command::new("getconf").arg("GNU_LIBC_VERSION").output().expect("runs");
        assert_eq!(too_new("it", &need, &String::from_utf8_lossy(&here.stdout)), None, "it runs here");
        let problem = too_new("it", &need, "glibc 2.12").expect("too old");
        assert!(
            problem.message.contains(&need.symbol) && problem.message.ends_with("the host has 2.12"),
            "{problem:?}"
        );
    }

    #[test]
    fn the_running_executable_is_itself_to_other_programs() {
        let own = Program::own().expect("readable");
        let output = Command::new("cat").arg(&own.path).output().expect("runs");
        assert!(output.stdout == std::fs::read(std::env::current_exe().expect("known")).expect("readable"));
    }

    #[test]
    fn what_is_no_executable_needs_nothing() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01\0garbage", &[0xff; 4096]] {
            std::fs::write(&path, bytes).expect("written");
            assert_eq!(glibc_need(&path).expect("readable"), None);
            assert!(matches!(slim(&path, "none"), Slim::AsIs(_)));
        }
        glibc_need(&directory.path().join("none")).expect_err("not there");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let need = GlibcNeed { version: (2, 9), symbol: "x".to_string() };
        for libc in ["glibc 2.35", "glibc 2.9", "glibc 2.10.1", "glibc 2.36-9", "musl 1.2", "", "glibc x"] {
            assert_eq!(too_new("it", &need, libc), None, "{libc}");
        }
        assert!(too_new("it", &need, "glibc 2.8").is_some());
    }
}
