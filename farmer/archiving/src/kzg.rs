//! Polynomial commitments (archival §5).

use crate::bls::{self, G1, G1Affine, PointError, PreparedG2};
use crate::fft::{self, DomainSizeError};
use crate::msm::FixedBase;
use crate::scalar::Scalar;
use crate::srs::{Srs, SrsKind};
use primitives::{Blake3Hash, ChunkWitness, RecordCommitment, RecordWitness, SegmentCommitment};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Why a polynomial or an opening was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KzgError {
    /// A polynomial is interpolated through a power of two of values, up to 32,768.
    #[error("a polynomial has a power of two of values, up to 32,768, not {0}")]
    Values(usize),
    /// The reference string has 32,768 points: there is no commitment to a longer polynomial.
    #[error("a polynomial has up to 32,768 coefficients, not {0}")]
    Coefficients(usize),
    /// The domain of an opening is a power of two up to 2^32, and the index is in it.
    #[error("no element {index} in a domain of {domain}: domains are powers of two up to 2^32")]
    Position {
        /// Size of the domain.
        domain: usize,
        /// Index in it.
        index: usize,
    },
}

/// A polynomial of degree below 32,768 in coefficient form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polynomial(Vec<Scalar>);

impl Polynomial {
    /// The polynomial of degree below n with the n values at `w(n)^i`.
    ///
    /// # Errors
    /// When n is no power of two up to 32,768.
    pub fn interpolate(values: &[Scalar]) -> Result<Self, KzgError> {
        if values.len() > Srs::NUM_G1 {
            return Err(KzgError::Values(values.len()));
        }
        let mut coefficients = values.to_vec();
        fft::inverse_fft(&mut coefficients).map_err(|DomainSizeError(n)| KzgError::Values(n))?;
        Ok(Self(coefficients))
    }

    /// The polynomial with these coefficients, the constant one first.
    ///
    /// # Errors
    /// When there are more than 32,768.
    pub fn from_coefficients(coefficients: Vec<Scalar>) -> Result<Self, KzgError> {
        match coefficients.len() {
            n if n > Srs::NUM_G1 => Err(KzgError::Coefficients(n)),
            _ => Ok(Self(coefficients)),
        }
    }

    /// Coefficients, the constant one first.
    pub fn coefficients(&self) -> &[Scalar] {
        &self.0
    }

    /// The value at `point`.
    pub fn evaluate(&self, point: Scalar) -> Scalar {
        self.0.iter().rev().fold(Scalar::ZERO, |value, coefficient| value * point + *coefficient)
    }

    /// The quotient of p(X) - p(z) by X - z.
    fn quotient(&self, z: Scalar) -> Self {
        let mut quotient = vec![Scalar::ZERO; self.0.len().saturating_sub(1)];
        let mut above = Scalar::ZERO;
        for (out, coefficient) in quotient.iter_mut().rev().zip(self.0.iter().rev()) {
            above = above * z + *coefficient;
            *out = above;
        }
        Self(quotient)
    }
}

macro_rules! point {
    ($(#[$meta:meta])* $name:ident, $($bytes:ident),+) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub(crate) G1Affine);

        impl $name {
            /// Decompresses 48 bytes and checks that the point is on the curve, which is all that the reference asks
            /// for (archival §4). A point of small order may be hidden in it: see [`Self::from_bytes_strict`].
            ///
            /// # Errors
            /// When the bytes are not the compressed form of a point of the curve.
            pub fn from_bytes(bytes: &[u8; 48]) -> Result<Self, PointError> {
                G1Affine::from_compressed(bytes).map(Self)
            }

            /// [`Self::from_bytes`] that also checks that the point is in the group of order r.
            ///
            /// # Errors
            /// When the bytes are not the compressed form of a point of the group.
            pub fn from_bytes_strict(bytes: &[u8; 48]) -> Result<Self, PointError> {
                let point = Self::from_bytes(bytes)?;
                match point.0.is_in_group() {
                    true => Ok(point),
                    false => Err(PointError::NotInGroup),
                }
            }

            /// The compressed form.
            pub fn to_bytes(self) -> [u8; 48] {
                self.0.to_compressed()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), RecordCommitment(self.to_bytes()))
            }
        }

        $(
            impl From<$name> for $bytes {
                fn from(point: $name) -> Self {
                    Self(point.to_bytes())
                }
            }

            impl TryFrom<$bytes> for $name {
                type Error = PointError;

                fn try_from(bytes: $bytes) -> Result<Self, PointError> {
                    Self::from_bytes(&bytes.0)
                }
            }
        )+
    };
}

point! {
    /// Commitment to a polynomial.
    Commitment, RecordCommitment, SegmentCommitment
}
point! {
    /// Proof of a polynomial's value at one point.
    Witness, RecordWitness, ChunkWitness
}

/// Up to this many coefficients the small table serves, and a segment's polynomial is one of them.
const SMALL: usize = 256;
/// Window of the small table: 32 * 256 points, 0.8 MB.
const SMALL_WINDOW: u32 = 8;
/// Window of the large table: 16 * 32,768 points, 50 MB (67 MB for AVX-512).
const LARGE_WINDOW: u32 = 16;

struct Inner {
    srs: Srs,
    generator: PreparedG2,
    tau: PreparedG2,
    small: OnceLock<FixedBase>,
    large: OnceLock<FixedBase>,
}

/// Commits, opens and verifies under one reference string. Clones share everything.
#[derive(Clone)]
pub struct Kzg(Arc<Inner>);

impl fmt::Debug for Kzg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kzg").field(&self.srs_kind()).finish()
    }
}

/// Runs `make` on threads that do nothing else.
///
/// A thread of a rayon pool that waits for parts of its work takes up other tasks meanwhile. One of those may want what is
/// being made, and would wait for ever for the task below it on its own stack.
fn aside<T: Send>(make: impl FnOnce() -> T + Send) -> T {
    let threads = rayon::current_num_threads();
    let work = || match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(make),
        Err(_) => make(),
    };
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Kzg {
    /// KZG under this string.
    pub fn new(srs: Srs) -> Self {
        let [generator, tau] = srs.g2().map(|point| PreparedG2::new(&point));
        Self(Arc::new(Inner { srs, generator, tau, small: OnceLock::new(), large: OnceLock::new() }))
    }

    /// Which string this is.
    pub fn srs_kind(&self) -> SrsKind {
        self.0.srs.kind()
    }

    /// BLAKE3 of the string's file.
    pub fn srs_digest(&self) -> Blake3Hash {
        self.0.srs.digest()
    }

    /// The polynomial with these values: [`Polynomial::interpolate`].
    ///
    /// # Errors
    /// When their number is no power of two up to 32,768.
    pub fn polynomial(&self, values: &[Scalar]) -> Result<Polynomial, KzgError> {
        Polynomial::interpolate(values)
    }

    /// The commitment to a polynomial.
    pub fn commit(&self, polynomial: &Polynomial) -> Commitment {
        Commitment(self.commit_point(polynomial.coefficients()).to_affine())
    }

    pub(crate) fn commit_point(&self, coefficients: &[Scalar]) -> G1 {
        let g1 = self.0.srs.g1();
        let table = match coefficients.len() {
            ..=SMALL => self.0.small.get_or_init(|| aside(|| FixedBase::new(&g1[..SMALL], SMALL_WINDOW))),
            _ => self.0.large.get_or_init(|| aside(|| FixedBase::new(g1, LARGE_WINDOW))),
        };
        table.multiply_sum(coefficients).unwrap_or_else(|| {
            let scalars: Vec<[u8; 32]> = coefficients.iter().map(|scalar| scalar.to_le_bytes()).collect();
            bls::multiply_sum(&g1[..scalars.len()], &scalars)
        })
    }

    /// The proof of the value at `w(domain)^index`.
    ///
    /// # Errors
    /// When the domain is no power of two up to 2^32 or the index is not in it.
    pub fn witness(&self, polynomial: &Polynomial, domain: usize, index: usize) -> Result<Witness, KzgError> {
        let z = domain_element(domain, index).ok_or(KzgError::Position { domain, index })?;
        let quotient = polynomial.quotient(z);
        Ok(Witness(self.commit_point(quotient.coefficients()).to_affine()))
    }

    /// Whether `witness` proves that the polynomial of `commitment` has `value` at `w(domain)^index`; false as well for
    /// an index that is not in the domain.
    pub fn verify(
        &self,
        commitment: &Commitment,
        domain: usize,
        index: usize,
        value: Scalar,
        witness: &Witness,
    ) -> bool {
        let Some(z) = domain_element(domain, index) else { return false };
        // e(C - vG, H) = e(W, (tau - z)H) with the product by z moved to the left: both points of G2 are then fixed.
        let left = G1::from(commitment.0) - G1::from(G1Affine::generator()).multiply(&value.to_le_bytes())
            + G1::from(witness.0).multiply(&z.to_le_bytes());
        self.opens(left, &witness.0)
    }

    /// Whether e(left, H) = e(witness, tau H).
    pub(crate) fn opens(&self, left: G1, witness: &G1Affine) -> bool {
        bls::pairings_equal(&left.to_affine(), &self.0.generator, witness, &self.0.tau)
    }
}

/// `w(domain)^index`.
pub(crate) fn domain_element(domain: usize, index: usize) -> Option<Scalar> {
    (index < domain).then(|| Scalar::root_of_unity(domain))?.map(|root| root.pow(index as u64))
}
