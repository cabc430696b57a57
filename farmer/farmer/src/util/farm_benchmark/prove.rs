//! How long it takes from a slot to a solution.

use super::audit::Auditor;
use super::{FARMING_TIMEOUT, Outcome, in_words, seconds, verdict, verdict_in_words};
use crate::roles::{Error, plot_client};
use crate::util::farms::OpenedFarm;
use crate::util::latencies::Latencies;
use crate::util::output;
use archiving::Kzg;
use farming::audit::{AuditScratch, audit_sector};
use farming::proving::{
    CpuProver, ProofTarget, ProvableChunk, Prover, prepare_proof_request, provable_chunks,
};
use farming::sector::RecordChunksMode;
use farming::verification::verify_solution_for_challenge;
use primitives::{Blake3Hash, SectorIndex, SolutionRange};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Every encoded chunk of the audited s-bucket wins.
const RANGE: SolutionRange = SolutionRange::MAX;
/// Sectors that are tried for a chunk: of each s-bucket of a sector about one in two is encoded.
const TRIES: usize = 100;

/// A sector that could not be used, and why.
type BadSector = (SectorIndex, String);

#[derive(Default)]
struct Times {
    reading: Latencies,
    proving: Latencies,
    verifying: Latencies,
    total: Latencies,
}

struct Measured<'a> {
    opened: &'a OpenedFarm,
    auditor: Auditor<'a>,
    times: Times,
    bad: Vec<BadSector>,
}

/// Proves with one farm after the other.
pub(super) fn run(farms: &[OpenedFarm], kzg: &Kzg, proofs: usize) -> Result<Outcome, Error> {
    let prover = CpuProver::new(kzg.clone());
    let bar = output::progress_bar((farms.len() * proofs) as u64, "proofs");
    let mut measured = Vec::new();
    for opened in farms {
        let auditor = Auditor::new(opened, plot_client::audit_threads(farms.len()))?;
        let mut farm = Measured { opened, auditor, times: Times::default(), bad: Vec::new() };
        for _ in 0..proofs {
            farm.prove(kzg, &prover);
            bar.inc(1);
        }
        measured.push(farm);
    }
    bar.finish_and_clear();
    let named = |wanted: &dyn Fn(&Measured<'_>) -> bool| {
        measured.iter().filter(|farm| wanted(farm)).map(Measured::name).collect::<Vec<_>>()
    };
    let damaged =
        named(&|farm| !farm.bad.is_empty() || farm.auditor.unreadable() > 0 || farm.times.total.count() == 0);
    let slow = named(&|farm| !farm.fast_enough());
    Ok(Outcome {
        farms: measured.iter().map(Measured::to_json).collect(),
        text: measured.iter().map(Measured::to_text).collect(),
        verdict: verdict(&damaged, &slow, "audit and proof have to be done four seconds after the slot"),
    })
}

impl Measured<'_> {
    fn name(&self) -> String {
        self.opened.farm.directory().display().to_string()
    }

    fn fast_enough(&self) -> bool {
        self.times.total.longest() < FARMING_TIMEOUT
    }

    /// One slot: an audit of all sectors, then a chunk of one of them.
    fn prove(&mut self, kzg: &Kzg, prover: &CpuProver) {
        let (challenge, chunk) = match self.find_chunk() {
            Ok(found) => found,
            Err(bad) => return self.bad.push(bad),
        };
        let audited = self.auditor.audit(&challenge);
        let sector_index = chunk.sector.sector_index;
        if let Err(reason) = self.prove_chunk(kzg, prover, &challenge, &chunk, audited) {
            self.bad.push((sector_index, reason));
        }
    }

    /// A challenge and a chunk of a random sector that wins with it.
    fn find_chunk(&self) -> Result<(Blake3Hash, ProvableChunk), BadSector> {
        let farm = &self.opened.farm;
        let sectors: Vec<_> = farm.sectors().iter().flatten().cloned().collect();
        let mut last = 0;
        for _ in 0..TRIES {
            let sector = &sectors[rand::random_range(0..sectors.len())];
            last = sector.sector_index;
            let challenge = Blake3Hash(rand::random());
            let scratch = &mut AuditScratch::default();
            let audited = audit_sector(farm.plot(), sector, &challenge, RANGE, scratch);
            let Some(found) = audited.map_err(|error| (last, error.to_string()))? else { continue };
            let chunks = provable_chunks(farm.plot(), &found).map_err(|error| (last, error.to_string()))?;
            if let Some(chunk) = chunks.into_iter().next() {
                return Ok((challenge, chunk));
            }
        }
        Err((last, format!("no chunk to prove was found in {TRIES} tries")))
    }

    fn prove_chunk(
        &mut self,
        kzg: &Kzg,
        prover: &CpuProver,
        challenge: &Blake3Hash,
        chunk: &ProvableChunk,
        audited: Duration,
    ) -> Result<(), String> {
        let public_key = self.opened.farm.public_key();
        let target = ProofTarget {
            slot_number: 0,
            global_challenge: *challenge,
            public_key,
            reward_address: public_key,
        };
        let started = Instant::now();
        let input =
            prepare_proof_request(self.opened.farm.plot(), chunk, &target, RecordChunksMode::default())
                .map_err(|error| error.to_string())?;
        let read = started.elapsed();
        let solution = prover.prove(&input).map_err(|error| error.to_string())?;
        let proved = started.elapsed();
        verify_solution_for_challenge(kzg, &solution, challenge, RANGE, None)
            .map_err(|error| format!("its solution is none: {error}"))?;
        let verified = started.elapsed();
        self.times.reading.record(read);
        self.times.proving.record(proved.saturating_sub(read));
        self.times.verifying.record(verified.saturating_sub(proved));
        self.times.total.record(audited + verified);
        Ok(())
    }

    fn to_json(&self) -> Value {
        let bad = self.bad.iter().map(|(sector, reason)| json!({ "sector": sector, "reason": reason }));
        json!({
            "path": self.opened.farm.directory(),
            "id": self.opened.farm.id().to_string(),
            "in_use": self.opened.in_use,
            "sectors_plotted": self.opened.plotted(),
            "sectors_unreadable": self.auditor.unreadable(),
            "proofs": self.times.total.count(),
            "audit_seconds": seconds(self.auditor.times()),
            "read_seconds": seconds(&self.times.reading),
            "prove_seconds": seconds(&self.times.proving),
            "verify_seconds": seconds(&self.times.verifying),
            "total_seconds": seconds(&self.times.total),
            "limit_seconds": FARMING_TIMEOUT.as_secs_f64(),
            "fast_enough": self.fast_enough(),
            "bad_sectors": bad.collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let Times { reading, proving, verifying, total } = &self.times;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}: {} proofs, from the slot to the solution {}; {}",
            self.name(),
            total.count(),
            in_words(total),
            verdict_in_words(self.fast_enough())
        );
        for (what, times) in
            [("audit", self.auditor.times()), ("read", reading), ("prove", proving), ("verify", verifying)]
        {
            let _ = writeln!(text, "  {what:<6} {}", in_words(times));
        }
        for (sector, reason) in &self.bad {
            let _ = writeln!(text, "  sector {sector}: {reason}");
        }
        text
    }
}
