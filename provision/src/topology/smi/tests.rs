//! The parser against what drivers print, and against damage to it.

use super::*;
use crate::topology::cpu_list;
use std::path::Path;

/// So many GPUs with these CPUs and this NUMA node.
type Run = (u16, &'static str, Option<u32>);

/// Every sample and the runs of GPUs in it.
const SAMPLES: [(&str, &[Run]); 25] = [
    ("01-guide-4gpu-2nic", &[(2, "0-47,96-143", Some(0)), (2, "48-95,144-191", Some(1))]),
    ("02-b300-8gpu-9nic-ansi-tab", &[(4, "0-63,128-191", Some(0)), (4, "64-127,192-255", Some(1))]),
    ("03-6gpu-pix-ansi-before-tab", &[(4, "0-23,48-71", Some(0)), (2, "24-47,72-95", Some(1))]),
    ("04-2x5090-threadripper", &[(2, "0-63", Some(0))]),
    ("05-8xA800-nv8-9nic-no-gpunumaid", &[(4, "0-47,96-143", Some(0)), (3, "48-95,144-191", Some(1))]),
    ("06-8xh20-gpunumaid-ibgda", &[(4, "0-55,112-167", Some(0)), (2, "56-111,168-223", Some(1))]),
    (
        "07-8xh200-4numa-snc",
        &[(3, "0-23,96-119", Some(0)), (1, "24-47,120-143", Some(1)), (2, "48-71,144-167", Some(2))],
    ),
    ("08-8xA-mlx4-2017-short", &[(4, "0-9,20-29", None), (1, "10-19,30-39", None)]),
    (
        "09-dgx-a100-nps4-mlx5",
        &[
            (2, "48-63,176-191", Some(3)),
            (2, "16-31,144-159", Some(1)),
            (2, "112-127,240-255", Some(7)),
            (2, "80-95,208-223", Some(5)),
        ],
    ),
    ("10-8xV100-dgx1-nv1nv2", &[(4, "0-23,48-71", Some(0)), (4, "24-47,72-95", Some(1))]),
    ("11-2gpu-4nic-rocep-dual-intel", &[(1, "0-13,28-41", Some(0)), (1, "14-27,42-55", Some(1))]),
    ("12-2xA100pcie-both-on-node1", &[(2, "28-55,84-111", Some(1))]),
    ("13-4xA100sxm-1nic-node1", &[(4, "32-63,96-127", Some(1))]),
    ("14-4gpu-aws-indented", &[(4, "0-47", Some(0))]),
    ("15-2xrtx-node1-2nic", &[(2, "56-111,168-223", Some(1))]),
    ("16-gb10-single", &[(1, "0-19", Some(0))]),
    ("17-h100pcie-vm-single-nic", &[(1, "0-251", Some(0))]),
    (
        "18-4gpu-4numa-nvlink-pairs",
        &[(1, "0-23", Some(0)), (1, "24-47", Some(1)), (1, "48-71", Some(2)), (1, "72-95", Some(3))],
    ),
    ("19-2gpu-header-no-leading-tab", &[(2, "0-47", Some(0))]),
    ("20-8xH100-dell-odd-even-cpus-topo-mp", &[(4, "0,2,4,6,8,10", Some(0)), (4, "1,3,5,7,9,11", Some(1))]),
    ("21-slurm-2of8-nps4", &[(2, "48-63,176-191", Some(3))]),
    ("22-8x4090-all-sys", &[(4, "0-55,112-167", Some(0)), (4, "56-111,168-223", Some(1))]),
    ("23-4gpu-4nic-spaces-prompt", &[(2, "0-31", Some(0)), (2, "32-63", Some(1))]),
    ("24-8xh100-36nic-glued-cells", &[(2, "0-55,112-167", Some(0))]),
    ("25-2gpu-na-numa", &[(2, "0-11", None)]),
];

fn fixture(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/topo");
    std::fs::read_to_string(directory.join(format!("{name}.txt"))).expect("the sample is there")
}

fn rows(name: &str) -> Vec<GpuRow> {
    parse(&fixture(name)).expect("a table")
}

#[test]
fn every_sample_gives_its_gpus_with_their_cpus_and_nodes() {
    for (name, expected) in SAMPLES {
        let expected = expected.iter().flat_map(|(count, cpus, node)| {
            std::iter::repeat_n(((*cpus).to_string(), *node), *count as usize)
        });
        let expected: Vec<_> = (0..).zip(expected).map(|(gpu, (cpus, node))| (gpu, cpus, node)).collect();
        let found: Vec<_> =
            rows(name).iter().map(|row| (row.gpu, cpu_list(&row.cpus), row.numa_node)).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn no_sample_is_left_out() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/topo");
    let files = std::fs::read_dir(directory).expect("is there").flatten();
    let files = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "txt"));
    assert_eq!(files.count(), SAMPLES.len());
}

#[test]
fn links_are_those_of_the_matrix() {
    let link = |name: &str, gpu: usize, to: &str| rows(name)[gpu].links.get(to).copied();
    assert_eq!(link("02-b300-8gpu-9nic-ansi-tab", 7, "GPU0"), Some(Link::NvLink(18)));
    assert_eq!(link("02-b300-8gpu-9nic-ansi-tab", 4, "NIC4"), Some(Link::Bridges));
    assert_eq!(link("03-6gpu-pix-ansi-before-tab", 4, "GPU5"), Some(Link::OneBridge));
    assert_eq!(link("04-2x5090-threadripper", 0, "GPU1"), Some(Link::HostBridge));
    assert_eq!(link("08-8xA-mlx4-2017-short", 4, "GPU6"), Some(Link::HostBridge));
    assert_eq!(link("08-8xA-mlx4-2017-short", 0, "mlx4_0"), Some(Link::HostBridge));
    // The row was cut off behind its CPUs, not within its links.
    assert_eq!(link("08-8xA-mlx4-2017-short", 4, "GPU4"), Some(Link::Itself));
    assert_eq!(link("09-dgx-a100-nps4-mlx5", 6, "mlx5_9"), Some(Link::Bridges));
    assert_eq!(link("10-8xV100-dgx1-nv1nv2", 4, "GPU3"), Some(Link::NvLink(1)));
    assert_eq!(link("10-8xV100-dgx1-nv1nv2", 4, "GPU4"), Some(Link::Itself));
    assert_eq!(link("14-4gpu-aws-indented", 3, "GPU0"), Some(Link::System));
    assert_eq!(link("15-2xrtx-node1-2nic", 0, "NIC1"), Some(Link::Node));
    assert_eq!(link("19-2gpu-header-no-leading-tab", 1, "GPU0"), Some(Link::OneBridge));
    assert_eq!(link("22-8x4090-all-sys", 6, "NIC1"), Some(Link::HostBridge));
    // Glued cells come apart again: NODENODE, NODEPIX.
    assert_eq!(link("24-8xh100-36nic-glued-cells", 0, "NIC13"), Some(Link::Node));
    assert_eq!(link("24-8xh100-36nic-glued-cells", 0, "NIC34"), Some(Link::Node));
    assert_eq!(link("24-8xh100-36nic-glued-cells", 0, "NIC35"), Some(Link::OneBridge));
    assert_eq!(rows("24-8xh100-36nic-glued-cells")[1].links.len(), 8 + 36);
    // In every whole row exactly one cell is the GPU itself.
    for (name, _) in SAMPLES.iter().filter(|(name, _)| !name.starts_with("01")) {
        for row in rows(name) {
            let own: Vec<_> = row.links.iter().filter(|(_, link)| **link == Link::Itself).collect();
            assert_eq!(own, [(&format!("GPU{}", row.gpu), &Link::Itself)], "{name}");
        }
    }
}

#[test]
fn empty_affinities_of_a_cgroup_are_none() {
    let text = "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n\
                GPU0\t X \tNV12\t\t3\t\tN/A\nGPU1\tNV12\t X \t\t\t\t\n";
    let rows = parse(text).expect("a table");
    assert_eq!(
        (rows[0].cpus.len(), rows[0].numa_node, rows[0].links["GPU1"]),
        (0, Some(3), Link::NvLink(12))
    );
    assert_eq!((rows[1].cpus.len(), rows[1].numa_node, rows[1].links["GPU0"]), (0, None, Link::NvLink(12)));
}

#[test]
fn several_nodes_are_no_node_and_an_unknown_link_spoils_only_the_links() {
    let text = "  GPU0 NIC0 CPU Affinity NUMA Affinity\nGPU0 X C2C 0-7 0-1\n";
    let rows = parse(text).expect("a table");
    assert_eq!((cpu_list(&rows[0].cpus).as_str(), rows[0].numa_node), ("0-7", None));
    assert!(rows[0].links.is_empty());
}

#[test]
fn what_is_said_instead_of_a_matrix_is_told() {
    for (text, told) in [
        ("No devices were found\n", "No devices were found"),
        ("\nNVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "has failed"),
        ("", "nothing"),
    ] {
        let error = parse(text).expect_err("no table");
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn what_is_read_is_bounded() {
    let mut text = "GPU0 CPU Affinity NUMA Affinity\n".to_string();
    for gpu in 0..10_000 {
        text += &format!("GPU{gpu} X 0-8191 0\n");
    }
    assert_eq!(parse(&text).expect("a table").len(), GPUS_MAX);
    let wide = format!("{} CPU Affinity\n", "GPU0 ".repeat(100_000));
    assert!(parse(&wide).is_err(), "no header within the columns that are looked at");
}

/// A linear congruential generator: the same damage on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

#[test]
fn damaged_samples_never_do_more_than_fail() {
    let mut numbers = Numbers(1);
    let pieces =
        ["\t", " ", "\u{1b}[4m", "\u{1b}", "X", "NV", "NV99999", "GPU0", "GPU", "N/A", "0-", "ä", "\n"];
    for (name, _) in SAMPLES {
        let sample: Vec<char> = fixture(name).chars().collect();
        for _ in 0..60 {
            let mut text = sample.clone();
            for _ in 0..=numbers.below(4) {
                let at = numbers.below(text.len());
                let end = (at + numbers.below(40)).min(text.len());
                match numbers.below(3) {
                    0 => drop(text.drain(at..end)),
                    1 => text.truncate(end),
                    _ => drop(text.splice(at..at, pieces[numbers.below(pieces.len())].chars())),
                }
            }
            let text: String = text.into_iter().collect();
            let Ok(rows) = parse(&text) else { continue };
            assert!(rows.len() <= GPUS_MAX);
            let gpus: BTreeSet<_> = rows.iter().map(|row| row.gpu).collect();
            assert_eq!(gpus.len(), rows.len(), "a GPU has one row: {text}");
        }
    }
}
