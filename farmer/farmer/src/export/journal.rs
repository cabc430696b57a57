//! Headers of the segments that a store holds, kept beside its pieces: what an export goes on from.

use crate::export::ExportError;
use parity_scale_codec::{Decode, Encode};
use primitives::hashes::blake3_hash;
use primitives::{SegmentHeader, SegmentIndex};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// The file, in the directory of the store.
const FILE: &str = "segment-headers.bin";
const MAGIC: &[u8; 8] = b"AUTOSEGH";
const VERSION: u32 = 1;
/// More is not read: headers of a million segments, 128 TB of history.
const SIZE_MAX: u64 = 128 << 20;
/// BLAKE3 of all before.
const CHECKSUM_SIZE: usize = 32;

/// The headers; on the disk 8 bytes of magic, 4 of version, the SCALE list of headers, 32 of BLAKE3.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    headers: BTreeMap<SegmentIndex, SegmentHeader>,
}

impl Journal {
    /// Reads the journal of the store in `directory`; a damaged one is as good as none, since the pieces themselves can be
    /// checked.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub fn open(directory: &Path) -> Result<Self, ExportError> {
        let path = directory.join(FILE);
        let read = |file: File| {
            let mut bytes = Vec::new();
            file.take(SIZE_MAX).read_to_end(&mut bytes).map(|_| bytes)
        };
        let headers = match File::open(&path).and_then(read) {
            Ok(bytes) => decode(&bytes).unwrap_or_else(|| {
                tracing::warn!(
                    path = %path.display(),
                    "The list of exported segments is damaged; their pieces are checked against the chain instead"
                );
                Vec::new()
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(ExportError::Io { action: "read", path, source }),
        };
        let headers = headers.into_iter().map(|header| (header.segment_index(), header)).collect();
        Ok(Self { path, headers })
    }

    /// Header of a segment that the store holds.
    pub fn get(&self, index: SegmentIndex) -> Option<SegmentHeader> {
        self.headers.get(&index).copied()
    }

    /// The newest of the segments.
    pub fn newest(&self) -> Option<SegmentIndex> {
        self.headers.last_key_value().map(|(index, _)| *index)
    }

    /// Notes that the store holds a segment, whose pieces are on the disk. Takes effect as one step.
    ///
    /// # Errors
    /// When the disk fails; the journal on it is then the former one.
    pub fn add(&mut self, header: SegmentHeader) -> Result<(), ExportError> {
        self.headers.insert(header.segment_index(), header);
        let bytes = encode(&self.headers.values().copied().collect::<Vec<_>>());
        let temporary = self.path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        };
        write().map_err(|source| ExportError::Io { action: "write", path: self.path.clone(), source })
    }
}

fn encode(headers: &[SegmentHeader]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    VERSION.encode_to(&mut bytes);
    headers.encode_to(&mut bytes);
    let checksum = blake3_hash(&bytes);
    bytes.extend_from_slice(&checksum.0);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<SegmentHeader>> {
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_SIZE)?)?;
    if blake3_hash(content).0 != checksum {
        return None;
    }
    let mut content = content.strip_prefix(MAGIC)?;
    if u32::decode(&mut content).ok()? != VERSION {
        return None;
    }
    Vec::decode(&mut content).ok().filter(|_| content.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::segments::{ArchivedBlockProgress, LastArchivedBlock};

    fn header(index: u64) -> SegmentHeader {
        SegmentHeader::V0 {
            segment_index: SegmentIndex(index),
            segment_commitment: Default::default(),
            prev_segment_header_hash: Default::default(),
            last_archived_block: LastArchivedBlock {
                number: index as u32,
                archived_progress: ArchivedBlockProgress::Partial(7),
            },
        }
    }

    #[test]
    fn what_was_noted_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.newest(), None);
        for index in [3, 4, 0] {
            journal.add(header(index)).unwrap();
        }
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.newest(), Some(SegmentIndex(4)));
        assert_eq!(journal.get(SegmentIndex(3)), Some(header(3)));
        assert_eq!(journal.get(SegmentIndex(1)), None);
    }

    #[test]
    fn a_damaged_journal_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let good = encode(&[header(0), header(1)]);
        assert_eq!(decode(&good).unwrap().len(), 2);
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 1;
            assert_eq!(decode(&bad), None, "byte {position}");
            assert_eq!(decode(&good[..position]), None, "{position} bytes");
        }
        fs::write(directory.path().join(FILE), &good[..20]).unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.newest(), None);
        journal.add(header(2)).unwrap();
        assert_eq!(Journal::open(directory.path()).unwrap().newest(), Some(SegmentIndex(2)));
    }
}
