//! Where plotting gets its pieces: caches in the order of the design, reconstruction, at last a controller.

pub mod caches;
pub mod check;
pub mod collect;
pub mod directory;
pub mod recovery;

pub use check::{PieceCheck, SegmentCommitments};
pub use collect::{Arrival, Check, Collection, Source, collect};

use archiving::Kzg;
use async_trait::async_trait;
use caches::{CacheSource, Caches};
use cluster::ClusterClient;
use cluster::transfer::ItemType;
use directory::{Selection, local_addresses};
use recovery::{Controllers, Reconstruction};
use std::sync::Arc;

/// How pieces are asked for.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// The form that is asked of the caches that hold it; the others are asked for plain pieces.
    pub form: ItemType,
    /// Caches of this host are asked first, for all they hold.
    pub priority_cache: bool,
}

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
        options: &SourceOptions,
    ) -> Self {
        let commitments = Arc::new(SegmentCommitments::new(client.clone()));
        let check: Arc<dyn Check> = Arc::new(PieceCheck::new(kzg.clone(), commitments, Arc::clone(pool)));
        let (caches, selections) = (Arc::new(caches), selections(options.priority_cache));
        let reconstruction = Reconstruction {
            sources: cache_sources(&caches, &selections, ItemType::Piece),
            check: Arc::clone(&check),
            kzg: kzg.clone(),
            pool: Arc::clone(pool),
            turn: tokio::sync::Mutex::default(),
        };
        let mut sources = cache_sources(&caches, &selections, options.form);
        sources.push(Box::new(reconstruction));
        sources.push(Box::new(Controllers { client: client.clone() }));
        Self { sources, check }
    }

    /// The caches alone, in the order of the design, and no check but that of the transfer, which compares every piece with
    /// the hash that its cache has stored: for measurements without a reference string.
    pub fn caches_only(caches: Caches, options: &SourceOptions) -> Self {
        let sources = cache_sources(&Arc::new(caches), &selections(options.priority_cache), options.form);
        Self { sources, check: Arc::new(AsTransferred) }
    }
}

/// In which order caches are asked.
fn selections(priority_cache: bool) -> Vec<Selection> {
    let mut selections = vec![Selection::Owners, Selection::Full, Selection::NextOwners];
    if priority_cache {
        let addresses = local_addresses();
        tracing::info!(?addresses, "Caches at these addresses are asked first");
        selections.insert(0, Selection::At(addresses));
    }
    selections
}

fn cache_sources(caches: &Arc<Caches>, selections: &[Selection], form: ItemType) -> Vec<Box<dyn Source>> {
    let source = |selection: &Selection| -> Box<dyn Source> {
        Box::new(CacheSource { caches: Arc::clone(caches), selection: selection.clone(), form })
    };
    selections.iter().map(source).collect()
}

/// Takes every piece for good: its hash was compared when it came.
struct AsTransferred;

#[async_trait]
impl Check for AsTransferred {
    async fn check(&self, arrivals: Vec<Arrival>) -> Result<Vec<Arrival>, Vec<Arrival>> {
        Ok(arrivals)
    }
}
