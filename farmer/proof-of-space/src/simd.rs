//! Which vector instructions to use.

use std::sync::OnceLock;

/// An instruction set that tables can be made with; all make the same tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    /// What every machine of the target has.
    Portable,
    /// 8 lanes: AVX2.
    Avx2,
    /// 16 lanes: AVX-512 F, BW, VL and VBMI.
    Avx512,
}

impl Simd {
    /// All of them, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("bmi1")
                    && std::arch::is_x86_feature_detected!("bmi2")
                    && std::arch::is_x86_feature_detected!("lzcnt")
                    && std::arch::is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                    && std::arch::is_x86_feature_detected!("avx512vbmi")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The fastest that this machine has, or the slower one that the environment variable `AUTONOMYS_SIMD` names:
    /// `scalar`, `avx2` or `avx512`. Chosen once for the process.
    pub fn best() -> Self {
        static BEST: OnceLock<Simd> = OnceLock::new();
        *BEST.get_or_init(Self::choose)
    }

    fn choose() -> Self {
        let usable = |simd: &Self| *simd <= Self::limit() && simd.is_available();
        Self::ALL.into_iter().rev().find(usable).unwrap_or(Self::Portable)
    }

    /// The most that `AUTONOMYS_SIMD` allows, whether or not this machine has it.
    pub fn limit() -> Self {
        static LIMIT: OnceLock<Simd> = OnceLock::new();
        *LIMIT.get_or_init(|| match std::env::var("AUTONOMYS_SIMD").as_deref() {
            Ok("scalar") => Self::Portable,
            Ok("avx2") => Self::Avx2,
            _ => Self::Avx512,
        })
    }
}
