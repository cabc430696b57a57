//! Conformance with the reference implementation: every entry and every field of its farming vectors.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "vectors/identity.rs"]
mod identity;
#[path = "vectors/sector_ids.rs"]
mod sector_ids;
#[path = "vectors/sectors.rs"]
mod sectors;
#[path = "vectors/solutions.rs"]
mod solutions;

use archiving::{Kzg, Srs};

/// KZG under the development string, cached with the other artefacts of the build.
fn development_kzg() -> Kzg {
    Kzg::new(Srs::development(std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap())
}

/// KZG under the live string; none, loudly, without it.
fn live_kzg(test: &str) -> Option<Kzg> {
    let kzg = Kzg::new(Srs::load(&vectors::live_srs(test)?).unwrap());
    assert_eq!(kzg.srs_kind(), archiving::SrsKind::Live);
    Some(kzg)
}
