//! What the command line says of NATS, as the client of it wants it.

use crate::cli::{NatsArguments, NatsConfigurationArguments};
use crate::roles::Error;
use cluster::contract::ClusterName;
use cluster::{ClusterSecret, NatsOptions};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Largest configuration of a nats-server that is read, in bytes.
const CONFIGURATION_MAX: u64 = 1 << 20;

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

/// `util nats-configuration`: see [`NatsConfigurationArguments`].
///
/// # Errors
/// When there is no secret, or a file cannot be read or written.
pub(crate) fn configuration(
    nats: &NatsArguments,
    arguments: &NatsConfigurationArguments,
) -> Result<(), Error> {
    let NatsConfigurationArguments { template, output } = arguments;
    let secret = nats.secret()?.ok_or_else(|| {
        Error::Config(
            "--cluster-secret-file is missing: the passwords follow from the cluster's secret".into(),
        )
    })?;
    let failed = |what: &str, path: &std::path::Path, error: std::io::Error| {
        Error::Config(format!("cannot {what} {}: {error}", path.display()))
    };
    let reading = |error| failed("read", template, error);
    let mut text = String::new();
    let file = File::open(template).map_err(reading)?;
    file.take(CONFIGURATION_MAX + 1).read_to_string(&mut text).map_err(reading)?;
    // A part of it would be a server without its limits.
    if text.len() as u64 > CONFIGURATION_MAX {
        return Err(reading(std::io::Error::other(format!("it has more than {CONFIGURATION_MAX} bytes"))));
    }
    let filled = secret.fill(&text);
    // Whole or not at all, and never readable for others.
    let beside = output.with_extension("new");
    let writing = |error| failed("write", output, error);
    let _ = std::fs::remove_file(&beside);
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&beside).map_err(writing)?;
    file.write_all(filled.as_bytes()).map_err(writing)?;
    std::fs::rename(&beside, output).map_err(writing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::{Cli, Command, Utility};
    use clap::Parser;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn passwords_are_put_into_a_servers_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("secret"), "correct horse battery\n").unwrap();
        std::fs::write(at("template"), "password: \"NATS-CLIENT-PASSWORD\"\n").unwrap();
        let line = |secret: &[&str]| {
            let words = ["autonomys-farmer", "util", "nats-configuration"].map(String::from);
            let files = [at("template"), at("out")].map(|path| path.display().to_string());
            let cli = Cli::parse_from(
                words.into_iter().chain(files).chain(secret.iter().map(|word| word.to_string())),
            );
            let Command::Util(util) = cli.command else { unreachable!("it was parsed as one") };
            let Utility::NatsConfiguration(arguments) = util.utility else {
                unreachable!("it was parsed as one")
            };
            configuration(&util.nats, &arguments)
        };
        let secret = at("secret").display().to_string();
        for _ in 0..2 {
            line(&["--cluster-secret-file", &secret]).unwrap();
            let text = std::fs::read_to_string(at("out")).unwrap();
            let password = text.trim().strip_prefix("password: \"").unwrap().strip_suffix('"').unwrap();
            assert_eq!(password.len(), 64);
            assert_eq!(std::fs::metadata(at("out")).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(at("template"), "x".repeat(CONFIGURATION_MAX as usize + 1)).unwrap();
        let error = line(&["--cluster-secret-file", &secret]).unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
        assert!(line(&[]).unwrap_err().to_string().contains("--cluster-secret-file"));
    }
}
