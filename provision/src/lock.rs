//! Who is at work on a cluster's hosts, and how to end a run that hangs.

use crate::apply::{Connection, side_by_side};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::transport::{Command, LOCK_SILENCE, LockRecord, Transport};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// Says, if the file of the lock `$1` names somebody: the time, the file's time, when the process that is named there was
/// started (0 when it is gone), and what stands there.
const LOOK: &str = r#"
[ -s "$1" ] || exit 0
p=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$1")
s=$(sed -e 's/^.*) //' "/proc/$p/stat" 2>/dev/null | cut -d' ' -f20)
date +%s
stat -c %Y "$1"
echo "${s:-0}"
cat "$1"
"#;

/// Ends the process PID that was started at STARTED: in order, and after five seconds by force, with what it runs.
const END: &str = r#"
lives() {
    set -- $(sed -e 's/^.*) //' "/proc/$PID/stat" 2>/dev/null | cut -d' ' -f1,20)
    [ "$2" = "$STARTED" ] && [ "$1" != Z ]
}
lives || exit 0
children=$(cat "/proc/$PID/task/"*/children 2>/dev/null)
kill -TERM "$PID" || exit 1
n=0
while lives && [ "$n" -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
lives || exit 0
kill -KILL "$PID" || exit 1
for child in $children; do kill -KILL -- "-$child" 2>/dev/null; done
n=0
while lives && [ "$n" -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
! lives
"#;

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Command, user, control machine and process there.
    pub holder: String,
    /// The process on the host that holds it.
    pub pid: u32,
    /// When that was started, in clock ticks since the host was.
    #[serde(skip)]
    pub started: u64,
    /// For how long, in seconds.
    pub age_seconds: u64,
    /// How long ago it last showed that it lives, in seconds.
    pub silent_seconds: u64,
    /// Whether that is too long ago.
    pub hangs: bool,
    /// The same for people.
    #[serde(skip)]
    pub told: String,
}

/// Whether somebody is at work on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostLock {
    /// Its name.
    pub host: String,
    /// Why it cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who is at work; nobody when there is none.
    pub held: Option<Held>,
}

/// Who is at work on each host. That one cannot be asked is told in its place.
pub async fn status(connections: &[Connection<'_>], forks: usize) -> Vec<HostLock> {
    let asking = side_by_side(connections, forks, |(host, transport)| async move {
        let asked = match transport {
            Ok(transport) => {
                held(&Layout::of(host).lock(), &**transport).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        let (held, error) = asked.map_or_else(|error| (None, Some(error)), |held| (held, None));
        HostLock { host: host.name.value.clone(), error, held }
    });
    asking.await
}

/// Who holds a lock.
///
/// # Errors
/// The host cannot be asked.
pub async fn held(lock: &Path, transport: &dyn Transport) -> Result<Option<Held>> {
    let output = transport.run(&Command::new("sh").args(["-c", LOOK, "look"]).arg(lock)).await?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// What [`LOOK`] says.
fn parse(text: &str) -> Option<Held> {
    let mut lines = text.splitn(4, '\n');
    let mut number = || lines.next()?.trim().parse::<u64>().ok();
    let (now, beat, started) = (number()?, number()?, number()?);
    let record: LockRecord = serde_json::from_str(lines.next()?).ok()?;
    // Whoever was killed could not say goodbye; its lock is free.
    if record.started != started || started == 0 {
        return None;
    }
    let silent_seconds = now.saturating_sub(beat);
    Some(Held {
        told: record.told(now, silent_seconds),
        pid: record.pid,
        started,
        age_seconds: now.saturating_sub(record.since),
        silent_seconds,
        hangs: silent_seconds > LOCK_SILENCE.as_secs(),
        holder: record.holder,
    })
}

/// Ends the run that holds a lock: what serves it on the host ends, so that nothing of it is done there any more.
///
/// # Errors
/// It may not be ended, or does not end.
pub async fn end(held: &Held, transport: &dyn Transport) -> Result<()> {
    let command = Command::new("sh")
        .args(["-c", END, "end"])
        .env("PID", held.pid.to_string())
        .env("STARTED", held.started.to_string())
        .deadline(Duration::from_secs(30));
    let output = transport.run(&command).await?;
    if output.success() {
        return Ok(());
    }
    Err(Error::Step {
        step: "break the lock".to_string(),
        message: format!("process {} does not end: {}", held.pid, output.last_words(2)),
        hint: format!("as its user or as root: `kill -9 {}`", held.pid),
    })
}

/// Ends every run that holds one of these locks.
///
/// # Errors
/// One cannot be ended; the others are.
pub async fn break_all(locks: &[HostLock], connections: &[Connection<'_>]) -> Result<usize> {
    let (mut broken, mut failed) = (0, None);
    for (lock, (_, transport)) in locks.iter().zip(connections) {
        let (Some(held), Ok(transport)) = (&lock.held, transport) else { continue };
        match end(held, &**transport).await {
            Ok(()) => broken += 1,
            Err(error) => failed = Some(Error::OnHost { host: lock.host.clone(), error: Box::new(error) }),
        }
    }
    failed.map_or(Ok(broken), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Local;

    #[test]
    fn a_lock_of_a_process_that_is_gone_is_free() {
        let record =
            r#"{"holder":"`provision apply` of me@here, process 7","pid":7,"started":99,"since":100}"#;
        let said = |started: u64, beat: u64| parse(&format!("300\n{beat}\n{started}\n{record}"));
        assert_eq!(parse(""), None);
        assert_eq!(parse("300\n300\n0\n"), None);
        assert_eq!(said(0, 300), None, "no such process");
        assert_eq!(said(98, 300), None, "another one has its number now");
        let lively = said(99, 295).expect("held");
        assert_eq!(lively.told, "`provision apply` of me@here, process 7, for 3 min");
        assert!(!lively.hangs);
        let silent = said(99, 150).expect("held");
        assert_eq!(
            silent.told,
            "`provision apply` of me@here, process 7, for 3 min; it hangs: no sign of life for 2 min"
        );
        assert!(silent.hangs);
    }

    #[tokio::test]
    async fn who_holds_a_lock_is_read_from_the_host() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("lock");
        assert_eq!(held(&path, &Local).await.expect("asked"), None);
        let lock = Local.lock(&path, "me").await.expect("free");
        let found = held(&path, &Local).await.expect("asked").expect("held");
        assert_eq!((found.holder.as_str(), found.pid, found.hangs), ("me", std::process::id(), false));
        drop(lock);
        assert_eq!(held(&path, &Local).await.expect("asked"), None);
    }
}
