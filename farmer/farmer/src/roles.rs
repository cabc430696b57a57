//! The roles, one module each, and what they share: [`context`] connects a role to its cluster, [`error`] says why one
//! ended.

use crate::cli::{ClusterArguments, Role};
use crate::shutdown::Shutdown;
use std::sync::{Arc, OnceLock};

pub mod cache;
pub mod context;
pub mod controller;
pub mod error;
pub mod full_piece_cache;
pub mod items;
pub mod piece_bitmap;
pub mod piece_source;
pub mod placement;
pub mod plot_client;
pub mod plot_server;
pub mod proof_server;
pub mod sharded_cache;

use context::Home;
pub use context::RoleContext;
pub use error::Error;

/// Runs one role until the shutdown.
///
/// # Errors
/// When the role cannot go on: see [`Error`].
pub async fn run(arguments: ClusterArguments, shutdown: Shutdown) -> Result<(), Error> {
    let ClusterArguments { nats, srs, prometheus_listen_on, role } = arguments;
    let verdict = Arc::new(OnceLock::new());
    let shared = context::Shared { nats, srs, prometheus_listen_on, shutdown, verdict: Arc::clone(&verdict) };
    let result = dispatch(role, shared).await;
    match (result, Arc::into_inner(verdict).and_then(OnceLock::into_inner)) {
        // The cluster's refusal is what the shutdown was asked for.
        (Ok(()) | Err(Error::Stopped), Some(refusal)) => Err(refusal),
        (Err(Error::Stopped), None) => Ok(()),
        (result, _) => result,
    }
}

async fn dispatch(role: Role, shared: context::Shared) -> Result<(), Error> {
    use cluster::contract::Role as Name;
    match role {
        Role::Controller(arguments) => {
            let home = Home::new(arguments.base_path.as_deref(), arguments.tmp);
            controller::run(RoleContext::new(Name::Controller, home, shared).await?, arguments).await
        }
        Role::ShardedCache(arguments) => {
            let home = Home::new(arguments.paths.first().map(|path| &*path.path), arguments.tmp);
            sharded_cache::run(RoleContext::new(Name::ShardedCache, home, shared).await?, arguments).await
        }
        Role::FullPieceShardedCache(arguments) => {
            let home = Home::new(Some(&arguments.path.path), arguments.tmp);
            full_piece_cache::run(
                RoleContext::new(Name::FullPieceShardedCache, home, shared).await?,
                arguments,
            )
            .await
        }
        Role::ProofServer(arguments) => {
            proof_server::run(RoleContext::new(Name::ProofServer, Home::Fresh, shared).await?, arguments)
                .await
        }
        Role::PlotServer(arguments) => {
            let home = Home::new(Some(&arguments.base_path), false);
            plot_server::run(RoleContext::new(Name::PlotServer, home, shared).await?, arguments).await
        }
        Role::PlotClient(arguments) => {
            plot_client::run(RoleContext::new(Name::PlotClient, Home::Fresh, shared).await?, arguments).await
        }
    }
}
