//! The proof of space for any K in the plainest way: whole tables in the canonical order of archival §3.4.

use chacha20::ChaCha8;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use primitives::sectors::PosSeed;

const B: u32 = 119;
const C: u32 = 127;
const BC: u32 = B * C;

/// An entry: y, metadata right-aligned, positions of both parents in the parent table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) y: u32,
    pub(crate) parents: [u32; 2],
    pub(crate) metadata: u128,
}

/// Tables 1 to 7 in canonical order.
pub(crate) struct Oracle {
    k: u32,
    tables: Vec<Vec<Entry>>,
}

/// Metadata bits of a table, 1 to 7.
pub(crate) fn metadata_bits(k: u32, table: usize) -> u32 {
    [1, 2, 4, 4, 3, 2, 0][table - 1] * k
}

/// A bit string, most significant bit first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    length: u32,
}

impl Bits {
    fn push(&mut self, value: u128, width: u32) {
        for bit in (0..width).rev() {
            if self.length.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().unwrap();
            *last |= ((value >> bit & 1) as u8) << (7 - self.length % 8);
            self.length += 1;
        }
    }
}

fn take(bytes: &[u8], first: u32, width: u32) -> u128 {
    (first..first + width)
        .fold(0, |value, bit| value << 1 | u128::from(bytes[(bit / 8) as usize] >> (7 - bit % 8) & 1))
}

fn first_table(k: u32, seed: &PosSeed) -> Vec<Entry> {
    let mut keystream = vec![0; (k as usize) << k >> 3];
    ChaCha8::new(&seed.0.into(), &[0; 12].into()).apply_keystream(&mut keystream);
    let entry = |x: u32| {
        let partial = take(&keystream, k * x, k) as u32;
        Entry { y: partial << 6 | x >> (k - 6), metadata: u128::from(x), parents: [0; 2] }
    };
    (0..1 << k).map(entry).collect()
}

/// The child of a match.
fn combine(k: u32, table: usize, left: &Entry, right: &Entry) -> (u32, u128) {
    let (parent, bits) = (metadata_bits(k, table - 1), metadata_bits(k, table));
    let mut message = Bits::default();
    message.push(u128::from(left.y), k + 6);
    message.push(left.metadata, parent);
    message.push(right.metadata, parent);
    let hash = blake3::hash(&message.bytes);
    let metadata = match table {
        2 | 3 => left.metadata << parent | right.metadata,
        _ => take(hash.as_bytes(), k + 6, bits),
    };
    (take(hash.as_bytes(), 0, k + 6) as u32, metadata)
}

/// The matches of the left entries of a bucket with all of the next, as positions.
fn matches(bucket: u32, parents: &[Entry], start: impl Fn(u32) -> usize) -> Vec<[u32; 2]> {
    let (left, right) = (start(bucket)..start(bucket + 1), start(bucket + 1)..start(bucket + 2));
    // Positions of the right entries with each r.
    let mut with_r = vec![Vec::new(); BC as usize];
    right.for_each(|position| with_r[(parents[position].y % BC) as usize].push(position as u32));
    let mut found = Vec::new();
    for position in left {
        let r = parents[position].y % BC;
        for m in 0..64 {
            let root = 2 * m + bucket % 2;
            let target = (r / C + m) % B * C + (root * root + r) % C;
            found.extend(with_r[target as usize].iter().map(|right| [position as u32, *right]));
        }
    }
    found
}

fn next_table(k: u32, table: usize, parents: &[Entry]) -> Vec<Entry> {
    let buckets = (1_u32 << (k + 6)).div_ceil(BC);
    let starts: Vec<usize> =
        (0..=buckets).map(|bucket| parents.partition_point(|entry| entry.y / BC < bucket)).collect();
    let pairs =
        (0..buckets - 1).flat_map(|bucket| matches(bucket, parents, |bucket| starts[bucket as usize]));
    let mut children: Vec<Entry> = pairs
        .map(|[left, right]| {
            let (y, metadata) = combine(k, table, &parents[left as usize], &parents[right as usize]);
            Entry { y, parents: [left, right], metadata }
        })
        .collect();
    children.sort_unstable_by_key(|entry| (entry.y, entry.parents));
    children
}

impl Oracle {
    pub(crate) fn new(k: u32, seed: &PosSeed) -> Self {
        let mut first = first_table(k, seed);
        first.sort_unstable_by_key(|entry| (entry.y, entry.metadata));
        let mut tables = vec![first];
        for table in 2..=7 {
            tables.push(next_table(k, table, &tables[table - 2]));
        }
        Self { k, tables }
    }

    /// Table `table`, 1 to 7.
    pub(crate) fn table(&self, table: usize) -> &[Entry] {
        &self.tables[table - 1]
    }

    fn leaves(&self, table: usize, position: u32, proof: &mut Bits) {
        let entry = &self.tables[table - 1][position as usize];
        if table == 1 {
            proof.push(entry.metadata, self.k);
        } else {
            entry.parents.iter().for_each(|&parent| self.leaves(table - 1, parent, proof));
        }
    }

    /// The entries of table 7 that answer an s-bucket, in canonical order.
    pub(crate) fn candidates(&self, s_bucket: u16) -> &[Entry] {
        let bits = u32::from(s_bucket).swap_bytes() >> (32 - self.k);
        let table = self.table(7);
        let start = |bits: u32| table.partition_point(|entry| entry.y >> 6 < bits);
        &table[start(bits)..start(bits + 1)]
    }

    /// The canonical proof of an s-bucket.
    pub(crate) fn proof(&self, s_bucket: u16) -> Option<Vec<u8>> {
        let entry = self.candidates(s_bucket).first()?;
        let mut proof = Bits::default();
        entry.parents.iter().for_each(|&parent| self.leaves(6, parent, &mut proof));
        Some(proof.bytes)
    }
}

/// The oracle itself makes the proofs of the CPU's tables.
#[test]
fn shim_oracle_makes_the_tables_of_the_cpu() {
    let seed = super::pos_seed("kernels/oracle");
    let oracle = Oracle::new(20, &seed);
    let mut generator = proof_of_space::TableGenerator::new();
    let table = generator.generate(&seed);
    for s_bucket in (0..=u16::MAX).step_by(7) {
        let proof = table.find_proof(s_bucket.into()).map(|proof| proof.0.to_vec());
        assert!(oracle.proof(s_bucket) == proof, "s-bucket {s_bucket}");
    }
}
