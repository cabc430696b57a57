//! The utilities: short-lived commands that ask, direct or measure a running cluster, or look after farms and stores.

pub mod cache_benchmark;
pub mod farm_benchmark;
pub mod farms;
pub mod info;
pub mod latencies;
pub mod output;
pub mod ready;
pub mod reinitialize;
pub mod scrub;
pub mod verify_piece;

use crate::cli::{NatsArguments, UtilArguments, Utility};
use crate::roles::Error;
use crate::shutdown::Shutdown;
use crate::status::BUILD;
use cluster::ClusterClient;
use cluster::contract::InstanceId;
use std::time::Duration;

/// How long a utility waits for NATS: unlike a role, it has someone at the terminal.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs one utility.
///
/// # Errors
/// When it fails, or what it asks about is not as it should be.
pub async fn run(arguments: UtilArguments, shutdown: Shutdown) -> Result<(), Error> {
    let UtilArguments { nats, srs, utility } = arguments;
    let work = async {
        match utility {
            Utility::Ready(arguments) => ready::run(&nats, arguments).await,
            Utility::ReinitializationCache(arguments) => reinitialize::run(&nats, arguments).await,
            Utility::ShardedCacheBenchmark(arguments) => cache_benchmark::run(&nats, srs, arguments).await,
            Utility::VerifyPiece(arguments) => verify_piece::run(&nats, srs, arguments).await,
            Utility::Scrub(arguments) => scrub::run(arguments).await,
            Utility::NatsConfiguration(arguments) => crate::nats::configuration(&nats, &arguments),
            Utility::Info(arguments) => info::run(&nats, arguments).await,
            Utility::Benchmark(benchmark) => farm_benchmark::run(srs, benchmark).await,
        }
    };
    let stopped = || Err(Error::Unavailable("stopped before it was done".into()));
    shutdown.unless_triggered(work).await.unwrap_or_else(stopped)
}

/// Connects to NATS, or says within seconds that it is not there.
///
/// # Errors
/// When the servers cannot be used or reached.
pub async fn connect(nats: &NatsArguments) -> Result<ClusterClient, Error> {
    let options = nats.options(format!("util {} {BUILD}", InstanceId::generate()))?;
    match tokio::time::timeout(CONNECT_TIMEOUT, ClusterClient::connect(&options)).await {
        Ok(client) => Ok(client?),
        Err(_) => Err(Error::Unavailable(format!(
            "no NATS server answers within {} s at {}",
            CONNECT_TIMEOUT.as_secs(),
            nats.nats_servers.join(", ")
        ))),
    }
}
