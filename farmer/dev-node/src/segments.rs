//! Pieces of the genesis and of the newest segment, on disk.
//!
//! A node holds the newest segment's pieces in memory and makes the genesis segment's anew; here both stand in files of
//! 268 MB, so that a restart costs nothing and the process stays small. What is served is the same.
//!
//! File: magic, version (u32), index (u64), header hash, 256 piece hashes, BLAKE3 of all that, then the pieces.

use crate::Error;
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, Piece, PieceIndex, SegmentHeader, SegmentIndex};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"ADEVSEGM";
const VERSION: u32 = 1;
const HEAD_SIZE: usize = 8 + 4 + 8 + 32 + SegmentIndex::NUM_PIECES * 32;

/// The directory of the files.
#[derive(Debug)]
pub(crate) struct SegmentFiles {
    directory: PathBuf,
}

fn head(header: &SegmentHeader, hashes: impl Iterator<Item = Blake3Hash>) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_SIZE + 32);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&header.segment_index().0.to_le_bytes());
    head.extend_from_slice(&header.hash().0);
    hashes.for_each(|hash| head.extend_from_slice(&hash.0));
    let checksum = blake3_hash(&head);
    head.extend_from_slice(&checksum.0);
    head
}

impl SegmentFiles {
    /// Uses `directory`, and makes it.
    pub(crate) fn open(directory: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&directory).map_err(Error::file(&directory, "make the directory for segments"))?;
        Ok(Self { directory })
    }

    fn path(&self, index: SegmentIndex) -> PathBuf {
        self.directory.join(format!("segment-{index}.pieces"))
    }

    /// Stores a segment's pieces; after a crash the file is there whole or not at all.
    pub(crate) fn store(&self, header: &SegmentHeader, pieces: &[Piece]) -> Result<(), Error> {
        let path = self.path(header.segment_index());
        let temporary = path.with_extension("tmp");
        let write = || -> io::Result<()> {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
            file.write_all(&head(header, pieces.iter().map(|piece| blake3_hash(piece.as_ref()))))?;
            for piece in pieces {
                file.write_all(piece.as_ref())?;
            }
            file.into_inner()?.sync_data()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(Error::file(path.clone(), "store the pieces of a segment"))
    }

    /// Whether the pieces of this very segment are there; what is damaged counts as absent.
    pub(crate) fn has(&self, header: &SegmentHeader) -> bool {
        let read = || -> io::Result<bool> {
            let mut file = File::open(self.path(header.segment_index()))?;
            let size = (HEAD_SIZE + 32 + SegmentIndex::NUM_PIECES * Piece::SIZE) as u64;
            Ok(file.metadata()?.len() == size
                && read_head(&mut file)?.is_some_and(|head| is_of(&head, header)))
        };
        read().unwrap_or(false)
    }

    /// A piece of the segment with this header; none when its file is not there or the piece is damaged.
    pub(crate) fn piece(&self, header: &SegmentHeader, index: PieceIndex) -> io::Result<Option<Piece>> {
        let mut file = match File::open(self.path(header.segment_index())) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(head) = read_head(&mut file)?.filter(|head| is_of(head, header)) else { return Ok(None) };
        let position = index.position();
        file.seek(SeekFrom::Start((HEAD_SIZE + 32 + position * Piece::SIZE) as u64))?;
        let mut piece = Piece::zeroed();
        file.read_exact(piece.as_bytes_mut())?;
        let expected = &head[HEAD_SIZE - SegmentIndex::NUM_PIECES * 32 + position * 32..][..32];
        if blake3_hash(piece.as_ref()).0 != *expected {
            tracing::error!(%index, "The stored piece is damaged and is not served");
            return Ok(None);
        }
        Ok(Some(piece))
    }

    /// Removes every file but those of the genesis segment and of `newest`, half-written ones included.
    pub(crate) fn keep_only(&self, newest: SegmentIndex) -> Result<(), Error> {
        let keep = [self.path(SegmentIndex(0)), self.path(newest)];
        let remove = |directory: &Path| -> io::Result<()> {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                let ours =
                    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"segment-"));
                if ours && !keep.contains(&path) {
                    fs::remove_file(path)?;
                }
            }
            Ok(())
        };
        remove(&self.directory).map_err(Error::file(&self.directory, "remove the pieces of older segments"))
    }
}

/// The head without its checksum, if it is valid.
fn read_head(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut head = vec![0; HEAD_SIZE + 32];
    file.read_exact(&mut head)?;
    let checksum = head.split_off(HEAD_SIZE);
    Ok((blake3_hash(&head).0 == *checksum).then_some(head))
}

fn is_of(head: &[u8], header: &SegmentHeader) -> bool {
    head[..8] == MAGIC
        && head[8..12] == VERSION.to_le_bytes()
        && head[12..20] == header.segment_index().0.to_le_bytes()
        && head[20..52] == header.hash().0
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
                number: 0,
                archived_progress: ArchivedBlockProgress::Complete,
            },
        }
    }

    #[test]
    fn stored_pieces_are_served_damaged_and_foreign_ones_are_not() {
        let directory = tempfile::tempdir().expect("made");
        let files = SegmentFiles::open(directory.path().join("segments")).expect("made");
        let pieces = (0..SegmentIndex::NUM_PIECES)
            .map(|position| {
                let mut piece = Piece::zeroed();
                piece.as_bytes_mut()[7] = position as u8;
                piece
            })
            .collect::<Vec<_>>();
        assert!(!files.has(&header(3)));
        assert_eq!(files.piece(&header(3), PieceIndex(3 * 256)).expect("no error"), None);
        files.store(&header(3), &pieces).expect("stored");
        assert!(files.has(&header(3)));
        for position in [0, 1, 255] {
            let piece = files.piece(&header(3), PieceIndex(3 * 256 + position)).expect("read");
            assert_eq!(piece.as_ref(), Some(&pieces[position as usize]));
        }

        let path = files.path(SegmentIndex(3));
        let mut bytes = fs::read(&path).expect("read");
        bytes[HEAD_SIZE + 32 + Piece::SIZE + 5] ^= 1;
        fs::write(&path, &bytes).expect("written");
        assert_eq!(files.piece(&header(3), PieceIndex(3 * 256 + 1)).expect("read"), None);
        assert!(files.piece(&header(3), PieceIndex(3 * 256)).expect("read").is_some());
        bytes[60] ^= 1;
        fs::write(&path, &bytes[..bytes.len()]).expect("written");
        assert!(!files.has(&header(3)), "the head is damaged");

        fs::write(files.path(SegmentIndex(9)).with_extension("tmp"), [1]).expect("written");
        files.keep_only(SegmentIndex(4)).expect("removed");
        assert_eq!(fs::read_dir(&files.directory).expect("listed").count(), 0);
    }
}
