//! Where plotting gets its pieces: caches in the order of the design, reconstruction, at last a controller.

pub mod caches;
pub mod check;
pub mod collection;
pub mod directory;
pub mod flights;
pub mod hedging;
pub mod recovery;
pub mod round;
pub mod sources;

pub use check::{PieceCheck, SegmentCommitments};
pub use collection::{Arrival, Collection, Fetch};
pub use hedging::FetchMetrics;
pub use sources::{Check, PieceSources, Source};

use archiving::Kzg;
use async_trait::async_trait;
use caches::{CacheSource, Caches};
use cluster::ClusterClient;
use cluster::transfer::ItemType;
use directory::{Selection, local_addresses};
use flights::Flights;
use hedging::Hedging;
use recovery::{Controllers, Reconstruction};
use std::sync::Arc;

/// How pieces are asked for.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// The form that is asked of the caches that hold it; the others are asked for plain pieces.
    pub form: ItemType,
    /// Caches of this host are asked first, for all they hold.
    pub priority_cache: bool,
    /// What is counted.
    pub metrics: FetchMetrics,
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
        let hedging = Arc::new(Hedging::new(options.metrics.clone()));
        let reconstruction = Reconstruction {
            others: Self {
                sources: cache_sources(&caches, &selections, ItemType::Piece),
                check: Arc::clone(&check),
                hedging: Arc::clone(&hedging),
                flights: Flights::default(),
            },
            kzg: kzg.clone(),
            pool: Arc::clone(pool),
            turn: tokio::sync::Mutex::default(),
        };
        let mut sources = cache_sources(&caches, &selections, options.form);
        sources.push(Box::new(reconstruction));
        sources.push(Box::new(Controllers { client: client.clone() }));
        Self { sources, check, hedging, flights: Flights::default() }
    }

    /// The caches alone, in the order of the design, and no check but that of the transfer, which compares every piece with
    /// the hash that its cache has stored: for measurements without a reference string.
    pub fn caches_only(caches: Caches, options: &SourceOptions) -> Self {
        let sources = cache_sources(&Arc::new(caches), &selections(options.priority_cache), options.form);
        let hedging = Arc::new(Hedging::new(options.metrics.clone()));
        Self { sources, check: Arc::new(AsTransferred), hedging, flights: Flights::default() }
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
