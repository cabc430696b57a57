//! `cargo xtask drills`: the failure drills, and the tables of `docs/book/drills.md` from what they measured.

use crate::cargo;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{read_to_string, write};
use std::path::Path;
use std::process::Command;

/// A measured table of the document, between two comments that name it.
struct Table {
    /// As in the comments, and the name of the file of its rows.
    name: &'static str,
    head: &'static str,
}

const TABLES: [Table; 2] = [
    Table {
        name: "drills",
        head: "\
| drill | what was done | slots missed | longest gap, s | whole again, s | solutions accepted | kept at the end |
|---|---|---|---|---|---|---|
",
    },
    Table {
        name: "benchmark",
        head: "\
| caches | pieces/s | GB/s | p50, ms | p99, ms | shares | misses | retries | hedged |
|---|---|---|---|---|---|---|---|---|
",
    },
];

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

/// Runs the drills of these names, or all, and writes their tables, also when one of them fails: the tables then show which.
pub(crate) fn run(root: &Path, names: &[String]) -> Result<()> {
    make_namespaces().map_err(anyhow::Error::msg).context(
        "this system makes no user, process and network namespaces with a slow link: install util-linux and iproute2, \
         allow unprivileged user namespaces, and have the kernel's sch_tbf",
    )?;
    let directory = tempfile::tempdir()?;
    let mut test = cargo();
    // With the features of the whole workspace, as `cargo xtask test` builds it: nothing is built twice.
    test.args(["test", "--release", "--locked", "--workspace", "--test", "drills", "--"]);
    test.args(["drill_", "--test-threads=1", "--nocapture"]).env("AUTONOMYS_DRILLS_ROWS", directory.path());
    if !names.is_empty() {
        test.env("AUTONOMYS_DRILLS_ONLY", names.join(","));
    }
    let status = test.status().context("cannot run the drills")?;
    let path = root.join("docs/book/drills.md");
    let context = || format!("cannot bring {} up to date", path.display());
    let mut document = read_to_string(&path).with_context(context)?;
    let mut measured = false;
    for table in &TABLES {
        if let Ok(rows) = read_to_string(directory.path().join(table.name)) {
            document = table.updated(&document, &rows, names.is_empty()).with_context(context)?;
            measured = true;
        }
    }
    ensure!(measured, "nothing was measured: see above, or there is no drill of this name");
    write(&path, document).with_context(context)?;
    eprintln!("{} is up to date", path.display());
    if !status.success() {
        bail!("a drill failed: {status}");
    }
    Ok(())
}

impl Table {
    /// The document with these rows; they are all that there are, or take the places of those with the same beginning.
    fn updated(&self, document: &str, rows: &str, all: bool) -> Result<String> {
        let begin = format!("<!-- {}: written by cargo xtask drills -->\n", self.name);
        let end = format!("<!-- end of {} -->\n", self.name);
        let missing = |marker: &str| format!("the line {:?} is missing; put it back", marker.trim_end());
        let (before, rest) = document.split_once(&begin).with_context(|| missing(&begin))?;
        let (table, after) = rest.split_once(&end).with_context(|| missing(&end))?;
        let old = table.strip_prefix(self.head).filter(|_| !all).unwrap_or_default();
        let rows = merged(old, rows);
        Ok(format!("{before}{begin}{}{rows}{end}{after}", self.head))
    }
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
        for table in &TABLES {
            let (name, head) = (table.name, table.head);
            let begin = format!("<!-- {name}: written by cargo xtask drills -->\n");
            let end = format!("<!-- end of {name} -->\n");
            let document = format!("by hand\n{begin}old\n{end}more\n");
            let new = table.updated(&document, "| a | 1 | x |\n| b | 2 | x |\n", true).unwrap();
            assert_eq!(new, format!("by hand\n{begin}{head}| a | 1 | x |\n| b | 2 | x |\n{end}more\n"));
            let newer = table.updated(&new, "| c | 4 | x |\n| a | 1 | y |\n", false).unwrap();
            let rows = "| a | 1 | y |\n| b | 2 | x |\n| c | 4 | x |\n";
            assert_eq!(newer, format!("by hand\n{begin}{head}{rows}{end}more\n"));
            assert!(table.updated("nothing", "", true).is_err());
        }
    }
}
