//! Nix and deadnix: the machine's, or set up once under `target/tools`.

use super::{run, said};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Suite of Debian that Nix is taken from: bookworm's 2.8 is too old for flakes as they are now.
const SUITE: &str = "trixie";
const MIRROR: &str = "http://deb.debian.org/debian";
/// From the Rust package registry.
const DEADNIX: &str = "1.3.1";
/// Without a builder's users, a cache, or a registry: nothing is built and nothing is fetched.
const CONFIGURATION: &str = "experimental-features = nix-command flakes\nbuild-users-group =\nsubstituters =\n\
                             flake-registry =\n";

/// How Nix is run.
pub(super) enum Nix {
    /// The machine has it.
    Own {
        /// Where the sources are.
        sources: PathBuf,
    },
    /// Debian's, in a root of its own.
    Debian {
        /// That root.
        root: PathBuf,
        /// Where the sources are; `/src` inside.
        sources: PathBuf,
    },
}

impl Nix {
    /// The machine's Nix, or Debian's, which is set up if it is not there.
    ///
    /// # Errors
    /// There is none and none can be had; the message says why.
    pub(super) fn get(workspace: &Path) -> Result<Self> {
        let sources = workspace.join("target/tools/nix-check/src");
        std::fs::create_dir_all(&sources).with_context(|| format!("cannot make {}", sources.display()))?;
        if Command::new("nix").arg("--version").output().is_ok_and(|output| output.status.success()) {
            return Ok(Self::Own { sources });
        }
        let root = workspace.join(format!("target/tools/nix-of-{SUITE}"));
        let nix = Self::Debian { root: root.clone(), sources };
        if !root.join("done").exists() {
            set_up(&root).context("there is no nix in PATH, and Debian's cannot be set up")?;
        }
        // The store holds what former runs evaluated.
        remove(&root.join("nix"))?;
        nix.version().context("Debian's nix does not run in bubblewrap")?;
        Ok(nix)
    }

    /// What it calls itself.
    pub(super) fn version(&self) -> Result<String> {
        Ok(said(self.command("nix").arg("--version"))?.trim().to_string())
    }

    /// The sources as a flake.
    pub(super) fn flake(&self) -> String {
        match self {
            Self::Own { sources } => format!("path:{}", sources.display()),
            Self::Debian { .. } => "path:/src".to_string(),
        }
    }

    /// One of its programs, in the sources' directory.
    pub(super) fn command(&self, program: &str) -> Command {
        match self {
            Self::Own { sources } => {
                let mut command = Command::new(program);
                command.current_dir(sources).env("NIX_CONFIG", "experimental-features = nix-command flakes");
                command
            }
            Self::Debian { root, sources } => {
                let mut command = Command::new("bwrap");
                command.arg("--bind").arg(root).arg("/").arg("--bind").arg(sources).arg("/src");
                command.args(["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--die-with-parent"]);
                command.args([
                    "--clearenv",
                    "--setenv",
                    "HOME",
                    "/root",
                    "--setenv",
                    "PATH",
                    "/usr/bin:/bin",
                ]);
                command.args(["--chdir", "/src", program]);
                command
            }
        }
    }
}

/// Unpacks Nix and what it needs. Nothing of it is configured: no program of it but Nix is run.
fn set_up(root: &Path) -> Result<()> {
    ensure_root("install nix (https://nixos.org/download)")?;
    install(&[("debootstrap", "debootstrap"), ("bubblewrap", "bwrap")])?;
    eprintln!("Setting up Nix from Debian {SUITE} under target/tools (once, about 40 s)");
    debootstrap(root, &["--foreign", "--variant=minbase", "--include=nix-bin"])?;
    // debootstrap unpacked what it needs for its second half, which is left out; Nix and its libraries lie beside.
    let archives = root.join("var/cache/apt/archives");
    for entry in
        std::fs::read_dir(&archives).with_context(|| format!("no packages in {}", archives.display()))?
    {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(root))?;
        }
    }
    std::fs::remove_dir_all(&archives)?;
    let etc = root.join("etc/nix");
    std::fs::create_dir_all(&etc)?;
    std::fs::create_dir_all(root.join("src"))?;
    std::fs::write(etc.join("nix.conf"), CONFIGURATION)?;
    std::fs::write(root.join("done"), "")?;
    Ok(())
}

/// A fresh root that boots a systemd: Debian's, made once and copied each time.
pub(super) fn system(workspace: &Path) -> Result<PathBuf> {
    ensure_root("it boots a container")?;
    install(&[("debootstrap", "debootstrap"), ("systemd-container", "systemd-nspawn")])?;
    let pristine = workspace.join(format!("target/tools/systemd-of-{SUITE}"));
    if !pristine.join("done").exists() {
        eprintln!("Setting up a Debian {SUITE} with systemd under target/tools (once, about 90 s)");
        let packages = "--include=systemd,systemd-sysv,dbus,curl,numactl,iproute2";
        debootstrap(&pristine, &["--variant=minbase", packages])?;
        std::fs::write(pristine.join("done"), "")?;
    }
    let root = workspace.join("target/tools/nix-farm");
    remove(&root)?;
    run(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(&pristine).arg(&root))?;
    Ok(root)
}

/// Makes a root of Debian's packages.
fn debootstrap(root: &Path, arguments: &[&str]) -> Result<()> {
    remove(root)?;
    let parent = root.parent().context("target/tools has a parent")?;
    std::fs::create_dir_all(parent)?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.env("PATH", with_system_directories()).args(arguments).arg(SUITE).arg(root).arg(MIRROR);
    let made = debootstrap.output().context("cannot run debootstrap")?;
    if !made.status.success() {
        let log = String::from_utf8_lossy(&made.stdout);
        let last = log.lines().last().unwrap_or_default();
        bail!("debootstrap of {SUITE} from {MIRROR}: {}: {last}", made.status);
    }
    Ok(())
}

/// `PATH` with the directories that `su` leaves out.
fn with_system_directories() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn ensure_root(otherwise: &str) -> Result<()> {
    let id = said(Command::new("id").arg("-u"))?;
    ensure!(id.trim() == "0", "only root may do this ({otherwise}): run as root");
    Ok(())
}

pub(super) fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)
            .with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    Ok(())
}

/// Installs Debian packages whose programs are not there.
fn install(wanted: &[(&str, &str)]) -> Result<()> {
    let there = |program: &str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|directory| Path::new(directory).join(program).exists())
    };
    let missing: Vec<_> =
        wanted.iter().filter(|(_, program)| !there(program)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Installing {}", missing.join(" "));
    run(Command::new("apt-get").args(["update", "-q"])).context("cannot ask Debian's archive")?;
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-q", "-y", "--no-install-recommends"]).args(&missing);
    run(apt.env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(())
}

/// Looks for what is bound and never used.
pub(super) fn dead_code(workspace: &Path, sources: &Path, files: &[String]) -> Result<String> {
    let directory = workspace.join("target/tools/deadnix");
    let program = directory.join("bin/deadnix");
    if !program.exists() {
        eprintln!("Installing deadnix {DEADNIX} under target/tools (once, about 45 s)");
        let mut cargo = crate::cargo();
        cargo
            .args(["install", "--quiet", "--locked", "deadnix", "--version", DEADNIX, "--root"])
            .arg(&directory);
        // Its objects are no use to the workspace.
        cargo.env("CARGO_TARGET_DIR", directory.join("build"));
        if let Err(error) = run(&mut cargo) {
            return Ok(format!("SKIPPED: deadnix {DEADNIX} cannot be installed: {error:#}"));
        }
        std::fs::remove_dir_all(directory.join("build"))?;
    }
    run(Command::new(&program).arg("--fail").args(files).current_dir(sources))?;
    Ok(format!("deadnix finds none in {} files", files.len()))
}
