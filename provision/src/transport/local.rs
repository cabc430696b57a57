//! This machine.

use super::disk::{Disk, Own};
use super::http::{self, Request, Response};
use super::{
    Chunk, Command, LOCK_BEAT, Lock, LockRecord, OUTPUT_MAX, OnLine, Output, Place, SERVICE_ENVIRONMENT,
    Stream, Transport, file_error,
};
use crate::derive::Gate;
use crate::error::{Error, Result};
use crate::facts::{self, HostFacts, Question};
use crate::gates::{self, Answer};
use crate::status::{self, HostStatus};
use crate::transfer::partial::Identity;
use crate::transfer::{self, Delivery, OnProgress, Origin, Pace, Partial, Watch, fetch};
use crate::unpack::{self, Unpacked};
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::task::AbortHandle;

/// Longest line handed to a listener, in bytes.
const LINE_MAX: usize = 1 << 20;

/// This machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

#[async_trait]
impl Transport for Local {
    async fn facts(&self, question: &Question) -> Result<HostFacts> {
        facts::collect(question, self).await
    }

    async fn ask(&self, gates: &[Gate]) -> Result<Vec<Answer>> {
        Ok(gates::ask_all(gates, self).await)
    }

    async fn status(&self, question: &status::Question) -> Result<HostStatus> {
        Ok(status::of_host(question, self).await)
    }

    async fn run_lines(&self, command: &Command, on_line: OnLine<'_>) -> Result<Output> {
        let failed = |message: String| Error::Command { program: command.name(), message };
        let mut process = tokio::process::Command::new(&command.program);
        if command.service {
            process.env_clear();
            process.envs(SERVICE_ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        }
        process.args(&command.arguments).envs(command.environment.iter().map(|(name, value)| (name, value)));
        for name in &command.without {
            process.env_remove(name);
        }
        if let Some(directory) = &command.directory {
            process.current_dir(directory);
        }
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // A group of its own: a deadline ends its children too, and Ctrl-C reaches only us, who then end it in order.
        process.process_group(0);
        let mut child = process.spawn().map_err(|error| failed(spawn_error(&error)))?;
        let group = Group(child.id());
        let ended =
            tokio::time::timeout(command.deadline, converse(&mut child, &command.stdin, on_line)).await;
        match ended {
            Ok(Ok(output)) => {
                group.ended();
                Ok(output)
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => {
                Err(failed(format!("did not end within {} s and was killed", command.deadline.as_secs())))
            }
        }
    }

    async fn http(&self, request: &Request) -> Result<Response> {
        http::exchange(request).await
    }

    async fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = open(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(file_error("cannot read", path))?;
        if bytes.len() as u64 > limit {
            let error = std::io::Error::other(format!("more than {limit} bytes"));
            return Err(file_error("cannot read", path)(error));
        }
        Ok(Some(bytes))
    }

    async fn read_from(&self, path: &Path, offset: u64, limit: u64) -> Result<Option<Chunk>> {
        let Some(mut file) = open(path)? else { return Ok(None) };
        let metadata = file.metadata().map_err(file_error("cannot read", path))?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.take(limit).read_to_end(&mut bytes))
            .map_err(file_error("cannot read", path))?;
        Ok(Some(Chunk { bytes, size: metadata.len(), identity: metadata.ino() }))
    }

    async fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        replace(&Own, path, bytes, mode)
    }

    async fn append(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        append(&Own, path, bytes)
    }

    async fn make_directory(&self, path: &Path, mode: u32) -> Result<()> {
        make_directory(&Own, path, mode)
    }

    async fn remove_file(&self, path: &Path) -> Result<()> {
        remove(&Own, path)
    }

    async fn resolve(&self, path: &Path) -> Result<Option<PathBuf>> {
        match std::fs::canonicalize(path) {
            Ok(resolved) => Ok(Some(resolved)),
            Err(error) if missing(&error) => Ok(None),
            Err(error) => Err(file_error("cannot follow", path)(error)),
        }
    }

    async fn link(&self, target: &Path, link: &Path) -> Result<()> {
        put_link(&Own, target, link)
    }

    async fn install(&self, source: &Path, place: Place<'_>) -> Result<String> {
        let Some(digest) = digest_of(source)? else {
            return Err(file_error("cannot install", source)(ErrorKind::NotFound.into()));
        };
        let target = place(&digest);
        if digest_of(&target)?.as_deref() == Some(digest.as_str()) {
            return Ok(digest);
        }
        let mut original = File::open(source).map_err(file_error("cannot read", source))?;
        let mut incoming = Incoming::begin(Own, &target)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = original.read(&mut buffer).map_err(file_error("cannot read", source))?;
            if read == 0 {
                break;
            }
            incoming.add(&buffer[..read])?;
        }
        incoming.finish(&digest)?;
        Ok(digest)
    }

    async fn deliver(&self, delivery: &Delivery, on_progress: OnProgress<'_>) -> Result<String> {
        delivery.check()?;
        let delivery = delivery.clone();
        let work = move |watch: &mut Watch| match &delivery.origin {
            Origin::Url(url) => fetch::fetch(&delivery, url, watch),
            Origin::File(source) => copy(&delivery, source, watch),
        };
        transfer::in_thread(work, on_progress).await
    }

    async fn unpack(
        &self,
        archive: &Path,
        into: &Path,
        wanted: &[String],
        on_progress: OnProgress<'_>,
    ) -> Result<Unpacked> {
        let (archive, into, wanted) = (archive.to_path_buf(), into.to_path_buf(), wanted.to_vec());
        transfer::in_thread(move |watch| unpack::unpack(&archive, &into, &wanted, watch), on_progress).await
    }

    async fn digest(&self, path: &Path) -> Result<Option<String>> {
        digest_of(path)
    }

    async fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>> {
        let locking = file_error("cannot lock", path);
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) => return Err(locking(error)),
        };
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let parent = path.parent().and_then(Path::parent).unwrap_or(path).to_path_buf();
                return Err(Error::Locked { path: parent, holder: holder_of(file) });
            }
            Err(error) => return Err(locking(error.into())),
        }
        let pid = std::process::id();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let started = super::started_in(&stat).unwrap_or(0);
        let record =
            LockRecord { holder: holder.to_string(), pid, started, since: seconds(SystemTime::now()) };
        let text = serde_json::to_vec(&record).expect("a record has only text and numbers");
        file.set_len(0).and_then(|()| file.write_all(&text)).map_err(locking)?;
        Ok(Box::new(FileLock::hold(file)))
    }
}

/// The kernel gives the lock up with the file, however the process ends.
struct FileLock {
    file: Arc<File>,
    beat: Option<AbortHandle>,
}

impl FileLock {
    /// Holds a locked file, and shows in its time that we live.
    fn hold(file: File) -> Self {
        let file = Arc::new(file);
        let beating = Arc::clone(&file);
        let beat = tokio::runtime::Handle::try_current().ok().map(|runtime| {
            let task = runtime.spawn(async move {
                loop {
                    tokio::time::sleep(LOCK_BEAT).await;
                    // A host that cannot write any more has other worries.
                    let _ = beating.set_modified(SystemTime::now());
                }
            });
            task.abort_handle()
        });
        Self { file, beat }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Some(beat) = &self.beat {
            beat.abort();
        }
        let _ = self.file.set_len(0);
        // Now, and not when the task that shares the file is dropped.
        let _ = rustix::fs::flock(&self.file, rustix::fs::FlockOperation::Unlock);
    }
}

impl Lock for FileLock {}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Who holds a lock, from its file.
fn holder_of(file: File) -> String {
    let now = seconds(SystemTime::now());
    let beat = file.metadata().and_then(|state| state.modified()).map_or(now, seconds);
    let mut text = String::new();
    let _ = file.take(4096).read_to_string(&mut text);
    match serde_json::from_str::<LockRecord>(&text) {
        Ok(record) => record.told(now, now.saturating_sub(beat)),
        // It has been taken this instant, or by another version.
        Err(_) => "nobody knows who".to_string(),
    }
}

fn spawn_error(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "not found on PATH".to_string(),
        _ => format!("cannot be run: {error}"),
    }
}

/// A process group that is killed unless it ended by itself: at a deadline, and when the run is interrupted.
struct Group(Option<u32>);

impl Group {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Feeds a process and collects its lines until it ends.
async fn converse(
    child: &mut tokio::process::Child,
    stdin: &[u8],
    on_line: OnLine<'_>,
) -> std::io::Result<Output> {
    let mut input = child.stdin.take();
    let feed = async move {
        if let Some(input) = input.as_mut() {
            // A process may end without reading everything; its status tells.
            let _ = input.write_all(stdin).await;
        }
        drop(input);
    };
    let mut stdout = Lines::new(child.stdout.take().map(|pipe| Box::new(pipe) as Pipe));
    let mut stderr = Lines::new(child.stderr.take().map(|pipe| Box::new(pipe) as Pipe));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let collect = async {
        while stdout.reader.is_some() || stderr.reader.is_some() {
            let (stream, lines) = tokio::select! {
                read = stdout.read() => { read?; (Stream::Out, &mut stdout) }
                read = stderr.read() => { read?; (Stream::Err, &mut stderr) }
            };
            while let Some(line) = lines.next() {
                let kept = if stream == Stream::Out { &mut out } else { &mut err };
                if kept.len() + line.len() <= OUTPUT_MAX {
                    kept.extend_from_slice(&line);
                }
                on_line(stream, String::from_utf8_lossy(&line).trim_end());
            }
        }
        std::io::Result::Ok(())
    };
    let ((), collected) = tokio::join!(feed, collect);
    collected?;
    let status = child.wait().await?;
    let shown = match status.signal() {
        Some(signal) => format!("ended by signal {signal}"),
        None => status.to_string(),
    };
    Ok(Output { status: shown, code: status.code(), stdout: out, stderr: err })
}

type Pipe = Box<dyn AsyncRead + Send + Unpin>;

/// A stream cut into lines; a line longer than [`LINE_MAX`] comes in pieces.
struct Lines {
    reader: Option<Pipe>,
    buffer: Vec<u8>,
}

impl Lines {
    fn new(reader: Option<Pipe>) -> Self {
        Self { reader, buffer: Vec::new() }
    }

    /// Reads more; safe to be dropped while it waits. At the end the stream is given up.
    async fn read(&mut self) -> std::io::Result<()> {
        let Some(open) = &mut self.reader else { return std::future::pending().await };
        let mut chunk = [0; 16 << 10];
        let read = open.read(&mut chunk).await?;
        self.buffer.extend_from_slice(&chunk[..read]);
        if read == 0 {
            self.reader = None;
        }
        Ok(())
    }

    /// The next whole line with its newline, or what is left at the end.
    fn next(&mut self) -> Option<Vec<u8>> {
        let end = match self.buffer.iter().position(|byte| *byte == b'\n') {
            Some(newline) => newline + 1,
            None if self.reader.is_none() || self.buffer.len() >= LINE_MAX => self.buffer.len(),
            None => 0,
        };
        (end > 0).then(|| self.buffer.drain(..end).collect())
    }
}

fn missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if missing(&error) => Ok(None),
        Err(error) => Err(file_error("cannot read", path)(error)),
    }
}

pub(super) fn digest_of(path: &Path) -> Result<Option<String>> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(file_error("cannot read", path))?;
        if read == 0 {
            return Ok(Some(hex::encode(hasher.finalize())));
        }
        hasher.update(&buffer[..read]);
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn sync_parent(disk: &impl Disk, path: &Path) -> std::io::Result<()> {
    disk.sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// Mode and exclusivity hold from the first byte on: a secret is never readable, a planted link never followed.
fn create<D: Disk>(disk: &D, temporary: &Path, mode: u32) -> std::io::Result<D::File> {
    let _ = disk.remove(temporary);
    disk.create(temporary, mode)
}

/// Writes a file whole or not at all.
pub(crate) fn replace_file(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    replace(&Own, path, bytes, mode)
}

/// [`Transport::write`].
pub(super) fn replace(disk: &impl Disk, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = temporary_name(path);
    let written = create(disk, &temporary, mode).and_then(|mut file| {
        file.write_all(bytes)?;
        disk.set_mode(&file, mode)?;
        disk.sync(&file)
    });
    let placed = written.and_then(|()| disk.rename(&temporary, path)).and_then(|()| sync_parent(disk, path));
    if placed.is_err() {
        let _ = disk.remove(&temporary);
    }
    placed.map_err(file_error("cannot write", path))
}

/// [`Transport::append`].
pub(super) fn append(disk: &impl Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    disk.append(path, 0o600)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| disk.sync(&file)))
        .map_err(file_error("cannot write", path))
}

/// [`Transport::make_directory`].
pub(super) fn make_directory(disk: &impl Disk, path: &Path, mode: u32) -> Result<()> {
    disk.make_directory(path)
        .and_then(|()| disk.set_directory_mode(path, mode))
        .map_err(file_error("cannot make the directory", path))
}

/// [`Transport::remove_file`].
pub(super) fn remove(disk: &impl Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error("cannot remove", path)(error)),
        _ => Ok(()),
    }
}

/// [`Transport::link`].
pub(super) fn put_link(disk: &impl Disk, target: &Path, link: &Path) -> Result<()> {
    let temporary = temporary_name(link);
    let _ = disk.remove(&temporary);
    disk.symlink(target, &temporary)
        .and_then(|()| disk.rename(&temporary, link))
        .and_then(|()| sync_parent(disk, link))
        .map_err(file_error("cannot link", link))
}

/// Copies a file of this machine, from where the copy broke off.
fn copy(delivery: &Delivery, source: &Path, watch: &mut Watch) -> Result<String> {
    let reading = || file_error("cannot read", source);
    let mut file = File::open(source).map_err(reading())?;
    let size = file.metadata().map_err(reading())?.len();
    let identity = || Identity { size, source: None, sha256: delivery.sha256.clone() };
    let mut partial = Partial::open(&delivery.path, identity(), delivery.copies)?;
    let mut checksum = transfer::Checksum::default();
    let mut buffer = vec![0; 1 << 20];
    let mut pace = Pace::new(delivery.rate);
    // What is there must be the beginning of this file.
    let mut compared = 0;
    while compared < partial.arrived() {
        let part = usize::try_from(partial.arrived() - compared).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact(&mut buffer[..part]).map_err(reading())?;
        checksum.add(&buffer[..part]);
        compared += part as u64;
        watch.alive()?;
    }
    if checksum.hex() != partial.digest() {
        drop(partial);
        transfer::partial::remove(&delivery.path)?;
        file.seek(SeekFrom::Start(0)).map_err(reading())?;
        partial = Partial::open(&delivery.path, identity(), delivery.copies)?;
    }
    loop {
        watch.tell(partial.arrived(), size)?;
        let read = file.read(&mut buffer).map_err(reading())?;
        if read == 0 {
            break;
        }
        partial.add(&buffer[..read])?;
        std::thread::sleep(pace.after(read));
    }
    partial.finish(None)
}

/// An executable on its way to its place: it is there whole and with the promised content, or not at all.
pub(super) struct Incoming<D: Disk = Own> {
    disk: D,
    file: D::File,
    temporary: PathBuf,
    path: PathBuf,
    hasher: Sha256,
}

impl<D: Disk> Incoming<D> {
    /// Makes the directory and a temporary file in it.
    pub(super) fn begin(disk: D, path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            disk.make_directory(parent).map_err(file_error("cannot make the directory", parent))?;
        }
        let temporary = temporary_name(path);
        let file = create(&disk, &temporary, 0o755).map_err(file_error("cannot write", path))?;
        Ok(Self { disk, file, temporary, path: path.to_path_buf(), hasher: Sha256::new() })
    }

    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(file_error("cannot write", &self.path))
    }

    /// Puts it in place if its SHA-256 in hex is `digest`.
    pub(super) fn finish(mut self, digest: &str) -> Result<()> {
        // The source may have been rebuilt in between: what lies there must be what its name says.
        if hex::encode(self.hasher.finalize_reset()) != digest {
            let error = std::io::Error::other("it changed while it was copied; apply again");
            return Err(file_error("cannot install", &self.path)(error));
        }
        self.disk
            .set_mode(&self.file, 0o755)
            .and_then(|()| self.disk.sync(&self.file))
            .and_then(|()| self.disk.rename(&self.temporary, &self.path))
            .and_then(|()| sync_parent(&self.disk, &self.path))
            .map_err(file_error("cannot write", &self.path))
    }
}

impl<D: Disk> Drop for Incoming<D> {
    fn drop(&mut self) {
        // After the rename there is nothing under this name.
        let _ = self.disk.remove(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[tokio::test]
    async fn commands_are_bounded_in_time_with_their_children() {
        let marker = format!("3{:07}.25", std::process::id());
        let script = format!("sleep {marker} & wait");
        let command = Command::new("sh").args(["-c", &script]).deadline(Duration::from_millis(200));
        let error = Local.run(&command).await.expect_err("must be killed");
        assert!(error.to_string().contains("did not end within"), "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let listed =
            Local.run(&Command::new("sh").args(["-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"])).await;
        let listed = String::from_utf8_lossy(&listed.expect("runs").stdout).into_owned();
        assert!(!listed.contains(&format!("sleep {marker} ")), "the child lives on");
    }

    #[tokio::test]
    async fn lines_come_from_both_streams() {
        let mut lines = Vec::new();
        let command = Command::new("sh").args(["-c", "echo a; echo b >&2; cat; exit 3"]).stdin("c\n");
        let output = Local
            .run_lines(&command, &mut |stream, line| lines.push((stream, line.to_string())))
            .await
            .expect("runs");
        lines.sort_by_key(|(_, line)| line.clone());
        let expected = [(Stream::Out, "a"), (Stream::Err, "b"), (Stream::Out, "c")];
        assert_eq!(lines, expected.map(|(stream, line)| (stream, line.to_string())));
        assert_eq!((output.code, output.stdout.as_slice()), (Some(3), &b"a\nc\n"[..]));
    }

    #[tokio::test]
    async fn a_lock_excludes_and_names_its_holder() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("lock");
        let held = Local.lock(&path, "pid 7").await.expect("free");
        match Local.lock(&path, "pid 8").await {
            Err(Error::Locked { holder, .. }) => assert!(holder.starts_with("pid 7, for "), "{holder}"),
            other => panic!("expected Locked, found {:?}", other.map(|_| "a lock")),
        }
        // A holder that has not shown for minutes that it lives.
        let before = SystemTime::now() - Duration::from_secs(200);
        File::open(&path).and_then(|file| file.set_modified(before)).expect("the time is set");
        match Local.lock(&path, "pid 8").await {
            Err(Error::Locked { holder, .. }) => {
                assert!(holder.ends_with("it hangs: no sign of life for 3 min"), "{holder}");
            }
            other => panic!("expected Locked, found {:?}", other.map(|_| "a lock")),
        }
        drop(held);
        assert_eq!(std::fs::read(&path).expect("there"), b"", "nobody is named when nobody holds it");
        Local.lock(&path, "pid 8").await.expect("free again");
    }

    #[tokio::test]
    async fn a_written_file_has_its_mode_and_leaves_no_temporary() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("secret");
        Local.write(&path, b"one", 0o600).await.expect("written");
        Local.write(&path, b"two", 0o600).await.expect("written again");
        assert_eq!(std::fs::read(&path).expect("readable"), b"two");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 1);
    }
}
