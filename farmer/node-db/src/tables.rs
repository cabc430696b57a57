//! What ParityDB would follow in its indices and tables, checked before it does.
//!
//! ParityDB 0.4.13 trusts them, too. With damaged or forged ones it does this:
//! * It maps 1 GiB more of a table than its file has (`file.rs`), and compares no slot with the file. A slot past the end that
//!   an index entry or a part of a value names is therefore read from memory that no file is behind: a bus error, which ends
//!   the process and which nothing can catch. From 1 GiB on, and where there is no table of the class, it panics.
//! * It follows the parts of a value until one is the last (`ValueTable::for_parts`): round and round if they are in a circle,
//!   collecting them until there is no more memory; and else as far as the table goes.
//! * It panics if a value is longer than its slot, or a part than a part.
//! * Before it decompresses by LZ4 it allocates what the value says that it will have, up to 2,113,929,216 bytes. By Snappy it
//!   decompresses, to about 20 times as much, whatever it is given.
//! * It makes an index file as long as its name says (`IndexTable::open_existing`), also when it opens it to read: one that was
//!   cut off gets empty chunks, so that its keys are gone; a longer one is cut off; and for a name of many bits it makes a file
//!   of terabytes. From 55 bits on the length overflows, and it panics when it reads. An empty table gets slots.
//! * Of a table's header it only compares the last free slot with the number of filled ones. When it writes it makes the file
//!   as long as that number asks for.
//! * In a column of `uniform` keys it panics if a key has not their length; an `ordered` column it reads by other rules, and
//!   makes a table for it.
//!
//! There is no harm in the search for a key in its chunk, once the index is as long as its bits say: ParityDB stays in it, and
//! looks at 64 slots at most.
//!
//! So files and options are compared when a database is opened ([`check_indices`], [`check_tables`], `layout::unlike_a_node`):
//! for each column some 300 looks at the directory, and 16 bytes of each table. What only a read would come across is looked
//! at before the read ([`Tables::check`]): the chunk, the beginning of the slot, and of a value in parts the first 10 bytes of
//! each, all of it in pages that ParityDB reads next, so that the disk gives them once. That takes no memory, and some 5
//! microseconds, and less than one for each part. ParityDB's other panics, should there be any, are caught where it is called.
//!
//! What remains: files that somebody changes while they are open; and a database that was opened to be written, whose slots
//! are not looked at before a read, since ParityDB changes them meanwhile. Its files are compared all the same.

use crate::Error;
use crate::files::{
    self, ADDRESS_BITS, CHUNK_BYTES, COMPRESSED_HEAD, HEADER_BYTES, HEADS, INDEX_BITS, INDEX_BITS_SOUGHT,
    INDEX_HEADER_BYTES, KEY_BYTES, PART_HEAD_BYTES, PART_SLOT_SIZE, SIZE_BYTES, TIERS, TOMBSTONE, has_next,
    slot_size,
};
use crate::layout;
use parity_db::{CompressionType, Options};
use primitives::hashes::blake2b_256_keyed;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Most bytes of a value, compressed and not. The network's blocks have 5 MiB at most.
const VALUE_MAX: u64 = 64 << 20;
/// Most parts of a value.
const PARTS_MAX: u64 = VALUE_MAX / PART_SLOT_SIZE;
/// Last version of databases in which the last part of a value says whether it is compressed; since then the first does.
const COMPRESSED_IN_LAST_PART_VERSION: u32 = 6;
/// Bytes before a compressed value: how long it is, decompressed.
const LZ4_SIZE_BYTES: usize = 4;
/// Bytes of a slot that are looked at before those of a value: mark, next slot, key, length.
const SLOT_HEAD_BYTES: usize = PART_HEAD_BYTES + KEY_BYTES + LZ4_SIZE_BYTES;

/// Checks how long the indices of a database's columns are, all of which ParityDB opens. `log_pending`: it has a log that
/// ParityDB is still to play into them, so one that a node had just begun may be empty.
///
/// # Errors
/// [`Error::BadFile`]; [`Error::Open`] when they cannot be found.
pub(crate) fn check_indices(path: &Path, columns: u8, log_pending: bool) -> Result<(), Error> {
    let (least, _) = INDEX_BITS;
    for column in 0..columns {
        for bits in least..=INDEX_BITS_SOUGHT {
            let file = files::index_name(column, bits);
            judged(path, &file, || check_index(&path.join(&file), bits, log_pending))?;
        }
    }
    Ok(())
}

/// Checks that the tables of a database's columns are as long as their headers say. They are if it has no log.
///
/// # Errors
/// [`Error::BadFile`]; [`Error::Open`] when they cannot be read.
pub(crate) fn check_tables(path: &Path, columns: u8) -> Result<(), Error> {
    for column in 0..columns {
        for tier in 0..=TIERS {
            let file = files::table_name(column, tier);
            judged(path, &file, || check_table(&path.join(&file), tier))?;
        }
    }
    Ok(())
}

fn judged(path: &Path, file: &str, check: impl FnOnce() -> Result<(), Fault>) -> Result<(), Error> {
    let path = path.to_owned();
    check().map_err(|fault| match fault {
        Fault::Damaged(reason) => Error::BadFile { path, file: file.to_owned(), reason },
        Fault::Unreadable(error) => Error::Open { path, source: parity_db::Error::Io(error) },
    })
}

/// Bytes of a file; none when there is no such file.
fn file_size(path: &Path) -> Result<Option<u64>, Fault> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(_) => Err(Fault::Damaged("is no file".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::Unreadable(error)),
    }
}

fn check_index(path: &Path, bits: u8, log_pending: bool) -> Result<(), Fault> {
    let Some(size) = file_size(path)? else { return Ok(()) };
    let (_, most) = INDEX_BITS;
    if bits > most {
        return Err(Fault::Damaged(format!("is for 2^{bits} chunks, which no index has")));
    }
    let expected = INDEX_HEADER_BYTES + (CHUNK_BYTES << bits);
    if size == expected || size == 0 && log_pending {
        return Ok(());
    }
    Err(Fault::Damaged(format!("has {size} bytes instead of {expected}")))
}

fn check_table(path: &Path, tier: u8) -> Result<(), Fault> {
    let Some(size) = file_size(path)? else { return Ok(()) };
    if size < HEADER_BYTES as u64 {
        return Err(Fault::Damaged(format!("has {size} bytes, less than its header")));
    }
    let mut header = [0; HEADER_BYTES];
    File::open(path)?.read_exact_at(&mut header, 0)?;
    let [_, filled] = words(&header);
    let slots = size / slot_size(tier);
    if filled > slots {
        return Err(Fault::Damaged(format!("has room for {slots} slots and says that {filled} are filled")));
    }
    Ok(())
}

/// The numbers that some bytes are.
fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| u64::from_le_bytes(words[index]))
}

/// Why something must not be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// What there is of it.
    Damaged(String),
    Unreadable(std::io::Error),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// The indices and tables of the columns that are read ([`layout::READ_COLUMNS`]), of a database that nobody changes.
pub(crate) struct Tables {
    path: PathBuf,
    salt: [u8; 32],
    version: u32,
    columns: Vec<Column>,
}

struct Column {
    number: u8,
    is_compressed: bool,
    /// Bits and files of its indices: one, or more while an index was being replaced.
    indices: Vec<(u8, File)>,
    /// Slots of its table of each class; 0 where there is none.
    slots: Vec<u64>,
}

impl Tables {
    /// What there is to be read after ParityDB has opened a database: it no longer has a log then.
    pub(crate) fn open(options: &Options, salt: [u8; 32], version: u32) -> std::io::Result<Self> {
        let columns = layout::READ_COLUMNS.into_iter().map(|number| {
            let compression = options.columns[usize::from(number)].compression;
            Column::open(&options.path, number, compression != CompressionType::NoCompression)
        });
        let columns = columns.collect::<std::io::Result<_>>()?;
        Ok(Self { path: options.path.clone(), salt, version, columns })
    }

    /// Checks everything that ParityDB looks at when it is asked for a key, and more: it stops at the first value that has
    /// the key.
    ///
    /// # Panics
    /// With a column that is not among those that are read.
    pub(crate) fn check(&self, column: u8, key: &[u8]) -> Result<(), Fault> {
        let column = self.columns.iter().find(|known| known.number == column);
        let column = column.expect("READ_COLUMNS has every column that is read");
        let hash = blake2b_256_keyed(&self.salt, key);
        let prefix = u64::from_be_bytes(*hash.first_chunk().expect("8 of 32 bytes"));
        for (bits, file) in &column.indices {
            let mut chunk = [0; CHUNK_BYTES as usize];
            let number = prefix >> (64 - bits);
            file.read_exact_at(&mut chunk, INDEX_HEADER_BYTES + number * CHUNK_BYTES)?;
            let address_bits = bits + ADDRESS_BITS;
            // ParityDB compares what the entry has of the key beside the chunk's number, but 32 bits of it at most.
            let shift = address_bits.max(32);
            let of_key = (prefix << bits) >> shift;
            for entry in words::<{ CHUNK_BYTES as usize / 8 }>(&chunk) {
                if entry != 0 && entry >> shift == of_key {
                    let address = entry & ((1 << address_bits) - 1);
                    self.check_value(column, address as u8, address >> 8, &hash)?;
                }
            }
        }
        Ok(())
    }

    /// Checks the value in a slot, which may be another key's.
    fn check_value(&self, column: &Column, tier: u8, slot: u64, hash: &[u8; 32]) -> Result<(), Fault> {
        let table = Table::open(&self.path, column, tier, slot)?;
        let mut head = [0; SLOT_HEAD_BYTES];
        table.read(slot, &mut head)?;
        let [first, second, ..] = head;
        let mark = [first, second];
        let is_head = tier == TIERS && HEADS.contains(&mark);
        if mark == TOMBSTONE || tier == TIERS && !is_head {
            return Ok(());
        }
        let key_at = if is_head { PART_HEAD_BYTES } else { SIZE_BYTES as usize };
        let (key, value) = head[key_at..].split_at(KEY_BYTES);
        if !hash.ends_with(key) {
            return Ok(());
        }
        let is_compressed =
            if is_head { self.check_parts(&table, &head)? } else { table.check_length(slot, mark)? };
        let size = &value[..LZ4_SIZE_BYTES];
        let size = u32::from_le_bytes(size.try_into().expect("4 bytes"));
        if is_compressed && column.is_compressed && u64::from(size) > VALUE_MAX {
            return Err(Fault::Damaged(format!(
                "slot {slot} of {} says that it has {size} bytes, decompressed; {VALUE_MAX} are the most",
                table.name
            )));
        }
        Ok(())
    }

    /// Checks the parts of a value after the first, whose beginning is given. Returns whether it is compressed.
    fn check_parts(&self, table: &Table, head: &[u8]) -> Result<bool, Fault> {
        let is_old = self.version <= COMPRESSED_IN_LAST_PART_VERSION;
        let is_compressed = !is_old && head.starts_with(&COMPRESSED_HEAD);
        let [mut next] = words(&head[SIZE_BYTES as usize..]);
        for _ in 0..PARTS_MAX {
            if next == 0 {
                return Ok(is_compressed);
            }
            let mut part = [0; PART_HEAD_BYTES];
            table.read(next, &mut part)?;
            let [first, second, ..] = part;
            let mark = [first, second];
            if mark == TOMBSTONE {
                return Err(Fault::Damaged(format!("slot {next} of {}, a part of it, is free", table.name)));
            }
            if !has_next(mark, self.version) {
                let last_is_compressed = table.check_length(next, mark)?;
                return Ok(if is_old { last_is_compressed } else { is_compressed });
            }
            [next] = words(&part[SIZE_BYTES as usize..]);
        }
        Err(Fault::Damaged(format!(
            "its parts in {} are more than {PARTS_MAX}, or go round in a circle",
            table.name
        )))
    }
}

impl Column {
    fn open(path: &Path, number: u8, is_compressed: bool) -> std::io::Result<Self> {
        let mut indices = Vec::new();
        let (least, most) = INDEX_BITS;
        for bits in least..=most {
            match File::open(path.join(files::index_name(number, bits))) {
                Ok(file) => indices.push((bits, file)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let slots = |tier| {
            let size =
                path.join(files::table_name(number, tier)).metadata().map_or(0, |metadata| metadata.len());
            size / slot_size(tier)
        };
        let slots = (0..=TIERS).map(slots).collect();
        Ok(Self { number, is_compressed, indices, slots })
    }
}

/// A table of values. It is opened for one value: a process has few files for all that ParityDB keeps open.
struct Table {
    name: String,
    file: File,
    slots: u64,
    slot_size: u64,
}

impl Table {
    /// The table of a class in which an index names a slot.
    fn open(path: &Path, column: &Column, tier: u8, slot: u64) -> Result<Self, Fault> {
        let name = files::table_name(column.number, tier);
        let slots = column.slots[usize::from(tier)];
        if slots == 0 {
            return Err(Fault::Damaged(format!("its index names slot {slot} of {name}, which has none")));
        }
        let file = File::open(path.join(&name))?;
        Ok(Self { name, file, slots, slot_size: slot_size(tier) })
    }

    /// The beginning of a slot: as much as there is room for, or all of it.
    fn read(&self, slot: u64, into: &mut [u8]) -> Result<(), Fault> {
        if !(1..self.slots).contains(&slot) {
            let last = self.slots - 1;
            return Err(Fault::Damaged(format!(
                "it leads to slot {slot} of {}, which has 1 to {last}",
                self.name
            )));
        }
        let size = into.len().min(self.slot_size as usize);
        Ok(self.file.read_exact_at(&mut into[..size], slot * self.slot_size)?)
    }

    /// Checks the length of what is in a slot; returns whether it says that it is compressed.
    fn check_length(&self, slot: u64, mark: [u8; 2]) -> Result<bool, Fault> {
        let (length, is_compressed) = files::length(mark);
        let most = self.slot_size - SIZE_BYTES;
        if length > most {
            return Err(Fault::Damaged(format!(
                "slot {slot} of {} says that it has {length} bytes; {most} are the most",
                self.name
            )));
        }
        Ok(is_compressed)
    }
}
