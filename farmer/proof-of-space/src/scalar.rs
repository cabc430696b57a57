//! The functions of archival §3.1 to §3.3 for one entry at a time, as the text has them.

use crate::params::{B, BC, C, EXTRA_BITS, K, M, METADATA_BITS, PROOF_XS, X_VALUES, Y_BITS, column_shift};
use chacha20::ChaCha8;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use primitives::sectors::PosSeed;

/// An entry of any table: y of 26 bits, metadata of up to 80 bits, right-aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) y: u32,
    pub(crate) metadata: u128,
}

/// The 20 bits of the keystream for `x`, whose bytes from `20x / 8` on are `bytes`.
fn partial_y(x: u32, bytes: [u8; 3]) -> u32 {
    let [a, b, c] = bytes.map(u32::from);
    let word = (a << 16) | (b << 8) | c;
    // A value begins at the start of a byte, or 4 bits into it.
    if x.is_multiple_of(2) { word >> 4 } else { word & 0x000f_ffff }
}

fn first_entry(x: u32, bytes: [u8; 3]) -> Entry {
    let y = (partial_y(x, bytes) << EXTRA_BITS) | (x >> (K - EXTRA_BITS));
    Entry { y, metadata: u128::from(x) }
}

/// The keystream that table 1 is read from.
pub(crate) struct Keystream(ChaCha8);

impl Keystream {
    pub(crate) fn new(seed: &PosSeed) -> Self {
        Self(ChaCha8::new(&seed.0.into(), &[0; 12].into()))
    }

    /// The first block.
    pub(crate) fn head(&mut self) -> [u8; 64] {
        let mut bytes = [0; 64];
        self.0.seek(0_u64);
        self.0.apply_keystream(&mut bytes);
        bytes
    }

    /// The table-1 entry of `x`.
    pub(crate) fn entry(&mut self, x: u32) -> Entry {
        let mut bytes = [0; 3];
        self.0.seek(u64::from(x) * u64::from(K) / 8);
        self.0.apply_keystream(&mut bytes);
        first_entry(x, bytes)
    }

    /// All entries of table 1 in order of x.
    pub(crate) fn all_entries(mut self) -> Vec<Entry> {
        let mut bytes = vec![0; X_VALUES * K as usize / 8];
        self.0.seek(0_u64);
        self.0.apply_keystream(&mut bytes);
        let pairs = bytes.as_chunks::<5>().0.iter().zip(0..);
        pairs
            .flat_map(|(&[a, b, c, d, e], pair)| {
                [first_entry(2 * pair, [a, b, c]), first_entry(2 * pair + 1, [c, d, e])]
            })
            .collect()
    }
}

/// Whether `left` and `right` satisfy the relation of archival §3.2 on r and parity; buckets being neighbours is not
/// asked.
pub(crate) fn matches(left_y: u32, right_y: u32) -> bool {
    let parity = left_y / BC % 2;
    let (left, right) = (left_y % BC, right_y % BC);
    let m = (right / C + B - left / C) % B;
    m < M && right % C == (column_shift(parity, m) + left) % C
}

/// Appends `width` bits of `value` to a bit string of `length` bits, most significant first.
fn append_bits(bytes: &mut [u8; 24], length: &mut u32, value: u128, width: u32) {
    let mut left = width;
    while left > 0 {
        let free = 8 - *length % 8;
        let taken = free.min(left);
        let bits = (value >> (left - taken)) & ((1 << taken) - 1);
        bytes[(*length / 8) as usize] |= (bits as u8) << (free - taken);
        *length += taken;
        left -= taken;
    }
}

/// The entry of table `table`, 2 to 7, that its parents, a match, make (archival §3.3).
pub(crate) fn combine(table: usize, left: &Entry, right: &Entry) -> Entry {
    let parent_bits = METADATA_BITS[table - 2];
    let bits = METADATA_BITS[table - 1];
    let (mut bytes, mut length) = ([0; 24], 0);
    append_bits(&mut bytes, &mut length, u128::from(left.y), Y_BITS);
    append_bits(&mut bytes, &mut length, left.metadata, parent_bits);
    append_bits(&mut bytes, &mut length, right.metadata, parent_bits);
    let hash = blake3::hash(&bytes[..length.div_ceil(8) as usize]);
    let head = u128::from_be_bytes(*hash.as_bytes().first_chunk().expect("16 of 32 bytes"));
    let y = (head >> (u128::BITS - Y_BITS)) as u32;
    let metadata = match table {
        2 | 3 => (left.metadata << parent_bits) | right.metadata,
        7 => 0,
        _ => (head >> (u128::BITS - Y_BITS - bits)) & ((1 << bits) - 1),
    };
    Entry { y, metadata }
}

/// Unpacks the x values of a proof.
pub(crate) fn unpack(proof: &[u8; 160]) -> [u32; PROOF_XS] {
    let mut xs = [0; PROOF_XS];
    for (&[a, b, c, d, e], pair) in proof.as_chunks::<5>().0.iter().zip(xs.as_chunks_mut::<2>().0) {
        let [a, b, c, d, e] = [a, b, c, d, e].map(u32::from);
        *pair = [(a << 12) | (b << 4) | (c >> 4), ((c & 0xf) << 16) | (d << 8) | e];
    }
    xs
}

/// Packs x values, 20 bits each, most significant bits first.
pub(crate) fn pack(xs: &[u32; PROOF_XS]) -> [u8; 160] {
    let mut proof = [0; 160];
    for (bytes, &[first, second]) in proof.as_chunks_mut::<5>().0.iter_mut().zip(xs.as_chunks::<2>().0) {
        let value = (u64::from(first) << 20) | u64::from(second);
        bytes.copy_from_slice(&value.to_be_bytes()[3..]);
    }
    proof
}
