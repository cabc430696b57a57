//! What the desk gives over NATS and TCP.

use super::desk::{Desk, Offer, Report};
use super::leases::{Phase, RETRY_AFTER, SectorRequest};
use super::spool::BLOCK_SIZE;
use cluster::client::Serving;
use cluster::contract::plot_server::{LEASE_EXPIRY, MAX_SPOOLED};
use cluster::contract::{
    CancelRequest, InstanceId, Lease, LeaseKey, OfferReply, OfferRequest, PlotProgress, ProgressRequest,
    Refusal, SpoolRequest, SpooledSector, TcpAddress, clip,
};
use cluster::transfer::{FileRegion, Payload, SectorSource, SectorState, SourceError};
use cluster::{ClientError, ClusterClient};
use std::sync::Arc;

/// Requests of each kind answered at once: all are answered from memory.
const CONCURRENCY: usize = 8;

/// Answers for the desk over NATS.
#[derive(Clone)]
pub struct Window {
    /// The desk.
    pub desk: Arc<Desk>,
    /// This server.
    pub instance: InstanceId,
    /// Where sectors are fetched.
    pub address: TcpAddress,
}

/// How far a sector is, in the words of the contract.
fn progress(report: &Report) -> PlotProgress {
    let of = report.request.pieces_in_sector;
    match &report.phase {
        Phase::Queued => PlotProgress::Queued,
        Phase::Downloading => PlotProgress::Downloading { done: report.done.min(of), of },
        Phase::Encoding => PlotProgress::Encoding { done: report.done.min(of), of },
        Phase::Spooled => {
            let size_bytes = primitives::SectorGeometry::new(of).sector_size() as u64;
            PlotProgress::Ready { size_bytes }
        }
        Phase::Failed(failure) => PlotProgress::Failed { reason: clip(failure.to_string()) },
    }
}

impl Window {
    fn offer(&self, request: &OfferRequest) -> Result<OfferReply, Refusal> {
        let wanted = SectorRequest {
            key: request.key(),
            pieces_in_sector: request.pieces_in_sector,
            protocol_info: request.protocol_info,
        };
        match self.desk.offer(wanted) {
            Offer::Leased(report) => Ok(OfferReply::Lease(Lease {
                id: InstanceId(report.id),
                key: request.key(),
                server: self.instance,
                address: self.address,
                expires_in_ms: LEASE_EXPIRY.as_millis() as u32,
                progress: progress(&report),
            })),
            Offer::Busy { waiting_before } => Ok(OfferReply::Busy {
                server: self.instance,
                waiting_before: u32::try_from(waiting_before).unwrap_or(u32::MAX),
                retry_after_ms: RETRY_AFTER.as_millis() as u32,
            }),
            Offer::Conflict => {
                Err(Refusal::failed("the sector is already leased with other pieces or parameters"))
            }
        }
    }

    fn spool(&self, request: &SpoolRequest) -> Vec<SpooledSector> {
        let reports = self.desk.list(&request.public_key);
        let sector = |report: &Report| SpooledSector {
            key: report.request.key,
            pieces_in_sector: report.request.pieces_in_sector,
            progress: progress(report),
        };
        reports.iter().map(sector).take(MAX_SPOOLED).collect()
    }

    /// Begins to answer requests.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn open(&self, client: &ClusterClient) -> Result<Vec<Serving>, ClientError> {
        let instance = self.instance;
        let window = || self.clone();
        let offer = |window: Window| move |request: OfferRequest| std::future::ready(window.offer(&request));
        Ok(vec![
            client.serve_queue::<OfferRequest, _, _>(CONCURRENCY, offer(window())).await?,
            client.serve_instance::<OfferRequest, _, _>(instance, CONCURRENCY, offer(window())).await?,
            client
                .serve_instance::<ProgressRequest, _, _>(instance, CONCURRENCY, {
                    let window = window();
                    move |request| {
                        let report = window.desk.progress(&request.key);
                        std::future::ready(Ok(report.as_ref().map(progress)))
                    }
                })
                .await?,
            client
                .serve_instance::<CancelRequest, _, _>(instance, CONCURRENCY, {
                    let window = window();
                    move |request| std::future::ready(Ok(window.desk.cancel(&request.key)))
                })
                .await?,
            client
                .serve_instance::<SpoolRequest, _, _>(instance, CONCURRENCY, {
                    let window = window();
                    move |request| std::future::ready(Ok(window.spool(&request)))
                })
                .await?,
        ])
    }
}

impl SectorSource for Desk {
    fn state(&self, key: &LeaseKey) -> SectorState {
        let Some(report) = self.progress(key) else { return SectorState::Unknown };
        match self.finished(key) {
            Some(sector) => SectorState::Ready(Arc::clone(&sector.manifest)),
            None => SectorState::Making(progress(&report)),
        }
    }

    fn block(&self, key: &LeaseKey, block: u32) -> Result<Payload, SourceError> {
        let sector = self.finished(key).ok_or_else(|| SourceError::new("the sector is gone"))?;
        let length = sector.manifest.block_size(block);
        let region = FileRegion::new(sector, u64::from(block) * BLOCK_SIZE as u64, length);
        region.load().map_err(SourceError::new)?;
        Ok(Payload::File(region))
    }

    fn acknowledge(&self, key: &LeaseKey) -> Result<(), SourceError> {
        Desk::acknowledge(self, key);
        Ok(())
    }
}
