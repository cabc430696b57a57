//! Every method over SSH does what it does on this machine.

use crate::sshd::{Sshd, here, sleeper, until};
use provision::facts::Question;
use provision::transport::http::{Endpoint, Request};
use provision::transport::{Command, Stream, Transport};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a method gave, without what differs: the directory, and the host's name before an error.
fn shown(what: &str, base: &Path, result: provision::Result<impl std::fmt::Debug>) -> String {
    let text = match result {
        Ok(value) => format!("{what}: {value:?}"),
        Err(error) => {
            let text = error.to_string();
            format!(
                "{what}: {:?}, {}, {:?}",
                error.exit_code(),
                text.strip_prefix("here: ").unwrap_or(&text),
                error.hint()
            )
        }
    };
    text.replace(&base.display().to_string(), "BASE")
}

async fn files(transport: &dyn Transport, base: &Path) -> Vec<String> {
    let at = |name: &str| base.join(name);
    let mut told = Vec::new();
    let mut tell = |text: String| told.push(text);
    tell(shown("make", base, transport.make_directory(&at("a/b"), 0o750).await));
    tell(shown("make below a file", base, transport.make_directory(Path::new("/etc/passwd/x"), 0o755).await));
    tell(shown("write", base, transport.write(&at("a/file"), b"one\ntwo\0\xff", 0o640).await));
    tell(shown("write again", base, transport.write(&at("a/file"), b"one\ntwo\0\xfe", 0o600).await));
    tell(shown("write nowhere", base, transport.write(&at("no/file"), b"", 0o600).await));
    tell(shown("append", base, transport.append(&at("a/log"), b"first\n").await));
    tell(shown("append more", base, transport.append(&at("a/log"), b"second\n").await));
    tell(shown("read", base, transport.read(&at("a/file"), 100).await));
    tell(shown("read exactly", base, transport.read(&at("a/file"), 9).await));
    tell(shown("read too much", base, transport.read(&at("a/file"), 8).await));
    tell(shown("read nothing", base, transport.read(&at("none"), 8).await));
    tell(shown("read a directory", base, transport.read(&at("a"), 8).await));
    let part = transport.read_from(&at("a/log"), 6, 3).await;
    tell(shown(
        "read from",
        base,
        part.map(|part| part.map(|part| (part.bytes, part.size, part.identity != 0))),
    ));
    tell(shown(
        "read from nothing",
        base,
        transport.read_from(&at("none"), 0, 1).await.map(|part| part.is_some()),
    ));
    tell(shown("link", base, transport.link(&at("a/file"), &at("link")).await));
    tell(shown("link over it", base, transport.link(&at("a/log"), &at("link")).await));
    tell(shown("resolve", base, transport.resolve(&at("link")).await));
    tell(shown("resolve nothing", base, transport.resolve(&at("none")).await));
    tell(shown("digest", base, transport.digest(&at("a/file")).await));
    tell(shown("digest nothing", base, transport.digest(&at("none")).await));
    let place = |digest: &str| at("installed").join(&digest[..8]).join("program");
    tell(shown("install", base, transport.install(&at("source"), &place).await));
    tell(shown("install again", base, transport.install(&at("source"), &place).await));
    tell(shown("install nothing", base, transport.install(&at("none"), &place).await));
    tell(shown("remove", base, transport.remove_file(&at("a/log")).await));
    tell(shown("remove again", base, transport.remove_file(&at("a/log")).await));
    tell(shown("remove a directory", base, transport.remove_file(&at("a/b")).await));
    let held = transport.lock(&at("lock"), "the first").await;
    tell(shown("lock", base, held.as_ref().map(|_| "held").map_err(|_| provision::Error::Interrupted)));
    tell(shown("lock again", base, transport.lock(&at("lock"), "the second").await.map(|_| "held")));
    drop(held);
    tell(shown("lock nowhere", base, transport.lock(&at("no/lock"), "x").await.map(|_| "held")));
    told
}

async fn commands(transport: &dyn Transport, base: &Path) -> Vec<String> {
    let mut told = Vec::new();
    let sh = |script: &str| Command::new("sh").args(["-c", script]);
    for (what, command) in [
        ("output", sh("echo out; echo err >&2; exit 3")),
        ("input", Command::new("cat").stdin(&b"in\0\xff"[..])),
        ("much input", sh("wc -c").stdin(vec![b'x'; 3 << 20])),
        ("much output", sh("yes | head -c 2000000 | sha256sum; yes | head -c 300000")),
        ("arguments", Command::new("printf").args(["%s|", "a b", "'\"$(id)", "*", ""])),
        ("environment", sh("echo $A-$B").env("A", "a b").env("B", "ü")),
        ("directory", sh("[ \"$PWD\" = \"$BASE\" ] && ls source").env("BASE", base).directory(base)),
        ("signal", sh("kill -9 $$")),
        ("deadline", sh("sleep 100").deadline(Duration::from_millis(300))),
        ("nothing to run", Command::new("no-such-program-anywhere")),
    ] {
        told.push(shown(what, base, transport.run(&command).await));
        let mut lines = Vec::new();
        let done =
            transport.run_lines(&command, &mut |stream, line| lines.push((stream, line.to_string()))).await;
        told.push(shown(what, base, done));
        lines.sort_by_key(|(stream, _)| *stream == Stream::Err);
        told.push(
            format!("{} lines: {:?}", lines.len(), &lines[..lines.len().min(3)])
                .replace(&base.display().to_string(), "BASE"),
        );
    }
    told
}

/// A server of one answer a connection.
async fn answers() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap();
            let (status, body) = if asked.starts_with(b"GET") { (200, "got\0it") } else { (503, "not now") };
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            assert!(read > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

async fn http(transport: &dyn Transport, address: std::net::SocketAddr, base: &Path) -> Vec<String> {
    let endpoint = Endpoint::Tcp(address);
    let mut told = Vec::new();
    for request in [
        Request::get(endpoint.clone(), "/x"),
        Request::post(endpoint, "/x", "text/plain", "body".to_string()),
        Request::get(Endpoint::Unix(base.join("no.sock")), "/x"),
        Request::get(Endpoint::Tcp(([127, 0, 0, 1], 1).into()), "/x"),
    ] {
        told.push(shown("http", base, transport.http(&request).await));
    }
    told
}

#[tokio::test]
async fn ssh_every_method_does_what_it_does_on_this_machine() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let address = answers().await;
    let mut told = Vec::new();
    for (name, transport) in [("local", here()), ("ssh", &ssh as &dyn Transport)] {
        let base = sshd.path(name);
        std::fs::create_dir(&base).unwrap();
        // Some chunks and a rest.
        std::fs::write(base.join("source"), (0..700_001_u32).map(|n| (n / 7) as u8).collect::<Vec<_>>())
            .unwrap();
        let mut all = files(transport, &base).await;
        all.extend(commands(transport, &base).await);
        all.extend(http(transport, address, &base).await);
        told.push((all, tree(&base, &base)));
    }
    let (local, over_ssh) = (&told[0], &told[1]);
    for (one, other) in local.0.iter().zip(&over_ssh.0) {
        assert_eq!(one, other);
    }
    assert_eq!(local, over_ssh);
    assert!(local.0.iter().any(|line| line.contains("Locked, another provision is at work")), "{local:?}");
}

/// Every file below a directory with its mode and size.
fn tree(directory: &Path, base: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let state = path.symlink_metadata().unwrap();
        let relative = path.strip_prefix(base).unwrap().display().to_string();
        // The size of a link depends on the length of the directory's name.
        let size = if state.is_file() { state.size() } else { 0 };
        found.push(format!("{relative} {:o} {size}", state.mode()));
        if state.is_dir() {
            found.extend(tree(&path, base));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn ssh_facts_come_in_one_call() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let question = Question {
        host: "here".to_string(),
        prefix: sshd.path("prefix"),
        ports: vec![sshd.port],
        paths: vec![sshd.path("prefix/data"), PathBuf::from("/etc/ssh")],
    };
    let mut local = here().facts(&question).await.unwrap();
    let mut over_ssh = ssh.facts(&question).await.unwrap();
    assert_eq!(over_ssh.ports[0].port, sshd.port);
    // What changes from one moment to the next.
    for facts in [&mut local, &mut over_ssh] {
        facts.unix_time_ms = 0;
        facts.path_tools.clear();
        facts.apt_get = None;
        facts.paths.iter_mut().for_each(|path| (path.free_bytes, path.reserved_bytes) = (None, 0));
        facts.ports.iter_mut().for_each(|port| port.pid = None);
    }
    assert_eq!(local, over_ssh);
}

#[tokio::test]
async fn ssh_lines_come_as_they_are_written() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let seen = sshd.path("seen");
    let script = format!("echo one; while [ ! -e {} ]; do sleep 0.02; done; echo two >&2", seen.display());
    let command = Command::new("sh").args(["-c", &script]);
    let mut lines = Vec::new();
    let mut on_line = |stream: Stream, line: &str| {
        // Without this the command would run into its deadline.
        std::fs::write(&seen, "").unwrap();
        lines.push((stream, line.to_string()));
    };
    let output = ssh.run_lines(&command, &mut on_line).await.unwrap();
    assert_eq!(lines, [(Stream::Out, "one".to_string()), (Stream::Err, "two".to_string())]);
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"one\n"[..], &b"two\n"[..]));
}

#[tokio::test]
async fn ssh_many_calls_share_one_channel() {
    let sshd = Sshd::start();
    drop(sshd.connect().await);
    let channels = || sshd.log().matches("Starting session: command").count();
    let before = channels();
    let ssh = std::sync::Arc::new(sshd.connect().await);
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let ssh = std::sync::Arc::clone(&ssh);
            // Each waits for the others: one after the other they would never end.
            let script = format!(
                "touch {0}/at-{number}; while [ $(ls {0} | grep -c at-) -lt 50 ]; do sleep 0.1; done; echo {number}",
                sshd.directory.path().display()
            );
            tokio::spawn(async move { ssh.run(&Command::new("sh").args(["-c", &script]).deadline(Duration::from_secs(120))).await })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        let output = task.await.unwrap().unwrap();
        assert_eq!(output.stdout, format!("{number}\n").as_bytes());
    }
    assert_eq!(channels() - before, 1);
}

#[tokio::test]
async fn ssh_a_dropped_call_ends_on_the_host() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let (command, runs) = sleeper(25);
    {
        let call = ssh.run(&command);
        tokio::pin!(call);
        let started = until("it runs", &runs);
        tokio::select! {
            ended = &mut call => panic!("it ended: {ended:?}"),
            () = started => {}
        }
    }
    until("it was killed with its group", || !runs()).await;
    // The channel lives on.
    assert!(ssh.run(&Command::new("true")).await.unwrap().success());
}

#[tokio::test]
async fn ssh_a_command_over_its_deadline_is_killed_on_the_host() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let (command, runs) = sleeper(26);
    let error = ssh.run(&command.deadline(Duration::from_millis(300))).await.expect_err("too slow");
    assert!(error.to_string().starts_with("here: sh: did not end within"), "{error}");
    until("it was killed with its group", || !runs()).await;
}
