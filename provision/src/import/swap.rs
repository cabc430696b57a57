//! Two directories change places by renames, so that each moment has one whole database, and any cut can be told from what
//! is there.

use crate::error::{Error, Result};
use crate::transport::{Command, Transport};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What removing a large database may take.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Brings `$2` to `$1` and what was there to `$3`; goes on wherever an earlier run was cut off. Entries of the old directory
/// that it does not bring ($4 …; `*` for all) are the new one's, too.
const SWAP: &str = r#"
set -eu
data=$1 new=$2 before=$3
shift 3
if [ ! -e "$before" ]; then
    mkdir -p "$data"
    for entry in "$data"/* "$data"/.[!.]*; do
        [ -e "$entry" ] || continue
        name=${entry##*/} brought=
        for wanted; do [ "$name" != "$wanted" ] && [ "$wanted" != "*" ] || brought=1; done
        [ -n "$brought" ] || [ -e "$new/$name" ] || cp -a "$entry" "$new/$name"
    done
    sync -f "$new"
    mv -T "$data" "$before"
elif [ -e "$new" ] && [ -e "$data" ]; then
    # A node was started in between, by hand: what it began is nobody's, and kept all the same.
    mv -T "$data" "$data.begun-$(date +%s)"
fi
[ -e "$data" ] || mv -T "$new" "$data"
sync -f "$data"
"#;

/// Brings `$3` back to `$1`; what was there is removed.
const SWAP_BACK: &str = r#"
set -eu
data=$1 new=$2 before=$3
[ -e "$before" ] || exit 0
rm -rf "$new"
[ ! -e "$data" ] || mv -T "$data" "$new"
mv -T "$before" "$data"
sync -f "$data"
rm -rf "$new"
"#;

/// Removes `$3` and `$4`. Renamed first: what is half removed must not be taken for a database to be put back.
const CLEAN: &str = r#"
set -eu
mkdir -p "$4"
[ ! -e "$3" ] || mv -T "$3" "$4/before"
rm -rf "$4"
"#;

/// Where a node's database and what is to replace it lie, all on one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// What the node uses.
    pub(crate) data: PathBuf,
    /// What it used before.
    pub(crate) before: PathBuf,
    /// The archive, and what was unpacked.
    pub(crate) import: PathBuf,
}

impl Places {
    pub(crate) fn of(data: PathBuf) -> Self {
        let beside = |suffix: &str| {
            let mut name = data.as_os_str().to_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self { before: beside(".before-import"), import: beside(".import"), data }
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.import.join("archive")
    }

    pub(crate) fn unpacked(&self) -> PathBuf {
        self.import.join("unpacked")
    }

    /// Whether what was imported is in its place already.
    pub(crate) async fn is_swapped(&self, transport: &dyn Transport) -> Result<bool> {
        let there = |path: PathBuf| async move { transport.resolve(&path).await.map(|path| path.is_some()) };
        Ok(there(self.before.clone()).await?
            && there(self.data.clone()).await?
            && !there(self.unpacked()).await?)
    }

    /// The imported database takes the live one's place.
    pub(crate) async fn swap(&self, transport: &dyn Transport, wanted: &[&str]) -> Result<()> {
        self.run(SWAP, &self.unpacked(), wanted, transport).await
    }

    /// The live one comes back.
    pub(crate) async fn swap_back(&self, transport: &dyn Transport) -> Result<()> {
        self.run(SWAP_BACK, &self.unpacked(), &[], transport).await
    }

    /// Nothing is kept of the import but the database.
    pub(crate) async fn clean(&self, transport: &dyn Transport) -> Result<()> {
        let import = self.import.display().to_string();
        self.run(CLEAN, &self.unpacked(), &[&import], transport).await
    }

    async fn run(&self, script: &str, new: &Path, more: &[&str], transport: &dyn Transport) -> Result<()> {
        let command = Command::new("sh")
            .args(["-c", script, "swap"])
            .args([self.data.as_path(), new, &self.before])
            .args(more.iter().copied())
            .deadline(DEADLINE);
        let output = transport.run(&command).await?;
        match output.success() {
            true => Ok(()),
            false => Err(Error::Step {
                step: "swap the databases".to_string(),
                message: format!("{}: {}", output.status, output.last_words(3)),
                hint: "both databases are still there; run the same command again to go on".to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Local;

    struct Node {
        directory: tempfile::TempDir,
        places: Places,
    }

    impl Node {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("temporary directory");
            let node = Self { places: Places::of(directory.path().join("node")), directory };
            node.put("node/db", "old");
            node.put("node/segments", "old");
            node.put("node/network-key", "own");
            node.put("node.import/unpacked/db", "new");
            node.put("node.import/archive", "packed");
            node
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.directory.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
            std::fs::write(path, text).expect("written");
        }

        /// Every file with its text.
        fn files(&self) -> Vec<String> {
            fn walk(directory: &Path, base: &Path, found: &mut Vec<String>) {
                for entry in std::fs::read_dir(directory).expect("there") {
                    let path = entry.expect("readable").path();
                    if path.is_dir() {
                        walk(&path, base, found);
                    } else {
                        let text = std::fs::read_to_string(&path).expect("readable");
                        found.push(format!("{} {text}", path.strip_prefix(base).expect("below").display()));
                    }
                }
            }
            let mut found = Vec::new();
            walk(self.directory.path(), self.directory.path(), &mut found);
            found.sort();
            found
        }

        async fn swap(&self) {
            self.places.swap(&Local, &["db", "segments"]).await.expect("swapped");
        }
    }

    #[tokio::test]
    async fn a_directory_is_replaced_as_a_whole() {
        let node = Node::new();
        node.places.swap(&Local, &["*"]).await.expect("swapped");
        assert!(!node.files().contains(&"node/network-key own".to_string()), "{:?}", node.files());
        assert!(node.files().contains(&"node/db new".to_string()));
    }

    const SWAPPED: [&str; 6] = [
        "node.before-import/db old",
        "node.before-import/network-key own",
        "node.before-import/segments old",
        "node.import/archive packed",
        "node/db new",
        "node/network-key own",
    ];
    const BACK: [&str; 4] =
        ["node.import/archive packed", "node/db old", "node/network-key own", "node/segments old"];

    #[tokio::test]
    async fn a_database_takes_the_place_of_another_and_leaves_it_again() {
        let node = Node::new();
        assert!(!node.places.is_swapped(&Local).await.expect("asked"));
        node.swap().await;
        assert_eq!(node.files(), SWAPPED);
        assert!(node.places.is_swapped(&Local).await.expect("asked"));
        node.swap().await;
        assert_eq!(node.files(), SWAPPED, "a second time changes nothing");
        node.places.swap_back(&Local).await.expect("swapped back");
        assert_eq!(node.files(), BACK);
        node.places.swap_back(&Local).await.expect("swapped back");
        assert_eq!(node.files(), BACK, "a second time changes nothing");
    }

    #[tokio::test]
    async fn a_swap_goes_on_wherever_it_was_cut() {
        // Between the two renames.
        let node = Node::new();
        std::fs::rename(&node.places.data, &node.places.before).expect("renamed");
        assert!(!node.places.is_swapped(&Local).await.expect("asked"));
        node.swap().await;
        // What no archive brings was to be copied before the first rename.
        assert!(node.files().contains(&"node/db new".to_string()));
        // The same on the way back: after its first rename, and after its second.
        let node = Node::new();
        node.swap().await;
        std::fs::rename(&node.places.data, node.places.unpacked()).expect("renamed");
        node.places.swap_back(&Local).await.expect("swapped back");
        assert_eq!(node.files(), BACK);
        let node = Node::new();
        std::fs::rename(&node.places.data, &node.places.before).expect("renamed");
        node.places.swap_back(&Local).await.expect("swapped back");
        assert_eq!(node.files(), BACK);
    }

    #[tokio::test]
    async fn a_node_without_a_database_gets_one() {
        let node = Node::new();
        std::fs::remove_dir_all(&node.places.data).expect("removed");
        node.swap().await;
        assert_eq!(node.files(), ["node.import/archive packed", "node/db new"]);
        assert!(node.places.is_swapped(&Local).await.expect("asked"));
        node.places.clean(&Local).await.expect("cleaned");
        assert_eq!(node.files(), ["node/db new"]);
        node.places.clean(&Local).await.expect("cleaned");
        assert_eq!(node.files(), ["node/db new"]);
    }

    #[tokio::test]
    async fn what_was_begun_in_between_is_kept_aside() {
        let node = Node::new();
        std::fs::rename(&node.places.data, &node.places.before).expect("renamed");
        node.put("node/db", "begun");
        node.swap().await;
        let files = node.files();
        assert!(
            files.contains(&"node/db new".to_string())
                && files.iter().any(|file| file.ends_with("/db begun"))
        );
    }
}
