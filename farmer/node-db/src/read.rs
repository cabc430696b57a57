//! Opening and reading.

use crate::Error;
use crate::layout::{self, LookupKey, columns, lookup_key, meta_keys};
use crate::log::{check_logs, log_numbers};
use crate::tables::{Fault, Tables, check_indices, check_tables};
use parity_db::{Db, Options};
use parity_scale_codec::{Decode, DecodeAll, Encode};
use primitives::blocks::{BlockHeader, Justification, SignedBlock};
use primitives::hashes::blake2b_256;
use primitives::{BlockNumber, SegmentHeader};
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Number and hash of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockId {
    /// Number.
    pub number: BlockNumber,
    /// BLAKE2b-256 of the header.
    pub hash: [u8; 32],
}

/// A node's database (archival §11).
pub struct NodeDb {
    pub(crate) db: Db,
    pub(crate) path: PathBuf,
    /// What is looked at before each read; none in a database that was opened to be written.
    pub(crate) tables: Option<Tables>,
}

impl std::fmt::Debug for NodeDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeDb").field("path", &self.path).finish_non_exhaustive()
    }
}

/// An existing database, as its `metadata` describes it.
pub(crate) struct Existing {
    options: Options,
    salt: [u8; 32],
    version: u32,
    /// Name of a log, if it has one: ParityDB replays it when it opens the database.
    log: Option<String>,
}

impl Existing {
    /// Looks at a database that nobody uses, before ParityDB does: the log must refer to nothing but its own, the files must be
    /// as long as they have to be.
    pub(crate) fn find(path: &Path) -> Result<Self, Error> {
        let not_a_database = |reason: String| Error::NotANodeDatabase { path: path.to_owned(), reason };
        if !path.is_dir() {
            return Err(not_a_database("no such directory".to_owned()));
        }
        check_metadata_text(path)?;
        let metadata = Options::load_metadata(path)
            .map_err(|error| not_a_database(format!("its `metadata` file: {error}")))?
            .ok_or_else(|| not_a_database("it has no `metadata` file".to_owned()))?;
        let count = metadata.columns.len();
        if count < layout::NUM_COLUMNS {
            return Err(not_a_database(format!(
                "a ParityDB of {count} columns where a node's has {} at least",
                layout::NUM_COLUMNS
            )));
        }
        let columns =
            u8::try_from(count).map_err(|_| not_a_database(format!("a ParityDB of {count} columns")))?;
        if !metadata.columns.iter().all(|column| column.is_valid()) {
            return Err(not_a_database("its `metadata` file describes impossible columns".to_owned()));
        }
        if let Some(what) = layout::unlike_a_node(&metadata.columns) {
            return Err(not_a_database(format!("by its `metadata` file {what}, as in no node's")));
        }
        check_unlocked(path)?;
        check_logs(path, count, metadata.version)?;
        let log = pending_log(path)?;
        check_indices(path, columns, log.is_some())?;
        if log.is_none() {
            check_tables(path, columns)?;
        }
        let mut options = Options::with_columns(path, columns);
        options.columns = metadata.columns;
        Ok(Self { options, salt: metadata.salt, version: metadata.version, log })
    }

    /// Opens it. Where there was a log, ParityDB has played it into the tables, so only now can they be compared.
    pub(crate) fn open(&self, open: impl FnOnce(&Options) -> parity_db::Result<Db>) -> Result<Db, Error> {
        let path = &self.options.path;
        let db = caught(|| open(&self.options)).map_err(|error| open_error(path, error))?;
        if self.log.is_some() {
            check_tables(path, self.options.columns.len() as u8)?;
        }
        Ok(db)
    }
}

/// Most bytes of the `metadata` file; a node's has about 1200.
const METADATA_MAX: u64 = 1 << 20;

/// Refuses what would make ParityDB's own parser panic: a salt that is not 32 bytes, an unknown compression.
fn check_metadata_text(path: &Path) -> Result<(), Error> {
    let not_a_database = |reason: String| Error::NotANodeDatabase { path: path.to_owned(), reason };
    let read = |file: File| {
        let mut text = String::new();
        file.take(METADATA_MAX + 1).read_to_string(&mut text).map(|_| text)
    };
    let text = match File::open(path.join("metadata")).and_then(read) {
        Ok(text) if text.len() as u64 > METADATA_MAX => {
            return Err(not_a_database(format!("its `metadata` file has more than {METADATA_MAX} bytes")));
        }
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(not_a_database("it has no `metadata` file".to_owned()));
        }
        Err(error) => return Err(not_a_database(format!("its `metadata` file: {error}"))),
    };
    for (number, line) in text.lines().enumerate() {
        let bad =
            |what: &str| Err(not_a_database(format!("its `metadata` file, line {}: {what}", number + 1)));
        if let Some(salt) = line.strip_prefix("salt=")
            && (salt.len() != 64 || !salt.bytes().all(|digit| digit.is_ascii_hexdigit()))
        {
            return bad("the salt is not 64 hex digits");
        }
        if line.starts_with("col") {
            // A line that has several is read with the last of them.
            let mut compressions = line.split("compression: ").skip(1).map(|rest| rest.split(',').next());
            if !compressions.all(|compression| matches!(compression, Some("0" | "1" | "2"))) {
                return bad("unknown compression");
            }
        }
    }
    Ok(())
}

impl NodeDb {
    /// Opens an existing database to read it, with the options of its `metadata`.
    ///
    /// `path` is the node's base path or its `db` directory. ParityDB locks the directory and replays its log, so the
    /// directory has to be writable all the same.
    ///
    /// # Errors
    /// [`Error::NotANodeDatabase`], [`Error::Locked`] while a node runs on it, [`Error::BadLog`], [`Error::BadFile`],
    /// [`Error::Open`]; [`Error::Corrupt`] and [`Error::Read`] when it does not even say what it is.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        Self::open_found(Existing::find(&layout::database_directory(path))?)
    }

    fn open_found(mut existing: Existing) -> Result<Self, Error> {
        // They would be written back when it is closed.
        existing.options.stats = false;
        let db = existing.open(Db::open_read_only)?;
        let tables = Tables::open(&existing.options, existing.salt, existing.version);
        let path = existing.options.path;
        let tables = tables.map_err(|error| unreadable(&path, error))?;
        let database = Self { db, path, tables: Some(tables) };
        database.check_type()?;
        Ok(database)
    }

    /// Opens a database that was closed in order to read it, as [`Self::open_read_only`] does, and changes nothing that is
    /// stored in it: where there is a log, ParityDB would write it into the tables, so that is refused.
    ///
    /// ParityDB opens the files for writing all the same, and makes an empty `lock` file where there is none.
    ///
    /// # Errors
    /// [`Error::PendingLog`], else those of [`Self::open_read_only`].
    pub fn open_unchanged(path: &Path) -> Result<Self, Error> {
        let existing = Existing::find(&layout::database_directory(path))?;
        match existing.log {
            Some(log) => Err(Error::PendingLog { path: existing.options.path, log }),
            None => Self::open_found(existing),
        }
    }

    /// The database's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn check_type(&self) -> Result<(), Error> {
        match self.get(columns::META, meta_keys::TYPE, || "the database's type".to_owned())? {
            Some(kind) if kind == meta_keys::TYPE_FULL => Ok(()),
            found => Err(Error::NotANodeDatabase {
                path: self.path.clone(),
                reason: match found {
                    Some(kind) => format!("its type is {:?}, not \"full\"", String::from_utf8_lossy(&kind)),
                    None => "its meta column has no type".to_owned(),
                },
            }),
        }
    }

    pub(crate) fn get(
        &self,
        column: u8,
        key: &[u8],
        what: impl FnOnce() -> String,
    ) -> Result<Option<Vec<u8>>, Error> {
        self.checked(column, key, what, || self.db.get(column, key))
    }

    /// Reads the value of a key, or something of it, after a look at what there would be to read.
    fn checked<T>(
        &self,
        column: u8,
        key: &[u8],
        what: impl FnOnce() -> String,
        read: impl FnOnce() -> parity_db::Result<T>,
    ) -> Result<T, Error> {
        match self.tables.as_ref().map_or(Ok(()), |tables| tables.check(column, key)) {
            Ok(()) => {}
            Err(Fault::Damaged(reason)) => return Err(Error::corrupt(what(), reason)),
            Err(Fault::Unreadable(error)) => {
                return Err(Error::Read { what: what(), source: parity_db::Error::Io(error) });
            }
        }
        caught(read).map_err(|error| match error {
            parity_db::Error::Corruption(reason) => Error::corrupt(what(), reason),
            parity_db::Error::Compression => Error::corrupt(what(), "it cannot be decompressed"),
            source => Error::Read { what: what(), source },
        })
    }

    /// Hash of the genesis block: names the chain.
    ///
    /// # Errors
    /// [`Error::Corrupt`] without one, [`Error::Read`].
    pub fn genesis_hash(&self) -> Result<[u8; 32], Error> {
        let bytes = self.get(columns::META, meta_keys::GENESIS, || "the genesis hash".to_owned())?;
        let bytes = bytes.ok_or_else(|| Error::corrupt("genesis hash", "not there"))?;
        <[u8; 32]>::try_from(bytes.as_slice())
            .map_err(|_| Error::corrupt("genesis hash", format!("{} bytes instead of 32", bytes.len())))
    }

    /// The best block.
    ///
    /// # Errors
    /// [`Error::Corrupt`] without one, [`Error::Read`].
    pub fn best(&self) -> Result<BlockId, Error> {
        self.meta_block(meta_keys::BEST, "best block")
    }

    /// The newest finalized block.
    ///
    /// # Errors
    /// [`Error::Corrupt`] without one, [`Error::Read`].
    pub fn finalized(&self) -> Result<BlockId, Error> {
        self.meta_block(meta_keys::FINALIZED, "finalized block")
    }

    fn meta_block(&self, key: &[u8], what: &str) -> Result<BlockId, Error> {
        let bytes = self
            .get(columns::META, key, || what.to_owned())?
            .ok_or_else(|| Error::corrupt(what, "its key is not there"))?;
        parse_lookup_key(&bytes, what)
    }

    /// The canonical block with this number; none past the best block.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Read`].
    pub fn block_id(&self, number: BlockNumber) -> Result<Option<BlockId>, Error> {
        let what = || format!("the lookup key of block {number}");
        let Some(bytes) = self.get(columns::KEY_LOOKUP, &number.to_be_bytes(), what)? else {
            return Ok(None);
        };
        let id = parse_lookup_key(&bytes, &what())?;
        if id.number != number {
            return Err(Error::corrupt(what(), format!("it names block {}", id.number)));
        }
        Ok(Some(id))
    }

    /// The block with this hash, canonical or not.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Read`].
    pub fn block_id_of(&self, hash: &[u8; 32]) -> Result<Option<BlockId>, Error> {
        let what = || "the lookup key of a block hash".to_owned();
        let Some(bytes) = self.get(columns::KEY_LOOKUP, hash, what)? else { return Ok(None) };
        parse_lookup_key(&bytes, &what()).map(Some)
    }

    /// Header of a block, its hash and number checked.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is not there or is another's, [`Error::Read`].
    pub fn header(&self, id: BlockId) -> Result<BlockHeader, Error> {
        let number = id.number;
        let what = || format!("the header of block {number}");
        let bytes = self
            .get(columns::HEADER, &lookup_key(number, &id.hash), what)?
            .ok_or_else(|| Error::corrupt(what(), "not there"))?;
        let hash = blake2b_256(&bytes);
        if hash != id.hash {
            return Err(Error::corrupt(what(), "its BLAKE2b-256 is not the hash it is stored under"));
        }
        let header: BlockHeader = decode_all(&bytes, what)?;
        if header.number != number {
            return Err(Error::corrupt(what(), format!("it says number {}", header.number)));
        }
        Ok(header)
    }

    /// A block of the given identity with its justifications as stored.
    ///
    /// # Errors
    /// [`Error::PrunedBody`] when the body was thrown away, [`Error::Corrupt`], [`Error::Read`].
    pub fn block(&self, id: BlockId) -> Result<SignedBlock, Error> {
        let number = id.number;
        let header = self.header(id)?;
        let key = lookup_key(number, &id.hash);
        let extrinsics = self.extrinsics(number, &key)?;
        let justifications = self.justifications(id)?;
        Ok(SignedBlock { header, extrinsics, justifications })
    }

    /// Justifications of a block as stored; none when it has none.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Read`].
    pub fn justifications(&self, id: BlockId) -> Result<Option<Vec<Justification>>, Error> {
        let what = || format!("the justifications of block {}", id.number);
        let Some(bytes) = self.get(columns::JUSTIFICATIONS, &lookup_key(id.number, &id.hash), what)? else {
            return Ok(None);
        };
        decode_all(&bytes, what).map(Some)
    }

    fn extrinsics(&self, number: BlockNumber, key: &LookupKey) -> Result<Vec<Vec<u8>>, Error> {
        let what = || format!("the body of block {number}");
        if let Some(bytes) = self.get(columns::BODY, key, what)? {
            return decode_all(&bytes, what);
        }
        if self.get(columns::BODY_INDEX, key, what)?.is_some() {
            // No runtime of this network indexes transactions, so such a database is another chain's.
            return Err(Error::corrupt(what(), "it has indexed transactions, which this network never has"));
        }
        Err(Error::PrunedBody { number, path: self.path.clone() })
    }

    /// The canonical block with this number.
    ///
    /// # Errors
    /// [`Error::NoSuchBlock`], else as [`Self::block`].
    pub fn canonical_block(&self, number: BlockNumber) -> Result<SignedBlock, Error> {
        let id = match self.block_id(number)? {
            Some(id) => id,
            None => return Err(Error::NoSuchBlock { number, best: self.best()?.number }),
        };
        self.block(id)
    }

    /// The bytes of canonical block `number` as they are archived (archival §10): justifications filtered, genesis
    /// extended to a whole segment.
    ///
    /// # Errors
    /// As [`Self::canonical_block`].
    pub fn encoded_for_archiving(&self, number: BlockNumber) -> Result<Vec<u8>, Error> {
        Ok(self.canonical_block(number)?.encode_for_archiving())
    }

    /// The first canonical block of `from..=to` whose body is not there; none when all are. Reads no bodies.
    ///
    /// # Errors
    /// [`Error::NoSuchBlock`], [`Error::Corrupt`], [`Error::Read`].
    pub fn first_missing_body(
        &self,
        from: BlockNumber,
        to: BlockNumber,
    ) -> Result<Option<BlockNumber>, Error> {
        for number in from..=to {
            let Some(id) = self.block_id(number)? else {
                return Err(Error::NoSuchBlock { number, best: self.best()?.number });
            };
            let key = lookup_key(number, &id.hash);
            let what = || format!("the body of block {number}");
            let size = self.checked(columns::BODY, &key, what, || self.db.get_size(columns::BODY, &key))?;
            if size.is_none() {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// All segment headers that the node has stored, ascending from segment 0, their chain of hashes checked.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when an index or a previous hash does not fit, [`Error::Read`].
    pub fn segment_headers(&self) -> Result<Vec<SegmentHeader>, Error> {
        let mut headers: Vec<SegmentHeader> = Vec::new();
        for batch in 0..=u16::MAX {
            let what = || format!("batch {batch} of the segment headers");
            let Some(bytes) = self.get(columns::AUX, &layout::segment_headers_key(batch), what)? else {
                break;
            };
            for header in decode_all::<Vec<SegmentHeader>>(&bytes, what)? {
                let index = headers.len() as u64;
                let previous = headers.last().map(SegmentHeader::hash).unwrap_or_default();
                if header.segment_index().0 != index {
                    let found = header.segment_index();
                    return Err(Error::corrupt(what(), format!("segment {found} where {index} is due")));
                }
                if header.prev_segment_header_hash() != previous {
                    return Err(Error::corrupt(
                        what(),
                        format!("segment {index} does not follow the one before"),
                    ));
                }
                headers.push(header);
            }
        }
        Ok(headers)
    }
}

/// Calls ParityDB; that it panics is an error, too: its files are checked less than it trusts them.
pub(crate) fn caught<T>(call: impl FnOnce() -> parity_db::Result<T>) -> parity_db::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(parity_db::Error::Corruption("ParityDB panicked: its log or its tables are damaged".to_owned()))
    })
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::Open { path: path.to_owned(), source: parity_db::Error::Io(error) }
}

/// A running node has a log, too: that it runs is what has to be said then.
fn check_unlocked(path: &Path) -> Result<(), Error> {
    let lock = match File::open(path.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(path, error)),
    };
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(unreadable(path, error)),
        Ok(()) => Ok(()),
    }
}

/// Name of a log file.
fn pending_log(path: &Path) -> Result<Option<String>, Error> {
    let numbers = log_numbers(path).map_err(|error| unreadable(path, error))?;
    Ok(numbers.first().map(|number| format!("log{number}")))
}

pub(crate) fn open_error(path: &Path, error: parity_db::Error) -> Error {
    let path = path.to_owned();
    match error {
        parity_db::Error::Locked(_) => Error::Locked { path },
        parity_db::Error::DatabaseNotFound => {
            Error::NotANodeDatabase { path, reason: "no such database".to_owned() }
        }
        source => Error::Open { path, source },
    }
}

fn parse_lookup_key(bytes: &[u8], what: &str) -> Result<BlockId, Error> {
    let key = LookupKey::try_from(bytes)
        .map_err(|_| Error::corrupt(what, format!("{} bytes instead of 36", bytes.len())))?;
    let (number, hash) = key.split_at(4);
    Ok(BlockId {
        number: BlockNumber::from_be_bytes(number.try_into().expect("4 of 36 bytes")),
        hash: hash.try_into().expect("32 of 36 bytes"),
    })
}

fn decode_all<T: Decode + Encode>(bytes: &[u8], what: impl FnOnce() -> String) -> Result<T, Error> {
    T::decode_all(&mut &*bytes).map_err(|error| Error::corrupt(what(), error.to_string()))
}
