//! The roles, one module each, and what they share: [`context`] connects a role to its cluster, [`error`] says why one
//! ended.

use crate::cli::{ClusterArguments, Role};
use crate::shutdown::Shutdown;

pub mod cache;
pub mod context;
pub mod controller;
pub mod error;
pub mod full_piece_cache;
pub mod piece_set;
pub mod plot_client;
pub mod plot_server;
pub mod proof_server;
pub mod sharded_cache;

pub use context::RoleContext;
pub use error::Error;

/// Runs one role until the shutdown.
///
/// # Errors
/// When the role cannot go on: see [`Error`].
pub async fn run(arguments: ClusterArguments, shutdown: Shutdown) -> Result<(), Error> {
    let ClusterArguments { nats, srs, prometheus_listen_on, role } = arguments;
    let shared = context::Shared { nats, srs, prometheus_listen_on, shutdown };
    let result = dispatch(role, shared).await;
    match result {
        Err(Error::Stopped) => Ok(()),
        result => result,
    }
}

async fn dispatch(role: Role, shared: context::Shared) -> Result<(), Error> {
    match role {
        Role::Controller(arguments) => {
            let home = context::Home::new(arguments.base_path.as_deref(), arguments.tmp);
            controller::run(RoleContext::new("controller", home, shared).await?, arguments).await
        }
        Role::ShardedCache(arguments) => {
            let home = context::Home::new(arguments.paths.first().map(|path| &*path.path), arguments.tmp);
            sharded_cache::run(RoleContext::new("sharded-cache", home, shared).await?, arguments).await
        }
        Role::FullPieceShardedCache(arguments) => {
            let home = context::Home::new(Some(&arguments.path.path), arguments.tmp);
            full_piece_cache::run(
                RoleContext::new("full-piece-sharded-cache", home, shared).await?,
                arguments,
            )
            .await
        }
        Role::ProofServer(arguments) => {
            proof_server::run(
                RoleContext::new("proof-server", context::Home::Fresh, shared).await?,
                arguments,
            )
            .await
        }
        Role::PlotServer(arguments) => {
            let home = context::Home::new(Some(&arguments.base_path), false);
            plot_server::run(RoleContext::new("plot-server", home, shared).await?, arguments).await
        }
        Role::PlotClient(arguments) => {
            plot_client::run(RoleContext::new("plot-client", context::Home::Fresh, shared).await?, arguments)
                .await
        }
    }
}
