//! Columns and keys of the database (archival §11).

use parity_db::{ColumnOptions, CompressionType};
use parity_scale_codec::Encode;
use primitives::BlockNumber;
use std::path::{Path, PathBuf};

/// Columns that a node's database has at least; newer nodes may add some.
pub const NUM_COLUMNS: usize = 13;

/// Column numbers.
pub(crate) mod columns {
    pub(crate) const META: u8 = 0;
    pub(crate) const STATE: u8 = 1;
    pub(crate) const KEY_LOOKUP: u8 = 3;
    pub(crate) const HEADER: u8 = 4;
    pub(crate) const BODY: u8 = 5;
    pub(crate) const JUSTIFICATIONS: u8 = 6;
    pub(crate) const AUX: u8 = 8;
    pub(crate) const TRANSACTION: u8 = 11;
    pub(crate) const BODY_INDEX: u8 = 12;
}

/// The columns that are read.
pub(crate) const READ_COLUMNS: [u8; 7] = {
    use columns::*;
    [META, KEY_LOOKUP, HEADER, BODY, JUSTIFICATIONS, AUX, BODY_INDEX]
};

/// What is different from a node's database in the options of its columns, of which there are [`NUM_COLUMNS`] at least:
/// ParityDB reads by what they say, and what they say is in a file like any other.
pub(crate) fn unlike_a_node(columns: &[ColumnOptions]) -> Option<String> {
    if let Some(number) = columns.iter().position(|column| column.btree_index) {
        return Some(format!("column {number} is ordered"));
    }
    READ_COLUMNS.into_iter().find_map(|number| {
        let column = &columns[usize::from(number)];
        let what = if column.uniform {
            "has uniform keys"
        } else if column.ref_counted {
            "counts references"
        } else if column.compression == CompressionType::Snappy {
            "is compressed by Snappy"
        } else {
            return None;
        };
        Some(format!("column {number} {what}"))
    })
}

/// Keys of the meta column.
pub(crate) mod meta_keys {
    pub(crate) const TYPE: &[u8] = b"type";
    pub(crate) const BEST: &[u8] = b"best";
    pub(crate) const FINALIZED: &[u8] = b"final";
    pub(crate) const GENESIS: &[u8] = b"gen";
    /// Value of [`TYPE`].
    pub(crate) const TYPE_FULL: &[u8] = b"full";
}

/// A lookup key: block number, 4 bytes big-endian, then the block's hash.
pub(crate) type LookupKey = [u8; 36];

pub(crate) fn lookup_key(number: BlockNumber, hash: &[u8; 32]) -> LookupKey {
    let mut key = [0; 36];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key[4..].copy_from_slice(hash);
    key
}

/// Key of the `index`th batch of segment headers in the aux column.
pub(crate) fn segment_headers_key(index: u16) -> Vec<u8> {
    (b"segment-headers".to_vec(), index).encode()
}

/// Options of the 13 columns of a new database.
pub(crate) fn column_options() -> Vec<ColumnOptions> {
    (0..NUM_COLUMNS as u8)
        .map(|column| {
            let by_content = matches!(column, columns::STATE | columns::TRANSACTION);
            let compressed = matches!(
                column,
                columns::STATE
                    | columns::HEADER
                    | columns::BODY
                    | columns::JUSTIFICATIONS
                    | columns::TRANSACTION
                    | columns::BODY_INDEX
            );
            ColumnOptions {
                preimage: by_content,
                uniform: by_content,
                ref_counted: by_content,
                compression: if compressed { CompressionType::Lz4 } else { CompressionType::NoCompression },
                btree_index: false,
            }
        })
        .collect()
}

/// Directory with the database's own files: `path` itself or its `db`, whichever has a `metadata` file; `path` when
/// neither has one.
pub fn database_directory(path: &Path) -> PathBuf {
    let inner = path.join("db");
    if !path.join("metadata").is_file() && inner.join("metadata").is_file() { inner } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aux_key_is_compact_length_name_and_index() {
        let mut expected = vec![0x3c];
        expected.extend_from_slice(b"segment-headers");
        expected.extend_from_slice(&[2, 1]);
        assert_eq!(segment_headers_key(258), expected);
    }
}
