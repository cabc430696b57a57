//! Damaged and forged indices and tables: such a database is refused or read, and neither the process nor the memory ends.
#![allow(clippy::unwrap_used, missing_docs)]

use node_db::{Error, NodeDb};
use primitives::blocks::{BlockHeader, DigestItem, SignedBlock};
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// `metadata` of a node, with a salt that is always the same.
const METADATA: &str = "version=8
salt=88ed9081866b010ae99a0d3f38698361b46544eb3459cbe07b5046dfc677aeea
col0=preimage: false, uniform: false, refc: false, compression: 0, ordered: false
col1=preimage: true, uniform: true, refc: true, compression: 1, ordered: false
col2=preimage: false, uniform: false, refc: false, compression: 0, ordered: false
col3=preimage: false, uniform: false, refc: false, compression: 0, ordered: false
col4=preimage: false, uniform: false, refc: false, compression: 1, ordered: false
col5=preimage: false, uniform: false, refc: false, compression: 1, ordered: false
col6=preimage: false, uniform: false, refc: false, compression: 1, ordered: false
col7=preimage: false, uniform: false, refc: false, compression: 0, ordered: false
col8=preimage: false, uniform: false, refc: false, compression: 0, ordered: false
col9=preimage: false, uniform: false, refc: false, compression: 0, ordered: false
col10=preimage: false, uniform: false, refc: false, compression: 0, ordered: false
col11=preimage: true, uniform: true, refc: true, compression: 1, ordered: false
col12=preimage: false, uniform: false, refc: false, compression: 1, ordered: false";

/// Bytes before the chunks of an index; of a slot for a part of a value.
const INDEX_HEADER: u64 = 16 * 1024;
const PART: u64 = 4096;
/// Bits of an address in an index of 2^16 chunks.
const ADDRESS_BITS: u32 = 16 + 6 + 8;
/// Most bytes of a value, and most parts.
const VALUE_MAX: u32 = 64 << 20;
const PARTS_MAX: u64 = 16_384;
/// Marks of slots: first part of a value, of a compressed one, other parts but the last, free.
const HEADS: [u16; 2] = [0xfffd, 0x7ffd];
const MIDDLE: u16 = 0xfffe;
const FREE: u16 = 0xffff;

/// Numbers that look like chance and are always the same.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

struct Sample {
    directory: tempfile::TempDir,
    blocks: Vec<SignedBlock>,
}

impl Sample {
    /// A chain whose bodies are whole values and values in parts, both of them compressed and not.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("metadata"), METADATA).unwrap();
        let database = NodeDb::open_or_create(directory.path()).unwrap();
        let mut noise = Noise(7);
        let mut parent_hash = [0; 32];
        let blocks = (0..12).map(|number| {
            let extrinsic = match number % 4 {
                0 => noise.bytes(10),
                1 => vec![7; 10_000],
                2 => noise.bytes(100_000),
                _ => noise.bytes(100_000).iter().map(|byte| byte & 3).collect(),
            };
            let header = BlockHeader {
                parent_hash,
                number,
                state_root: [number as u8; 32],
                extrinsics_root: [1; 32],
                digest: vec![DigestItem([&[6u8], &b"DEV_"[..], &[4, 9]].concat())],
            };
            let justifications = (number == 2).then(|| vec![(*b"OTHR", vec![1, 2, 3])]);
            let block = SignedBlock { header, extrinsics: vec![extrinsic], justifications };
            parent_hash = database.insert_best_block(&block).unwrap().hash;
            block
        });
        let blocks = blocks.collect();
        drop(database);
        Self { directory, blocks }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> Forged {
        Forged::of(self.path().join(name))
    }

    /// Opens the database and reads all of it that is readable; of what is not, the first.
    fn read(&self) -> Result<(), Error> {
        let database = NodeDb::open_unchanged(self.path())?;
        let last = self.blocks.len() as u32 - 1;
        let mut result = Ok(());
        for block in &self.blocks {
            match database.canonical_block(block.header.number) {
                // Nothing in the database says what is in a body.
                Ok(found) => assert_eq!(found.header, block.header),
                Err(error) => result = result.and(Err(error)),
            }
        }
        let missing = database.first_missing_body(0, last);
        result
            .and_then(|()| missing.map(|missing| assert_eq!(missing, None)))
            .and(database.segment_headers().map(drop))
            .and(database.finalized().map(drop))
    }

    /// A table of whole values and the size of its slots, if there is one.
    fn table(&self, column: u8, tier: u8) -> Option<(Forged, u64)> {
        let path = self.path().join(format!("table_{column:02}_{tier:02x}"));
        let slot_size = 32.0 * (32_760.0f64 / 32.0).powf(f64::from(tier) / 254.0);
        path.exists().then(|| (Forged::of(path), slot_size.round() as u64))
    }

    fn assert_refused(&self, what: &str, expected: &str) {
        let error = self.read().expect_err(what);
        assert!(matches!(error, Error::Corrupt { .. } | Error::BadFile { .. }), "{what}: {error}");
        assert!(error.to_string().contains(expected), "{what}: {error}");
    }

    /// Names of the files of the columns that are read: indices and tables.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap().map(Result::unwrap);
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let mut names: Vec<_> =
            names.filter(|name| name.starts_with("index_") || name.starts_with("table_")).collect();
        names.sort();
        assert!(names.len() > 10, "{names:?}");
        names
    }

    /// Lengths of all files.
    fn lengths(&self) -> Vec<(String, u64)> {
        let length = |name: String| (name.clone(), self.path().join(name).metadata().unwrap().len());
        self.names().into_iter().map(length).collect()
    }
}

/// A file that is as it was when this goes.
struct Forged {
    file: File,
    length: u64,
    /// What stood where, in the order in which it was written over.
    old: Vec<(u64, Vec<u8>)>,
}

impl Forged {
    fn of(path: PathBuf) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        Self { length: file.metadata().unwrap().len(), file, old: Vec::new() }
    }

    fn read(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn number(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.read(at, 8).try_into().unwrap())
    }

    fn mark(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.read(at, 2).try_into().unwrap())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let count = self.length.saturating_sub(at).min(bytes.len() as u64);
        self.old.push((at, self.read(at, count as usize)));
        self.file.write_all_at(bytes, at).unwrap();
    }

    fn set_length(&mut self, length: u64) {
        for (at, bytes) in self.stretches(length.min(self.length)..self.length) {
            self.old.push((at, bytes));
        }
        self.file.set_len(length).unwrap();
    }

    /// What is not zero in a part of the file, about.
    fn stretches(&self, part: Range<u64>) -> Vec<(u64, Vec<u8>)> {
        let begins = part.clone().step_by(PART as usize);
        let stretches = begins.map(|at| (at, self.read(at, PART.min(part.end - at) as usize)));
        stretches.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)).collect()
    }

    /// Where there is something.
    fn places(&self) -> Vec<u64> {
        let places = |(at, bytes): (u64, Vec<u8>)| {
            let used = move |(offset, byte): (usize, u8)| (byte != 0).then_some(at + offset as u64);
            bytes.into_iter().enumerate().filter_map(used)
        };
        self.stretches(0..self.length).into_iter().flat_map(places).collect()
    }

    /// Where the entries of an index are.
    fn entries(&self) -> Vec<u64> {
        let chunks = self.stretches(INDEX_HEADER..self.length);
        let entries = chunks.into_iter().flat_map(|(at, bytes)| (at..at + bytes.len() as u64).step_by(8));
        entries.filter(|at| self.number(*at) != 0).collect()
    }

    /// Slots of parts that are used.
    fn parts(&self) -> Range<u64> {
        1..self.number(8)
    }

    /// Where the first parts of values are.
    fn heads(&self) -> Vec<u64> {
        let places = self.parts().map(|slot| slot * PART);
        places.filter(|at| HEADS.contains(&self.mark(*at))).collect()
    }
}

impl Drop for Forged {
    fn drop(&mut self) {
        self.file.set_len(self.length).unwrap();
        for (at, bytes) in self.old.drain(..).rev() {
            self.file.write_all_at(&bytes, at).unwrap();
        }
    }
}

#[test]
fn an_undamaged_database_is_read_whole() {
    let sample = Sample::new();
    sample.read().unwrap();
    let database = NodeDb::open_unchanged(sample.path()).unwrap();
    for block in &sample.blocks {
        assert_eq!(&database.canonical_block(block.header.number).unwrap(), block);
    }
    let parts = sample.file("table_05_ff");
    let marks: Vec<_> = parts.heads().into_iter().map(|at| parts.mark(at)).collect();
    for head in HEADS {
        assert_eq!(marks.iter().filter(|mark| **mark == head).count(), 3, "{marks:x?}");
    }
}

#[test]
fn an_entry_of_an_index_that_names_no_slot_is_not_followed() {
    let sample = Sample::new();
    let slots = sample.file("table_05_ff").length / PART;
    let largest = (1 << (ADDRESS_BITS - 8)) - 1;
    let (no_slot, no_table) = (format!("which has 1 to {}", slots - 1), "table_05_c8, which has none");
    for (tier, slot, expected) in [
        // ParityDB maps it, but the file has nothing there.
        (0xff, slots, no_slot.as_str()),
        (0xff, slots + 1000, &no_slot),
        // It does not map that.
        (0xff, largest, &no_slot),
        (0xc8, 1, no_table),
        // The header.
        (0xff, 0, "leads to slot 0"),
    ] {
        let mut index = sample.file("index_05_16");
        for at in index.entries() {
            let key = index.number(at) >> ADDRESS_BITS << ADDRESS_BITS;
            index.write(at, &(key | slot << 8 | tier).to_le_bytes());
        }
        sample.assert_refused(&format!("slot {slot} of class {tier}"), expected);
        let database = NodeDb::open_unchanged(sample.path()).unwrap();
        let error = database.first_missing_body(0, 11).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    sample.read().unwrap();
}

/// What is the next part of a first one, in a table of so many slots.
type Next = fn(u64, u64) -> u64;

#[test]
fn parts_of_a_value_that_do_not_end_are_not_followed() {
    let sample = Sample::new();
    let slots = sample.file("table_05_ff").length / PART;
    let circle = "more than 16384, or go round in a circle";
    let cases: [(&str, Next, &str); 5] = [
        ("itself", |head, _| head / PART, circle),
        ("past the end", |_, slots| slots, "leads to slot"),
        ("far past the end", |_, _| 1 << 40, "leads to slot 1099511627776"),
        ("beyond all numbers", |_, _| u64::MAX, "leads to slot 18446744073709551615"),
        ("where a product would overflow", |head, _| (1 << 52) + head / PART, "leads to slot"),
    ];
    for (what, next, expected) in cases {
        let mut parts = sample.file("table_05_ff");
        for head in parts.heads() {
            parts.write(head + 2, &next(head, slots).to_le_bytes());
        }
        sample.assert_refused(what, expected);
    }

    let mut parts = sample.file("table_05_ff");
    for head in parts.heads() {
        let second = parts.number(head + 2) * PART;
        parts.write(second + 2, &(head / PART).to_le_bytes());
    }
    sample.assert_refused("a circle of two", circle);
    drop(parts);

    let mut parts = sample.file("table_05_ff");
    for head in parts.heads() {
        let second = parts.number(head + 2) * PART;
        parts.write(second, &FREE.to_le_bytes());
    }
    sample.assert_refused("a free slot", ", a part of it, is free");
    drop(parts);

    for (count, is_too_long) in [(PARTS_MAX - 2, false), (PARTS_MAX + 1, true)] {
        let mut parts = sample.file("table_05_ff");
        let first = slots;
        parts.set_length((first + count) * PART);
        for slot in first..first + count {
            let next = if slot + 1 == first + count { 0 } else { slot + 1 };
            parts.write(slot * PART, &[&MIDDLE.to_le_bytes()[..], &next.to_le_bytes()].concat());
        }
        for head in parts.heads() {
            parts.write(head + 2, &first.to_le_bytes());
        }
        let error = sample.read().unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{count} parts: {error}");
        assert_eq!(error.to_string().contains(circle), is_too_long, "{count} parts: {error}");
    }
    sample.read().unwrap();
}

#[test]
fn a_length_that_is_more_than_the_slot_is_not_believed() {
    let sample = Sample::new();
    let mut parts = sample.file("table_05_ff");
    for at in parts.parts().map(|slot| slot * PART) {
        let mark = parts.mark(at);
        if !HEADS.contains(&mark) && mark != MIDDLE {
            parts.write(at, &4095u16.to_le_bytes());
        }
    }
    sample.assert_refused("a last part", "says that it has 4095 bytes; 4094 are the most");
    // To write it is opened all the same, and ParityDB panics.
    let database = NodeDb::open_or_create(sample.path()).unwrap();
    let error = database.canonical_block(2).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { reason, .. } if reason.contains("panicked")), "{error}");
    assert_eq!(database.canonical_block(1).unwrap(), sample.blocks[1]);
    drop((database, parts));

    // All lookup keys have one length, for which there is a class.
    let (mut table, slot_size) = (0..255).find_map(|tier| sample.table(3, tier)).unwrap();
    assert_eq!(slot_size, 65);
    for at in (1..table.number(8)).map(|slot| slot * slot_size) {
        assert_eq!(table.mark(at), 26 + 36);
        table.write(at, &64u16.to_le_bytes());
    }
    sample.assert_refused("a whole value", "says that it has 64 bytes; 63 are the most");
}

#[test]
fn no_memory_is_taken_for_what_a_value_says_that_it_has_decompressed() {
    let sample = Sample::new();
    // LZ4 takes no more than the first; the network's values are far from the second.
    for (size, expected) in [
        (0x7e00_0000, "says that it has 2113929216 bytes, decompressed"),
        (u32::MAX, "says that it has 4294967295 bytes, decompressed"),
        (VALUE_MAX + 1, "says that it has 67108865 bytes, decompressed"),
        (1, "cannot be decompressed"),
    ] {
        let mut parts = sample.file("table_05_ff");
        for head in parts.heads() {
            if parts.mark(head) == HEADS[1] {
                parts.write(head + 36, &size.to_le_bytes());
            }
        }
        sample.assert_refused("a value in parts", expected);
        drop(parts);

        let mut count = 0;
        let tiers = 0..255;
        let mut tables: Vec<_> = tiers.filter_map(|tier| sample.table(5, tier)).collect();
        for (table, slot_size) in &mut tables {
            for at in (1..table.number(8)).map(|slot| slot * *slot_size) {
                if table.mark(at) > 0x8000 {
                    table.write(at + 28, &size.to_le_bytes());
                    count += 1;
                }
            }
        }
        assert_eq!(count, 3);
        sample.assert_refused("a whole value", expected);
    }
    let mut table = sample.file("table_05_ff");
    for head in table.heads() {
        if table.mark(head) == HEADS[1] {
            table.write(head + 36, &VALUE_MAX.to_le_bytes());
        }
    }
    sample.read().unwrap();
}

#[test]
fn an_index_that_is_not_as_long_as_its_name_says_is_not_opened() {
    let sample = Sample::new();
    for name in sample.names().iter().filter(|name| name.starts_with("index_")) {
        let length = sample.file(name).length;
        for wrong in
            [0, 1, 100, INDEX_HEADER, length / 2, length - 4096, length - 1, length + 1, length + 4096]
        {
            let mut index = sample.file(name);
            index.set_length(wrong);
            let before = sample.lengths();
            sample.assert_refused(name, &format!("{name} has {wrong} bytes instead of {length}"));
            let error = NodeDb::open_or_create(sample.path()).unwrap_err();
            assert!(matches!(error, Error::BadFile { .. }), "{error}");
            assert_eq!(sample.lengths(), before);
        }
    }
    for bits in [17, 24, 40, 41, 54, 55, 58, 63, 64] {
        let name = format!("index_05_{bits}");
        std::fs::write(sample.path().join(&name), [0; INDEX_HEADER as usize]).unwrap();
        let before = sample.lengths();
        sample.assert_refused(&name, &name);
        assert_eq!(sample.lengths(), before);
        std::fs::remove_file(sample.path().join(name)).unwrap();
    }
    std::fs::create_dir(sample.path().join("index_08_17")).unwrap();
    sample.assert_refused("a directory", "index_08_17 is no file");
    std::fs::remove_dir(sample.path().join("index_08_17")).unwrap();
    sample.read().unwrap();
}

#[test]
fn a_table_that_was_cut_off_is_not_read_past_its_end() {
    let sample = Sample::new();
    for name in sample.names().iter().filter(|name| name.starts_with("table_")) {
        let length = sample.file(name).length;
        for shorter in
            [0, 1, 15, 16, 17, 31, 33, 4095, 4096, 5000, 65_536, length / 2, length - 4096, length - 1]
        {
            let mut table = sample.file(name);
            table.set_length(shorter);
            let before = sample.lengths();
            // As long as only free slots are gone it is as good as ever.
            if let Err(error) = sample.read() {
                assert!(
                    matches!(&error, Error::BadFile { file, .. } if file == name),
                    "{name} of {shorter} bytes: {error}"
                );
                assert!(NodeDb::open_or_create(sample.path()).is_err(), "{name} of {shorter} bytes");
            }
            assert_eq!(sample.lengths(), before);
        }
        for (shorter, expected) in [(10, "has 10 bytes, less than its header"), (20, "has room for 0 slots")]
        {
            let mut table = sample.file(name);
            table.set_length(shorter);
            sample.assert_refused(name, &format!("{name} {expected}"));
        }
    }
    sample.read().unwrap();
}

#[test]
fn a_header_that_says_more_than_the_table_has_is_not_believed() {
    let sample = Sample::new();
    for filled in [65, 1 << 40, u64::MAX] {
        for name in ["table_05_ff", "table_02_00"] {
            let path = sample.path().join(name);
            let is_new = !path.exists();
            if is_new {
                File::create(&path).unwrap().set_len(64 * 32).unwrap();
            }
            let mut table = sample.file(name);
            let slots = if is_new { 64 } else { table.length / PART };
            table.write(8, &filled.max(slots + 1).to_le_bytes());
            sample.assert_refused(name, &format!("{name} has room for {slots} slots"));
            let error = NodeDb::open_or_create(sample.path()).unwrap_err();
            assert!(matches!(error, Error::BadFile { .. }), "{error}");
            drop(table);
            if is_new {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    sample.read().unwrap();
}

#[test]
fn what_a_log_may_have_to_mend_is_judged_after_it() {
    let sample = Sample::new();
    let open = || {
        std::fs::write(sample.path().join("log7"), []).unwrap();
        NodeDb::open_read_only(sample.path())
    };
    let mut table = sample.file("table_05_ff");
    table.write(8, &u64::MAX.to_le_bytes());
    let error = open().unwrap_err();
    assert!(matches!(&error, Error::BadFile { file, .. } if file == "table_05_ff"), "{error}");
    drop(table);

    for name in ["index_05_16", "table_05_ff"] {
        let mut file = sample.file(name);
        file.set_length(0);
        let database = open().unwrap();
        assert!(database.best().unwrap().number > 0);
        database.canonical_block(2).unwrap_err();
    }
    let mut index = sample.file("index_05_16");
    index.set_length(1);
    assert!(matches!(open(), Err(Error::BadFile { .. })));
    drop(index);
    std::fs::remove_file(sample.path().join("log7")).unwrap();
    sample.read().unwrap();
}

#[test]
fn columns_that_are_read_by_other_rules_than_a_nodes_are_refused() {
    let sample = Sample::new();
    let change = |column: usize, old: &str, new: &str, expected: &str| {
        let line = |(number, line): (usize, &str)| {
            if number == column + 2 { line.replace(old, new) } else { line.to_owned() }
        };
        let text: Vec<_> = METADATA.lines().enumerate().map(line).collect();
        std::fs::write(sample.path().join("metadata"), text.join("\n")).unwrap();
        let error = sample.read().unwrap_err();
        assert!(matches!(error, Error::NotANodeDatabase { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    change(0, "uniform: false", "uniform: true", "column 0 has uniform keys");
    change(
        5,
        "preimage: false, uniform: false, refc: false",
        "preimage: true, uniform: false, refc: true",
        "5 counts references",
    );
    change(12, "compression: 1", "compression: 2", "column 12 is compressed by Snappy");
    change(10, "ordered: false", "ordered: true", "column 10 is ordered");
    std::fs::write(sample.path().join("metadata"), METADATA).unwrap();
    sample.read().unwrap();
}

/// The most memory that this process has had, bytes.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn whatever_bytes_are_changed_the_reader_survives() {
    const ROUNDS: usize = 300;
    let sample = Sample::new();
    let mut names = sample.names();
    names.push("metadata".to_owned());
    let places: Vec<_> = names.iter().map(|name| (name, sample.file(name).places())).collect();
    let places: Vec<_> = places.iter().filter(|(_, places)| !places.is_empty()).collect();
    let mut noise = Noise(2026);
    let mut refused = 0;
    for round in 0..ROUNDS {
        let mut forged = Vec::new();
        for _ in 0..1 + noise.below(3) {
            let (name, places) = places[noise.below(places.len())];
            let mut file = sample.file(name);
            // Beside what there is, too: the next entry, the next slot's mark.
            let at = (places[noise.below(places.len())] + noise.next() % 8).min(file.length - 1);
            let byte = match noise.below(3) {
                0 => 0xff,
                1 => file.read(at, 1)[0] ^ (1 << noise.below(8)),
                _ => noise.next() as u8,
            };
            file.write(at, &[byte]);
            forged.push(file);
        }
        refused += usize::from(sample.read().is_err());
        // The last one first, so that two in the same place leave what was there.
        while forged.pop().is_some() {}
        if round % 100 == 99 {
            sample.read().unwrap();
        }
    }
    assert!((ROUNDS / 10..ROUNDS).contains(&refused), "{refused} of {ROUNDS}");
    let most = most_memory();
    assert!(most < 512 << 20, "{most} bytes");
}
