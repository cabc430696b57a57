//! Pieces and a sector by TLS, and ends that do not fit.

use super::{SOON, indices};
use crate::support::{MemoryPieces, MemorySectors, Sink, key, piece, sector};
use cluster::ClusterSecret;
use cluster::contract::InstanceId;
use cluster::testing::get_pieces;
use cluster::transfer::*;
use primitives::PieceIndex;
use primitives::hashes::blake3_hash;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tempfile::TempDir;
use tokio::time::timeout;

/// A cluster's authority and the files that its operator gives to a role.
struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca"), issuer.pem()).unwrap();
        Self { directory, issuer }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a certificate for this address and its key.
    fn certify(&self, name: &str, address: &str) {
        let mut params = CertificateParams::new([address.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let own = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&own, &self.issuer).unwrap();
        fs::write(self.file(&format!("{name}.cert")), certificate.pem()).unwrap();
        let key = self.file(&format!("{name}.key"));
        fs::write(&key, own.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn tls(&self, name: &str, address: &str) -> Tls {
        self.certify(name, address);
        let file = |ending: &str| self.file(&format!("{name}.{ending}"));
        Tls::from_files(&file("cert"), &file("key"), &self.file("ca")).unwrap()
    }
}

fn credentials(tls: Option<Tls>) -> Credentials {
    Credentials { secret: ClusterSecret::from_bytes(b"the secret of these tests"), tls }
}

async fn serve(tls: Option<Tls>, pieces: &Arc<MemoryPieces>, sectors: &Arc<MemorySectors>) -> TransferServer {
    let options = ServerOptions {
        pieces: Some(Arc::clone(pieces) as Arc<dyn PieceSource>),
        sectors: Some(Arc::clone(sectors) as Arc<dyn SectorSource>),
        ..ServerOptions::new(credentials(tls), InstanceId::generate())
    };
    TransferServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), options).await.unwrap()
}

async fn open(server: &TransferServer, tls: Option<Tls>) -> Result<Connection, TransferError> {
    let opening = Connection::open(server.address(), credentials(tls), InstanceId::generate());
    timeout(SOON, opening).await.unwrap()
}

#[tokio::test]
async fn pieces_and_a_sector_go_through_tls() {
    let authority = Authority::new();
    let pieces = Arc::new(MemoryPieces::with_capacity(30));
    // From memory and from files, which are read to be encrypted.
    for index in 0..20 {
        pieces.insert(PieceIndex(index), piece(index));
    }
    let sectors = Arc::new(MemorySectors::default());
    sectors.ready(key(1), sector(1));
    let server = serve(Some(authority.tls("server", "127.0.0.1")), &pieces, &sectors).await;
    let mut connection = open(&server, Some(authority.tls("client", "192.0.2.1"))).await.unwrap();
    connection.ping().await.unwrap();

    let asked = indices(0..21);
    let (got, result) = timeout(SOON, get_pieces(&mut connection, ItemType::Piece, &asked)).await.unwrap();
    result.unwrap();
    for (index, (outcome, bytes)) in got {
        if index.0 == 20 {
            assert_eq!(outcome, FetchOutcome::Missing);
            continue;
        }
        let expected = piece(index.0);
        assert_eq!(outcome, FetchOutcome::Found(blake3_hash(&expected)), "{index}");
        assert!(bytes == expected[..], "{index}");
    }

    let data: Vec<_> = (20..24).map(piece).collect();
    let put: Vec<_> = (20..)
        .zip(&data)
        .map(|(index, bytes)| PieceToPut { index: PieceIndex(index), bytes, hash: blake3_hash(bytes) })
        .collect();
    let outcomes = timeout(SOON, connection.put_pieces(ItemType::Piece, 1, &put)).await.unwrap().unwrap();
    assert_eq!(outcomes, vec![PutOutcome::Stored; 4]);

    let (mut fetch, mut sink) = (SectorFetch::new(key(1)), Sink::default());
    timeout(SOON, connection.fetch_sector(&mut fetch, &mut sink)).await.unwrap().unwrap();
    assert!(fetch.is_complete() && sink.sector == sector(1));
    connection.acknowledge_sector(&key(1)).await.unwrap();
    drop(connection);
    timeout(SOON, server.drain(SOON)).await.unwrap();
}

#[tokio::test]
async fn certificates_of_another_authority_are_refused_by_both_ends() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = serve(Some(ours.tls("server", "127.0.0.1")), &Arc::default(), &Arc::default()).await;

    let error = open(&server, Some(theirs.tls("client", "127.0.0.1"))).await.unwrap_err();
    assert!(matches!(error, TransferError::Tls { .. }) && !error.is_transient(), "{error}");
    assert!(error.to_string().contains("--tls-ca"), "{error}");

    // It trusts the server, but the server does not trust it: a file with both authorities makes a client of theirs.
    theirs.certify("stranger", "127.0.0.1");
    let both = fs::read_to_string(ours.file("ca")).unwrap() + &fs::read_to_string(theirs.file("ca")).unwrap();
    fs::write(theirs.file("both"), both).unwrap();
    let stranger =
        Tls::from_files(&theirs.file("stranger.cert"), &theirs.file("stranger.key"), &theirs.file("both"));
    let error = open(&server, Some(stranger.unwrap())).await.unwrap_err();
    assert!(matches!(error, TransferError::Tls { .. }), "{error}");
    assert_eq!(server.counters().refused_connections.load(Ordering::Relaxed), 2);

    // A server's certificate names the address that it is reached at.
    let elsewhere = serve(Some(ours.tls("elsewhere", "192.0.2.9")), &Arc::default(), &Arc::default()).await;
    let error = open(&elsewhere, Some(ours.tls("client", "127.0.0.1"))).await.unwrap_err();
    assert!(matches!(error, TransferError::Tls { .. }), "{error}");
    assert!(error.to_string().contains("subjectAltName"), "{error}");

    // The secret is asked for inside, whatever the certificate says.
    let wrong =
        Credentials { secret: ClusterSecret::from_bytes(b"another"), tls: Some(ours.tls("c", "127.0.0.1")) };
    let error = Connection::open(server.address(), wrong, InstanceId::generate()).await.unwrap_err();
    assert!(matches!(error, TransferError::WrongSecret { .. }), "{error}");
}

#[tokio::test]
async fn ends_with_and_without_tls_tell_each_other_what_to_do() {
    let authority = Authority::new();
    let with = serve(Some(authority.tls("server", "127.0.0.1")), &Arc::default(), &Arc::default()).await;
    let error = open(&with, None).await.unwrap_err();
    assert!(matches!(error, TransferError::PeerWithTls { .. }) && !error.is_transient(), "{error}");
    assert!(error.to_string().contains("--tls-cert"), "{error}");
    assert_eq!(with.counters().refused_connections.load(Ordering::Relaxed), 1);

    let without = serve(None, &Arc::default(), &Arc::default()).await;
    let error = open(&without, Some(authority.tls("client", "127.0.0.1"))).await.unwrap_err();
    assert!(matches!(error, TransferError::PeerWithoutTls { .. }) && !error.is_transient(), "{error}");
    assert!(error.to_string().contains("--tls-cert"), "{error}");
    // Both still serve those who fit.
    open(&without, None).await.unwrap().ping().await.unwrap();
    open(&with, Some(authority.tls("other", "127.0.0.1"))).await.unwrap().ping().await.unwrap();
    assert_eq!(without.counters().refused_connections.load(Ordering::Relaxed), 1);
}

#[test]
fn files_that_do_not_fit_are_named_and_no_key_is_shown() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let shown = format!("{:?}", credentials(Some(ours.tls("a", "127.0.0.1"))));
    assert_eq!(shown, "Credentials { secret: ClusterSecret(..), tls: Some(Tls(..)) }");
    ours.certify("b", "127.0.0.1");
    let (cert, key, ca) = (ours.file("a.cert"), ours.file("a.key"), ours.file("ca"));
    let none = ours.file("none");
    let garbage = ours.file("garbage");
    let secret_words = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0IHdvcmRz\n";
    fs::write(&garbage, secret_words).unwrap();
    let cases: [(&Path, &Path, &Path, &[&str]); 8] = [
        (&none, &key, &ca, &["--tls-cert", "none"]),
        (&cert, &none, &ca, &["--tls-key", "none"]),
        (&cert, &key, &none, &["--tls-ca", "none"]),
        (&key, &key, &ca, &["--tls-cert", "no certificate"]),
        (&cert, &cert, &ca, &["--tls-key", "no private key"]),
        (&cert, &garbage, &ca, &["--tls-key", "garbage"]),
        (&cert, &ours.file("b.key"), &ca, &["--tls-cert", "--tls-key", "b.key"]),
        (&cert, &key, &theirs.file("ca"), &["--tls-cert", "a.cert", "--tls-ca"]),
    ];
    for (cert, key, ca, words) in cases {
        let error = Tls::from_files(cert, key, ca).unwrap_err();
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}: {words:?}");
        assert!(!format!("{text} {error:?}").contains("c2VjcmV0"), "{text} {error:?}");
    }
}
