//! A piece store on its way from one host to another, through the control machine, file by file.

use crate::error::{Error, Result};
use crate::transfer::{Checksum, Delivery, OnProgress, Origin};
use crate::transport::{Command, Transport, file_error};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Bytes read of a host at a time.
const READ: u64 = 4 << 20;
/// What listing, copying or clearing a store may take.
const DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// What was brought.
pub(super) struct Pushed {
    pub(super) files: usize,
    pub(super) bytes: u64,
    /// SHA-256 over names and digests, in hex.
    pub(super) digest: String,
}

/// Copies a store on its own host.
pub(super) async fn copy(on: &dyn Transport, store: &Path, into: &Path) -> Result<Pushed> {
    let files = list(on, store).await?;
    // Another try replaces what an earlier one left.
    let script =
        "set -eu; mkdir -p \"$2\"; rm -rf \"$2\"; cp -a --reflink=auto \"$1\" \"$2\"; sync -f \"$2\"";
    script_of(on, script, &[store, into]).await?;
    let bytes = files.iter().map(|(_, size)| size).sum();
    Ok(Pushed { files: files.len(), bytes, digest: String::new() })
}

/// Brings every file of `store` on one host below `into` on another. A file that is there with the same digest is left alone,
/// one that came in part is gone on with; this machine never holds more than one of them, on its disk.
pub(super) async fn push(
    from: &dyn Transport,
    store: &Path,
    to: &dyn Transport,
    into: &Path,
    on_progress: OnProgress<'_>,
) -> Result<Pushed> {
    let files = list(from, store).await?;
    let of: u64 = files.iter().map(|(_, size)| size).sum();
    let mut done = 0;
    let mut names = Sha256::new();
    for (name, size) in &files {
        let source = store.join(name);
        let gone = || file_error("cannot read", &source)(std::io::ErrorKind::NotFound.into());
        let digest = from.digest(&source).await?.ok_or_else(gone)?;
        names.update(format!("{digest}  {}\n", name.display()));
        let target = into.join(name);
        if to.digest(&target).await?.as_deref() != Some(digest.as_str()) {
            let spool = fetch(from, &source, *size, &digest).await?;
            let delivery = Delivery {
                origin: Origin::File(spool.to_path_buf()),
                path: target,
                sha256: Some(digest),
                copies: 1,
                rate: None,
            };
            to.deliver(&delivery, &mut |bytes, _| on_progress(done + bytes, of)).await?;
        }
        done += size;
        on_progress(done, of);
    }
    tidy(to, into, &files).await?;
    Ok(Pushed { files: files.len(), bytes: of, digest: hex::encode(names.finalize()) })
}

/// The files below a directory of a host, with their sizes, in the order of their names.
async fn list(on: &dyn Transport, directory: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let command =
        Command::new("find").arg(directory).args(["-type", "f", "-printf", "%s %P\\n"]).deadline(DEADLINE);
    let output = on.run(&command).await?;
    let failed = |message: String| Error::Step {
        step: format!("list {}", directory.display()),
        message,
        hint: "is the store whole? export it again".to_string(),
    };
    if !output.success() {
        return Err(failed(output.last_words(3)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut files = Vec::new();
    for line in text.lines() {
        let parsed =
            line.split_once(' ').and_then(|(size, name)| Some((PathBuf::from(name), size.parse().ok()?)));
        // The host is ours, its answer is checked all the same: these names are written to on another one.
        let below = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        match parsed {
            Some((name, size)) if below(&name) => files.push((name, size)),
            _ => return Err(failed(format!("a file of a name that a store does not give: {line:?}"))),
        }
    }
    files.sort();
    Ok(files)
}

/// Gets a file of a host into a temporary one here.
async fn fetch(from: &dyn Transport, path: &Path, size: u64, digest: &str) -> Result<tempfile::TempPath> {
    let mut spool =
        tempfile::NamedTempFile::new().map_err(file_error("cannot make a file in", &std::env::temp_dir()))?;
    let mut checksum = Checksum::default();
    let mut at = 0;
    while at < size {
        let chunk = from.read_from(path, at, READ).await?.unwrap_or_default();
        if chunk.bytes.is_empty() {
            break;
        }
        checksum.add(&chunk.bytes);
        at += chunk.bytes.len() as u64;
        let (file, bytes) = (spool.as_file_mut(), chunk.bytes);
        file.write_all(&bytes).map_err(file_error("cannot write", spool.path()))?;
    }
    if checksum.hex() != digest {
        return Err(Error::Artifact {
            what: path.display().to_string(),
            message: "it changed while it was read".to_string(),
            hint: "is an exporter at work on it? run the same command again when it has ended".to_string(),
        });
    }
    Ok(spool.into_temp_path())
}

/// Removes what is no file of the store: notes of transfers, and what an earlier store had.
async fn tidy(on: &dyn Transport, directory: &Path, files: &[(PathBuf, u64)]) -> Result<()> {
    let wanted: BTreeSet<_> = files.iter().map(|(name, _)| name).collect();
    for (name, _) in list(on, directory).await? {
        if !wanted.contains(&name) {
            on.remove_file(&directory.join(name)).await?;
        }
    }
    script_of(on, "sync -f \"$1\"", &[directory]).await
}

async fn script_of(on: &dyn Transport, script: &str, paths: &[&Path]) -> Result<()> {
    let output =
        on.run(&Command::new("sh").args(["-c", script, "store"]).args(paths).deadline(DEADLINE)).await?;
    match output.success() {
        true => Ok(()),
        false => Err(Error::Step {
            step: "bring a store".to_string(),
            message: output.last_words(3),
            hint: "make room, then run the same command again".to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Local;

    #[tokio::test]
    async fn a_store_is_brought_whole_and_only_what_is_not_there() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (store, into) = (directory.path().join("store"), directory.path().join("there/unpacked"));
        for (name, text) in [("extents/0", "first"), ("extents/1", "second"), ("table", "")] {
            let path = store.join(name);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        // What an earlier try left: one file whole, one damaged, one that is no longer in the store.
        std::fs::create_dir_all(into.join("extents")).expect("made");
        std::fs::write(into.join("extents/0"), "first").expect("written");
        std::fs::write(into.join("extents/1"), "secxnd").expect("written");
        std::fs::write(into.join("gone"), "old").expect("written");
        let untouched =
            std::fs::metadata(into.join("extents/0")).and_then(|file| file.modified()).expect("there");
        let mut last = (0, 0);
        let pushed =
            push(&Local, &store, &Local, &into, &mut |bytes, of| last = (bytes, of)).await.expect("brought");
        assert_eq!((pushed.files, pushed.bytes, last), (3, 11, (11, 11)));
        let mut names: Vec<_> = list(&Local, &into).await.expect("listed");
        names.sort();
        assert_eq!(names, list(&Local, &store).await.expect("listed"), "no notes are left");
        assert_eq!(std::fs::read_to_string(into.join("extents/1")).expect("there"), "second");
        let now = std::fs::metadata(into.join("extents/0")).and_then(|file| file.modified()).expect("there");
        assert_eq!(now, untouched);
        let copied = directory.path().join("copied");
        assert_eq!(copy(&Local, &store, &copied).await.expect("copied").files, 3);
        assert_eq!(list(&Local, &copied).await.expect("listed"), list(&Local, &store).await.expect("listed"));
    }
}
