//! Every entry of the vector files of erasure coding, commitments, archiver and reconstruction.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "vectors/chain.rs"]
mod chain;
#[path = "vectors/edges.rs"]
mod edges;
#[path = "vectors/erasure_kzg.rs"]
mod erasure_kzg;
#[path = "vectors/helpers.rs"]
mod helpers;

use archiving::{Kzg, Srs, SrsKind};

/// KZG under the development string, cached among the build's files.
fn development() -> Kzg {
    let cache = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let srs = Srs::development(cache).unwrap();
    assert_eq!(srs.kind(), SrsKind::Development);
    Kzg::new(srs)
}

/// KZG under the live string; none, said loudly, when the environment does not name it.
fn live(test: &str) -> Option<Kzg> {
    let srs = Srs::load(&::vectors::live_srs(test)?).unwrap();
    assert_eq!(srs.kind(), SrsKind::Live);
    Some(Kzg::new(srs))
}
