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
                  && ip link add veth0 type veth peer name veth1 netns probe";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]);
    let output = command.args(["--mount-proc", "sh", "-c", script]).output();
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "))
}

/// Runs the drills and writes the table, also when one of them fails: the table then shows which.
pub(crate) fn run(root: &Path) -> Result<()> {
    make_namespaces().map_err(anyhow::Error::msg).context(
        "this system makes no user, process and network namespaces: install util-linux and iproute2 and allow \
         unprivileged user namespaces",
    )?;
    let directory = tempfile::tempdir()?;
    let rows = directory.path().join("rows");
    let mut test = cargo();
    test.args(["test", "--release", "--locked", "-p", "farmer", "--test", "drills", "--"]);
    test.args(["drill_", "--test-threads=1", "--nocapture"]).env("AUTONOMYS_DRILLS_ROWS", &rows);
    let status = test.status().context("cannot run the drills")?;
    let rows = read_to_string(&rows).context("the drills measured nothing")?;
    let path = root.join("docs/book/drills.md");
    let context = || format!("cannot bring {} up to date", path.display());
    let document = read_to_string(&path).with_context(context)?;
    write(&path, replaced(&document, &rows).with_context(context)?).with_context(context)?;
    eprintln!("{} is up to date", path.display());
    if !status.success() {
        bail!("a drill failed: {status}");
    }
    Ok(())
}

/// The document with another table.
fn replaced(document: &str, rows: &str) -> Result<String> {
    let missing = |marker: &str| format!("the line {:?} is missing; put it back", marker.trim_end());
    let (before, rest) = document.split_once(BEGIN).with_context(|| missing(BEGIN))?;
    let (_, after) = rest.split_once(END).with_context(|| missing(END))?;
    Ok(format!("{before}{BEGIN}{HEAD}{rows}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_changes() {
        let document = format!("by hand\n{BEGIN}old\n{END}more\n");
        let new = replaced(&document, "| a |\n").unwrap();
        assert_eq!(new, format!("by hand\n{BEGIN}{HEAD}| a |\n{END}more\n"));
        assert!(replaced("nothing", "").is_err());
    }
}
