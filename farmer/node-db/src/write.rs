//! Creating and writing: what a development chain needs to keep its blocks as a node does.

use crate::layout::{self, columns, lookup_key, meta_keys};
use crate::read::{Existing, caught, open_error};
use crate::{BlockId, Error, NodeDb};
use parity_db::{Db, Options};
use parity_scale_codec::Encode;
use primitives::SegmentHeader;
use primitives::blocks::SignedBlock;
use std::path::Path;

type Change = (u8, Vec<u8>, Option<Vec<u8>>);

impl NodeDb {
    /// Opens the database at `path` to write it; makes an empty one of 13 columns when there is none.
    ///
    /// An empty database has no best block until its genesis block is inserted ([`Self::insert_best_block`]).
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NotANodeDatabase`] when there is another kind of database, [`Error::BadLog`],
    /// [`Error::BadFile`], [`Error::Open`] when the directory cannot be made or written.
    pub fn open_or_create(path: &Path) -> Result<Self, Error> {
        let db = if path.join("metadata").exists() {
            Existing::find(path)?.open(Db::open_or_create)?
        } else {
            let mut options = Options::with_columns(path, layout::NUM_COLUMNS as u8);
            options.columns = layout::column_options();
            caught(|| Db::open_or_create(&options)).map_err(|error| open_error(path, error))?
        };
        let database = Self { db, path: path.to_owned(), tables: None };
        // The type is written with the first commit: a process killed before it leaves an empty database.
        if database.get(columns::META, meta_keys::TYPE, || "the database's type".to_owned())?.is_none()
            && database.get(columns::META, meta_keys::BEST, || "the best block".to_owned())?.is_none()
        {
            let change = (columns::META, meta_keys::TYPE.to_vec(), Some(meta_keys::TYPE_FULL.to_vec()));
            database.commit("the database's type", vec![change])?;
        }
        database.check_type()?;
        Ok(database)
    }

    fn commit(&self, what: &str, changes: Vec<Change>) -> Result<(), Error> {
        self.db.commit(changes).map_err(|source| Error::Write { what: what.to_owned(), source })
    }

    /// Whether a genesis block was inserted.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn has_genesis(&self) -> Result<bool, Error> {
        Ok(self.get(columns::META, meta_keys::GENESIS, || "the genesis hash".to_owned())?.is_some())
    }

    /// Stores a block as the new best one of the canonical chain, in one atomic commit; block 0 also becomes the genesis
    /// and finalized block.
    ///
    /// Commits reach the disk in the order they were made; a killed process loses at most the last few.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn insert_best_block(&self, block: &SignedBlock) -> Result<BlockId, Error> {
        let header = block.header.encode();
        let number = block.header.number;
        let hash = block.header.hash();
        let key = lookup_key(number, &hash).to_vec();
        let mut changes: Vec<Change> = vec![
            (columns::HEADER, key.clone(), Some(header)),
            (columns::BODY, key.clone(), Some(block.extrinsics.encode())),
            (columns::KEY_LOOKUP, number.to_be_bytes().to_vec(), Some(key.clone())),
            (columns::KEY_LOOKUP, hash.to_vec(), Some(key.clone())),
            (columns::META, meta_keys::BEST.to_vec(), Some(key.clone())),
        ];
        if let Some(justifications) = &block.justifications {
            changes.push((columns::JUSTIFICATIONS, key.clone(), Some(justifications.encode())));
        }
        if number == 0 {
            changes.push((columns::META, meta_keys::FINALIZED.to_vec(), Some(key)));
            changes.push((columns::META, meta_keys::GENESIS.to_vec(), Some(hash.to_vec())));
        }
        self.commit(&format!("block {number}"), changes)?;
        Ok(BlockId { number, hash })
    }

    /// Marks a block as the newest finalized one.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn set_finalized(&self, id: BlockId) -> Result<(), Error> {
        let key = lookup_key(id.number, &id.hash).to_vec();
        self.commit("the finalized block", vec![(columns::META, meta_keys::FINALIZED.to_vec(), Some(key))])
    }

    /// Stores segment headers that follow those already there, as one new batch of the aux column.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no room for another batch, [`Error::Read`], [`Error::Write`].
    pub fn append_segment_headers(&self, headers: &[SegmentHeader]) -> Result<(), Error> {
        let what = || "the segment headers".to_owned();
        for batch in 0..=u16::MAX {
            let key = layout::segment_headers_key(batch);
            if self.get(columns::AUX, &key, what)?.is_none() {
                return self.commit(&what(), vec![(columns::AUX, key, Some(headers.encode()))]);
            }
        }
        Err(Error::corrupt(what(), "all 65,536 batches are taken"))
    }
}
