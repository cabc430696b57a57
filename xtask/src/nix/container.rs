//! A container that boots a systemd, with a network of its own.

use super::said;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long systemd may take to answer.
const BOOT: Duration = Duration::from_secs(60);

/// A booted container; it is killed when this is dropped.
pub(super) struct Container {
    nspawn: Child,
    /// Its first process, as this machine sees it.
    init: String,
}

impl Container {
    /// Boots the root `directory`, which has `address` on its loopback.
    pub(super) fn boot(directory: &Path, address: &str) -> Result<Self> {
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.args([
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--timezone=off",
        ]);
        nspawn.args(["--resolv-conf=off", "--console=pipe", "--directory"]).arg(directory);
        nspawn.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let nspawn = nspawn.spawn().context("cannot run systemd-nspawn")?;
        let mut container = Self { nspawn, init: String::new() };
        let end = Instant::now() + BOOT;
        while container.init.is_empty() {
            ensure!(Instant::now() < end, "systemd-nspawn starts no process within {} s", BOOT.as_secs());
            if let Some(status) = container.nspawn.try_wait()? {
                bail!(
                    "systemd-nspawn ended: {status}; run it by hand: systemd-nspawn --boot --directory {}",
                    directory.display()
                );
            }
            let pid = container.nspawn.id();
            let children =
                std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            container.init = children.split_whitespace().next().unwrap_or_default().to_string();
            std::thread::sleep(Duration::from_millis(200));
        }
        let with_length = format!("{address}/32");
        while container.run(&["ip", "address", "replace", &with_length, "dev", "lo"]).is_err() {
            ensure!(Instant::now() < end, "the container takes no address within {} s", BOOT.as_secs());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(container)
    }

    /// Runs a command inside; gives what it says.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String> {
        said(Command::new("nsenter").args(["--target", &self.init, "--all"]).args(arguments))
    }

    /// A property of a unit; empty when systemd does not answer.
    pub(super) fn property(&self, unit: &str, name: &str) -> String {
        let said = self.run(&["systemctl", "show", "--property", name, "--value", unit]);
        said.unwrap_or_default().trim().to_string()
    }

    /// Waits until a unit is active.
    pub(super) fn wait(&self, unit: &str, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let state = self.property(unit, "ActiveState");
            if state == "active" {
                return Ok(());
            }
            if state == "failed" || Instant::now() > end {
                let log = self.run(&["journalctl", "--no-pager", "--lines", "30", "--output", "cat"]);
                bail!("{unit} is {state}; the last lines of the journal:\n{}", log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Kills everything inside at once.
    pub(super) fn cut_power(mut self) {
        self.kill();
    }

    fn kill(&mut self) {
        // The first process of a PID namespace takes all others with it. Of one that has ended the number may be another's.
        let runs = matches!(self.nspawn.try_wait(), Ok(None));
        if runs && !self.init.is_empty() {
            let _ = Command::new("kill").args(["-KILL", &self.init]).status();
        }
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if !matches!(self.nspawn.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill();
    }
}
