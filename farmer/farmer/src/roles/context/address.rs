//! Where others reach a server of this instance.

use crate::cli::AdvertiseArguments;
use crate::roles::{Error, RoleContext};
use cluster::ClusterClient;
use cluster::contract::TcpAddress;
use std::net::{IpAddr, SocketAddr};

impl RoleContext {
    /// The address to announce for a server that listens on `listening`: `--advertise`, with the server's port where it
    /// names none; else the local address of the connection to NATS.
    ///
    /// # Errors
    /// When `--advertise` is no address, or there is none to announce.
    pub async fn advertised(
        &self,
        client: &ClusterClient,
        arguments: &AdvertiseArguments,
        listening: SocketAddr,
    ) -> Result<TcpAddress, Error> {
        let address = match &arguments.advertise {
            Some(text) => resolve(text, listening.port()).await?,
            None => {
                let ip =
                    if listening.ip().is_unspecified() { client.local_ip() } else { Some(listening.ip()) };
                let ip = ip.ok_or_else(|| {
                    Error::Config(
                        "the NATS server does not tell this host's address: give it with --advertise".into(),
                    )
                })?;
                SocketAddr::new(ip, listening.port())
            }
        };
        self.set_address(address.into());
        Ok(address.into())
    }
}

/// `ADDR`, `ADDR:PORT`, `NAME` or `NAME:PORT`.
async fn resolve(text: &str, port: u16) -> Result<SocketAddr, Error> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let bad = |reason: &dyn std::fmt::Display| {
        Error::Config(format!(
            "--advertise {text}: {reason}; expected an address or a name, with or without :PORT"
        ))
    };
    let with_port = if text.contains(':') { text.to_owned() } else { format!("{text}:{port}") };
    let mut addresses = tokio::net::lookup_host(&with_port).await.map_err(|error| bad(&error))?;
    addresses.next().ok_or_else(|| bad(&"the name has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn advertised_addresses() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:9950"),
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("::1", "[::1]:9950"),
            ("[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(resolve(text, 9950).await.unwrap(), expected.parse().unwrap(), "{text}");
        }
        for text in ["", "10.0.0.1:port", "10.0.0.1:99999"] {
            let error = resolve(text, 9950).await.unwrap_err();
            assert!(error.to_string().contains("--advertise"), "{error}");
        }
    }
}
