//! What a log refers to, checked before ParityDB replays it.
//!
//! ParityDB 0.4 trusts a log that a node left: it takes the number of a chunk for less than 64 times what the index's mapping
//! has, and writes there; it grows a table for as long as a slot's number asks for; it writes entries that are longer than
//! their slots. A log that no node wrote would so write into this process's memory or fill the disk. The check reads the log
//! as ParityDB does, and ends where ParityDB stops reading.

use crate::Error;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

/// Entries of a log, by their first byte.
mod kinds {
    pub(super) const BEGIN_RECORD: u8 = 1;
    pub(super) const INSERT_INDEX: u8 = 2;
    pub(super) const INSERT_VALUE: u8 = 3;
    pub(super) const END_RECORD: u8 = 4;
    pub(super) const DROP_TABLE: u8 = 5;
}

/// Bits of the smallest index, and of the largest that a node could ever have: 2^40 chunks of 64 keys.
const INDEX_BITS: (u8, u8) = (16, 40);
/// How many times an index may double within the logs.
const MAX_DOUBLINGS: u8 = 2;
/// Size classes of values; the last is for values in several parts.
const TIERS: u8 = 255;
/// Slot sizes of the first and the last class of whole values, which grow by a constant factor; and of parts.
const SLOT_SIZES: (f64, f64) = (32.0, 32760.0);
const PART_SLOT_SIZE: u64 = 4096;
/// By how much a table grows at once, bytes.
const GROWTH: u64 = 256 * 1024;
/// Bytes before a value in its slot.
const SIZE_BYTES: u64 = 2;
const TOMBSTONE: [u8; 2] = [0xff, 0xff];
/// Marks of the parts of a value; those of databases before version 5.
const PARTS: [[u8; 2]; 3] = [[0xfe, 0xff], [0xfd, 0xff], [0xfd, 0x7f]];
const OLD_PARTS: [[u8; 2]; 2] = [[0xff, 0xfe], [0xff, 0xfd]];
const LAST_OLD_VERSION: u32 = 4;

/// Bytes of a slot of a size class.
fn slot_size(tier: u8) -> u64 {
    if tier == TIERS {
        return PART_SLOT_SIZE;
    }
    let (first, last) = SLOT_SIZES;
    (first * (last / first).powf(f64::from(tier) / f64::from(TIERS - 1))).round() as u64
}

/// Numbers of the log files in a directory, as ParityDB finds them.
pub(crate) fn log_numbers(path: &Path) -> std::io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix("log")?.parse::<u32>().ok()));
    }
    Ok(numbers)
}

/// Checks all logs of a database with so many columns.
///
/// # Errors
/// [`Error::BadLog`]; [`Error::Open`] when they cannot be read.
pub(crate) fn check_logs(path: &Path, columns: usize, version: u32) -> Result<(), Error> {
    let unreadable =
        |error: std::io::Error| Error::Open { path: path.to_owned(), source: parity_db::Error::Io(error) };
    let mut numbers = log_numbers(path).map_err(unreadable)?;
    numbers.sort_unstable();
    let mut check = Check {
        path,
        columns,
        version,
        indices: HashMap::new(),
        tables: HashMap::new(),
        headers: Vec::new(),
    };
    for number in numbers {
        let log = format!("log{number}");
        let file = match File::open(path.join(&log)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(error)),
        };
        match check.log(BufReader::new(file)) {
            Ok(()) | Err(Stop::End) => {}
            Err(Stop::Unreadable(error)) => return Err(unreadable(error)),
            Err(Stop::Bad(reason)) => return Err(Error::BadLog { path: path.to_owned(), log, reason }),
        }
    }
    Ok(())
}

/// Why the reading of a log ends.
enum Stop {
    /// There is no more that ParityDB would read.
    End,
    Unreadable(std::io::Error),
    /// It refers to what cannot be.
    Bad(String),
}

struct Check<'a> {
    path: &'a Path,
    columns: usize,
    version: u32,
    /// Bits of the largest index of each column.
    indices: HashMap<u8, u8>,
    /// Slots of each table of values: those that its file has, and those that the logs write.
    tables: HashMap<u16, u64>,
    /// Headers of tables in the current record, with the slots that they say are filled and the last one removed.
    headers: Vec<(u16, u64, u64)>,
}

fn bytes<const N: usize>(log: &mut impl Read) -> Result<[u8; N], Stop> {
    let mut bytes = [0; N];
    match log.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Stop::End),
        Err(error) => Err(Stop::Unreadable(error)),
    }
}

fn skip(log: &mut impl Read, count: u64) -> Result<(), Stop> {
    match std::io::copy(&mut log.take(count), &mut std::io::sink()) {
        Ok(skipped) if skipped == count => Ok(()),
        Ok(_) => Err(Stop::End),
        Err(error) => Err(Stop::Unreadable(error)),
    }
}

impl Check<'_> {
    fn log(&mut self, mut log: impl Read) -> Result<(), Stop> {
        self.headers.clear();
        loop {
            let [kind] = bytes(&mut log)?;
            match kind {
                kinds::BEGIN_RECORD => {
                    self.headers.clear();
                    bytes::<8>(&mut log)?;
                }
                kinds::INSERT_INDEX => self.insert_index(&mut log)?,
                kinds::INSERT_VALUE => self.insert_value(&mut log)?,
                kinds::END_RECORD => {
                    self.check_headers()?;
                    bytes::<4>(&mut log)?;
                }
                kinds::DROP_TABLE => {
                    let table = u16::from_le_bytes(bytes(&mut log)?);
                    self.check_column(table)?;
                }
                // ParityDB goes no further, either.
                _ => return Ok(()),
            }
        }
    }

    fn check_column(&self, table: u16) -> Result<(), Stop> {
        let column = usize::from(table >> 8);
        if column < self.columns {
            return Ok(());
        }
        Err(Stop::Bad(format!("names column {column} of {}", self.columns)))
    }

    fn insert_index(&mut self, log: &mut impl Read) -> Result<(), Stop> {
        let table = u16::from_le_bytes(bytes(log)?);
        let chunk = u64::from_le_bytes(bytes(log)?);
        self.check_column(table)?;
        let [column, bits] = table.to_be_bytes();
        let (least, most) = INDEX_BITS;
        let exists = |bits: &u8| self.path.join(format!("index_{column:02}_{bits}")).exists();
        let find = || (least..=most).rev().find(exists).unwrap_or(least);
        let largest = *self.indices.entry(column).or_insert_with(find);
        if !(least..=largest + MAX_DOUBLINGS).contains(&bits) {
            return Err(Stop::Bad(format!(
                "names an index of 2^{bits} chunks in column {column}, which has one of 2^{largest}"
            )));
        }
        if chunk >= 1 << bits {
            return Err(Stop::Bad(format!(
                "writes into chunk {chunk} of an index of 2^{bits} chunks in column {column}"
            )));
        }
        let mask = u64::from_le_bytes(bytes(log)?);
        skip(log, 8 * u64::from(mask.count_ones()))
    }

    fn insert_value(&mut self, log: &mut impl Read) -> Result<(), Stop> {
        let table = u16::from_le_bytes(bytes(log)?);
        let slot = u64::from_le_bytes(bytes(log)?);
        self.check_column(table)?;
        let [column, tier] = table.to_be_bytes();
        let size = slot_size(tier);
        let slots = self.slots(table);
        *slots += 1;
        let slots = *slots;
        if slot >= slots + GROWTH / size {
            return Err(Stop::Bad(format!(
                "writes into slot {slot} of the values of class {tier} in column {column}, of which there are {slots} at most"
            )));
        }
        if slot == 0 {
            let removed = u64::from_le_bytes(bytes(log)?);
            let filled = u64::from_le_bytes(bytes(log)?);
            self.headers.push((table, filled, removed));
            return Ok(());
        }
        let head: [u8; 2] = bytes(log)?;
        if head == TOMBSTONE {
            return skip(log, 8);
        }
        let is_old = self.version <= LAST_OLD_VERSION && OLD_PARTS.contains(&head);
        if tier == TIERS && (PARTS.contains(&head) || is_old) {
            return skip(log, size - SIZE_BYTES);
        }
        let length = u64::from(u16::from_le_bytes(head) & 0x7fff);
        if length > size - SIZE_BYTES {
            return Err(Stop::Bad(format!("writes {length} bytes into a slot of {size} in column {column}")));
        }
        skip(log, length)
    }

    /// What the headers of a record say is compared with what all of it writes.
    fn check_headers(&mut self) -> Result<(), Stop> {
        for (table, filled, removed) in std::mem::take(&mut self.headers) {
            let [column, tier] = table.to_be_bytes();
            let slots = *self.slots(table) + GROWTH / slot_size(tier);
            if filled > slots || removed >= filled.max(1) {
                return Err(Stop::Bad(format!(
                    "says that {filled} slots are filled and {removed} is free among the values of class {tier} in column \
                     {column}, of which there are {slots} at most"
                )));
            }
        }
        Ok(())
    }

    /// Slots of a table: its file's, and those that the logs have written until now.
    fn slots(&mut self, table: u16) -> &mut u64 {
        let [column, tier] = table.to_be_bytes();
        let path = self.path.join(format!("table_{column:02}_{tier:02x}"));
        self.tables
            .entry(table)
            .or_insert_with(|| path.metadata().map_or(0, |metadata| metadata.len() / slot_size(tier)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_the_sizes_that_paritydb_gives_them() {
        let sizes = [(0, 32), (1, 33), (12, 44), (13, 46), (130, 1111), (254, 32_760), (255, 4096)];
        for (tier, size) in sizes {
            assert_eq!(slot_size(tier), size, "class {tier}");
        }
    }
}
