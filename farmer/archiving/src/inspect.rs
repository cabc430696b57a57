//! What measurements want to see of the inside.

use crate::bls::{G1, G1Affine};
use crate::msm::FixedBase;

/// The compressed generator of G1.
pub fn generator() -> [u8; 48] {
    G1Affine::generator().to_compressed()
}

/// Points whose additions bound how fast commitments can be made: so few that they stay in the first-level cache, added
/// so often that inversions are shared as in commitments.
pub struct PointAdditions(FixedBase);

impl PointAdditions {
    /// Additions in a run.
    pub const COUNT: usize = 16 * 1536;
    /// Bases, each with 16 multiples of 128 bytes.
    const BASES: usize = 8;

    /// Makes the points.
    pub fn new() -> Self {
        let generator = G1Affine::generator();
        let next = |point: &G1| Some(point.add_affine(&generator));
        let multiples: Vec<G1> =
            std::iter::successors(Some(generator.into()), next).take(Self::BASES).collect();
        Self(FixedBase::new(&G1::batch_to_affine(&multiples), 16))
    }

    /// Adds them on the calling thread.
    pub fn run(&self) {
        self.0.add_neighbours(Self::COUNT);
    }
}

impl Default for PointAdditions {
    fn default() -> Self {
        Self::new()
    }
}
