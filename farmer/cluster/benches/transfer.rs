//! Pieces and a sector over loopback TCP, hashes checked. The reference moves both through NATS (farming §10); it has no
//! figure of its own for it. `-- tls` measures the same by TLS, whose bytes are copied, encrypted and decrypted.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use cluster::ClusterSecret;
use cluster::contract::{InstanceId, LeaseKey};
use cluster::sharding::{Shard, ShardMap};
use cluster::transfer::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, HistorySize, Piece, PieceIndex, PublicKey};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use tokio::runtime::Runtime;

const PIECES: usize = 64;
const BLOCKS: usize = 64;

struct Source {
    piece: StoredPiece,
    sector: Bytes,
    manifest: Arc<SectorManifest>,
}

impl PieceSource for Source {
    fn get(&self, _: ItemType, _: PieceIndex) -> Result<Option<StoredPiece>, SourceError> {
        Ok(Some(self.piece.clone()))
    }

    fn put(&self, _: ItemType, _: PieceIndex, _: Bytes, _: Blake3Hash) -> PutOutcome {
        PutOutcome::Stored
    }
}

impl SectorSource for Source {
    fn state(&self, _: &LeaseKey) -> SectorState {
        SectorState::Ready(Arc::clone(&self.manifest))
    }

    fn block(&self, _: &LeaseKey, block: u32) -> Result<Payload, SourceError> {
        let start = block as usize * SECTOR_BLOCK_SIZE;
        Ok(self.sector.slice(start..start + SECTOR_BLOCK_SIZE).into())
    }

    fn acknowledge(&self, _: &LeaseKey) -> Result<(), SourceError> {
        Ok(())
    }
}

struct Sink(Vec<u8>);

impl SectorSink for Sink {
    async fn begin(&mut self, _: &SectorManifest) -> Result<(), String> {
        Ok(())
    }

    fn buffer(&mut self, size: usize) -> &mut [u8] {
        &mut self.0[..size]
    }

    async fn block(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
}

fn source() -> Arc<Source> {
    let bytes = Bytes::from(vec![7; Piece::SIZE]);
    let sector = Bytes::from(vec![9; BLOCKS * SECTOR_BLOCK_SIZE]);
    let manifest = SectorManifest {
        size_bytes: sector.len() as u64,
        metadata: vec![],
        block_hashes: sector.chunks(SECTOR_BLOCK_SIZE).map(blake3_hash).collect(),
    };
    let piece = StoredPiece { hash: blake3_hash(&bytes), bytes: bytes.into() };
    Arc::new(Source { piece, sector, manifest: Arc::new(manifest) })
}

/// One certificate for both ends, of an authority made for it.
fn tls() -> Tls {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let [cert_file, key_file, ca_file] = ["cert", "key", "ca"].map(|name| directory.path().join(name));
    fs::write(&cert_file, params.signed_by(&key, &authority).unwrap().pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::write(&ca_file, authority.pem()).unwrap();
    Tls::from_files(&cert_file, &key_file, &ca_file).unwrap()
}

fn plain(criterion: &mut Criterion) {
    transfers(criterion, "transfer", None);
}

fn with_tls(criterion: &mut Criterion) {
    transfers(criterion, "tls", Some(tls()));
}

fn transfers(criterion: &mut Criterion, group: &str, tls: Option<Tls>) {
    let runtime = Runtime::new().unwrap();
    let credentials = Credentials { secret: ClusterSecret::generate().0, tls };
    let source = source();
    let options = ServerOptions {
        pieces: Some(Arc::clone(&source) as Arc<dyn PieceSource>),
        sectors: Some(source as Arc<dyn SectorSource>),
        ..ServerOptions::new(&credentials, InstanceId::generate())
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let server = runtime.block_on(TransferServer::start(address, options)).unwrap();
    let opening = Connection::open(server.address(), &credentials, InstanceId::generate());
    let mut connection = runtime.block_on(opening).unwrap();

    let mut group = criterion.benchmark_group(group);
    group.sample_size(20);
    let mut buffers = vec![vec![0; Piece::SIZE]; PIECES];
    let indices: Vec<_> = (0..PIECES as u64).map(PieceIndex).collect();
    group.throughput(Throughput::Bytes((PIECES * Piece::SIZE) as u64));
    group.bench_function("get 64 pieces, one connection", |bencher| {
        bencher.iter(|| {
            let mut pieces = connection.fetch_pieces(ItemType::Piece, &indices);
            runtime.block_on(async {
                for buffer in &mut buffers {
                    pieces.next(buffer).await.unwrap().unwrap();
                }
                assert!(pieces.next(&mut buffers[0]).await.unwrap().is_none());
            });
        });
    });
    let piece = vec![7; Piece::SIZE];
    let hash = blake3_hash(&piece);
    let pieces = vec![PieceToPut { index: PieceIndex(1), bytes: &piece, hash }; PIECES];
    group.bench_function("put 64 pieces, one connection", |bencher| {
        bencher.iter(|| runtime.block_on(connection.put_pieces(ItemType::Piece, 1, &pieces)).unwrap());
    });
    let key = LeaseKey { public_key: PublicKey([1; 32]), sector_index: 0, history_size: HistorySize::ONE };
    let mut sink = Sink(vec![0; SECTOR_BLOCK_SIZE]);
    group.throughput(Throughput::Bytes((BLOCKS * SECTOR_BLOCK_SIZE) as u64));
    group.bench_function("fetch 64 MiB of a sector", |bencher| {
        bencher.iter(|| {
            let mut fetch = SectorFetch::new(key);
            runtime.block_on(connection.fetch_sector(&mut fetch, &mut sink)).unwrap();
        });
    });
    group.finish();
}

fn placement(criterion: &mut Criterion) {
    let map = ShardMap::new((0..10).map(|_| Shard { member: InstanceId::generate(), capacity: 1 << 40 }));
    let mut index = 0;
    criterion.bench_function("sharding/owner among 10 caches", |bencher| {
        bencher.iter(|| {
            index += 1;
            black_box(map.owner(PieceIndex(index)))
        });
    });
}

criterion_group!(benches, plain, with_tls, placement);
criterion_main!(benches);
