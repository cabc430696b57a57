//! The chain: its blocks in a node's database, what the next block needs in memory.

use crate::Error;
use crate::blocks::{BlockSource, Seal};
use crate::config::{ChainParameters, Config, REWARD_WINDOW_SLOTS};
use crate::solution_range::Era;
use node_db::{BlockId, NodeDb};
use parity_scale_codec::{DecodeAll, Encode};
use parking_lot::{Condvar, Mutex, RwLock};
use primitives::blocks::{BlockHeader, SignedBlock};
use primitives::hashes::blake2b_256;
use primitives::objects::{BlockObject, BlockObjectMapping};
use primitives::pot::PotOutput;
use primitives::rpc::GenesisHash;
use primitives::{
    Blake3Hash, BlockNumber, FarmerProtocolInfo, HistorySize, SegmentHeader, SegmentIndex, Signature,
    SlotNumber, Solution,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// How a block comes to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewBlock {
    /// Slot of the block.
    pub(crate) slot: SlotNumber,
    /// The solution that won it.
    pub(crate) solution: Option<Solution>,
    /// The farm's signature over it.
    pub(crate) signature: Option<Signature>,
}

/// What changes with each block and slot.
struct State {
    best: BlockId,
    last_slot: SlotNumber,
    era: Era,
    /// Slot of the last block that this chain has in common with the one it followed, once it has left it.
    forked_after: Option<SlotNumber>,
    /// Keys rewarded in the window, with their slots.
    rewarded: HashMap<Blake3Hash, SlotNumber>,
    /// Those of them that no block holds yet.
    unsealed: Vec<(SlotNumber, Blake3Hash)>,
}

impl State {
    /// A block was stored.
    fn sealed(&mut self, best: BlockId, seal: &Seal) {
        self.best = best;
        self.last_slot = self.last_slot.max(seal.slot);
        self.era = seal.era;
    }

    /// Forgets rewards that are out of the window before `slot`.
    fn forget_rewards(&mut self, slot: SlotNumber) {
        let oldest = slot.saturating_sub(REWARD_WINDOW_SLOTS);
        self.rewarded.retain(|_, slot| *slot >= oldest);
    }
}

/// Why another node's block was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// It does not stand on the best block here.
    #[error("its block {number} does not stand on the best block here")]
    Parent {
        /// Its number.
        number: BlockNumber,
    },
    /// It is not what a block has to be.
    #[error("its block {number} has {what}")]
    Damaged {
        /// Its number.
        number: BlockNumber,
        /// What is wrong.
        what: &'static str,
    },
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] Error),
}

/// The chain; shared by all tasks.
pub(crate) struct Chain {
    db: NodeDb,
    source: BlockSource,
    genesis_hash: GenesisHash,
    slots_per_block: u64,
    state: Mutex<State>,
    best_changed: Condvar,
    headers: RwLock<Vec<SegmentHeader>>,
}

impl Chain {
    /// Opens the chain in the data directory of `config`, or begins it there.
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        let mut source = BlockSource::new(config.chain_parameters(None), config.blocks.as_deref())?;
        if let Some(at) = config.fork_at {
            source = source.forked_at(at);
        }
        let path = config.data.join("db");
        std::fs::create_dir_all(&config.data)
            .map_err(Error::file(&config.data, "make the data directory"))?;
        let db = NodeDb::open_or_create(&path)?;
        let genesis = source.genesis();
        let genesis_hash = GenesisHash(genesis.header.hash());
        if !db.has_genesis()? {
            db.insert_best_block(&genesis)?;
        } else if db.genesis_hash()? != genesis_hash.0 {
            let difference = difference(&db, source.parameters())?;
            return Err(Error::OtherChain { path: config.data.clone(), difference });
        }
        let headers = db.segment_headers()?;
        let state = recover(&db, config)?;
        Ok(Self {
            db,
            source,
            genesis_hash,
            slots_per_block: config.slots_per_block,
            state: Mutex::new(state),
            best_changed: Condvar::new(),
            headers: RwLock::new(headers),
        })
    }

    pub(crate) fn db(&self) -> &NodeDb {
        &self.db
    }

    pub(crate) fn parameters(&self) -> &ChainParameters {
        self.source.parameters()
    }

    pub(crate) fn genesis_hash(&self) -> GenesisHash {
        self.genesis_hash
    }

    pub(crate) fn best(&self) -> BlockId {
        self.state.lock().best
    }

    pub(crate) fn last_slot(&self) -> SlotNumber {
        self.state.lock().last_slot
    }

    pub(crate) fn era(&self) -> Era {
        self.state.lock().era
    }

    /// A slot went by. Called by the task that makes blocks and no other.
    pub(crate) fn count_slot(&self) {
        self.state.lock().era.count_slot();
    }

    /// Makes and stores the next block. Only one task makes blocks at a time.
    pub(crate) fn make_block(&self, new: NewBlock) -> Result<BlockId, Error> {
        let (parent, seal) = {
            let state = self.state.lock();
            let mut era = state.era;
            if new.solution.is_some() {
                era.count_block(self.slots_per_block);
            }
            let rewarded = state.unsealed.clone();
            let NewBlock { slot, solution, signature } = new;
            (state.best, Seal { slot, solution, signature, rewarded, era })
        };
        let block = self.source.block(parent.number + 1, parent.hash, &seal)?;
        let best = self.store(&block)?;
        let mut state = self.state.lock();
        state.unsealed.drain(..seal.rewarded.len());
        state.sealed(best, &seal);
        drop(state);
        self.best_changed.notify_all();
        Ok(best)
    }

    /// Stores the next block as another node of the chain made it.
    pub(crate) fn import(&self, block: &SignedBlock) -> Result<BlockId, Unfit> {
        let parent = self.best();
        let BlockHeader { number, parent_hash, extrinsics_root, .. } = &block.header;
        if *number != parent.number + 1 || *parent_hash != parent.hash {
            return Err(Unfit::Parent { number: *number });
        }
        if *extrinsics_root != blake2b_256(&block.extrinsics.encode()) {
            return Err(Unfit::Damaged { number: *number, what: "a body that is not its header's" });
        }
        let seal = Seal::of(block).ok_or(Unfit::Damaged { number: *number, what: "no seal" })?;
        let best = self.store(block)?;
        let mut state = self.state.lock();
        for (slot, key) in &seal.rewarded {
            state.rewarded.insert(*key, *slot);
        }
        state.forget_rewards(seal.slot);
        state.sealed(best, &seal);
        drop(state);
        self.best_changed.notify_all();
        Ok(best)
    }

    /// Whether the last block that this chain has in common with the one it follows is there; it goes on alone then.
    pub(crate) fn leave_at_fork(&self) -> bool {
        let mut state = self.state.lock();
        let left = self.source.fork().is_some_and(|at| state.best.number >= at);
        if left && state.forked_after.is_none() {
            state.forked_after = Some(state.last_slot);
        }
        left
    }

    /// Proof of time of a slot of this chain.
    pub(crate) fn proof_of_time(&self, slot: SlotNumber) -> PotOutput {
        let forked = self.state.lock().forked_after.is_some_and(|after| slot > after);
        self.source.proof_of_time(slot, forked)
    }

    /// Stores a block and moves what is final. No lock is held while the database may block.
    fn store(&self, block: &SignedBlock) -> Result<BlockId, Error> {
        let best = self.db.insert_best_block(block)?;
        let finalized = best.number.saturating_sub(self.parameters().confirmation_depth);
        if let Some(id) = self.db.block_id(finalized)? {
            self.db.set_finalized(id)?;
        }
        Ok(best)
    }

    /// Waits until block `number` is there, for at most `timeout`.
    pub(crate) fn wait_for_block(&self, number: BlockNumber, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        if state.best.number < number {
            self.best_changed.wait_for(&mut state, timeout);
        }
        state.best.number >= number
    }

    /// Whether a solution with this key was rewarded in the window before `slot`.
    pub(crate) fn is_rewarded(&self, key: &Blake3Hash) -> bool {
        self.state.lock().rewarded.contains_key(key)
    }

    /// Notes a solution as rewarded and forgets those out of the window; false if it was rewarded already.
    pub(crate) fn reward(&self, slot: SlotNumber, key: Blake3Hash) -> bool {
        let mut state = self.state.lock();
        if state.rewarded.contains_key(&key) {
            return false;
        }
        state.rewarded.insert(key, slot);
        state.unsealed.push((slot, key));
        state.forget_rewards(slot);
        true
    }

    /// A block's bytes and objects for the archiver. Every extrinsic is an object, found at its length prefix.
    pub(crate) fn block_for_archiving(
        &self,
        number: BlockNumber,
    ) -> Result<(Vec<u8>, BlockObjectMapping), Error> {
        use parity_scale_codec::Compact;
        let block = self.db.canonical_block(number)?;
        let mut offset = block.header.encoded_size() + Compact(block.extrinsics.len() as u32).encoded_size();
        let mut objects = Vec::with_capacity(block.extrinsics.len());
        for extrinsic in &block.extrinsics {
            let hash = primitives::hashes::blake3_hash(extrinsic);
            objects.push(BlockObject { hash, offset: offset as u32 });
            offset += extrinsic.encoded_size();
        }
        Ok((block.encode_for_archiving(), BlockObjectMapping::V0 { objects }))
    }

    /// Header of a segment.
    pub(crate) fn segment_header(&self, index: SegmentIndex) -> Option<SegmentHeader> {
        self.headers.read().get(usize::try_from(index.0).ok()?).copied()
    }

    /// The newest `limit` headers, ascending.
    pub(crate) fn last_segment_headers(&self, limit: usize) -> Vec<SegmentHeader> {
        let headers = self.headers.read();
        headers[headers.len().saturating_sub(limit)..].to_vec()
    }

    /// The newest header.
    pub(crate) fn newest_segment_header(&self) -> Option<SegmentHeader> {
        self.headers.read().last().copied()
    }

    /// Archived segments; none before the genesis segment.
    pub(crate) fn history_size(&self) -> Option<HistorySize> {
        HistorySize::new(self.headers.read().len() as u64)
    }

    /// Stores the next segment's header.
    pub(crate) fn append_segment_header(&self, header: SegmentHeader) -> Result<(), Error> {
        self.db.append_segment_headers(&[header])?;
        self.headers.write().push(header);
        Ok(())
    }

    /// What the protocol asks of sectors; none before the genesis segment.
    pub(crate) fn protocol_info(&self) -> Option<FarmerProtocolInfo> {
        let parameters = self.parameters();
        let valid = "the range of the parameter was checked";
        Some(FarmerProtocolInfo {
            history_size: self.history_size()?,
            max_pieces_in_sector: parameters.pieces_in_sector,
            recent_segments: HistorySize::new(parameters.recent_segments).expect(valid),
            recent_history_fraction: Config::recent_history_fraction(),
            min_sector_lifetime: HistorySize::new(parameters.min_sector_lifetime).expect(valid),
        })
    }
}

/// What the parameters of the chain in `db` differ in.
fn difference(db: &NodeDb, asked: &ChainParameters) -> Result<String, Error> {
    Ok(difference_to(&db.canonical_block(0)?, asked))
}

/// What the parameters of the chain with this genesis block differ in.
pub(crate) fn difference_to(genesis: &SignedBlock, asked: &ChainParameters) -> String {
    let there = genesis.extrinsics.first().map(|bytes| ChainParameters::decode_all(&mut bytes.as_slice()));
    match there {
        Some(Ok(there)) => there.difference(asked),
        _ => "it is no development chain's".to_owned(),
    }
}

/// The seal of a block; none of genesis.
fn seal_of(db: &NodeDb, config: &Config, number: BlockNumber) -> Result<Seal, Error> {
    let missing = |what: &str| {
        let reason = format!("block {number} has no {what}");
        Error::Damaged { path: PathBuf::from(&config.data), reason }
    };
    let id = db.block_id(number)?.ok_or_else(|| missing("lookup key"))?;
    let justifications = db.justifications(id)?.unwrap_or_default();
    Seal::among(&justifications).ok_or_else(|| missing("seal"))
}

/// The state after the best block, from the seals of the newest blocks.
fn recover(db: &NodeDb, config: &Config) -> Result<State, Error> {
    let best = db.best()?;
    let mut state = State {
        best,
        last_slot: 0,
        era: Era::new(config.first_solution_range()),
        forked_after: None,
        rewarded: HashMap::new(),
        unsealed: Vec::new(),
    };
    if let Some(at) = config.fork_at.filter(|at| *at <= best.number) {
        state.forked_after = Some(if at == 0 { 0 } else { seal_of(db, config, at)?.slot });
    }
    for number in (1..=best.number).rev() {
        let seal = seal_of(db, config, number)?;
        if number == best.number {
            state.last_slot = seal.slot;
            state.era = seal.era;
        }
        if seal.slot + REWARD_WINDOW_SLOTS < state.last_slot || seal.slot == 0 {
            break;
        }
        state.rewarded.extend(seal.rewarded.into_iter().map(|(slot, key)| (key, slot)));
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ERA_BLOCKS;
    use primitives::PublicKey;

    fn config(directory: &std::path::Path) -> Config {
        Config { block_bytes: 100, confirmation_depth: 3, ..Config::new(directory.to_owned()) }
    }

    fn solution() -> Solution {
        Solution {
            public_key: PublicKey([1; 32]),
            reward_address: PublicKey([2; 32]),
            sector_index: 3,
            history_size: HistorySize::ONE,
            piece_offset: Default::default(),
            record_commitment: Default::default(),
            record_witness: Default::default(),
            chunk: Default::default(),
            chunk_witness: Default::default(),
            proof_of_space: Default::default(),
        }
    }

    #[test]
    fn a_restart_recovers_blocks_era_and_rewards() {
        let directory = tempfile::tempdir().expect("made");
        let config = config(directory.path());
        let chain = Chain::open(&config).expect("begun");
        let (genesis, key) = (chain.genesis_hash(), Blake3Hash([4; 32]));
        assert_eq!(chain.best().hash, genesis.0);
        let first_era = chain.era();
        // A whole era and a bit, twice as fast as asked for.
        let blocks = u64::from(ERA_BLOCKS) + 1;
        for block in 0..blocks {
            for _ in 0..config.slots_per_block / 2 {
                chain.count_slot();
            }
            let slot = 1000 + block * config.slots_per_block / 2;
            if block + 1 == blocks {
                assert!(chain.reward(slot, key));
                assert!(!chain.reward(slot, key), "once");
            }
            let new = NewBlock { slot, solution: Some(solution()), signature: None };
            chain.make_block(new).expect("made");
        }
        let (best, era) = (chain.best(), chain.era());
        assert_eq!(best.number, ERA_BLOCKS + 1);
        assert_eq!(era.solution_range, first_era.solution_range / 2);
        assert_eq!((era.blocks, era.slots), (1, config.slots_per_block / 2));
        assert_eq!(chain.db().finalized().expect("read").number, best.number - 3);
        let last_slot = chain.last_slot();
        drop(chain);

        let chain = Chain::open(&config).expect("opened");
        assert_eq!((chain.genesis_hash(), chain.best(), chain.era()), (genesis, best, era));
        assert_eq!(chain.last_slot(), last_slot);
        assert!(chain.is_rewarded(&key), "in the window");
        assert!(chain.reward(last_slot + REWARD_WINDOW_SLOTS + 1, Blake3Hash([5; 32])));
        assert!(!chain.is_rewarded(&key), "out of the window");
        drop(chain);

        let other = Config { seed: "other".to_owned(), ..config };
        let error = Chain::open(&other).err().expect("refused");
        assert!(matches!(error, Error::OtherChain { .. }), "{error}");
    }

    #[test]
    fn objects_lie_where_their_mapping_says() {
        let directory = tempfile::tempdir().expect("made");
        let chain = Chain::open(&config(directory.path())).expect("begun");
        chain.make_block(NewBlock::default()).expect("made");
        let (bytes, mapping) = chain.block_for_archiving(1).expect("read");
        let block = chain.db().canonical_block(1).expect("read");
        let object = mapping.objects()[0];
        assert_eq!(object.hash, primitives::hashes::blake3_hash(&block.extrinsics[0]));
        let encoded = Encode::encode(&block.extrinsics[0]);
        assert_eq!(bytes[object.offset as usize..][..encoded.len()], encoded);
    }
}
