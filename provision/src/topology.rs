//! How a machine is put together, as the kernel and the NVIDIA driver say it: lists of CPUs, physical cores, and the
//! matrix of `nvidia-smi topo -m`. Pure.

pub mod smi;

use std::collections::{BTreeMap, BTreeSet};

/// Most CPUs of a machine: the kernel's own bound (`NR_CPUS` of a distribution's kernel).
pub const CPUS_MAX: u32 = 8192;

/// A CPU list of the kernel: `0-31,96-127`. Parts that make no sense are left out; nothing is in a list that names more
/// than [`CPUS_MAX`] CPUs, repetitions counted.
pub fn parse_cpus(text: &str) -> BTreeSet<u32> {
    let mut cpus = BTreeSet::new();
    let mut named = 0;
    for range in text.split(',').filter_map(cpu_range) {
        named += range.end() - range.start() + 1;
        if named > CPUS_MAX {
            return BTreeSet::new();
        }
        cpus.extend(range);
    }
    cpus
}

fn cpu_range(part: &str) -> Option<std::ops::RangeInclusive<u32>> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && last < CPUS_MAX).then_some(first..=last)
}

/// The kernel's notation: `0-23,96-119`.
pub fn cpu_list(cpus: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

/// `cpus` grouped into physical cores by their SMT `siblings`, in the order of each core's first CPU.
pub fn physical_cores(cpus: &BTreeSet<u32>, siblings: &BTreeMap<u32, BTreeSet<u32>>) -> Vec<BTreeSet<u32>> {
    let mut cores: Vec<BTreeSet<u32>> = Vec::new();
    let mut grouped = BTreeSet::new();
    for cpu in cpus {
        if grouped.contains(cpu) {
            continue;
        }
        let core = siblings.get(cpu).map(|siblings| siblings & cpus);
        let core = core.filter(|core| core.contains(cpu)).unwrap_or_else(|| BTreeSet::from([*cpu]));
        // What is already another core's stays there, should the kernel contradict itself.
        let core = &core - &grouped;
        grouped.extend(&core);
        cores.push(core);
    }
    cores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_of_the_kernel() {
        assert_eq!(parse_cpus("0-2,8"), BTreeSet::from([0, 1, 2, 8]));
        assert_eq!(parse_cpus(""), BTreeSet::new());
        assert_eq!(parse_cpus("3-1"), BTreeSet::new());
        assert_eq!(parse_cpus("0-8191").len(), 8192);
        assert_eq!(parse_cpus("0-8192"), BTreeSet::new());
        assert_eq!(parse_cpus(&"0-8191,".repeat(1000)), BTreeSet::new());
        assert_eq!(parse_cpus("N/A"), BTreeSet::new());
    }

    #[test]
    fn lists_are_written_as_they_are_read() {
        for list in ["", "0", "0-1", "0-23,96-119", "1,3,5,7"] {
            assert_eq!(cpu_list(&parse_cpus(list)), list);
        }
    }

    #[test]
    fn cores_hold_their_on_line_siblings_only() {
        let siblings = (0..8).map(|cpu| (cpu, BTreeSet::from([cpu % 4, cpu % 4 + 4]))).collect();
        let cores = physical_cores(&parse_cpus("0-2,4-5,7"), &siblings);
        let lists: Vec<_> = cores.iter().map(cpu_list).collect();
        assert_eq!(lists, ["0,4", "1,5", "2", "7"]);
        // Without SMT, or where the kernel does not tell.
        assert_eq!(physical_cores(&parse_cpus("0-2"), &BTreeMap::new()).len(), 3);
    }
}
