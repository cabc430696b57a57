//! Batched affine arithmetic on blst's field operations, for every processor.

use super::{Engine, Job, NEGATIVE};
use crate::bls::{self, Fp, G1, G1Affine};

/// Additions that share one inversion.
const BATCH: usize = 256;

pub(super) struct Portable;

impl Engine for Portable {
    type Point = G1Affine;

    fn convert(points: &[G1Affine]) -> Vec<G1Affine> {
        points.to_vec()
    }

    fn restore(point: &G1Affine) -> G1 {
        (*point).into()
    }

    fn negate(point: &G1Affine) -> G1Affine {
        let (x, y) = point.coordinates();
        G1Affine::from_coordinates(*x, bls::fp_neg(y))
    }

    fn double(points: &mut [G1Affine], times: u32) {
        let mut projective: Vec<G1> = points.iter().map(|point| G1::from(*point)).collect();
        for point in &mut projective {
            (0..times).for_each(|_| *point = point.double());
        }
        points.copy_from_slice(&G1::batch_to_affine(&projective));
    }

    fn add(source: &[G1Affine], jobs: &[Job], out: &mut [G1Affine]) -> bool {
        jobs.chunks(BATCH).all(|jobs| add_batch(source, jobs, out))
    }
}

/// Both points of a job, the signs applied.
fn operands(source: &[G1Affine], job: &Job) -> [(Fp, Fp); 2] {
    [job.left, job.right].map(|index| {
        let (x, y) = source[(index & !NEGATIVE) as usize].coordinates();
        (*x, if index & NEGATIVE == 0 { *y } else { bls::fp_neg(y) })
    })
}

fn add_batch(source: &[G1Affine], jobs: &[Job], out: &mut [G1Affine]) -> bool {
    // Apart from the arithmetic, so that the processor has many of these scattered loads under way at once.
    let operands: Vec<[(Fp, Fp); 2]> = jobs.iter().map(|job| operands(source, job)).collect();
    // Products of all differences so far, each with the difference itself.
    let mut products: Vec<(Fp, Fp)> = Vec::with_capacity(jobs.len());
    for [(x1, _), (x2, _)] in &operands {
        let difference = bls::fp_sub(x2, x1);
        let product = match products.last() {
            Some((_, product)) => bls::fp_mul(product, &difference),
            None => difference,
        };
        products.push((difference, product));
    }
    let Some((_, product)) = products.last() else { return true };
    if *product == Fp::default() {
        return false;
    }
    let mut inverse = bls::fp_inverse(product);
    for (index, (job, [(x1, y1), (x2, y2)])) in jobs.iter().zip(&operands).enumerate().rev() {
        let own = match index {
            0 => inverse,
            _ => bls::fp_mul(&inverse, &products[index - 1].1),
        };
        inverse = bls::fp_mul(&inverse, &products[index].0);
        let slope = bls::fp_mul(&bls::fp_sub(y2, y1), &own);
        let x = bls::fp_sub(&bls::fp_sub(&bls::fp_sqr(&slope), x1), x2);
        let y = bls::fp_sub(&bls::fp_mul(&slope, &bls::fp_sub(x1, &x)), y1);
        out[job.out as usize] = G1Affine::from_coordinates(x, y);
    }
    true
}
