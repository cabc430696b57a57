//! Pieces and sectors over TCP (design §4): one frame format, pipelined, checked by hash, both ends authenticated.
//!
//! A connection begins with a [`handshake`](self) in which both ends prove that they know the cluster secret (keyed
//! BLAKE3 of both ends' fresh nonces, different keys for the two directions). Then frames: 4 bytes payload length, 1
//! kind, 3 zero, 8 request id, payload; integers little-endian.
//!
//! | request | answers |
//! |---|---|
//! | get pieces (at most 256) | for each, in order: piece (index, hash, bytes) or missing; then done |
//! | put piece (fencing number, index, hash, bytes) | put result |
//! | fetch sector (key, first block) | progress while it is made; manifest; blocks to the end; done |
//! | acknowledge sector (key) | done |
//! | ping | pong |
//!
//! The server sends bytes from where they lie: from a file the kernel takes them out of its page cache (`sendfile`),
//! without a copy and without counting as memory of the process; hashes were stored when the data was written. What changes
//! in a file before the peer has it is found by the peer: its hash is another one. The client reads into the caller's
//! buffers and checks every hash before it says that something is there; a server stores nothing that it has not checked.
//!
//! Bounds: payload sizes by kind, requests in hand and frames queued per connection, connections in all and per peer,
//! and a deadline on every read and write. Authentication is of the connection's beginning; where others can change packets
//! on the network, [`Tls`] goes around it: the bytes then pass through the server's memory, to be encrypted.

mod client;
mod error;
pub(crate) mod frame;
pub(crate) mod handshake;
mod payload;
mod server;
mod socket;
mod source;
mod tls;

pub use client::{
    Connection, FetchOutcome, PieceFetch, PieceToPut, PooledConnection, SectorFetch, SectorSink, TransferPool,
};
pub use error::TransferError;
pub use frame::{ItemType, MAX_PIECES_PER_REQUEST, PutOutcome, SECTOR_BLOCK_SIZE, SectorManifest};
pub use payload::{FileRegion, Payload, StoredFile};
pub use server::{ServerOptions, TransferCounters, TransferServer};
pub use source::{PieceSource, SectorSource, SectorState, SourceError, StoredPiece};
pub use tls::{Credentials, Tls, TlsFilesError};

use std::time::Duration;

/// How long connecting and the handshake may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the other end may be silent while something is due.
pub(crate) const FRAME_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection without requests is kept by a server.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(180);
/// How often a server says how far a sector is.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
