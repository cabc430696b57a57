//! The headers of all archived segments, in memory: 130 bytes each, a hundred thousand of them are 13 MB.

use node::NodeClient;
use parking_lot::RwLock;
use primitives::{SegmentHeader, SegmentIndex};
use tokio::sync::watch;

/// What became of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Append {
    /// It continues the list.
    Appended,
    /// It was there.
    Known,
    /// Headers before it are missing.
    Gap,
    /// It contradicts what is there: the node's history is another one than before.
    Contradiction,
}

/// All headers from segment 0 on, each linked to the one before by its hash.
pub struct Headers {
    headers: RwLock<Vec<SegmentHeader>>,
    count: watch::Sender<u64>,
}

impl Default for Headers {
    fn default() -> Self {
        Self { headers: RwLock::default(), count: watch::channel(0).0 }
    }
}

impl Headers {
    /// Number of segments.
    pub fn count(&self) -> u64 {
        self.headers.read().len() as u64
    }

    /// Follows [`Self::count`].
    pub fn counts(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Header of a segment.
    pub fn get(&self, index: SegmentIndex) -> Option<SegmentHeader> {
        self.headers.read().get(usize::try_from(index.0).ok()?).copied()
    }

    /// All of them.
    pub fn all(&self) -> Vec<SegmentHeader> {
        self.headers.read().clone()
    }

    /// Adds the next header.
    pub fn append(&self, header: SegmentHeader) -> Append {
        let mut headers = self.headers.write();
        let index = header.segment_index().0;
        if let Some(known) = usize::try_from(index).ok().and_then(|index| headers.get(index)) {
            return if *known == header { Append::Known } else { Append::Contradiction };
        }
        if index > headers.len() as u64 {
            return Append::Gap;
        }
        if headers.last().is_some_and(|last| last.hash() != header.prev_segment_header_hash()) {
            return Append::Contradiction;
        }
        headers.push(header);
        self.count.send_replace(headers.len() as u64);
        Append::Appended
    }

    /// Loads the headers that the node has beyond these; gives their number.
    ///
    /// # Errors
    /// Those of the node; what came before the error stays.
    pub async fn refresh(&self, node: &NodeClient) -> Result<usize, node::Error> {
        let headers = node.segment_headers_from(SegmentIndex(self.count())).await?;
        let mut appended = 0;
        for header in headers {
            match self.append(header) {
                Append::Appended => appended += 1,
                Append::Known | Append::Gap => {}
                Append::Contradiction => {
                    self.start_over(&header);
                    return Box::pin(self.refresh(node)).await;
                }
            }
        }
        Ok(appended)
    }

    /// Forgets everything, to be loaded again, because `header` contradicts it.
    pub fn start_over(&self, header: &SegmentHeader) {
        tracing::error!(
            segment = header.segment_index().0,
            "The node's segment headers contradict those it gave before; starting over with its new ones"
        );
        self.clear();
    }

    fn clear(&self) {
        self.headers.write().clear();
        self.count.send_replace(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::segments::{ArchivedBlockProgress, LastArchivedBlock};
    use primitives::{Blake3Hash, SegmentCommitment};

    fn header(index: u64, previous: Option<&SegmentHeader>) -> SegmentHeader {
        SegmentHeader::V0 {
            segment_index: SegmentIndex(index),
            segment_commitment: SegmentCommitment([7; 48]),
            prev_segment_header_hash: previous.map_or(Blake3Hash::default(), SegmentHeader::hash),
            last_archived_block: LastArchivedBlock {
                number: 1,
                archived_progress: ArchivedBlockProgress::Complete,
            },
        }
    }

    #[test]
    fn headers_are_linked() {
        let headers = Headers::default();
        let mut counts = headers.counts();
        let zero = header(0, None);
        let one = header(1, Some(&zero));
        assert_eq!(headers.append(one), Append::Gap);
        assert_eq!(headers.append(zero), Append::Appended);
        assert_eq!(headers.append(header(1, None)), Append::Contradiction);
        assert_eq!(headers.append(one), Append::Appended);
        assert_eq!(headers.append(one), Append::Known);
        assert_eq!(headers.append(header(0, Some(&one))), Append::Contradiction);
        assert_eq!(headers.count(), 2);
        assert_eq!(*counts.borrow_and_update(), 2);
        assert_eq!(headers.get(SegmentIndex(1)), Some(one));
        assert_eq!(headers.get(SegmentIndex(2)), None);
    }
}
