//! `cargo xtask nix-check`: what can be said of the flake without GitHub and without a binary cache.
//!
//! Nix comes from the machine, or from Debian's archive into a directory of `target/tools` that bubblewrap enters. Each step says what
//! it looked at and what it did not.

mod container;
pub(crate) mod farm;
mod tools;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;
use tools::Nix;

/// What is checked by nobody here, whatever the steps say.
const NOT_HERE: &str = "not checked here: evaluation on the pinned nixpkgs, every build, the VM tests, nixfmt and statix \
                        (docs/book/outside-ci.md)";

/// Runs every step; fails if one of them does. Where there is no Nix, says so and succeeds.
pub(crate) fn check(root: &Path) -> Result<()> {
    let begin = Instant::now();
    let nix = match Nix::get(root) {
        Ok(nix) => nix,
        Err(reason) => {
            eprintln!("SKIPPED: every check of the Nix files: {reason:#}");
            return Ok(());
        }
    };
    eprintln!("Nix: {} ({:.0} s to have it)", nix.version()?, begin.elapsed().as_secs_f64());
    let sources = stage(root)?;
    let files = nix_files(&sources)?;
    let steps: [(&str, &dyn Fn() -> Result<String>); 7] = [
        ("parse", &|| parse(&nix, &files)),
        ("dead code", &|| tools::dead_code(root, &sources, &files)),
        ("scripts", &|| scripts(&sources)),
        ("lock", &|| lock(&nix, &sources)),
        ("units", &|| evaluate(&nix, "nix/tests/run.nix", "that NixOS takes what follows")),
        ("modules", &|| {
            evaluate(&nix, "nix/tests/modules.nix", "NixOS's own options and units, which a stand-in names")
        }),
        ("wiring", &|| wiring(&nix)),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        match step() {
            Ok(said) => eprintln!("nix-check {name}: {said}"),
            Err(error) => {
                eprintln!("nix-check {name}: FAILED: {error:#}");
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "nix-check failed: {}", failed.join(", "));
    eprintln!("nix-check: {:.0} s; {NOT_HERE}", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Copies the tree, without what was built, to a directory that holds nothing else: a flake of a path is copied whole.
fn stage(root: &Path) -> Result<PathBuf> {
    let to = root.join("target/tools/nix-check/src");
    tools::remove(&to)?;
    copy(root, &to)?;
    Ok(to)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name());
        let target = to.join(&name);
        if kind.is_file() {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        } else if kind.is_dir() && name != "target" && name != ".git" {
            copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Every Nix file, relative to the sources.
fn nix_files(sources: &Path) -> Result<Vec<String>> {
    let mut files = vec!["flake.nix".to_string()];
    let mut directories = vec![sources.join("nix"), sources.join("vm-tests")];
    while let Some(directory) = directories.pop() {
        let entries = std::fs::read_dir(&directory);
        for entry in entries.with_context(|| format!("cannot list {}", directory.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "nix") {
                let relative = path.strip_prefix(sources).expect("it was found below");
                files.push(relative.display().to_string());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn parse(nix: &Nix, files: &[String]) -> Result<String> {
    let mut command = nix.command("nix-instantiate");
    said(command.arg("--parse").args(files))?;
    Ok(format!("{} files parse", files.len()))
}

fn scripts(sources: &Path) -> Result<String> {
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(sources.join("nix/modules"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            said(Command::new("bash").arg("-n").arg(&path))?;
            scripts.push(path);
        }
    }
    ensure!(!scripts.is_empty(), "there is no script below nix/modules");
    let count = scripts.len();
    if Command::new("shellcheck").arg("--version").output().is_err() {
        return Ok(format!("{count} scripts parse (not checked: shellcheck, which is not installed)"));
    }
    said(Command::new("shellcheck").arg("--shell=bash").args(&scripts))?;
    Ok(format!("shellcheck finds nothing in {count} scripts"))
}

/// Whether Nix takes the lock file as it is, and what it pins.
fn lock(nix: &Nix, sources: &Path) -> Result<String> {
    let flake = nix.flake();
    let mut command = nix.command("nix");
    command.args(["flake", "metadata", "--json", "--offline", "--no-update-lock-file", &flake]);
    let metadata: Value = serde_json::from_str(&said(&mut command)?).context("metadata of the flake")?;
    let file = std::fs::read_to_string(sources.join("flake.lock")).context("cannot read flake.lock")?;
    let file: Value = serde_json::from_str(&file).context("flake.lock")?;
    ensure!(metadata["locks"] == file, "Nix reads other locks than flake.lock has: run `nix flake lock`");
    let mut pins = Vec::new();
    for (name, node) in file["nodes"].as_object().into_iter().flatten().filter(|(name, _)| *name != "root") {
        let text = |key: &str| node["locked"][key].as_str().unwrap_or_default();
        let (revision, hash) = (text("rev"), text("narHash"));
        ensure!(
            revision.len() == 40 && hash.starts_with("sha256-"),
            "the pin of {name} has no revision or no hash"
        );
        pins.push(format!("{name} {}", &revision[..12]));
    }
    ensure!(!pins.is_empty(), "flake.lock pins nothing");
    Ok(format!("accepted: {} (not checked: that the hashes are those of the revisions)", pins.join(", ")))
}

/// Evaluates a file of tests, which is a line for success or an error.
fn evaluate(nix: &Nix, file: &str, not: &str) -> Result<String> {
    let mut command = nix.command("nix");
    // A file outside the store is read, so it is not pure for Nix; nothing else is taken from the surroundings.
    let passed = said(command.args(["eval", "--offline", "--impure", "--raw", "--file", file]))?;
    Ok(format!("{passed} (not checked: {not})"))
}

/// Evaluates every output of the flake, with stand-ins for its inputs.
fn wiring(nix: &Nix) -> Result<String> {
    let mut command = nix.command("nix");
    let flake = nix.flake();
    command.args([
        "flake",
        "check",
        "--no-build",
        "--all-systems",
        "--offline",
        "--no-write-lock-file",
        &flake,
    ]);
    for input in ["nixpkgs", "crane"] {
        let stand_in = format!("{flake}/nix/tests/stand-ins/{input}");
        command.args(["--override-input", input, &stand_in]);
    }
    let output = run(&mut command)?;
    let evaluated = text(&output.stderr).matches("derivation evaluated to").count();
    ensure!(evaluated > 0, "no output was evaluated");
    Ok(format!(
        "{evaluated} derivations evaluate with stand-ins for nixpkgs and crane (not checked: their real names)"
    ))
}

/// Standard output of a command that succeeds.
fn said(command: &mut Command) -> Result<String> {
    Ok(text(&run(command)?.stdout))
}

fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot run {}", crate::display(command)))?;
    if !output.status.success() {
        let shown = crate::display(command);
        // Not how the root of Nix is entered.
        let shown = shown.rsplit_once("--chdir /src ").map_or(&*shown, |(_, shown)| shown);
        bail!("{shown}: {}\n{}", output.status, text(&output.stderr).trim());
    }
    Ok(output)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
