//! The matrix of `nvidia-smi topo -m`, as drivers since 2017 print it and people paste it.
//!
//! ```text
//!         GPU0  GPU1  NIC0  CPU Affinity  NUMA Affinity  GPU NUMA ID
//! GPU0     X    SYS   NODE  0-47,96-143   0              N/A
//! ```
//! Cells are not tab-aligned and may be glued together; affinities may be empty in a cgroup, and older drivers have fewer
//! columns. So a row's affinities are read from its right end, as many as the header has, and its links are what is left.

use super::parse_cpus;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most of a text that is looked at, in bytes.
const TEXT_MAX: usize = 256 << 10;
/// Most GPUs of a host.
const GPUS_MAX: usize = 64;
/// Most columns of devices; the largest seen has 44.
const DEVICES_MAX: usize = 512;

/// How two devices reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// `X`: the device itself.
    Itself,
    /// `NV#`: so many bonded NVLinks.
    NvLink(u16),
    /// `PIX`: at most one PCIe bridge.
    OneBridge,
    /// `PXB`: several PCIe bridges, but not the host's.
    Bridges,
    /// `PHB`: the PCIe bridge of the host.
    HostBridge,
    /// `NODE`: between PCIe host bridges of a NUMA node.
    Node,
    /// `SYS` (`SOC` before 2017): between NUMA nodes.
    System,
}

/// A GPU's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuRow {
    /// Its index, as in `CUDA_VISIBLE_DEVICES` with the order of the PCI bus.
    pub gpu: u16,
    /// CPUs near it. The driver cuts a long list off: these are some of them.
    pub cpus: BTreeSet<u32>,
    /// Its NUMA node; none when the driver names none or several.
    pub numa_node: Option<u32>,
    /// Its links by the name of the other device; none when the row has another number of cells than the header.
    pub links: BTreeMap<String, Link>,
}

/// Reads the matrix; the GPUs in the order of their rows.
///
/// # Errors
/// There is no matrix in `text`: says what stands there instead.
pub fn parse(text: &str) -> Result<Vec<GpuRow>, String> {
    let text = &text[..floor_char_boundary(text, TEXT_MAX)];
    let mut lines = text.lines().map(without_escapes);
    let header = lines.find_map(|line| Header::read(&line)).ok_or_else(|| {
        let said = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
        let said: String = said.trim().chars().filter(|c| !c.is_control()).take(120).collect();
        format!("no table of devices in what nvidia-smi says: {said}")
    })?;
    let mut rows: Vec<GpuRow> = Vec::new();
    for line in lines {
        if line.trim_start().starts_with("Legend") || rows.len() == GPUS_MAX {
            break;
        }
        if let Some(row) = header.row(&line)
            && rows.iter().all(|other| other.gpu != row.gpu)
        {
            rows.push(row);
        }
    }
    Ok(rows)
}

fn floor_char_boundary(text: &str, max: usize) -> usize {
    (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0)
}

/// The line without the escape sequences (`ESC [ … letter`) with which drivers underline the header.
fn without_escapes(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        out.push_str(before);
        let sequence = after.strip_prefix('[').unwrap_or(after);
        rest = sequence.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.strip_prefix(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest);
    }
    out + rest
}

/// The columns.
struct Header {
    devices: Vec<String>,
    /// Columns behind the devices: CPU affinity, NUMA affinity, the GPU's own NUMA node.
    trailing: usize,
}

impl Header {
    fn read(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().take(DEVICES_MAX).collect();
        let end = words.windows(2).position(|pair| pair == ["CPU", "Affinity"])?;
        let behind = words[end..].join(" ");
        let columns = ["CPU Affinity", "NUMA Affinity", "GPU NUMA ID"];
        let trailing = columns.iter().filter(|column| behind.contains(*column)).count();
        let devices = words[..end].iter().map(ToString::to_string).collect();
        gpu_index(words.first()?).map(|_| Self { devices, trailing })
    }

    fn row(&self, line: &str) -> Option<GpuRow> {
        let mut words: Vec<_> = line.split_whitespace().take(DEVICES_MAX).collect();
        let gpu = gpu_index(words.first()?)?;
        words.remove(0);
        let affinities = (0..self.trailing).take_while(|behind| {
            let from_right = words.len().checked_sub(behind + 1).map(|place| words[place]);
            from_right.is_some_and(|word| links_in(word).is_none())
        });
        let cells = words.len() - affinities.count();
        let mut behind = words.split_off(cells).into_iter().rev();
        // What is missing is missing at the left: a cgroup that has none of the CPUs leaves the CPU affinity empty.
        let _own_node = (self.trailing >= 3).then(|| behind.next());
        let node = if self.trailing >= 2 { behind.next() } else { None };
        let cpus = behind.next().map(parse_cpus).unwrap_or_default();
        let links = words.iter().map(|word| links_in(word)).collect::<Option<Vec<_>>>();
        let links = links.unwrap_or_default().into_iter().flatten().collect::<Vec<_>>();
        let links = match links.len() == self.devices.len() {
            true => self.devices.iter().cloned().zip(links).collect(),
            false => BTreeMap::new(),
        };
        Some(GpuRow { gpu, cpus, numa_node: node.and_then(|node| node.parse().ok()), links })
    }
}

/// The number of `GPU12`.
fn gpu_index(word: &str) -> Option<u16> {
    let digits = word.strip_prefix("GPU")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The links that a word consists of, glued or not; none when there is anything else in it.
fn links_in(word: &str) -> Option<Vec<Link>> {
    const NAMES: [(&str, Link); 7] = [
        ("X", Link::Itself),
        ("PIX", Link::OneBridge),
        ("PXB", Link::Bridges),
        ("PHB", Link::HostBridge),
        ("NODE", Link::Node),
        ("SYS", Link::System),
        ("SOC", Link::System),
    ];
    let mut links = Vec::new();
    let mut rest = word;
    while !rest.is_empty() {
        if let Some((link, after)) =
            NAMES.iter().find_map(|(name, link)| Some((*link, rest.strip_prefix(name)?)))
        {
            links.push(link);
            rest = after;
            continue;
        }
        let number = rest.strip_prefix("NV")?;
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        links.push(Link::NvLink(number[..end].parse().ok()?));
        rest = &number[end..];
    }
    (!links.is_empty()).then_some(links)
}

#[cfg(test)]
mod tests;
