//! Keys of hosts, shown and pinned.

use crate::sshd::Sshd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An inventory of one host with these `ssh:` settings.
fn inventory(directory: &Path, settings: &str) -> PathBuf {
    let path = directory.join("farm.yaml");
    let text = format!(
        "version: 1\ncluster: test\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\nhosts:\n  here:\n    \
         connection: ssh\n    address: 127.0.0.1\n    # how it is reached\n    ssh: {settings}\n    node: {{}}\n    \
         plotter: {{}}\n    storage: {{farms: [{{path: data/farm-0, sectors: 1}}]}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn trust(inventory: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_provision"));
    let output = command.arg("trust").arg(inventory).args(more).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn fingerprint(sshd: &Sshd) -> String {
    let output = Command::new("ssh-keygen").arg("-lf").arg(sshd.path("host_key.pub")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().nth(1).unwrap().to_string()
}

#[test]
fn ssh_a_key_that_is_new_is_shown_and_pinned_after_a_yes() {
    let sshd = Sshd::start();
    let identity = sshd.path("user_key").display().to_string();
    let settings = format!("{{port: {}, identity_file: {identity}}}", sshd.port);
    let path = inventory(sshd.directory.path(), &settings);
    let before = std::fs::read_to_string(&path).unwrap();
    let (code, said) = trust(&path, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&format!("{} (ED25519)  new", fingerprint(&sshd))), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before, "nothing without a yes");

    let (code, said) = trust(&path, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    let pinned = format!("ssh: {{host_keys: [\"{}\"], port: ", sshd.host_key());
    let after = std::fs::read_to_string(&path).unwrap();
    assert_eq!(after, before.replace("ssh: {port: ", &pinned));
    let (code, said) = trust(&path, &[]);
    assert!(code == Some(0) && said.contains("pinned"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
}

#[test]
fn ssh_a_key_that_differs_is_told_and_never_overwritten() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let settings = sshd.settings().replace(&sshd.host_key(), &other.host_key());
    let path = inventory(sshd.directory.path(), &settings);
    let before = std::fs::read_to_string(&path).unwrap();
    let (code, said) = trust(&path, &["--yes"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains(&fingerprint(&sshd)) && said.contains(&fingerprint(&other)), "{said}");
    assert!(said.contains("farm.yaml:9:"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
}

#[test]
fn ssh_a_host_that_does_not_answer_is_told() {
    let sshd = Sshd::start();
    let path = inventory(sshd.directory.path(), "{port: 1}");
    let (code, said) = trust(&path, &["--yes"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("Connection refused"), "{said}");
}
