//! Which instructions the crate may use: `AUTONOMYS_SIMD`, and what the processor has.

use std::sync::OnceLock;

/// Whether code for AVX-512 with 52-bit multiplication is to be used where there is some.
///
/// `AUTONOMYS_SIMD=scalar` or `avx2` forbids it, so that tests can run every path on one machine.
pub(crate) fn avx512_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| !matches!(std::env::var("AUTONOMYS_SIMD").as_deref(), Ok("scalar" | "avx2")))
}
