//! What a log refers to, checked before ParityDB replays it.
//!
//! ParityDB 0.4 trusts a log that a node left: it takes the number of a chunk for less than 64 times what the index's mapping
//! has, and writes there; it grows a table for as long as a slot's number asks for; it writes entries that are longer than
//! their slots. A log that no node wrote would so write into this process's memory or fill the disk. The check reads the log
//! as ParityDB does, and ends where ParityDB stops reading.

use crate::Error;
use crate::files::{
    GROWTH, INDEX_BITS, SIZE_BYTES, TIERS, TOMBSTONE, has_next, index_name, length, slot_size, table_name,
};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::Path;

/// Entries of a log, by their first byte.
mod kinds {
    pub(super) const BEGIN_RECORD: u8 = 1;
    pub(super) const INSERT_INDEX: u8 = 2;
    pub(super) const INSERT_VALUE: u8 = 3;
    pub(super) const END_RECORD: u8 = 4;
    pub(super) const DROP_TABLE: u8 = 5;
}

/// How many times an index may double within the logs.
const MAX_DOUBLINGS: u8 = 2;

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
    let mut logs = Vec::new();
    for number in log_numbers(path).map_err(unreadable)? {
        let name = format!("log{number}");
        if let Some((first, file)) = open(&path.join(&name)).map_err(unreadable)? {
            logs.push((first, name, file));
        }
    }
    // A file whose records are in the tables is used again for later ones: files stand in no order of their numbers.
    logs.sort_by_key(|(first, ..)| *first);
    let mut check = Check {
        path,
        columns,
        version,
        indices: HashMap::new(),
        tables: HashMap::new(),
        record: Record::default(),
    };
    for (_, log, file) in logs {
        match check.log(BufReader::new(file)) {
            Ok(()) | Err(Stop::End) => {}
            Err(Stop::Unreadable(error)) => return Err(unreadable(error)),
            Err(Stop::Bad(reason)) => return Err(Error::BadLog { path: path.to_owned(), log, reason }),
        }
    }
    Ok(())
}

/// A log at its beginning, and the number of its first record; none when it has no record.
fn open(path: &Path) -> std::io::Result<Option<(u64, File)>> {
    let begin = || -> std::io::Result<_> {
        let mut file = File::open(path)?;
        let mut begin = [0; 9];
        file.read_exact(&mut begin)?;
        file.rewind()?;
        let [_, first @ ..] = begin;
        Ok((u64::from_le_bytes(first), file))
    };
    match begin() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => Ok(None),
        opened => opened.map(Some),
    }
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
    /// What the current record writes, which stands in it in no order.
    record: Record,
}

/// What can be judged only when all of a record is known. Of one without an end ParityDB applies nothing.
#[derive(Default)]
struct Record {
    /// Highest slot that is written in each table of values.
    highest: HashMap<u16, u64>,
    /// Headers of tables, with the slots that they say are filled and the last one removed.
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
        loop {
            let [kind] = bytes(&mut log)?;
            match kind {
                kinds::BEGIN_RECORD => {
                    self.record = Record::default();
                    bytes::<8>(&mut log)?;
                }
                kinds::INSERT_INDEX => self.insert_index(&mut log)?,
                kinds::INSERT_VALUE => self.insert_value(&mut log)?,
                kinds::END_RECORD => {
                    self.check_record()?;
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
        let exists = |bits: &u8| self.path.join(index_name(column, *bits)).exists();
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
        *self.slots(table) += 1;
        let highest = self.record.highest.entry(table).or_default();
        *highest = slot.max(*highest);
        if slot == 0 {
            let removed = u64::from_le_bytes(bytes(log)?);
            let filled = u64::from_le_bytes(bytes(log)?);
            self.record.headers.push((table, filled, removed));
            return Ok(());
        }
        let head: [u8; 2] = bytes(log)?;
        if head == TOMBSTONE {
            return skip(log, 8);
        }
        if tier == TIERS && has_next(head, self.version) {
            return skip(log, size - SIZE_BYTES);
        }
        let (length, _) = length(head);
        if length > size - SIZE_BYTES {
            return Err(Stop::Bad(format!("writes {length} bytes into a slot of {size} in column {column}")));
        }
        skip(log, length)
    }

    /// Slots and headers of a record are compared with what the file has and all of the record writes.
    fn check_record(&mut self) -> Result<(), Stop> {
        let Record { highest, headers } = std::mem::take(&mut self.record);
        for (table, slot) in highest {
            let [column, tier] = table.to_be_bytes();
            let slots = *self.slots(table) + GROWTH / slot_size(tier);
            if slot >= slots {
                return Err(Stop::Bad(format!(
                    "writes into slot {slot} of the values of class {tier} in column {column}, of which there are {slots} at most"
                )));
            }
        }
        for (table, filled, removed) in headers {
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
        let path = self.path.join(table_name(column, tier));
        self.tables
            .entry(table)
            .or_insert_with(|| path.metadata().map_or(0, |metadata| metadata.len() / slot_size(tier)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::files::{HEADS, PART_SLOT_SIZE};

    /// A record that writes these slots of the parts of values in column 5, in this order.
    fn record(number: u64, slots: impl Iterator<Item = u64>) -> Vec<u8> {
        let mut log = [&[kinds::BEGIN_RECORD][..], &number.to_le_bytes()].concat();
        for slot in slots {
            log.push(kinds::INSERT_VALUE);
            log.extend(u16::from_be_bytes([5, TIERS]).to_le_bytes());
            log.extend(slot.to_le_bytes());
            log.extend(HEADS[0]);
            log.resize(log.len() + (PART_SLOT_SIZE - SIZE_BYTES) as usize, 7);
        }
        log.extend([kinds::END_RECORD, 0, 0, 0, 0]);
        log
    }

    fn judged(logs: &[Vec<u8>]) -> Result<(), Error> {
        let directory = tempfile::tempdir().unwrap();
        for (number, log) in logs.iter().enumerate() {
            std::fs::write(directory.path().join(format!("log{number}")), log).unwrap();
        }
        check_logs(directory.path(), 13, 8)
    }

    #[test]
    fn the_parts_of_a_long_value_come_in_any_order() {
        judged(&[record(1, 1..2000)]).unwrap();
        judged(&[record(1, (1..2000).rev())]).unwrap();
        let error = judged(&[record(1, [1, 2, 2000].into_iter())]).unwrap_err().to_string();
        assert!(
            error.contains("log0 writes into slot 2000 of the values of class 255 in column 5"),
            "{error}"
        );
    }

    #[test]
    fn logs_are_read_in_the_order_of_their_records() {
        let (first, second) = (record(1, 1..2000), record(2, 2000..2010));
        judged(&[first.clone(), second.clone()]).unwrap();
        judged(&[second.clone(), first]).unwrap();
        judged(&[vec![], second[..8].to_vec()]).unwrap();
        assert!(matches!(judged(&[second]), Err(Error::BadLog { .. })));
    }
}
