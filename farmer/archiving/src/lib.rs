//! Structured reference string, KZG, erasure coding, archiver, reconstruction and the check of pieces.
//!
//! Architecture invariant: bytes in, bytes out. The only file this crate touches is the reference string. All heavy
//! work runs in the rayon pool of the caller.

mod bls;
mod combination;
mod msm;
mod simd;

pub mod archiver;
pub mod erasure;
pub mod fft;
#[doc(hidden)]
pub mod inspect;
pub mod kzg;
pub mod reconstruction;
pub mod scalar;
pub mod srs;
pub mod verification;

pub use bls::PointError;
pub use kzg::{Commitment, Kzg, KzgError, Polynomial, Witness};
pub use scalar::Scalar;
pub use srs::{Srs, SrsError, SrsKind};
pub use verification::{InvalidPiece, PieceToVerify, verify_piece, verify_pieces, verify_pieces_together};
