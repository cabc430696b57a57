//! Blocks as the archiver sees them: the SCALE form of a signed block and the genesis extension (archival §10).

use crate::BlockNumber;
use crate::hashes::blake2b_256;
use crate::segments::SegmentIndex;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use parity_scale_codec::{Compact, Decode, Encode, Error, Input, Output};

/// Consensus engine whose justifications are archived.
pub const SUBSPACE_ENGINE_ID: [u8; 4] = *b"SUB_";

/// One digest item in its SCALE form, kept as bytes: the archive never looks inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestItem(pub Vec<u8>);

impl Encode for DigestItem {
    fn encode_to<O: Output + ?Sized>(&self, dest: &mut O) {
        dest.write(&self.0);
    }
}

impl Decode for DigestItem {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        let index = input.read_byte()?;
        let mut bytes = vec![index];
        match index {
            0 => Vec::<u8>::decode(input)?.encode_to(&mut bytes),
            4..=6 => {
                <[u8; 4]>::decode(input)?.encode_to(&mut bytes);
                Vec::<u8>::decode(input)?.encode_to(&mut bytes);
            }
            8 => {}
            _ => return Err(Error::from("unknown digest item")),
        }
        Ok(Self(bytes))
    }
}

/// Header of a consensus block.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct BlockHeader {
    /// Hash of the parent's header.
    pub parent_hash: [u8; 32],
    /// Block number.
    #[codec(compact)]
    pub number: BlockNumber,
    /// Root of the state.
    pub state_root: [u8; 32],
    /// Root of the extrinsics.
    pub extrinsics_root: [u8; 32],
    /// Digest items.
    pub digest: Vec<DigestItem>,
}

impl BlockHeader {
    /// BLAKE2b-256 of the SCALE bytes.
    pub fn hash(&self) -> [u8; 32] {
        blake2b_256(&self.encode())
    }
}

/// A justification: engine and its payload.
pub type Justification = ([u8; 4], Vec<u8>);

/// A block with its justifications.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedBlock {
    /// Header.
    pub header: BlockHeader,
    /// Extrinsics, each opaque.
    pub extrinsics: Vec<Vec<u8>>,
    /// Justifications as stored by the node.
    pub justifications: Option<Vec<Justification>>,
}

/// Payload of a `SUB_` justification that is archived: proof-of-time checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SubspaceJustification {
    /// Checkpoints since the parent block.
    #[codec(index = 0)]
    PotCheckpoints {
        /// Seed of the first.
        seed: [u8; 16],
        /// Eight checkpoints for each slot.
        checkpoints: Vec<[[u8; 16]; 8]>,
    },
}

/// Keeps, in order, the `SUB_` justifications that decode; none left is none at all.
pub fn archived_justifications(justifications: Option<Vec<Justification>>) -> Option<Vec<Justification>> {
    let mut kept = justifications?;
    kept.retain(|(engine, payload)| {
        *engine == SUBSPACE_ENGINE_ID && SubspaceJustification::decode(&mut payload.as_slice()).is_ok()
    });
    (!kept.is_empty()).then_some(kept)
}

impl SignedBlock {
    /// The bytes that are archived: genesis unfiltered and extended to a whole segment, every other block with its
    /// justifications filtered.
    pub fn encode_for_archiving(self) -> Vec<u8> {
        if self.header.number == 0 {
            let state_root = self.header.state_root;
            return extend_genesis(self.encode(), &state_root);
        }
        let Self { header, extrinsics, justifications } = self;
        Self { header, extrinsics, justifications: archived_justifications(justifications) }.encode()
    }
}

/// Extends an encoded genesis block to exactly one segment of recorded history with the ChaCha8 keystream of its state
/// root, so that farming can begin at once.
pub fn extend_genesis(mut encoded: Vec<u8>, state_root: &[u8; 32]) -> Vec<u8> {
    let length = encoded.len().min(SegmentIndex::RECORDED_HISTORY_SIZE);
    encoded.resize(SegmentIndex::RECORDED_HISTORY_SIZE, 0);
    chacha20::ChaCha8::new(state_root.into(), &[0; 12].into()).apply_keystream(&mut encoded[length..]);
    encoded
}

/// SCALE compact length prefix of `length`, bytes.
pub fn compact_length_size(length: usize) -> usize {
    use parity_scale_codec::CompactLen;
    Compact::<u32>::compact_len(&u32::try_from(length).expect("block items are shorter than 4 GiB"))
}
