//! `farming/sector_ids.json`: derivations.

use farming::expiry::{Expiry, deciding_segment, sector_expiry};
use primitives::pot::PotOutput;
use primitives::sectors::SectorSlotChallenge;
use primitives::solutions::{pieces_to_solution_range, solution_distance};
use primitives::{Blake3Hash, HistorySize, PieceOffset, PublicKey, SectorId, SegmentCommitment};
use vectors::{Decimal, Hex};

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    global_challenges: Vec<GlobalChallenge>,
    pieces_to_solution_range: Vec<Range>,
    recent_history_fraction: (HistorySize, HistorySize),
    recent_segments: HistorySize,
    sectors: Vec<Sector>,
    seed: String,
    solution_distances: Vec<Distance>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GlobalChallenge {
    global_challenge: Blake3Hash,
    global_randomness: Blake3Hash,
    pot_output: PotOutput,
    slot: Decimal,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Range {
    pieces: u64,
    slot_probability: (u64, u64),
    solution_range: Decimal,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sector {
    challenges: Vec<Challenge>,
    evaluation_seeds: Vec<(u16, Hex)>,
    expiration: Expiration,
    history_size: HistorySize,
    pieces: Vec<Pieces>,
    public_key: PublicKey,
    public_key_hash: Blake3Hash,
    sector_id: SectorId,
    sector_index: u16,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Challenge {
    global_challenge: Blake3Hash,
    s_bucket_audit_index: u16,
    sector_slot_challenge: Hex,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expiration {
    check_at_history_size: HistorySize,
    expiration_history_size: Option<HistorySize>,
    min_sector_lifetime: HistorySize,
    segment_commitment_at_check: SegmentCommitment,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pieces {
    max_pieces_in_sector: u16,
    piece_indices: Vec<(u16, u64)>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Distance {
    audit_chunk: Hex,
    chunk: Hex,
    distance_if_within_max_range: Option<Decimal>,
    global_challenge: Blake3Hash,
    sector_slot_challenge: Hex,
}

#[test]
fn vectors_sector_ids() {
    let file: File = vectors::load("farming/sector_ids.json");
    assert_eq!(file.seed, "public-farming-1");
    for case in &file.global_challenges {
        assert_eq!(case.pot_output.derive_global_randomness(), case.global_randomness);
        assert_eq!(case.pot_output.derive_global_challenge(case.slot.0), case.global_challenge);
    }
    for case in &file.pieces_to_solution_range {
        let range = pieces_to_solution_range(case.pieces, case.slot_probability);
        assert_eq!(range, case.solution_range.0);
    }
    for sector in &file.sectors {
        check_sector(sector, &file);
    }
    for case in &file.solution_distances {
        let challenge = SectorSlotChallenge(case.sector_slot_challenge.array());
        let chunk = case.chunk.array();
        let audited = blake3::keyed_hash(&challenge.0, &chunk);
        assert_eq!(audited.as_bytes()[..], case.audit_chunk[..]);
        let distance = solution_distance(&case.global_challenge, &chunk, &challenge);
        // The reference says nothing of chunks beyond the largest range's half.
        let within = (distance <= u64::MAX / 2).then_some(distance);
        assert_eq!(within, case.distance_if_within_max_range.map(|distance| distance.0));
    }
    let counts = (file.global_challenges.len(), file.sectors.len(), file.solution_distances.len());
    assert_eq!(counts, (4, 6, 6), "no entry may go missing");
}

fn check_sector(sector: &Sector, file: &File) {
    assert_eq!(sector.public_key.hash(), sector.public_key_hash);
    let id = SectorId::new(&sector.public_key_hash, sector.sector_index, sector.history_size);
    assert_eq!(id, sector.sector_id);
    assert_eq!(sector.public_key.sector_id(sector.sector_index, sector.history_size), id);
    for challenge in &sector.challenges {
        let derived = id.derive_sector_slot_challenge(&challenge.global_challenge);
        assert_eq!(derived.0[..], challenge.sector_slot_challenge[..]);
        assert_eq!(derived.s_bucket_audit_index().0, challenge.s_bucket_audit_index);
    }
    for (offset, seed) in &sector.evaluation_seeds {
        assert_eq!(id.derive_evaluation_seed(PieceOffset(*offset)).0[..], seed[..]);
    }
    for pieces in &sector.pieces {
        for (offset, index) in &pieces.piece_indices {
            let derived = id.derive_piece_index(
                PieceOffset(*offset),
                sector.history_size,
                pieces.max_pieces_in_sector,
                file.recent_segments,
                file.recent_history_fraction,
            );
            assert_eq!(derived.0, *index, "offset {offset} of {}", pieces.max_pieces_in_sector);
        }
    }
    let expiration = &sector.expiration;
    let lifetime = expiration.min_sector_lifetime;
    let commitment = expiration.segment_commitment_at_check;
    assert_eq!(sector.history_size.sector_expiration_check(lifetime), Some(expiration.check_at_history_size));
    assert_eq!(
        deciding_segment(sector.history_size, lifetime),
        Some(expiration.check_at_history_size.segment_index())
    );
    assert_eq!(
        id.derive_expiration_history_size(sector.history_size, &commitment, lifetime),
        expiration.expiration_history_size
    );
    let expected =
        expiration.expiration_history_size.map_or(Expiry::Never, |at| Expiry::At(at.segment_index()));
    assert_eq!(sector_expiry(&id, sector.history_size, lifetime, |_| Some(commitment)), expected);
}
