//! The programs' logs: their last lines, and what comes after.

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::transport::Transport;
use std::path::Path;
use std::time::Duration;

/// Most that is read to find the last lines, in bytes.
const TAIL_MAX: u64 = 1 << 20;
/// How often a followed log is looked at.
const FOLLOW: Duration = Duration::from_millis(300);

/// The last `count` lines of a file; none when it is not there.
///
/// # Errors
/// It is there and cannot be read.
pub async fn last_lines(path: &Path, count: usize, transport: &dyn Transport) -> Result<Vec<String>> {
    Ok(tail(path, count, transport).await?.0)
}

async fn tail(path: &Path, count: usize, transport: &dyn Transport) -> Result<(Vec<String>, Position)> {
    let Some(head) = transport.read_from(path, 0, 0).await? else {
        return Ok((Vec::new(), Position::default()));
    };
    let from = head.size.saturating_sub(TAIL_MAX);
    let chunk = transport.read_from(path, from, TAIL_MAX).await?.unwrap_or_default();
    let position = Position { offset: from + chunk.bytes.len() as u64, identity: chunk.identity };
    let text = String::from_utf8_lossy(&chunk.bytes).into_owned();
    let lines: Vec<String> = text.lines().map(str::to_string).collect();
    Ok((lines[lines.len().saturating_sub(count)..].to_vec(), position))
}

/// Where reading of a followed file stands.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    offset: u64,
    identity: u64,
}

/// Hands over the last `count` lines of each program's log and, when following, every new line until it is dropped.
///
/// # Errors
/// A log cannot be read, or none of them is there.
pub async fn show(
    layout: &Layout,
    programs: &[String],
    count: usize,
    follow: bool,
    transport: &dyn Transport,
    on_line: &mut (dyn FnMut(&str, &str) + Send),
) -> Result<()> {
    let mut positions = Vec::new();
    for program in programs {
        let (lines, position) = tail(&layout.log(program), count, transport).await?;
        for line in &lines {
            on_line(program, line);
        }
        positions.push(position);
    }
    if positions.iter().all(|position| position.identity == 0) && !follow {
        return Err(Error::NotRunning { prefix: layout.prefix.clone() });
    }
    if !follow {
        return Ok(());
    }
    let mut partial = vec![String::new(); programs.len()];
    loop {
        tokio::time::sleep(FOLLOW).await;
        for ((program, position), rest) in programs.iter().zip(&mut positions).zip(&mut partial) {
            let path = layout.log(program);
            let Some(chunk) = transport.read_from(&path, position.offset, TAIL_MAX).await? else { continue };
            if chunk.identity != position.identity || chunk.size < position.offset {
                // Rotated: the new file is read from its beginning at the next look.
                *position = Position { offset: 0, identity: chunk.identity };
                continue;
            }
            position.offset += chunk.bytes.len() as u64;
            rest.push_str(&String::from_utf8_lossy(&chunk.bytes));
            while let Some(newline) = rest.find('\n') {
                on_line(program, rest[..newline].trim_end());
                rest.drain(..=newline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Local;

    #[tokio::test]
    async fn a_rotated_log_is_followed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(directory.path());
        std::fs::create_dir_all(layout.logs()).expect("made");
        let log = layout.log("p");
        std::fs::write(&log, "one\ntwo\nthree\n").expect("written");
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let follower = tokio::spawn(async move {
            let programs = ["p".to_string()];
            let mut on_line = move |_: &str, line: &str| {
                let _ = send.send(line.to_string());
            };
            show(&layout, &programs, 2, true, &Local, &mut on_line).await
        });
        assert_eq!(receive.recv().await.as_deref(), Some("two"));
        assert_eq!(receive.recv().await.as_deref(), Some("three"));
        std::fs::rename(&log, log.with_extension("log.1")).expect("rotated");
        std::fs::write(&log, "four\nfi").expect("written");
        let wait = Duration::from_secs(10);
        let line = tokio::time::timeout(wait, receive.recv()).await.expect("in time");
        assert_eq!(line.as_deref(), Some("four"));
        follower.abort();
    }
}
