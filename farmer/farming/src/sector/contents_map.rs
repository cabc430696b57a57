//! The contents map: which of a record's 65,536 erasure-coded chunks the sector holds, and which of them are encoded.

use super::{Bitfield, zeroed_box};
use primitives::hashes::blake3_hash;
use primitives::pieces::Record;
use primitives::{Blake3Hash, PieceOffset, SBucket, SectorGeometry};

/// Why bytes are no contents map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentsMapError {
    /// Wrong length.
    #[error("a contents map of {pieces_in_sector} pieces has {expected} bytes, found {found}")]
    Size {
        /// Pieces in the sector.
        pieces_in_sector: u16,
        /// Bytes due.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The bytes were changed after they had been written.
    #[error("contents map checksum mismatch: stored {stored}, computed {computed}")]
    Checksum {
        /// What the sector says.
        stored: Blake3Hash,
        /// What the bitfields hash to.
        computed: Blake3Hash,
    },
    /// More encoded chunks than a record has chunks.
    #[error(
        "record {piece_offset} claims {encoded} encoded chunks, at most {} are possible",
        Record::NUM_CHUNKS
    )]
    TooManyEncoded {
        /// The record.
        piece_offset: PieceOffset,
        /// Bits set.
        encoded: u32,
    },
}

/// What a sector holds of one record: always exactly 32,768 chunks.
///
/// Every s-bucket whose bit is set holds an encoded chunk. If fewer than 32,768 bits are set, the first s-buckets with
/// bit unset hold unencoded chunks until the record has all of its chunks (farming §3).
#[derive(Debug, Clone, Copy)]
pub struct RecordContents<'a> {
    bitfield: &'a Bitfield,
    /// First s-bucket behind those filled with unencoded chunks; 0 if there are none.
    unencoded_end: u32,
}

impl<'a> RecordContents<'a> {
    /// Reads a bitfield; none if more than 32,768 bits are set.
    pub fn new(bitfield: &'a Bitfield) -> Option<Self> {
        Some(Self { bitfield, unencoded_end: unencoded_end(bitfield)? })
    }

    /// The bitfield.
    pub fn bitfield(&self) -> &'a Bitfield {
        self.bitfield
    }

    /// Number of encoded chunks, 0..=32,768.
    pub fn encoded_chunks(&self) -> u32 {
        count_ones(self.bitfield)
    }

    /// Whether s-bucket `s_bucket` holds an encoded chunk of this record.
    pub fn is_encoded(&self, s_bucket: SBucket) -> bool {
        let bucket = usize::from(s_bucket.0);
        self.bitfield[bucket / 8] >> (bucket % 8) & 1 == 1
    }

    /// Whether s-bucket `s_bucket` holds a chunk of this record, encoded or not.
    pub fn is_present(&self, s_bucket: SBucket) -> bool {
        u32::from(s_bucket.0) < self.unencoded_end || self.is_encoded(s_bucket)
    }

    /// Presence of the 64 s-buckets from `64 · word` on, lowest bit first.
    pub(crate) fn present_word(&self, word: usize) -> u64 {
        let bytes = self.bitfield[word * 8..][..8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes) | low_bits((self.unencoded_end as usize).saturating_sub(word * 64))
    }

    /// Chunks of this record in the s-buckets before `64 · word`.
    pub(crate) fn present_before_word(&self, word: usize) -> usize {
        (0..word).map(|word| self.present_word(word).count_ones() as usize).sum()
    }

    /// The 32,768 s-buckets that hold a chunk, ascending, and whether it is encoded.
    pub fn s_buckets(&self) -> impl Iterator<Item = (SBucket, bool)> + use<'a> {
        let this = *self;
        (0..Record::NUM_S_BUCKETS / 64).flat_map(move |word| {
            let mut bits = this.present_word(word);
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                let s_bucket = SBucket((word * 64) as u16 + bit as u16);
                Some((s_bucket, this.is_encoded(s_bucket)))
            })
        })
    }

    /// Place of the chunk of `s_bucket` among the record's 32,768 stored chunks; none if there is none.
    pub fn chunk_index(&self, s_bucket: SBucket) -> Option<usize> {
        if !self.is_present(s_bucket) {
            return None;
        }
        let bucket = usize::from(s_bucket.0);
        let below = self.present_word(bucket / 64) & low_bits(bucket % 64);
        Some(self.present_before_word(bucket / 64) + below.count_ones() as usize)
    }
}

/// The lowest `count` bits set; all from 64 on.
fn low_bits(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

fn words(bitfield: &Bitfield) -> impl Iterator<Item = u64> + '_ {
    bitfield.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

fn count_ones(bitfield: &Bitfield) -> u32 {
    words(bitfield).map(u64::count_ones).sum()
}

fn unencoded_end(bitfield: &Bitfield) -> Option<u32> {
    let mut missing = (Record::NUM_CHUNKS as u32).checked_sub(count_ones(bitfield))?;
    if missing == 0 {
        return Some(0);
    }
    for (index, word) in words(bitfield).enumerate() {
        let mut unset = !word;
        if missing > unset.count_ones() {
            missing -= unset.count_ones();
            continue;
        }
        for _ in 1..missing {
            unset &= unset - 1;
        }
        return Some(index as u32 * 64 + unset.trailing_zeros() + 1);
    }
    unreachable!("at most half of the bits are missing, and at least half are unset")
}

/// Bitfields of all records of a sector, in order of piece offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentsMap {
    bitfields: Vec<Bitfield>,
    unencoded_ends: Vec<u32>,
}

impl ContentsMap {
    /// Checks and takes over bitfields.
    ///
    /// # Errors
    /// [`ContentsMapError::TooManyEncoded`].
    pub fn new(bitfields: Vec<Bitfield>) -> Result<Self, ContentsMapError> {
        let unencoded_ends = bitfields
            .iter()
            .enumerate()
            .map(|(offset, bitfield)| {
                unencoded_end(bitfield).ok_or_else(|| ContentsMapError::TooManyEncoded {
                    piece_offset: PieceOffset(offset as u16),
                    encoded: count_ones(bitfield),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { bitfields, unencoded_ends })
    }

    /// Parses bitfields followed by their BLAKE3, as a sector begins.
    ///
    /// # Errors
    /// All of [`ContentsMapError`].
    pub fn from_bytes(bytes: &[u8], pieces_in_sector: u16) -> Result<Self, ContentsMapError> {
        let expected = SectorGeometry::new(pieces_in_sector).contents_map_size();
        if bytes.len() != expected {
            return Err(ContentsMapError::Size { pieces_in_sector, expected, found: bytes.len() });
        }
        let (bitfields, checksum) = bytes.split_at(expected - Blake3Hash::SIZE);
        let stored = Blake3Hash(checksum.try_into().expect("32 bytes"));
        let computed = blake3_hash(bitfields);
        if stored != computed {
            return Err(ContentsMapError::Checksum { stored, computed });
        }
        Self::new(bitfields.as_chunks().0.to_vec())
    }

    /// Bitfields and their BLAKE3.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.bitfields.as_flattened().to_vec();
        bytes.extend_from_slice(blake3_hash(&bytes).as_ref());
        bytes
    }

    /// Pieces in the sector.
    pub fn pieces_in_sector(&self) -> u16 {
        self.bitfields.len() as u16
    }

    /// Contents of one record; none behind the last.
    pub fn record(&self, piece_offset: PieceOffset) -> Option<RecordContents<'_>> {
        let offset = usize::from(piece_offset.0);
        let bitfield = self.bitfields.get(offset)?;
        Some(RecordContents { bitfield, unencoded_end: self.unencoded_ends[offset] })
    }

    /// Contents of all records.
    pub fn records(&self) -> impl ExactSizeIterator<Item = RecordContents<'_>> {
        self.bitfields
            .iter()
            .zip(&self.unencoded_ends)
            .map(|(bitfield, &unencoded_end)| RecordContents { bitfield, unencoded_end })
    }

    /// The records that have a chunk in `s_bucket`, in the order of the chunks there, and whether it is encoded.
    pub fn s_bucket_records(&self, s_bucket: SBucket) -> impl Iterator<Item = (PieceOffset, bool)> + '_ {
        self.records()
            .enumerate()
            .filter(move |(_, record)| record.is_present(s_bucket))
            .map(move |(offset, record)| (PieceOffset(offset as u16), record.is_encoded(s_bucket)))
    }

    /// Number of chunks in each s-bucket.
    pub fn s_bucket_sizes(&self) -> Box<[u16; Record::NUM_S_BUCKETS]> {
        self.chunks_below(self.bitfields.len())
    }

    /// For each s-bucket the number of chunks that records below `records` have there.
    fn chunks_below(&self, records: usize) -> Box<[u16; Record::NUM_S_BUCKETS]> {
        let mut sizes = zeroed_box::<u16, { Record::NUM_S_BUCKETS }>();
        // Eight counters of a byte in each u64, for as many records as a byte can count.
        let mut counters = vec![0u64; SectorGeometry::BITFIELD_SIZE];
        let records: Vec<_> = self.records().take(records).collect();
        for batch in records.chunks(255) {
            for record in batch {
                for word in 0..Record::NUM_S_BUCKETS / 64 {
                    let present = record.present_word(word).to_le_bytes();
                    for (counter, byte) in counters[word * 8..][..8].iter_mut().zip(present) {
                        *counter += spread(byte);
                    }
                }
            }
            for (sizes, counter) in sizes.as_chunks_mut::<8>().0.iter_mut().zip(&mut counters) {
                for (size, count) in sizes.iter_mut().zip(std::mem::take(counter).to_le_bytes()) {
                    *size += u16::from(count);
                }
            }
        }
        sizes
    }

    /// Index of each of the record's 32,768 chunks among all chunks of the sector, with its s-bucket and whether it is
    /// encoded; none behind the last record.
    pub fn chunk_locations(&self, piece_offset: PieceOffset) -> Option<Vec<(u32, SBucket, bool)>> {
        let record = self.record(piece_offset)?;
        let sizes = self.s_bucket_sizes();
        let below = self.chunks_below(usize::from(piece_offset.0));
        let mut locations = Vec::with_capacity(Record::NUM_CHUNKS);
        let mut before = 0;
        let mut bucket = 0;
        for (s_bucket, encoded) in record.s_buckets() {
            while bucket < usize::from(s_bucket.0) {
                before += u32::from(sizes[bucket]);
                bucket += 1;
            }
            locations.push((before + u32::from(below[bucket]), s_bucket, encoded));
        }
        Some(locations)
    }
}

/// Bit i of `byte` as byte i of the result.
fn spread(byte: u8) -> u64 {
    let selected = (u64::from(byte) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    // A selected byte is zero or a single bit: adding 0x7f carries into the top bit only, never out of the byte.
    ((selected + 0x7f7f_7f7f_7f7f_7f7f) >> 7) & 0x0101_0101_0101_0101
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bitfield(set: impl IntoIterator<Item = usize>) -> Bitfield {
        let mut bitfield = [0; 8192];
        for bit in set {
            bitfield[bit / 8] |= 1 << (bit % 8);
        }
        bitfield
    }

    #[test]
    fn spread_separates_bits() {
        for byte in 0..=255u8 {
            let expected: [u8; 8] = std::array::from_fn(|bit| byte >> bit & 1);
            assert_eq!(spread(byte), u64::from_le_bytes(expected));
        }
    }

    #[test]
    fn a_full_record_has_no_unencoded_chunks() {
        let field = bitfield((0..65536).step_by(2));
        let record = RecordContents::new(&field).unwrap();
        assert!(record.s_buckets().all(|(bucket, encoded)| encoded && bucket.0 % 2 == 0));
        assert_eq!(record.s_buckets().count(), 32768);
        assert_eq!(record.chunk_index(SBucket(65534)), Some(32767));
        assert_eq!(record.chunk_index(SBucket(3)), None);
    }

    #[test]
    fn gaps_are_filled_from_the_lowest_bucket_on() {
        for encoded in [0usize, 1, 63, 64, 65, 20_000, 32_767] {
            // Encoded ones at the far end and a few among the first.
            let set: Vec<usize> = (0..encoded).map(|i| if i % 3 == 0 { i } else { 65535 - i }).collect();
            let field = bitfield(set.iter().copied());
            let record = RecordContents::new(&field).unwrap();
            assert_eq!(record.encoded_chunks() as usize, encoded);
            let unset: Vec<u16> = (0..=65535u16)
                .filter(|&bucket| !set.contains(&usize::from(bucket)))
                .take(32768 - encoded)
                .collect();
            let listed: Vec<_> = record.s_buckets().collect();
            assert_eq!(listed.len(), 32768);
            assert!(listed.is_sorted_by_key(|(bucket, _)| *bucket));
            let unencoded: Vec<u16> =
                listed.iter().filter(|(_, encoded)| !encoded).map(|(b, _)| b.0).collect();
            assert_eq!(unencoded, unset, "{encoded} encoded");
            for (index, (bucket, _)) in listed.iter().enumerate().step_by(997) {
                assert_eq!(record.chunk_index(*bucket), Some(index));
            }
        }
    }

    #[test]
    fn one_bit_too_many_is_refused() {
        let field = bitfield(0..32769);
        assert!(RecordContents::new(&field).is_none());
        assert_eq!(
            ContentsMap::new(vec![[0; 8192], field]),
            Err(ContentsMapError::TooManyEncoded { piece_offset: PieceOffset(1), encoded: 32769 })
        );
        let mut bytes = field.to_vec();
        bytes.extend_from_slice(blake3_hash(&field).as_ref());
        assert!(matches!(ContentsMap::from_bytes(&bytes, 1), Err(ContentsMapError::TooManyEncoded { .. })));
    }

    #[test]
    fn bytes_round_trip_and_damage_is_found() {
        let map = ContentsMap::new(vec![bitfield(0..7), bitfield((1..65536).step_by(2))]).unwrap();
        let mut bytes = map.to_bytes();
        assert_eq!(ContentsMap::from_bytes(&bytes, 2).unwrap(), map);
        assert!(matches!(ContentsMap::from_bytes(&bytes, 3), Err(ContentsMapError::Size { .. })));
        bytes[9000] ^= 4;
        assert!(matches!(ContentsMap::from_bytes(&bytes, 2), Err(ContentsMapError::Checksum { .. })));
    }

    #[test]
    fn sizes_and_locations_agree_with_a_plain_count() {
        // More records than a byte can count.
        let fields: Vec<Bitfield> = (0..300usize)
            .map(|r| bitfield((0..65536).filter(|b| (b * 2_654_435_761 + r * 40_503) >> 7 & 3 == 0)))
            .collect();
        let map = ContentsMap::new(fields).unwrap();
        let sizes = map.s_bucket_sizes();
        for bucket in (0..=65535u16).step_by(1013) {
            let listed = map.s_bucket_records(SBucket(bucket)).count();
            assert_eq!(usize::from(sizes[usize::from(bucket)]), listed);
        }
        assert_eq!(sizes.iter().map(|&size| usize::from(size)).sum::<usize>(), 300 * 32768);
        let offset = PieceOffset(287);
        for (index, bucket, encoded) in map.chunk_locations(offset).unwrap().into_iter().step_by(1009) {
            let before: u32 = sizes[..usize::from(bucket.0)].iter().map(|&size| u32::from(size)).sum();
            let (position, found) = map
                .s_bucket_records(bucket)
                .enumerate()
                .find_map(|(position, (o, encoded))| (o == offset).then_some((position, encoded)))
                .unwrap();
            assert_eq!((index, encoded), (before + position as u32, found));
        }
        assert!(map.chunk_locations(PieceOffset(300)).is_none());
    }
}
