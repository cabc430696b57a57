//! `cargo xtask drills`: the failure drills, and the table of `docs/book/drills.md` from what they measured.

use crate::cargo;
use anyhow::{Context, Result, bail};
use std::fs::{read_to_string, write};
use std::path::Path;
use std::process::Command;

/// The measured part of the document.
const BEGIN: &str = "<!-- drills: written by cargo xtask drills -->\n";
const END: &str = "<!-- end of drills -->\n";
const HEAD: &str = "\
| drill | what was done | slots missed | longest gap, s | whole again, s | solutions accepted | kept at the end |
|---|---|---|---|---|---|---|
";

/// Makes the namespaces of the drills, which are gone at once.
fn make_namespaces() -> Result<(), String> {
    let script = "mount -t tmpfs tmpfs /run && ip netns add probe && ip link add bridge0 type bridge \
                  && ip link add veth0 type veth peer name veth1 netns probe \
                  && tc qdisc add dev veth0 root tbf rate 8mbit burst 64kb latency 400ms";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]);
    let output = command.args(["--mount-proc", "sh", "-c", script]).output();
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "))
}

/// Runs the drills of these names, or all, and writes the table, also when one of them fails: the table then shows which.
pub(crate) fn run(root: &Path, names: &[String]) -> Result<()> {
    make_namespaces().map_err(anyhow::Error::msg).context(
        "this system makes no user, process and network namespaces with a slow link: install util-linux and iproute2, \
         allow unprivileged user namespaces, and have the kernel's sch_tbf",
    )?;
    let directory = tempfile::tempdir()?;
    let rows = directory.path().join("rows");
    let mut test = cargo();
    test.args(["test", "--release", "--locked", "-p", "farmer", "--test", "drills", "--"]);
    test.args(["drill_", "--test-threads=1", "--nocapture"]).env("AUTONOMYS_DRILLS_ROWS", &rows);
    if !names.is_empty() {
        test.env("AUTONOMYS_DRILLS_ONLY", names.join(","));
    }
    let status = test.status().context("cannot run the drills")?;
    let rows = read_to_string(&rows)
        .context("nothing was measured: see above, or there is no drill of this name")?;
    let path = root.join("docs/book/drills.md");
    let context = || format!("cannot bring {} up to date", path.display());
    let document = read_to_string(&path).with_context(context)?;
    write(&path, updated(&document, &rows, names.is_empty()).with_context(context)?).with_context(context)?;
    eprintln!("{} is up to date", path.display());
    if !status.success() {
        bail!("a drill failed: {status}");
    }
    Ok(())
}

/// The document with these rows; they are all that there are, or take the places of those of the same drills.
fn updated(document: &str, rows: &str, all: bool) -> Result<String> {
    let missing = |marker: &str| format!("the line {:?} is missing; put it back", marker.trim_end());
    let (before, rest) = document.split_once(BEGIN).with_context(|| missing(BEGIN))?;
    let (table, after) = rest.split_once(END).with_context(|| missing(END))?;
    let old = table.strip_prefix(HEAD).filter(|_| !all).unwrap_or_default();
    let rows = merged(old, rows);
    Ok(format!("{before}{BEGIN}{HEAD}{rows}{END}{after}"))
}

/// The old rows, those of drills that were run again replaced, and new ones.
fn merged(old: &str, new: &str) -> String {
    let drill = |row: &&str| row.split('|').nth(1).map(str::trim).unwrap_or_default().to_owned();
    let mut rows: Vec<&str> = old.lines().collect();
    for row in new.lines() {
        match rows.iter_mut().find(|old| drill(old) == drill(&row)) {
            Some(old) => *old = row,
            None => rows.push(row),
        }
    }
    rows.into_iter().flat_map(|row| [row, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_changes() {
        let document = format!("by hand\n{BEGIN}old\n{END}more\n");
        let new = updated(&document, "| a | 1 |\n| b | 2 |\n", true).unwrap();
        assert_eq!(new, format!("by hand\n{BEGIN}{HEAD}| a | 1 |\n| b | 2 |\n{END}more\n"));
        let newer = updated(&new, "| c | 4 |\n| a | 3 |\n", false).unwrap();
        assert_eq!(newer, format!("by hand\n{BEGIN}{HEAD}| a | 3 |\n| b | 2 |\n| c | 4 |\n{END}more\n"));
        assert!(updated("nothing", "", true).is_err());
    }
}
