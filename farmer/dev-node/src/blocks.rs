//! What the blocks of a development chain are made of.
//!
//! The archived bytes of block n depend on the chain's parameters and on n alone: two chains with the same parameters
//! have the same history, segment for segment, and a process killed between a block and its segment loses nothing.
//! Whatever depends on time (slot, solution, signature) stands in a justification of our own engine, which archiving
//! drops as it drops every foreign one. A fork's blocks and slots are derived from another key from its first own block on.

use crate::Error;
use crate::config::ChainParameters;
use crate::solution_range::Era;
use parity_scale_codec::Decode;
use parity_scale_codec::{DecodeAll, Encode};
use primitives::blocks::{
    BlockHeader, DigestItem, Justification, SUBSPACE_ENGINE_ID, SignedBlock, SubspaceJustification,
};
use primitives::hashes::{blake2b_256, blake3_hash, blake3_hash_list_with_key};
use primitives::pot::PotOutput;
use primitives::{Blake3Hash, BlockNumber, Signature, SlotNumber, Solution};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Engine of the seal.
pub const SEAL_ENGINE_ID: [u8; 4] = *b"DEV_";

/// Random bytes at the beginning of a payload; zeros follow. Large blocks are there to fill segments fast, and a record
/// of zeros is archived for nothing: of 8 MiB blocks a segment takes a quarter of the time.
const RANDOM_BYTES_MAX: usize = 128 * 1024;

/// What a block says about how it came to be.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Seal {
    /// Slot of the block; 0 for blocks archived ahead of the first slot.
    pub slot: SlotNumber,
    /// The solution that won the block, if one did.
    pub solution: Option<Solution>,
    /// The farm's signature over the block, if it came in time.
    pub signature: Option<Signature>,
    /// Slots and keys of what was rewarded since the block before.
    pub rewarded: Vec<(SlotNumber, Blake3Hash)>,
    /// Where the chain's era stands after this block.
    pub era: Era,
}

impl Seal {
    /// The seal of a block; none in genesis.
    pub fn of(block: &SignedBlock) -> Option<Self> {
        Self::among(block.justifications.as_deref()?)
    }

    /// The seal among a block's justifications.
    pub(crate) fn among(justifications: &[Justification]) -> Option<Self> {
        let (_, payload) = justifications.iter().find(|(engine, _)| *engine == SEAL_ENGINE_ID)?;
        Self::decode_all(&mut payload.as_slice()).ok()
    }
}

/// A file that blocks carry, in pieces of the payload size.
#[derive(Debug, Clone)]
struct PayloadFile {
    path: PathBuf,
    size: u64,
    /// First block that carries a part of it.
    first_block: u64,
}

/// Where a chain leaves the one that it followed.
#[derive(Debug, Clone, Copy)]
struct Fork {
    /// The last block of both.
    at: BlockNumber,
    key: [u8; 32],
}

/// Makes blocks.
#[derive(Debug, Clone)]
pub struct BlockSource {
    parameters: ChainParameters,
    key: [u8; 32],
    fork: Option<Fork>,
    files: Vec<PayloadFile>,
    /// The first block that carries random bytes.
    first_random: u64,
}

impl BlockSource {
    /// A source of a chain's blocks, with the files of `directory` if there is one; fills in their digest.
    ///
    /// # Errors
    /// [`Error::File`] when they cannot be read, [`Error::Parameter`] when there are none.
    pub fn new(mut parameters: ChainParameters, directory: Option<&Path>) -> Result<Self, Error> {
        let mut files = Vec::new();
        let mut next = 1;
        if let Some(directory) = directory {
            let found = read_directory(directory)?;
            parameters.files_digest = Some(found.digest);
            for (path, size) in found.files {
                files.push(PayloadFile { path, size, first_block: next });
                next += size.div_ceil(parameters.block_bytes.into());
            }
        }
        let key = blake3_hash(&(b"autonomys-dev-chain-v1", &parameters).encode()).0;
        Ok(Self { parameters, key, fork: None, files, first_random: next })
    }

    /// The same chain up to block `at`, and another one from there on.
    pub fn forked_at(mut self, at: BlockNumber) -> Self {
        let key = blake3_hash_list_with_key(&self.key, &[b"fork", &at.to_le_bytes()]).0;
        self.fork = Some(Fork { at, key });
        self
    }

    /// The last block that this chain has in common with the one it followed.
    pub fn fork(&self) -> Option<BlockNumber> {
        self.fork.map(|fork| fork.at)
    }

    /// What the contents of block `number` are derived from.
    fn key_of(&self, number: u64) -> &[u8; 32] {
        match &self.fork {
            Some(fork) if number > fork.at.into() => &fork.key,
            _ => &self.key,
        }
    }

    /// The chain's parameters.
    pub fn parameters(&self) -> &ChainParameters {
        &self.parameters
    }

    fn derive(&self, what: &[u8], number: u64) -> [u8; 32] {
        derive_with(self.key_of(number), what, number)
    }

    /// Proof of time of a slot: on this chain a hash, not a delay. After a fork it is another one.
    pub fn proof_of_time(&self, slot: SlotNumber, forked: bool) -> PotOutput {
        let key = self.fork.as_ref().filter(|_| forked).map_or(&self.key, |fork| &fork.key);
        let output = derive_with(key, b"proof of time", slot);
        PotOutput(output[..16].try_into().expect("16 of 32 bytes"))
    }

    /// Block 0: its body is the chain's parameters.
    pub fn genesis(&self) -> SignedBlock {
        let extrinsics = vec![self.parameters.encode()];
        let header = BlockHeader {
            parent_hash: [0; 32],
            number: 0,
            state_root: self.derive(b"state", 0),
            extrinsics_root: blake2b_256(&extrinsics.encode()),
            digest: Vec::new(),
        };
        SignedBlock { header, extrinsics, justifications: None }
    }

    /// Block `number` on `parent_hash`.
    ///
    /// # Errors
    /// [`Error::File`] when a file that it carries has gone.
    pub fn block(
        &self,
        number: BlockNumber,
        parent_hash: [u8; 32],
        seal: &Seal,
    ) -> Result<SignedBlock, Error> {
        let extrinsics = vec![self.payload(number.into())?];
        let mut log = vec![6];
        (SEAL_ENGINE_ID, number.encode()).encode_to(&mut log);
        let header = BlockHeader {
            parent_hash,
            number,
            state_root: self.derive(b"state", number.into()),
            extrinsics_root: blake2b_256(&extrinsics.encode()),
            digest: vec![DigestItem(log)],
        };
        let justifications = vec![
            (SUBSPACE_ENGINE_ID, self.checkpoints(number.into()).encode()),
            (SEAL_ENGINE_ID, seal.encode()),
        ];
        Ok(SignedBlock { header, extrinsics, justifications: Some(justifications) })
    }

    /// Made-up checkpoints, so that archived blocks carry what real ones do.
    fn checkpoints(&self, number: u64) -> SubspaceJustification {
        let half = |bytes: [u8; 32]| <[u8; 16]>::try_from(&bytes[..16]).expect("16 of 32 bytes");
        let slots = 1 + number % 3;
        SubspaceJustification::PotCheckpoints {
            seed: half(self.derive(b"checkpoint seed", number)),
            checkpoints: (0..slots)
                .map(|slot| {
                    std::array::from_fn(|i| {
                        let index = (number << 8) | (slot << 3) | i as u64;
                        half(derive_with(self.key_of(number), b"checkpoint", index))
                    })
                })
                .collect(),
        }
    }

    fn payload(&self, number: u64) -> Result<Vec<u8>, Error> {
        let block_bytes = u64::from(self.parameters.block_bytes);
        if number >= self.first_random {
            let mut payload = vec![0; block_bytes as usize];
            let random = RANDOM_BYTES_MAX.min(payload.len());
            blake3::Hasher::new_keyed(self.key_of(number))
                .update(b"payload")
                .update(&number.to_le_bytes())
                .finalize_xof()
                .fill(&mut payload[..random]);
            return Ok(payload);
        }
        let file = &self.files[self.files.partition_point(|file| file.first_block <= number) - 1];
        let offset = (number - file.first_block) * block_bytes;
        let length = block_bytes.min(file.size - offset);
        let mut payload = vec![0; length as usize];
        let mut read = || {
            let mut opened = File::open(&file.path)?;
            opened.seek(SeekFrom::Start(offset))?;
            opened.read_exact(&mut payload)
        };
        read().map_err(Error::file(&file.path, "read the bytes that a block carries"))?;
        Ok(payload)
    }
}

fn derive_with(key: &[u8; 32], what: &[u8], number: u64) -> [u8; 32] {
    blake3_hash_list_with_key(key, &[what, &number.to_le_bytes()]).0
}

/// Files with their sizes in bytes, and a digest of all.
struct Directory {
    files: Vec<(PathBuf, u64)>,
    digest: [u8; 32],
}

/// Regular files of a directory by name with their sizes, and a digest of names and contents. Empty files carry
/// nothing, names that begin with a dot are left out.
fn read_directory(directory: &Path) -> Result<Directory, Error> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if path.is_file() && !hidden {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    };
    let paths = list().map_err(Error::file(directory, "list the files for blocks"))?;
    let mut hasher = blake3::Hasher::new();
    let mut files = Vec::new();
    for path in paths {
        let mut file = File::open(&path).map_err(Error::file(&path, "open a file for blocks"))?;
        let mut content = blake3::Hasher::new();
        let size =
            std::io::copy(&mut file, &mut content).map_err(Error::file(&path, "read a file for blocks"))?;
        let name = path.file_name().expect("listed in a directory").as_encoded_bytes();
        (name, size, content.finalize().as_bytes()).using_encoded(|bytes| {
            hasher.update(bytes);
        });
        if size > 0 {
            files.push((path, size));
        }
    }
    if files.is_empty() {
        let reason = format!("{} has no files with content", directory.display());
        return Err(Error::Parameter { flag: "blocks", reason });
    }
    Ok(Directory { files, digest: *hasher.finalize().as_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use primitives::blocks::archived_justifications;

    fn source(change: impl FnOnce(&mut Config)) -> BlockSource {
        let mut config = Config::new("data".into());
        config.block_bytes = 100;
        change(&mut config);
        BlockSource::new(config.chain_parameters(None), config.blocks.as_deref()).expect("valid")
    }

    fn seal(slot: SlotNumber) -> Seal {
        Seal { slot, solution: None, signature: None, rewarded: vec![], era: Era::new(5) }
    }

    #[test]
    fn archived_bytes_depend_on_parameters_and_number_alone() {
        let encode = |source: &BlockSource, number, slot| {
            source.block(number, [7; 32], &seal(slot)).expect("made").encode_for_archiving()
        };
        let first = source(|_| ());
        assert_eq!(encode(&first, 3, 10), encode(&source(|config| config.slot_ms = 200), 3, 99));
        assert_ne!(encode(&first, 3, 10), encode(&first, 4, 10));
        assert_ne!(encode(&first, 3, 10), encode(&source(|config| config.seed = "b".into()), 3, 10));
        let genesis = first.genesis().header.hash();
        assert_ne!(genesis, source(|config| config.pieces_in_sector += 1).genesis().header.hash());
        assert_eq!(genesis, source(|config| config.slots_per_block += 1).genesis().header.hash());
    }

    #[test]
    fn a_fork_is_another_chain_after_its_last_common_block() {
        let chain = source(|_| ());
        let fork = chain.clone().forked_at(3);
        let header =
            |source: &BlockSource, number| source.block(number, [7; 32], &seal(1)).expect("made").header;
        assert_eq!(header(&chain, 3), header(&fork, 3));
        assert_ne!(header(&chain, 4), header(&fork, 4));
        assert_ne!(
            header(&fork, 4),
            header(&chain.clone().forked_at(2), 4),
            "forks differ from each other, too"
        );
        assert_eq!(chain.proof_of_time(9, false), fork.proof_of_time(9, false));
        assert_ne!(chain.proof_of_time(9, false), fork.proof_of_time(9, true));
    }

    #[test]
    fn seal_is_read_back_and_not_archived() {
        let block = source(|_| ()).block(1, [0; 32], &seal(12)).expect("made");
        assert_eq!(Seal::of(&block), Some(seal(12)));
        let archived = archived_justifications(block.justifications).expect("checkpoints stay");
        assert_eq!(archived.len(), 1);
        assert_eq!(archived[0].0, SUBSPACE_ENGINE_ID);
    }

    #[test]
    fn large_payloads_are_zeros_after_their_random_bytes() {
        let size = 2 * RANDOM_BYTES_MAX;
        let source = source(|config| config.block_bytes = size as u32);
        let payload = source.payload(1).expect("made");
        let (random, zeros) = payload.split_at(RANDOM_BYTES_MAX);
        assert_eq!(payload.len(), size);
        assert!(random.chunks(32).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
        assert!(zeros.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn files_come_first_in_parts_then_random_bytes() {
        let directory = tempfile::tempdir().expect("made");
        std::fs::write(directory.path().join("a"), [1; 250]).expect("written");
        std::fs::write(directory.path().join("b"), [2; 100]).expect("written");
        std::fs::write(directory.path().join("empty"), []).expect("written");
        std::fs::write(directory.path().join(".hidden"), [3; 10]).expect("written");
        let source = source(|config| config.blocks = Some(directory.path().to_owned()));
        let payload = |number| {
            let block = source.block(number, [0; 32], &seal(0)).expect("made");
            block.extrinsics.into_iter().next().expect("one extrinsic")
        };
        assert_eq!(payload(1), [1; 100]);
        assert_eq!(payload(3), [1; 50]);
        assert_eq!(payload(4), [2; 100]);
        assert_eq!(payload(5).len(), 100);
        assert_ne!(payload(5), payload(6));

        let digest = source.parameters().files_digest;
        std::fs::write(directory.path().join("b"), [4; 100]).expect("written");
        let changed = read_directory(directory.path()).expect("read").digest;
        assert_ne!(digest, Some(changed));
        std::fs::remove_file(directory.path().join("a")).expect("removed");
        assert!(matches!(source.block(1, [0; 32], &seal(0)), Err(Error::File { .. })));
    }
}
