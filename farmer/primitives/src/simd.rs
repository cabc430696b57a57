//! Which vector instructions to use: what the processor has, and what `AUTONOMYS_SIMD` allows.

use std::sync::OnceLock;

/// An instruction set; the results of all are the same.
///
/// Code that needs other instructions than those named (AVX-512 IFMA) asks for [`Simd::limit`] and for those itself.
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

    /// The fastest that this machine has and [`Self::limit`] allows. Chosen once for the process.
    ///
    /// # Panics
    /// As [`Self::limit`].
    pub fn best() -> Self {
        static BEST: OnceLock<Simd> = OnceLock::new();
        *BEST.get_or_init(Self::choose)
    }

    fn choose() -> Self {
        let usable = |simd: &Self| *simd <= Self::limit() && simd.is_available();
        Self::ALL.into_iter().rev().find(usable).unwrap_or(Self::Portable)
    }

    /// The most that the environment variable `AUTONOMYS_SIMD` allows, whether or not this machine has it: `scalar`,
    /// `avx2` or `avx512`. All where it is not set. Read once for the process.
    ///
    /// # Panics
    /// When it is set to something else.
    pub fn limit() -> Self {
        static LIMIT: OnceLock<Simd> = OnceLock::new();
        *LIMIT.get_or_init(|| match std::env::var_os("AUTONOMYS_SIMD") {
            None => Self::Avx512,
            Some(name) => Self::named(&name.to_string_lossy())
                .unwrap_or_else(|| panic!("AUTONOMYS_SIMD is {name:?}: give scalar, avx2 or avx512")),
        })
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|simd| simd.name() == name)
    }

    /// Its name in `AUTONOMYS_SIMD`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}
