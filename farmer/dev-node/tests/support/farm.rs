//! A farm in memory: one sector plotted from the node's own pieces, audited and proved.
#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)]

use archiving::{Kzg, verify_piece};
use farming::audit::audit_sector;
use farming::encoding::{SectorEncoder, SectorPlan};
use farming::identity::Identity;
use farming::plot::SectorState;
use farming::proving::{CpuProver, ProofTarget, Prover, prepare_proof_request, provable_chunks};
use farming::sector::RecordChunksMode;
use node::NodeClient;
use primitives::{FarmerProtocolInfo, Piece, PieceOffset, SectorIndex, SlotInfo, Solution, SolutionResponse};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub struct Farm {
    pub identity: Arc<Identity>,
    prover: Arc<CpuProver>,
    sector: Arc<SectorState>,
    bytes: Arc<Vec<u8>>,
}

impl Farm {
    /// Plots a sector at the history size of `protocol`, from pieces of the node that are verified first.
    pub async fn plot(
        client: &NodeClient,
        kzg: &Kzg,
        sector_index: SectorIndex,
        protocol: FarmerProtocolInfo,
    ) -> Self {
        let identity = Arc::new(Identity::from_entropy(&[5; 32]).unwrap());
        let pieces_in_sector = protocol.max_pieces_in_sector;
        let plan = SectorPlan::new(identity.public_key(), sector_index, pieces_in_sector, protocol).unwrap();
        let mut pieces: Vec<Piece> = Vec::new();
        for index in plan.piece_indexes() {
            let header = client.segment_headers(&[index.segment_index()]).await.unwrap()[0].unwrap();
            let piece = client.piece(index).await.unwrap().unwrap();
            verify_piece(kzg, &piece, &header.segment_commitment(), index.position()).unwrap();
            pieces.push(piece);
        }
        let (sector, bytes) = tokio::task::spawn_blocking(move || {
            let source = |offset: PieceOffset| Ok(pieces[usize::from(offset.0)].clone().into());
            let encoded =
                SectorEncoder::cpu(1).encode(&plan, &source, &|_| (), &AtomicBool::new(false)).unwrap();
            let mut sector = SectorState::from_metadata(&plan.public_key(), encoded.metadata()).unwrap();
            // The only sector of its plot, whatever its index.
            sector.plot_offset = 0;
            (Arc::new(sector), Arc::new(encoded.to_bytes()))
        })
        .await
        .unwrap();
        Self { identity, prover: Arc::new(CpuProver::new(kzg.clone())), sector, bytes }
    }

    /// The best solution for a slot, if there is one.
    pub async fn solve(&self, slot: SlotInfo) -> Option<SolutionResponse> {
        let (sector, bytes, prover) =
            (Arc::clone(&self.sector), Arc::clone(&self.bytes), Arc::clone(&self.prover));
        let public_key = self.identity.public_key();
        tokio::task::spawn_blocking(move || {
            let SlotInfo { slot_number, global_challenge, voting_solution_range, .. } = slot;
            let audited = audit_sector(
                &*bytes,
                &sector,
                &global_challenge,
                voting_solution_range,
                &mut Default::default(),
            );
            let chunk = provable_chunks(&*bytes, &audited.unwrap()?).unwrap().into_iter().next()?;
            let target =
                ProofTarget { slot_number, global_challenge, public_key, reward_address: public_key };
            let mode = RecordChunksMode::WholeSector;
            let input = prepare_proof_request(&*bytes, &chunk, &target, mode).unwrap();
            let solution: Solution = prover.prove(&input).unwrap();
            Some(SolutionResponse { slot_number, solution })
        })
        .await
        .unwrap()
    }
}
