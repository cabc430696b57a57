//! The cases of farming. There is one place for each: the benches beside this file and the driver (`bench`) both take
//! them from here.

use farming::audit::{AuditOutcome, AuditScratch, audit_plot, audit_sector};
use farming::encoding::{EncodedSector, PieceInput, SectorEncoder, SectorPlan};
use farming::io::ReadAt;
use farming::plot::SectorState;
use farming::proving::{CpuProver, ProofTarget, Prover, prepare_proof_request, provable_chunks};
use farming::sector::RecordChunksMode;
use primitives::sectors::SectorMetadata;
use primitives::{
    Blake3Hash, FarmerProtocolInfo, HistorySize, Piece, PieceOffset, PublicKey, SectorGeometry, Solution,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The farm's key.
pub(crate) const PUBLIC_KEY: PublicKey = PublicKey([0x11; 32]);
/// Pieces in a sector of a full-sized farm.
pub(crate) const PIECES_IN_SECTOR: u16 = 1000;

fn hash(label: &str) -> Blake3Hash {
    Blake3Hash(vectors::xof(label, 32).try_into().expect("32 bytes"))
}

/// A piece whose record is BLAKE3-XOF("bench/record/i").
fn piece(index: u16) -> Piece {
    let mut piece = Piece::zeroed();
    let bytes = vectors::xof(&format!("bench/record/{index}"), 31 * 32768);
    for (chunk, bytes) in piece.record_chunks_mut().iter_mut().zip(bytes.as_chunks::<31>().0) {
        chunk[1..].copy_from_slice(bytes);
    }
    piece
}

/// A sector to be plotted from memory to memory.
pub(crate) struct Plotting {
    plan: SectorPlan,
    pieces: Vec<Piece>,
}

impl Plotting {
    /// A sector of so many pieces.
    pub(crate) fn new(pieces: u16) -> Self {
        let size = |segments| HistorySize::new(segments).expect("not zero");
        let info = FarmerProtocolInfo {
            history_size: size(1),
            max_pieces_in_sector: pieces,
            recent_segments: size(5),
            recent_history_fraction: (size(1), size(10)),
            min_sector_lifetime: size(4),
        };
        let plan = SectorPlan::new(PUBLIC_KEY, 0, pieces, info).expect("the protocol allows it");
        Self { plan, pieces: (0..pieces).map(piece).collect() }
    }

    /// Bytes of the sector.
    pub(crate) fn sector_size(&self) -> usize {
        self.plan.geometry().sector_size()
    }

    /// Encodes the sector on the current pool.
    pub(crate) fn encode(&self, encoder: &mut SectorEncoder) -> EncodedSector {
        let source = |offset: PieceOffset| Ok(PieceInput::Piece(self.pieces[usize::from(offset.0)].clone()));
        encoder.encode(&self.plan, &source, &|_| {}, &AtomicBool::new(false)).expect("all pieces are there")
    }

    /// Encodes the sector and writes its bytes, with contents map, record metadata and checksum.
    pub(crate) fn plot(&self, encoder: &mut SectorEncoder, sector: &mut Vec<u8>) {
        sector.clear();
        self.encode(encoder).write_to(sector).expect("memory can be written");
    }
}

/// A plotted sector of four pieces, and challenges it wins.
pub(crate) struct Proving {
    /// The sector's bytes.
    pub(crate) sector: Vec<u8>,
    state: Arc<SectorState>,
    challenges: Vec<Blake3Hash>,
}

impl Proving {
    /// Plots it and finds so many challenges.
    pub(crate) fn new(challenges: usize) -> Self {
        let threads = rayon::current_num_threads();
        let encoded = Plotting::new(4).encode(&mut SectorEncoder::cpu(threads));
        let state = SectorState::from_metadata(&PUBLIC_KEY, encoded.metadata());
        let state = Arc::new(state.expect("the encoder counts chunks correctly"));
        let sector = encoded.to_bytes();
        let wins = |challenge: &Blake3Hash| {
            let scratch = &mut AuditScratch::default();
            let found = audit_sector(&sector, &state, challenge, u64::MAX, scratch).expect("it is in memory");
            found.is_some_and(|found| !provable_chunks(&sector, &found).expect("it is sound").is_empty())
        };
        let all = (0u32..).map(|i| hash(&format!("bench/challenge/{i}")));
        let challenges = all.filter(wins).take(challenges).collect();
        Self { sector, state, challenges }
    }

    /// Audit and first solution of one of the challenges, in turn, read from `plot`, which holds the sector.
    pub(crate) fn solve(&self, plot: &impl ReadAt, prover: &CpuProver, run: usize) -> Solution {
        let challenge = &self.challenges[run % self.challenges.len()];
        let found = audit_sector(plot, &self.state, challenge, u64::MAX, &mut AuditScratch::default());
        let found = found.expect("the sector can be read").expect("the challenge wins");
        let provable = provable_chunks(plot, &found).expect("the sector is sound");
        let target = ProofTarget {
            slot_number: 1,
            global_challenge: *challenge,
            public_key: PUBLIC_KEY,
            reward_address: PUBLIC_KEY,
        };
        let mode = RecordChunksMode::ConcurrentChunks;
        let input = prepare_proof_request(plot, &provable[0], &target, mode).expect("the sector is sound");
        prover.prove(&input).expect("the sector is sound")
    }
}

/// Metadata of a synthetic sector of 1,000 pieces, 500 chunks in each s-bucket.
pub(crate) fn synthetic_metadata() -> SectorMetadata {
    let mut metadata = SectorMetadata::dummy(0, PIECES_IN_SECTOR);
    metadata.s_bucket_sizes.fill(PIECES_IN_SECTOR / 2);
    metadata
}

/// The challenges of slots.
pub(crate) fn slots() -> impl Iterator<Item = Blake3Hash> {
    (0u32..).map(|i| hash(&format!("bench/slot/{i}")))
}

/// 1,024 sectors of 1,000 pieces, pointing to four synthetic ones in memory in turn: 4.3 GB.
pub(crate) struct Auditing {
    plot: Vec<u8>,
    states: Vec<Option<Arc<SectorState>>>,
    slots: Vec<Blake3Hash>,
}

impl Auditing {
    /// Sectors to be audited in a slot.
    pub(crate) const SECTORS: u16 = 1024;
    /// Slots with challenges of their own.
    pub(crate) const SLOTS: usize = 20;
    const DISTINCT: usize = 4;

    /// Makes the sectors' bytes: BLAKE3-XOF("bench/sector/i").
    pub(crate) fn new() -> Self {
        let size = SectorGeometry::new(PIECES_IN_SECTOR).sector_size();
        let mut plot = vec![0; size * Self::DISTINCT];
        for (index, sector) in plot.chunks_mut(size).enumerate() {
            vectors::xof_into(&format!("bench/sector/{index}"), sector);
        }
        let mut metadata = synthetic_metadata();
        let state = |sector_index| {
            metadata.sector_index = sector_index;
            let mut state = SectorState::from_metadata(&PUBLIC_KEY, &metadata).expect("the sizes add up");
            state.plot_offset = (size * (usize::from(sector_index) % Self::DISTINCT)) as u64;
            Some(Arc::new(state))
        };
        Self {
            plot,
            states: (0..Self::SECTORS).map(state).collect(),
            slots: slots().take(Self::SLOTS).collect(),
        }
    }

    /// Audits all sectors in one slot on the current pool; no chunk wins.
    pub(crate) fn audit(&self, slot: usize) {
        let challenge = &self.slots[slot % self.slots.len()];
        let AuditOutcome { candidates, errors, .. } =
            audit_plot(&self.plot, Path::new("memory"), &self.states, challenge, 1, None);
        assert!(candidates.is_empty() && errors.is_empty(), "the range lets no chunk win");
    }
}
