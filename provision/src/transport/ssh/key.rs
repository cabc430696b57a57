//! The key by which a host proves who it is.

use super::session::{explain, private_directory, write_configuration};
use crate::error::{Error, Result};
use crate::resolve::Host;
use crate::transport::{Command, Local, Transport, file_error};
use std::time::Duration;

/// What `ssh` may take until the host has shown its key, jump hosts included.
const SHOW: Duration = Duration::from_secs(60);

/// The key that a host shows, `TYPE KEY`, whatever is pinned or known of it; jump hosts are checked as strictly as ever. Where
/// keys are pinned, the host is asked for one of their types. Nobody is logged in.
///
/// # Errors
/// [`Error::Connection`]: the host cannot be reached, or shows none.
pub async fn shown_key(host: &Host) -> Result<String> {
    let directory = private_directory()?;
    write_configuration(host, directory.path())?;
    let shown = directory.path().join("shown");
    let mut options = vec![
        // Into a file of its own, which is empty: nothing that is known elsewhere is touched.
        "StrictHostKeyChecking=accept-new".to_string(),
        format!("UserKnownHostsFile={}", shown.display()),
        "GlobalKnownHostsFile=/dev/null".to_string(),
        "HashKnownHosts=no".to_string(),
        "UpdateHostKeys=no".to_string(),
        "CheckHostIP=no".to_string(),
        "VerifyHostKeyDNS=no".to_string(),
        "ControlMaster=no".to_string(),
        "ControlPath=none".to_string(),
        "PreferredAuthentications=none".to_string(),
    ];
    let kinds: Vec<_> =
        host.ssh.host_keys.iter().filter_map(|key| key.split(' ').next()).map(signatures).collect();
    if !kinds.is_empty() {
        options.push(format!("HostKeyAlgorithms={}", kinds.join(",")));
    }
    let name = &host.name.value;
    let command = Command::new("ssh")
        .arg("-F")
        .arg(directory.path().join("config"))
        .args(options.iter().flat_map(|option| ["-o", option]))
        .args(["-T", name, "true"])
        .deadline(SHOW);
    let output = Local.run(&command).await?;
    let text = match std::fs::read_to_string(&shown) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(file_error("cannot read", &shown)(error)),
    };
    let line = text.lines().next().and_then(|line| line.split_once(' '));
    if let Some((_, key)) = line {
        return Ok(key.trim().to_string());
    }
    let target = match host.ssh.port {
        Some(port) => format!("{} port {port}", host.address.value),
        None => host.address.value.to_string(),
    };
    let (message, hint) = explain(&String::from_utf8_lossy(&output.stderr), name, &target, &host.ssh);
    Err(Error::Connection { host: name.clone(), message, hint })
}

/// What a key of this type signs with.
fn signatures(kind: &str) -> &str {
    if kind == "ssh-rsa" { "rsa-sha2-512,rsa-sha2-256" } else { kind }
}

/// `SHA256:… (ED25519)` of a key, as `ssh` itself shows it.
///
/// # Errors
/// It is no key, or there is no `ssh-keygen`.
pub async fn fingerprint(key: &str) -> Result<String> {
    let output =
        Local.run(&Command::new("ssh-keygen").args(["-l", "-f", "-"]).stdin(format!("{key}\n"))).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<_> = text.split_whitespace().collect();
    match (output.success(), &words[..]) {
        (true, [_, fingerprint, .., kind]) => Ok(format!("{fingerprint} {kind}")),
        _ => Err(Error::Command { program: "ssh-keygen".to_string(), message: output.last_words(2) }),
    }
}
