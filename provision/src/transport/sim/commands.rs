//! The commands that `provision` runs on a host, by what they do. One that is not here is not found, and the test fails.

use super::files::Entry;
use super::machine::Host;
use super::supervisord::Now;
use crate::packages::{NATS_SERVER, Package, SUPERVISOR};
use crate::transport::{Command, Output};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The interpreter that every host has.
pub(super) const PYTHON: &str = "/usr/bin/python3.11";

fn ended(code: i32, stdout: impl Into<Vec<u8>>, stderr: impl Into<Vec<u8>>) -> Output {
    let status = format!("exit status: {code}");
    Output { status, code: Some(code), stdout: stdout.into(), stderr: stderr.into() }
}

/// What a package's file holds when it is whole.
fn whole(package: &Package) -> String {
    format!("{} {}\n", package.name, package.version)
}

/// What a command below `bin` says of its version; none when it does not run.
pub(super) fn version(host: &Host, name: &str) -> Option<String> {
    let files = &host.machine.files;
    let text = files.text(&host.machine.prefix.join("bin").join(name));
    let (package, shown) = match name {
        "nats-server" => (NATS_SERVER, format!("nats-server: v{}\n", NATS_SERVER.version)),
        "supervisord" | "supervisorctl" => (SUPERVISOR, format!("{}\n", SUPERVISOR.version)),
        _ => return None,
    };
    let runs = if package == SUPERVISOR {
        // A script that leads to the package.
        let module =
            crate::packages::package_directory(&host.machine.prefix, &package).join("supervisor/main.py");
        text.starts_with("#!") && files.text(&module) == whole(&package)
    } else {
        text == whole(&package)
    };
    runs.then_some(shown)
}

/// Runs a command; none when there is no such program.
pub(super) fn run(host: &mut Host, command: &Command, now: Now) -> Option<Output> {
    let words: Vec<String> = std::iter::once(command.program.as_os_str())
        .chain(command.arguments.iter().map(AsRef::as_ref))
        .map(|word: &OsStr| word.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let bin = host.machine.prefix.join("bin");
    match words[..] {
        ["rm", "-rf", "--", path] => {
            host.machine.files.remove_tree(Path::new(path));
            Some(ended(0, "", ""))
        }
        ["mv", "-T", from, to] => Some(match host.machine.files.rename(Path::new(from), Path::new(to)) {
            Ok(()) => ended(0, "", ""),
            Err(error) => ended(1, "", format!("mv: {error}\n")),
        }),
        ["stat", "-c", "%a %n", "--", ref paths @ ..] => {
            let files = &host.machine.files;
            let line = |path: &&str| Some(format!("{:o} {path}\n", files.mode(Path::new(path))?));
            let lines: Vec<String> = paths.iter().filter_map(line).collect();
            Some(ended(i32::from(lines.len() < paths.len()), lines.concat(), ""))
        }
        [PYTHON, "-m", "pip", "install", ..] => Some(pip(host, &words)),
        ["sh", "-c", _, "sweep", directory, ref keep @ ..] => {
            sweep(host, Path::new(directory), keep);
            Some(ended(0, "", ""))
        }
        ["sh", "-s"] if command.environment.iter().any(|(name, _)| name == "PIDS") => {
            Some(stop_orphans(host, command, now))
        }
        [program, "--version"] if Path::new(program).parent() == Some(&bin) => {
            let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
            Some(match version(host, &name) {
                Some(shown) => ended(0, shown, ""),
                None => ended(127, "", "it does not run\n"),
            })
        }
        [program, "-c", file] if Path::new(program) == bin.join("supervisord") => {
            version(host, "supervisord")?;
            Some(match host.start_supervisord(Path::new(file), now) {
                Ok(()) => ended(0, "", ""),
                Err(error) => ended(2, "", format!("Error: {error}\n")),
            })
        }
        _ => None,
    }
}

fn pip(host: &mut Host, words: &[&str]) -> Output {
    let after = |flag: &str| Some(words[words.iter().position(|word| *word == flag)? + 1]);
    let (Some(target), Some(list)) = (after("--target"), after("-r")) else {
        return ended(2, "", "neither --target nor -r\n");
    };
    let wanted = host.machine.files.text(Path::new(list));
    let target = Path::new(target);
    for package in [NATS_SERVER, SUPERVISOR] {
        if !wanted.contains(&format!("{}=={}", package.name, package.version)) {
            continue;
        }
        let file = if package == SUPERVISOR { "supervisor/main.py" } else { "bin/nats-server" };
        if let Err(error) = host.machine.files.put(&target.join(file), whole(&package).as_bytes(), 0o755) {
            return ended(1, "", format!("ERROR: Could not install packages due to an OSError: {error}\n"));
        }
    }
    ended(0, "", "")
}

/// Removes all directories but some.
fn sweep(host: &mut Host, directory: &Path, keep: &[&str]) {
    let files = &mut host.machine.files;
    let swept: Vec<PathBuf> = files
        .below(directory)
        .filter(|(path, entry)| path.parent() == Some(directory) && **entry == Entry::Directory)
        .filter(|(path, _)| !path.file_name().is_some_and(|name| keep.iter().any(|kept| name == *kept)))
        .map(|(path, _)| path.clone())
        .collect();
    for path in swept {
        files.remove_tree(&path);
    }
}

fn stop_orphans(host: &mut Host, command: &Command, now: Now) -> Output {
    let pids =
        command.environment.iter().find(|(name, _)| name == "PIDS").map(|(_, pids)| pids.to_string_lossy());
    for pid in pids.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()) {
        host.machine.end(pid, now);
    }
    ended(0, "", "")
}
