//! `cargo xtask nix-farm`: the units that the NixOS modules make for one host, run by a systemd in a container, through a power cut.
//!
//! What the VM tests `local-farm` and `reboot` show, as far as it can be shown without NixOS: real units, hardening, users, credentials,
//! gates and programs; not NixOS's own generation of units, its boot, or its firewall.

use super::container::Container;
use super::tools::{self, Nix};
use super::{said, stage};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Programs of ours, by their names in `target/release` and in the units.
const PROGRAMS: [&str; 2] = ["autonomys-farmer", "autonomys-dev-node"];
/// Scripts of the modules, which NixOS wraps with these options.
const SCRIPTS: [&str; 3] = ["ready", "directories", "place"];
const SCRIPT_HEAD: &str = "#!/bin/bash\nset -o errexit -o nounset -o pipefail\n";
/// The programs' gates in the order of their start; the two caches start side by side.
const GATES: [&str; 8] = [
    "autonomys-nats",
    "autonomys-node",
    "autonomys-controller",
    "autonomys-proof-server",
    "autonomys-sharded-cache",
    "autonomys-full-piece",
    "autonomys-plot-server-0",
    "autonomys-plot-client",
];
/// Time for all gates, and for a solution after them: slow machines.
const PATIENCE: Duration = Duration::from_secs(900);

/// Runs it with the programs in `binaries` and says how long each part took.
pub(crate) fn run(root: &Path, binaries: &Path, nats_server: &Path) -> Result<()> {
    let nix = Nix::get(root)?;
    let sources = stage(root)?;
    let mut command = nix.command("nix");
    command.args(["eval", "--offline", "--impure", "--json", "--file", "nix/tests/units.nix"]);
    let host: Value = serde_json::from_str(&said(&mut command)?).context("what nix/tests/units.nix gives")?;
    let directory = tools::system(root)?;
    furnish(&directory, &host, &sources, binaries, nats_server)?;

    let container = Container::boot(&directory, &text(&host, "address"))?;
    let solutions = farms(&container, &text(&host, "rpc"), "first boot")?;
    let restarted = GATES.iter().filter(|unit| container.property(unit, "NRestarts") != "0");
    let restarted: Vec<_> = restarted.collect();
    ensure!(restarted.is_empty(), "started more than once: {restarted:?}");
    let opened = |unit: &str| container.property(&format!("{unit}-ready"), "ActiveEnterTimestampMonotonic");
    let times: Vec<u64> = GATES.iter().map(|unit| opened(unit).parse().unwrap_or(0)).collect();
    let in_order =
        times[..4].is_sorted() && times[3] <= times[4].min(times[5]) && times[4].max(times[5]) <= times[6];
    ensure!(in_order && times[6] <= times[7], "gates opened in another order: {times:?}");
    eprintln!("gates opened in order, nothing was started twice, {solutions} solutions accepted");

    let before = plotted(&container)?;
    container.cut_power();
    let container = Container::boot(&directory, &text(&host, "address"))?;
    let again = farms(&container, &text(&host, "rpc"), "after the power cut")?;
    let after = plotted(&container)?;
    ensure!(
        before > 0 && after >= before,
        "{before} sectors were plotted before the power cut, {after} are after it"
    );
    eprintln!(
        "solutions accepted since the power came back: {again}; sectors plotted: {before}, then {after}"
    );
    container.cut_power();
    Ok(())
}

/// Sectors that the plot-client says are plotted.
fn plotted(container: &Container) -> Result<u64> {
    let status = container.run(&["curl", "--silent", "http://127.0.0.1:9864/status"])?;
    let status: Value = serde_json::from_str(&status).context("the plot-client's /status")?;
    status
        .pointer("/counters/sectors_plotted")
        .and_then(Value::as_u64)
        .context("no sectors_plotted in /status")
}

/// Waits for all gates and a solution of this boot's; gives how many the node counts.
fn farms(container: &Container, rpc: &str, when: &str) -> Result<u64> {
    let begin = Instant::now();
    for unit in GATES {
        container.wait(&format!("{unit}-ready"), PATIENCE)?;
    }
    eprintln!("{when}: all gates open after {:.0} s", begin.elapsed().as_secs_f64());
    // The node counts from its own start.
    loop {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"dev_stats","params":[]}"#;
        let url = format!("http://{rpc}");
        let asked = ["curl", "--silent", "--header", "content-type: application/json", "--data", body, &url];
        let reply: Value = serde_json::from_str(&container.run(&asked)?).unwrap_or_default();
        let accepted = reply.pointer("/result/solutions/accepted").and_then(Value::as_u64).unwrap_or(0);
        if accepted > 0 {
            eprintln!("{when}: a solution is accepted after {:.0} s", begin.elapsed().as_secs_f64());
            return Ok(accepted);
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "no solution was accepted within {} s: {reply}",
            PATIENCE.as_secs()
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Puts programs, units, users and the secret into the container's root.
fn furnish(
    directory: &Path,
    host: &Value,
    sources: &Path,
    binaries: &Path,
    nats_server: &Path,
) -> Result<()> {
    let bin = directory.join("opt/bin");
    std::fs::create_dir_all(&bin)?;
    for name in PROGRAMS {
        let from = binaries.join(name);
        std::fs::copy(&from, bin.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    std::fs::copy(nats_server, bin.join("nats-server"))?;
    for name in SCRIPTS {
        let script = std::fs::read_to_string(sources.join(format!("nix/modules/{name}.sh")))?;
        let path = bin.join(format!("autonomys-{name}"));
        std::fs::write(&path, format!("{SCRIPT_HEAD}{script}"))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    std::fs::write(directory.join("opt/nats-server.conf"), text(host, "nats_conf"))?;

    let units = directory.join("etc/systemd/system");
    let wants = units.join("multi-user.target.wants");
    std::fs::create_dir_all(&wants)?;
    let services: BTreeMap<String, String> = serde_json::from_value(host["units"].clone())?;
    for (name, unit) in services {
        std::fs::write(units.join(format!("{name}.service")), outside_the_store(&unit)?)?;
    }
    for name in texts(host, "wanted") {
        symlink(format!("../{name}.service"), wants.join(format!("{name}.service")))?;
    }
    let rules = texts(host, "tmpfiles").join("\n") + "\n";
    std::fs::write(directory.join("etc/tmpfiles.d/autonomys.conf"), rules)?;

    let within = |arguments: &[&str]| said(Command::new("chroot").arg(directory).args(arguments)).map(drop);
    within(&["groupadd", "--system", "autonomys"])?;
    for user in texts(host, "users") {
        within(&["useradd", "--system", "--gid", "autonomys", "--no-create-home", &user])?;
    }
    let secret = directory.join(text(host, "secret_file").trim_start_matches('/'));
    let parent = secret.parent().context("the secret has a directory")?;
    std::fs::create_dir_all(parent)?;
    std::fs::write(&secret, "0123456789abcdef".repeat(4))?;
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// A unit with the programs where they are in the container, not where they would be in a store.
fn outside_the_store(unit: &str) -> Result<String> {
    let word = |word: &str| match word.split_once("/nix/store/") {
        Some((before, path)) if path.contains("/bin/") => {
            let name = path.rsplit('/').next().unwrap_or_default();
            format!("{before}/opt/bin/{name}")
        }
        Some((before, path)) if path.ends_with("nats-server.conf") => {
            format!("{before}/opt/nats-server.conf")
        }
        _ => word.to_string(),
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    let moved = unit.lines().map(line).collect::<Vec<_>>().join("\n") + "\n";
    ensure!(
        !moved.contains("/nix/store"),
        "a unit names something of the store that is not known here:\n{moved}"
    );
    Ok(moved)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_string()
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    value[key].as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_string())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn programs_of_a_store_are_found_in_the_container() {
        let unit = "ExecStartPre=+/nix/store/a-directories/bin/autonomys-directories u g\n\
                    ExecStart=/nix/store/b-nats/bin/nats-server -c /nix/store/c-nats-server.conf\n";
        let moved = outside_the_store(unit).unwrap();
        let expected = "ExecStartPre=+/opt/bin/autonomys-directories u g\n\
                        ExecStart=/opt/bin/nats-server -c /opt/nats-server.conf\n";
        assert_eq!(moved, expected);
        assert!(outside_the_store("ExecStart=/nix/store/d-other\n").is_err());
    }
}
