//! TLS by configuration: both ends show a certificate of the cluster's own authority.
//!
//! TLS 1.3 alone. A client checks that the server's certificate names the address that it connected to; a server checks
//! that the client's is of the authority. The proof of the cluster secret follows inside.

use super::error::TransferError;
use super::{CONNECT_TIMEOUT, handshake};
use crate::secret::{ClusterSecret, warn_if_others_can_read};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Why the files of `--tls-cert`, `--tls-key` and `--tls-ca` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFilesError {
    /// A file cannot be read, or has nothing of what is to be in it.
    #[error("{flag} {}: {reason}", path.display())]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong and what is needed; never any of the content.
        reason: String,
    },
    /// Certificate, key and authority do not belong together.
    #[error("--tls-cert {}: {reason}", path.display())]
    Mismatch {
        /// The certificate.
        path: PathBuf,
        /// What does not fit and what to do.
        reason: String,
    },
}

/// A certificate, its key, and the authority that the other end's certificate has to be of. Cheap to clone; the key is
/// never shown.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// What an end of a connection proves to the other one, and wants to see.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The cluster's secret.
    pub secret: ClusterSecret,
    /// With a certificate, all connections are by TLS, to servers and from clients.
    pub tls: Option<Tls>,
}

impl From<ClusterSecret> for Credentials {
    fn from(secret: ClusterSecret) -> Self {
        Self { secret, tls: None }
    }
}

impl From<&ClusterSecret> for Credentials {
    fn from(secret: &ClusterSecret) -> Self {
        secret.clone().into()
    }
}

impl From<&Self> for Credentials {
    fn from(credentials: &Self) -> Self {
        credentials.clone()
    }
}

fn unusable(flag: &'static str, path: &Path, needed: &str) -> impl Fn(pem::Error) -> TlsFilesError {
    let (path, needed) = (path.to_owned(), needed.to_owned());
    move |error| {
        let reason = match error {
            pem::Error::Io(error) => error.to_string(),
            // What the decoder says of the content is not repeated: it may be a key.
            _ => format!("it has {needed} in PEM, or it is damaged"),
        };
        TlsFilesError::File { flag, path: path.clone(), reason }
    }
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let unusable = unusable(flag, path, "no certificate");
    let read = CertificateDer::pem_file_iter(path).map_err(&unusable)?;
    let found = read.collect::<Result<Vec<_>, _>>().map_err(&unusable)?;
    if found.is_empty() { Err(unusable(pem::Error::NoItemsFound)) } else { Ok(found) }
}

impl Tls {
    /// Reads PEM files: a certificate (then those between it and the authority), its key, and the authority's
    /// certificates.
    ///
    /// # Errors
    /// When a file cannot be used, the key is another one's, or the certificate is not of the authority, is expired, or
    /// may not be used by clients and servers alike.
    pub fn from_files(cert: &Path, key: &Path, ca: &Path) -> Result<Self, TlsFilesError> {
        let mismatch = |reason: String| TlsFilesError::Mismatch { path: cert.to_owned(), reason };
        let chain = certificates("--tls-cert", cert)?;
        let mut roots = RootCertStore::empty();
        for authority in certificates("--tls-ca", ca)? {
            roots.add(authority).map_err(|error| TlsFilesError::File {
                flag: "--tls-ca",
                path: ca.to_owned(),
                reason: format!("a certificate in it cannot be an authority's: {error}"),
            })?;
        }
        let key_file = key;
        let key = PrivateKeyDer::from_pem_file(key).map_err(unusable("--tls-key", key, "no private key"))?;
        if let Ok(metadata) = fs::metadata(key_file) {
            warn_if_others_can_read(key_file, &metadata, "the TLS key");
        }
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| mismatch(error.to_string()))?;
        verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now()).map_err(|error| {
            mismatch(format!("not usable with the authority in --tls-ca {}: {error}", ca.display()))
        })?;
        let does_not_fit = |error: rustls::Error| {
            mismatch(format!("does not go with --tls-key {}: {error}", key_file.display()))
        };
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(does_not_fit)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(does_not_fit)?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(does_not_fit)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(does_not_fit)?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// The client's part of the TLS handshake.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Result<client::TlsStream<TcpStream>, TransferError> {
        let name = ServerName::IpAddress(peer.ip().into());
        let connecting = TlsConnector::from(Arc::clone(&self.client)).connect(name, stream);
        timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| TransferError::TimedOut { peer, what: "the TLS handshake" })?
            .map_err(|source| TransferError::broken(peer, source))
    }

    /// The server's part of the TLS handshake. A client without TLS is told so.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Result<server::TlsStream<TcpStream>, TransferError> {
        let io = |source| TransferError::broken(peer, source);
        let accepting = async {
            let mut first = [0];
            if stream.peek(&mut first).await.map_err(io)? == 1 && first == handshake::FIRST_BYTE {
                return Err(handshake::refuse_without_tls(stream, peer).await);
            }
            TlsAcceptor::from(Arc::clone(&self.server)).accept(stream).await.map_err(io)
        };
        timeout(CONNECT_TIMEOUT, accepting)
            .await
            .unwrap_or(Err(TransferError::TimedOut { peer, what: "the TLS handshake" }))
    }
}
