//! What every role has: its identity, its status, its shutdown, its place in the cluster.

use crate::cli::{NatsArguments, SrsArguments};
use crate::roles::Error;
use crate::shutdown::Shutdown;
use crate::status::Status;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// File that keeps an instance's identity.
const INSTANCE_FILE: &str = "instance-id";

/// What the command line says for every role.
#[derive(Debug)]
pub struct Shared {
    /// NATS.
    pub nats: NatsArguments,
    /// Reference string.
    pub srs: SrsArguments,
    /// Where the status is served.
    pub prometheus_listen_on: Option<SocketAddr>,
    /// The shutdown.
    pub shutdown: Shutdown,
}

/// Where an instance's identity comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// From a file in this directory, made at the first start.
    Kept(PathBuf),
    /// A new one at every start.
    Fresh,
}

impl Home {
    /// The directory's, unless there is none or `tmp` asks for a new identity.
    pub fn new(directory: Option<&Path>, tmp: bool) -> Self {
        match directory {
            Some(directory) if !tmp => Self::Kept(directory.to_owned()),
            _ => Self::Fresh,
        }
    }

    fn instance(&self) -> Result<Ulid, Error> {
        let Self::Kept(directory) = self else { return Ok(Ulid::new()) };
        fs::create_dir_all(directory).map_err(|error| Error::io("create", directory, error))?;
        let path = directory.join(INSTANCE_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ulid::from_string(text.trim()).map_err(|_| {
                let path = path.display();
                Error::Config(format!("{path} holds no ULID; delete it and a new identity will be made"))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => write_instance(&path),
            Err(error) => Err(Error::io("read", &path, error)),
        }
    }
}

/// Makes an identity; the file is whole or absent whatever happens.
fn write_instance(path: &Path) -> Result<Ulid, Error> {
    let instance = Ulid::new();
    let partial = path.with_extension("partial");
    fs::write(&partial, format!("{instance}\n")).map_err(|error| Error::io("write", &partial, error))?;
    fs::rename(&partial, path).map_err(|error| Error::io("create", path, error))?;
    Ok(instance)
}

/// What every role has.
pub struct RoleContext {
    /// Role as on the command line.
    pub role: &'static str,
    /// This instance.
    pub instance: Ulid,
    /// Status; its HTTP server runs from [`Self::new`] on.
    pub status: Status,
    /// The shutdown.
    pub shutdown: Shutdown,
    shared: Shared,
}

impl RoleContext {
    /// Finds or makes the instance's identity and serves the status, so that whoever looks can see from the first second
    /// on what the role waits for.
    ///
    /// # Errors
    /// When the identity cannot be read or kept, or the address of the status is taken.
    pub async fn new(role: &'static str, home: Home, shared: Shared) -> Result<Self, Error> {
        let instance = home.instance()?;
        let status = Status::new(role, instance.to_string());
        tracing::info!(role, %instance, version = crate::status::BUILD, "Starting");
        let shutdown = shared.shutdown.clone();
        if let Some(address) = shared.prometheus_listen_on {
            let serving = status.serve(address, shutdown.clone()).await;
            serving.map_err(|source| Error::Listen { what: "--prometheus-listen-on", address, source })?;
        }
        Ok(Self { role, instance, status, shutdown, shared })
    }

    /// The command line's part that all roles have.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }
}
