//! `cargo xtask demo`: how long a fresh farm takes to its first accepted solution, and what its roles weigh.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Ports of the demo are shifted by this, so that it does not disturb a farm that runs already.
const PORT_OFFSET: &str = "30000";

/// Runs the local inventory below a fresh prefix, measures, stops it again.
pub(crate) fn run(root: &Path, json: bool) -> Result<()> {
    let home = tempfile::Builder::new().prefix("autonomys-demo").tempdir()?;
    let provision = |command: &str| {
        let mut process = Command::new(root.join("target/release/provision"));
        process.current_dir(root).args(["--json", command, "inventories/local.yaml", "--prefix"]);
        process.arg(home.path().join("prefix")).args(["--port-offset", PORT_OFFSET]);
        process.args(["--binaries", "target/release"]).stderr(Stdio::inherit());
        process
    };
    let started = Instant::now();
    let applied = provision("apply").output().context("cannot run provision")?;
    let seconds = started.elapsed().as_secs_f64();
    let status = provision("status").output()?;
    let measured = if applied.status.success() { memory(&status.stdout) } else { Ok(Vec::new()) };
    let stopped = provision("stop").stdout(Stdio::null()).status()?;
    if !applied.status.success() {
        bail!("apply failed: {}", String::from_utf8_lossy(&applied.stdout));
    }
    if !stopped.success() {
        bail!("the demo does not stop; its processes are below {}", home.path().display());
    }
    report(json, seconds, &measured?);
    Ok(())
}

struct Memory {
    role: String,
    resident_mib: f64,
    peak_mib: f64,
}

fn memory(status: &[u8]) -> Result<Vec<Memory>> {
    let status: Value = serde_json::from_slice(status).context("status is no JSON")?;
    let roles = status["hosts"][0]["roles"].as_array().context("status has no roles")?;
    roles
        .iter()
        .map(|role| {
            let pid = role["pid"].as_u64().with_context(|| format!("{} does not run", role["program"]))?;
            let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            Ok(Memory {
                role: role["program"].as_str().unwrap_or_default().to_owned(),
                resident_mib: kibibytes(&text, "VmRSS:")? / 1024.0,
                peak_mib: kibibytes(&text, "VmHWM:")? / 1024.0,
            })
        })
        .collect()
}

fn kibibytes(status: &str, key: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn report(json: bool, seconds: f64, memory: &[Memory]) {
    if json {
        let roles = memory.iter().map(|Memory { role, resident_mib, peak_mib }| {
            (role.clone(), serde_json::json!({ "resident_mib": resident_mib, "peak_mib": peak_mib }))
        });
        let roles = roles.collect::<serde_json::Map<_, _>>();
        println!("{}", serde_json::json!({ "apply_to_first_accepted_s": seconds, "roles": roles }));
        return;
    }
    println!("apply to the first accepted solution: {seconds:.0} s");
    println!("{:32} {:>12} {:>12}", "program", "resident MiB", "peak MiB");
    for Memory { role, resident_mib, peak_mib } in memory {
        println!("{role:32} {resident_mib:12.0} {peak_mib:12.0}");
    }
}
