//! Where plotting gets its pieces: caches in the order of the design, reconstruction, at last a controller.

pub mod caches;
pub mod check;
pub mod collect;
pub mod directory;
pub mod recovery;

pub use check::{PieceCheck, SegmentCommitments};
pub use collect::{Check, Collection, Source, collect};

use archiving::Kzg;
use caches::{CacheSource, Caches};
use cluster::ClusterClient;
use directory::{Selection, local_addresses};
use recovery::{Controllers, Reconstruction};
use std::sync::Arc;

/// Where pieces come from, and how it is known that they are good.
pub struct PieceSources {
    /// In the order in which they are asked.
    pub sources: Vec<Box<dyn Source>>,
    /// Tells good pieces from bad ones.
    pub check: Arc<dyn Check>,
}

impl PieceSources {
    /// The order of the design: caches of this host if they have priority, shard owners, full copies, reconstruction from
    /// any 128 pieces of the segment, a controller.
    pub fn new(
        client: &ClusterClient,
        kzg: &Kzg,
        caches: Caches,
        pool: &Arc<rayon::ThreadPool>,
        priority_cache: bool,
    ) -> Self {
        let commitments = Arc::new(SegmentCommitments::new(client.clone()));
        let check: Arc<dyn Check> = Arc::new(PieceCheck::new(kzg.clone(), commitments, Arc::clone(pool)));
        let caches = Arc::new(caches);
        let mut selections = vec![Selection::Owners, Selection::Full, Selection::NextOwners];
        if priority_cache {
            let addresses = local_addresses();
            tracing::info!(?addresses, "Caches at these addresses are asked first");
            selections.insert(0, Selection::At(addresses));
        }
        let source = |selection: &Selection| -> Box<dyn Source> {
            Box::new(CacheSource { caches: Arc::clone(&caches), selection: selection.clone() })
        };
        let reconstruction = Reconstruction {
            sources: selections.iter().map(source).collect(),
            check: Arc::clone(&check),
            kzg: kzg.clone(),
            pool: Arc::clone(pool),
            turn: tokio::sync::Mutex::default(),
        };
        let mut sources: Vec<_> = selections.iter().map(source).collect();
        sources.push(Box::new(reconstruction));
        sources.push(Box::new(Controllers { client: client.clone() }));
        Self { sources, check }
    }
}
