//! Disks and how many sectors they hold.

use super::*;
use crate::facts::FarmFacts;
use crate::inventory::{self, Source};
use crate::resolve::{Overrides, Surroundings, resolve};

fn cluster(pieces: u16, farms: &str) -> Cluster {
    let text = format!(
        "version: 1\ncluster: c\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n\
         dev_chain: {{pieces_in_sector: {pieces}}}\nhosts:\n  h:\n    connection: local\n    prefix: /p\n    \
         storage: {{farms: [{farms}]}}\n"
    );
    let source = Source { name: "test.yaml".into(), text };
    let inventory = inventory::parse(&source).expect("fine");
    resolve(&inventory, &Overrides::default(), &Surroundings::default())
}

fn disk(path: &str, mount: &str, free: u64, used: u64) -> PathFacts {
    PathFacts {
        path: path.into(),
        there: path.into(),
        mount: mount.into(),
        free_bytes: Some(free),
        used_bytes: used,
        ..PathFacts::default()
    }
}

fn sectors(cluster: &Cluster, facts: &HostFacts) -> Vec<Option<u16>> {
    fitting(cluster, &cluster.hosts[0], facts).into_iter().map(|chosen| chosen.value).collect()
}

#[test]
fn an_8_tb_disk_holds_less_than_the_guides_ask_for() {
    // 8 TB with ext4's 5 % reserved: what `df` says is available.
    let available = 7_599_488_000_000;
    let most = sectors_in(available, 1000);
    assert_eq!(most, 7189);
    let farm = |sectors| FarmGeometry { pieces_in_sector: 1000, sectors }.disk_space();
    assert!(farm(most) <= available && farm(most + 1) > available);
    // Even without a reserve, and without a file system.
    assert_eq!(sectors_in(8_000_000_000_000, 1000), 7568);
    assert_eq!(sectors_in(0, 1000), 0);
    assert_eq!(sectors_in(u64::MAX, 1000), MAX_SECTORS);
}

#[test]
fn a_farm_takes_what_its_disk_holds_and_keeps_it() {
    let cluster = cluster(1000, "{path: /mnt/a/farm, sectors: max}");
    let mut facts = HostFacts {
        paths: vec![disk("/p", "/", 1 << 40, 0), disk("/mnt/a/farm", "/mnt/a", 7_599_488_000_000, 0)],
        ..HostFacts::default()
    };
    let first = sectors(&cluster, &facts);
    assert_eq!(first, [Some(7189)]);
    // Half of it is plotted, and somebody left something on the disk.
    let farm = FarmGeometry { pieces_in_sector: 1000, sectors: 7189 };
    facts.paths[1] = disk("/mnt/a/farm", "/mnt/a", 2_000_000_000_000, 5_000_000_000_000);
    let there = FarmFacts { allocated_bytes: farm.allocated_space(), pieces_in_sector: 1000 };
    facts.farms.insert("/mnt/a/farm".into(), there);
    assert_eq!(sectors(&cluster, &facts), first);
}

#[test]
fn farms_of_one_disk_divide_what_the_others_leave() {
    let cluster = cluster(
        12,
        "{path: /mnt/a/x, sectors: max}, {path: /mnt/a/y, sectors: 100}, {path: /mnt/a/z, sectors: max}",
    );
    let free = 10_000_000_000;
    let facts = HostFacts {
        paths: ["/mnt/a/x", "/mnt/a/y", "/mnt/a/z"].map(|path| disk(path, "/mnt/a", free, 0)).into(),
        ..HostFacts::default()
    };
    let [Some(x), None, Some(z)] = sectors(&cluster, &facts)[..] else { panic!("two are chosen") };
    assert_eq!(x, z);
    let bytes = |sectors| FarmGeometry { pieces_in_sector: 12, sectors }.disk_space();
    let all = |each| bytes(100) + 2 * (bytes(each) + LEFT_FREE);
    assert!(all(x) <= free && all(x + 1) > free);
}

#[test]
fn the_prefix_on_the_same_disk_keeps_its_room() {
    let cluster = cluster(12, "{path: /p/farm, sectors: max}");
    let facts = |free| HostFacts {
        paths: vec![disk("/p", "/", free, 0), disk("/p/farm", "/", free, 0)],
        ..HostFacts::default()
    };
    assert_eq!(sectors(&cluster, &facts(PREFIX_BYTES_MIN)), [None]);
    let one = FarmGeometry { pieces_in_sector: 12, sectors: 1 }.disk_space();
    assert_eq!(sectors(&cluster, &facts(PREFIX_BYTES_MIN + LEFT_FREE + one)), [Some(1)]);
    assert_eq!(sectors(&cluster, &HostFacts::default()), [None], "nothing is known of the disk");
}
