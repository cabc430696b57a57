//! Sends pieces into caches.

use super::segment::SegmentPieces;
use super::views::{CacheMember, Lack, Views};
use cluster::transfer::{ItemType, PieceToPut, PutOutcome, TransferPool};
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use primitives::PieceIndex;
use prometheus_client::metrics::counter::Counter;
use std::time::Duration;

/// Caches that are sent to at once.
const CACHES_AT_ONCE: usize = 8;
/// Pieces in a batch; the transfer pipelines within it.
const BATCH: usize = 32;
/// How long nothing is sent to a cache that has no room.
const FULL_PAUSE: Duration = Duration::from_secs(60);
/// How long nothing is sent to a cache that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

/// Another controller leads: nothing more may be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another controller leads, with fencing number {highest}")]
pub struct Superseded {
    /// Its fencing number.
    pub highest: u64,
}

/// Sends every cache what it lacks and `pieces` has; notes what was stored.
///
/// # Errors
/// When a cache has seen a newer leader.
pub async fn push(
    pool: &TransferPool,
    fence: u64,
    pieces: &SegmentPieces,
    lacking: &[Lack],
    views: &Mutex<Views>,
    pushed: &Counter,
) -> Result<(), Superseded> {
    let tasks: Vec<_> =
        lacking.iter().map(|lack| push_to(pool, fence, pieces, lack, views, pushed)).collect();
    let mut sending = stream::iter(tasks).buffer_unordered(CACHES_AT_ONCE);
    while let Some(result) = sending.next().await {
        result?;
    }
    Ok(())
}

async fn push_to(
    pool: &TransferPool,
    fence: u64,
    pieces: &SegmentPieces,
    lack: &Lack,
    views: &Mutex<Views>,
    pushed: &Counter,
) -> Result<(), Superseded> {
    let member = lack.member;
    let there: Vec<_> = lack.pieces.iter().filter_map(|&index| Some((index, pieces.get(index)?))).collect();
    for batch in there.chunks(BATCH) {
        let to_put: Vec<_> = batch
            .iter()
            .map(|(index, checked)| PieceToPut {
                index: *index,
                hash: checked.hash,
                bytes: checked.piece.as_bytes(),
            })
            .collect();
        let outcomes =
            async { pool.get(member.address).await?.put_pieces(ItemType::Piece, fence, &to_put).await };
        let outcomes = match outcomes.await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::warn!(%error, cache = %member.instance, "Pieces could not be sent to a cache; trying again later");
                views.lock().pause(member.instance, FAILED_PAUSE);
                return Ok(());
            }
        };
        for ((index, _), outcome) in batch.iter().zip(outcomes) {
            if !note(member, *index, outcome, views, pushed)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Notes what became of a piece; false when the cache is to be left alone.
fn note(
    member: CacheMember,
    index: PieceIndex,
    outcome: PutOutcome,
    views: &Mutex<Views>,
    pushed: &Counter,
) -> Result<bool, Superseded> {
    let cache = member.instance;
    match outcome {
        PutOutcome::Stored => {
            pushed.inc();
            views.lock().stored(cache, index);
            return Ok(true);
        }
        PutOutcome::AlreadyThere => {
            views.lock().stored(cache, index);
            return Ok(true);
        }
        PutOutcome::StaleFence { highest } => return Err(Superseded { highest }),
        PutOutcome::Full => {
            tracing::warn!(%cache, %index, "A cache has no room for a piece; give it more or add a cache");
            views.lock().refused(cache, FULL_PAUSE);
        }
        PutOutcome::Damaged => {
            tracing::warn!(%cache, %index, "A piece arrived damaged at a cache; sending it again");
            views.lock().pause(cache, FAILED_PAUSE);
        }
        PutOutcome::Failed(reason) => {
            tracing::warn!(%cache, %index, reason, "A cache could not store a piece; trying again later");
            views.lock().refused(cache, FAILED_PAUSE);
        }
    }
    Ok(false)
}
