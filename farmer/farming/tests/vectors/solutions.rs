//! `farming/solutions.json` and `farming/solutions_mutated.json`: verification. Proving is in `sectors`.

use crate::{development_kzg, live_kzg};
use archiving::Kzg;
use farming::verification::{
    PieceCheckParams, SolutionError, SolutionVerifyParams, verify_solution, verify_solution_for_challenge,
};
use parity_scale_codec::{Decode, Encode};
use primitives::pot::PotOutput;
use primitives::{Blake3Hash, HistorySize, SegmentCommitment, Solution, SolutionResponse};
use vectors::{Decimal, Hex};

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Solutions {
    pub(crate) seed: String,
    pub(crate) solutions: Vec<SolutionCase>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SolutionCase {
    pub(crate) best_distance_in_sector: Decimal,
    pub(crate) distance: Decimal,
    expect: Expect,
    pub(crate) global_challenge: Blake3Hash,
    pub(crate) order: usize,
    pub(crate) params: Params,
    pub(crate) sector: String,
    pub(crate) slot: Decimal,
    pub(crate) solution_json: serde_json::Value,
    solution_response_json: serde_json::Value,
    solution_response_scale: Hex,
    pub(crate) solution_scale: Hex,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Params {
    piece_check_params: Option<PieceParams>,
    proof_of_time: PotOutput,
    scale: Hex,
    pub(crate) solution_range: Decimal,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PieceParams {
    current_history_size: HistorySize,
    max_pieces_in_sector: u16,
    min_sector_lifetime: HistorySize,
    recent_history_fraction: (HistorySize, HistorySize),
    recent_segments: HistorySize,
    sector_expiration_check_segment_commitment: Option<SegmentCommitment>,
    segment_commitment: SegmentCommitment,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mutated {
    cases: Vec<MutatedCase>,
    seed: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MutatedCase {
    expect: Expect,
    mutation: String,
    params: Params,
    sector: String,
    slot: Decimal,
    solution_scale: Hex,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expect {
    ok: Option<Decimal>,
    error: Option<String>,
    detail: Option<String>,
}

impl Expect {
    fn check(&self, found: &Result<u64, SolutionError>, case: &str) {
        match (self, found) {
            (Self { ok: Some(distance), error: None, detail: None }, Ok(found)) => {
                assert_eq!(distance.0, *found, "{case}");
            }
            (Self { ok: None, error: Some(error), detail: Some(detail) }, Err(found)) => {
                assert_eq!((error.as_str(), detail.clone()), reference_form(found), "{case}");
            }
            _ => panic!("{case}: expected {:?}/{:?}, found {found:?}", self.ok, self.detail),
        }
    }
}

/// Name and debug form that the reference gives to a rejection.
fn reference_form(error: &SolutionError) -> (&'static str, String) {
    let plain = |name: &'static str| (name, name.to_owned());
    match error {
        SolutionError::InvalidProofOfSpace => plain("InvalidProofOfSpace"),
        SolutionError::OutsideSolutionRange { half_solution_range, solution_distance } => (
            "OutsideSolutionRange",
            format!(
                "OutsideSolutionRange {{ half_solution_range: {half_solution_range}, \
                 solution_distance: {solution_distance} }}"
            ),
        ),
        SolutionError::InvalidChunk(reason) => ("InvalidChunk", format!("InvalidChunk({reason:?})")),
        SolutionError::InvalidChunkWitness => plain("InvalidChunkWitness"),
        SolutionError::FutureHistorySize { current, solution } => (
            "FutureHistorySize",
            format!(
                "FutureHistorySize {{ current: HistorySize({current}), solution: HistorySize({solution}) }}"
            ),
        ),
        SolutionError::InvalidPieceOffset { piece_offset, max_pieces_in_sector } => (
            "InvalidPieceOffset",
            format!(
                "InvalidPieceOffset {{ piece_offset: {piece_offset}, \
                 max_pieces_in_sector: {max_pieces_in_sector} }}"
            ),
        ),
        SolutionError::InvalidHistorySize(_) => plain("InvalidHistorySize"),
        SolutionError::SectorExpired { expiration_history_size, current_history_size } => (
            "SectorExpired",
            format!(
                "SectorExpired {{ expiration_history_size: HistorySize({expiration_history_size}), \
                 current_history_size: HistorySize({current_history_size}) }}"
            ),
        ),
        SolutionError::InvalidPiece => plain("InvalidPiece"),
    }
}

impl Params {
    /// The parameters, from SCALE, after a comparison with the JSON.
    pub(crate) fn decode(&self) -> SolutionVerifyParams {
        let mut input = &self.scale[..];
        let params = SolutionVerifyParams::decode(&mut input).unwrap();
        assert!(input.is_empty());
        assert_eq!(params.encode(), self.scale.0);
        let expected = SolutionVerifyParams {
            proof_of_time: self.proof_of_time,
            solution_range: self.solution_range.0,
            piece_check_params: self.piece_check_params.as_ref().map(|params| PieceCheckParams {
                max_pieces_in_sector: params.max_pieces_in_sector,
                segment_commitment: params.segment_commitment,
                recent_segments: params.recent_segments,
                recent_history_fraction: params.recent_history_fraction,
                min_sector_lifetime: params.min_sector_lifetime,
                current_history_size: params.current_history_size,
                sector_expiration_check_segment_commitment: params.sector_expiration_check_segment_commitment,
            }),
        };
        assert_eq!(params, expected);
        params
    }
}

fn decode_solution(scale: &Hex) -> Solution {
    let mut input = &scale[..];
    let solution = Solution::decode(&mut input).unwrap();
    assert!(input.is_empty());
    assert_eq!(solution.encode(), scale.0);
    solution
}

const SECTORS: [&str; 4] = ["synthetic-2", "synthetic-3", "synthetic-10", "archived-4"];

/// All of both files.
fn check_verification(kzg: &Kzg, directory: &str, seed: &str) {
    let file: Solutions = vectors::load(&format!("{directory}/solutions.json"));
    assert_eq!(file.seed, seed);
    assert_eq!(file.solutions.len(), 24);
    for case in &file.solutions {
        let name = format!("{} slot {} order {}", case.sector, case.slot.0, case.order);
        let solution = decode_solution(&case.solution_scale);
        let params = case.params.decode();
        assert_eq!(params.proof_of_time.derive_global_challenge(case.slot.0), case.global_challenge);
        let found = verify_solution(kzg, &solution, case.slot.0, &params);
        assert_eq!(found, Ok(case.distance.0), "{name}");
        case.expect.check(&found, &name);
        let piece_check = params.piece_check_params.as_ref();
        assert_eq!(piece_check.is_some(), case.sector == "archived-4");
        assert_eq!(
            verify_solution_for_challenge(
                kzg,
                &solution,
                &case.global_challenge,
                params.solution_range,
                piece_check
            ),
            found
        );
        check_forms(case, &solution);
    }
    let file: Mutated = vectors::load(&format!("{directory}/solutions_mutated.json"));
    assert_eq!(file.seed, seed);
    assert_eq!(file.cases.len(), 212);
    for case in &file.cases {
        assert!(SECTORS.contains(&case.sector.as_str()));
        let solution = decode_solution(&case.solution_scale);
        let found = verify_solution(kzg, &solution, case.slot.0, &case.params.decode());
        case.expect.check(&found, &format!("{} slot {}: {}", case.sector, case.slot.0, case.mutation));
    }
}

/// JSON and SCALE of the solution and of the response that carries it.
fn check_forms(case: &SolutionCase, solution: &Solution) {
    assert!(SECTORS.contains(&case.sector.as_str()));
    assert!(case.best_distance_in_sector.0 <= case.distance.0);
    assert_eq!(case.order == 0, case.best_distance_in_sector == case.distance);
    assert_eq!(serde_json::to_value(solution).unwrap(), case.solution_json);
    assert_eq!(&serde_json::from_value::<Solution>(case.solution_json.clone()).unwrap(), solution);
    let response = SolutionResponse { slot_number: case.slot.0, solution: solution.clone() };
    assert_eq!(response.encode(), case.solution_response_scale.0);
    assert_eq!(SolutionResponse::decode(&mut &case.solution_response_scale[..]).unwrap(), response);
    assert_eq!(serde_json::to_value(&response).unwrap(), case.solution_response_json);
    assert_eq!(
        serde_json::from_value::<SolutionResponse>(case.solution_response_json.clone()).unwrap(),
        response
    );
}

/// No solution made under another string verifies.
fn check_rejection(kzg: &Kzg, directory: &str) {
    let file: Solutions = vectors::load(&format!("{directory}/solutions.json"));
    for case in &file.solutions {
        let found =
            verify_solution(kzg, &decode_solution(&case.solution_scale), case.slot.0, &case.params.decode());
        assert_eq!(found, Err(SolutionError::InvalidChunkWitness));
    }
}

#[test]
fn vectors_dev_solutions_verify() {
    let kzg = development_kzg();
    check_verification(&kzg, "dev/farming", "dev-public-farming-1");
    check_rejection(&kzg, "farming");
}

#[test]
fn vectors_live_solutions_verify() {
    let Some(kzg) = live_kzg("vectors_live_solutions_verify") else { return };
    check_verification(&kzg, "farming", "public-farming-1");
    check_rejection(&kzg, "dev/farming");
}
