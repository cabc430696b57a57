//! What the command line says of NATS, as the client of it wants it.

use crate::cli::NatsArguments;
use crate::roles::Error;
use cluster::contract::ClusterName;
use cluster::{ClusterSecret, NatsOptions};

impl NatsArguments {
    /// The secret of `--cluster-secret-file`, where it is given.
    ///
    /// # Errors
    /// [`Error::Config`] when the file cannot be used.
    pub fn secret(&self) -> Result<Option<ClusterSecret>, Error> {
        let read = |path| {
            ClusterSecret::from_file(path)
                .map_err(|error| Error::Config(format!("--cluster-secret-file: {error}")))
        };
        self.cluster_secret_file.as_deref().map(read).transpose()
    }

    /// How to connect, under this name in the server's lists.
    ///
    /// # Errors
    /// [`Error::Config`] when the cluster's name or its secret cannot be used.
    pub fn options(&self, name: String) -> Result<NatsOptions, Error> {
        let cluster: ClusterName =
            self.cluster.parse().map_err(|error| Error::Config(format!("--cluster: {error}")))?;
        Ok(NatsOptions { servers: self.nats_servers.clone(), cluster, name, secret: self.secret()? })
    }
}
