//! Fetches a spooled sector as a plot-client does, into memory.

use cluster::ClusterSecret;
use cluster::contract::{InstanceId, Lease};
use cluster::transfer::{Connection, SectorFetch, SectorManifest, SectorSink};

/// The bytes of a leased sector, once it is finished.
pub async fn fetch_sector(secret: &ClusterSecret, lease: &Lease) -> Vec<u8> {
    let mut connection = Connection::open(lease.address.0, secret, InstanceId::generate()).await.unwrap();
    let mut sink = Memory::default();
    connection.fetch_sector(&mut SectorFetch::new(lease.key), &mut sink).await.unwrap();
    sink.bytes
}

#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    block: Vec<u8>,
}

impl SectorSink for Memory {
    async fn begin(&mut self, _manifest: &SectorManifest) -> Result<(), String> {
        Ok(())
    }

    fn buffer(&mut self, size: usize) -> &mut [u8] {
        self.block.resize(size, 0);
        &mut self.block
    }

    async fn block(&mut self, _block: u32) -> Result<(), String> {
        self.bytes.extend_from_slice(&self.block);
        Ok(())
    }
}
