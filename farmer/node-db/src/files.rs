//! ParityDB's files (0.4.13): their names, the sizes of what is in them, the marks in it.
//!
//! An index of 2^b chunks is `index_CC_b` (CC: the column): 16 KiB of header and statistics, then the chunks, each of 64 entries
//! of 8 bytes. An entry is what the key's hash has next, then an address: a slot's number, and in the lowest 8 bits the slot's
//! class.
//!
//! A table of values is `table_CC_tt` (tt: the class, hexadecimal): slots of one size, of which slot 0 is the header, the last
//! free slot and the number of filled ones, 8 bytes each. A value in one slot is its length and whether it is compressed (2
//! bytes), the last 26 bytes of its key's hash, then itself. A value in several has a mark (2 bytes) and the number of the
//! next slot (8 bytes) in the length's place, and so has every part but the last; only the first has the key's hash.

/// Bits of the smallest index, and of the largest that a node could ever have: 2^40 chunks of 64 keys.
pub(crate) const INDEX_BITS: (u8, u8) = (16, 40);
/// Bits of the largest index that ParityDB looks for.
pub(crate) const INDEX_BITS_SOUGHT: u8 = 64;
/// Bytes before the chunks of an index.
pub(crate) const INDEX_HEADER_BYTES: u64 = 16 * 1024;
/// Bytes of a chunk.
pub(crate) const CHUNK_BYTES: u64 = 512;
/// By how many bits more than those of its index an address is long: 64 entries a chunk, 256 classes.
pub(crate) const ADDRESS_BITS: u8 = 6 + 8;

/// Size classes of values; the last is for values in several parts.
pub(crate) const TIERS: u8 = 255;
/// Slot sizes of the first and the last class of whole values, which grow by a constant factor; and of parts.
const SLOT_SIZES: (f64, f64) = (32.0, 32760.0);
pub(crate) const PART_SLOT_SIZE: u64 = 4096;
/// By how much a table grows at once, bytes.
pub(crate) const GROWTH: u64 = 256 * 1024;
/// Bytes of a table's header.
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes before a value in its slot.
pub(crate) const SIZE_BYTES: u64 = 2;
/// Bytes of a mark and the next slot's number.
pub(crate) const PART_HEAD_BYTES: usize = 2 + 8;
/// Bytes of the key's hash that stand in a slot: the last ones.
pub(crate) const KEY_BYTES: usize = 26;

pub(crate) const TOMBSTONE: [u8; 2] = [0xff, 0xff];
/// Mark of the first part of a compressed value.
pub(crate) const COMPRESSED_HEAD: [u8; 2] = [0xfd, 0x7f];
/// Marks of the first part of a value.
pub(crate) const HEADS: [[u8; 2]; 2] = [[0xfd, 0xff], COMPRESSED_HEAD];
/// Mark of every other part but the last.
const MIDDLE: [u8; 2] = [0xfe, 0xff];
/// Marks of parts in databases before version 5.
const OLD_PARTS: [[u8; 2]; 2] = [[0xff, 0xfe], [0xff, 0xfd]];
const LAST_OLD_VERSION: u32 = 4;

/// Bytes of a slot of a size class.
pub(crate) fn slot_size(tier: u8) -> u64 {
    if tier == TIERS {
        return PART_SLOT_SIZE;
    }
    let (first, last) = SLOT_SIZES;
    (first * (last / first).powf(f64::from(tier) / f64::from(TIERS - 1))).round() as u64
}

/// Whether a slot of the last class with this mark has a next one, in a database of this version.
pub(crate) fn has_next(mark: [u8; 2], version: u32) -> bool {
    mark == MIDDLE || HEADS.contains(&mark) || version <= LAST_OLD_VERSION && OLD_PARTS.contains(&mark)
}

/// What the first two bytes of a slot say if they are no mark: the bytes that follow, and whether they are compressed.
pub(crate) fn length(mark: [u8; 2]) -> (u64, bool) {
    let length = u16::from_le_bytes(mark);
    (u64::from(length & 0x7fff), length & 0x8000 != 0)
}

/// Name of the index of 2^`bits` chunks of a column.
pub(crate) fn index_name(column: u8, bits: u8) -> String {
    format!("index_{column:02}_{bits}")
}

/// Name of the table of a class of a column's values.
pub(crate) fn table_name(column: u8, tier: u8) -> String {
    format!("table_{column:02}_{tier:02x}")
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
