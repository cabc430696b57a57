//! Fixed-size byte strings: hex in text, raw in SCALE.

/// Why a hex string was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// The text has the wrong number of digits.
    #[error("expected {expected} hex digits, found {found} characters")]
    Length {
        /// Digits that the type needs.
        expected: usize,
        /// Characters found.
        found: usize,
    },
    /// A character is no hex digit.
    #[error("not a hex digit in {0:?}")]
    Digit(String),
}

/// Decodes exactly `N` bytes of hex, with or without a leading `0x`.
pub(crate) fn decode_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() != N * 2 {
        return Err(HexError::Length { expected: N * 2, found: digits.len() });
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| HexError::Digit(text.to_owned()))?;
    Ok(bytes)
}

macro_rules! fixed_bytes {
    ($(#[$meta:meta])* $name:ident, $size:expr) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, parity_scale_codec::Encode, parity_scale_codec::Decode,
        )]
        pub struct $name(pub [u8; $size]);

        impl $name {
            /// Size in bytes.
            pub const SIZE: usize = $size;

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self([0; $size])
            }
        }

        impl From<[u8; $size]> for $name {
            fn from(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; $size] {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                Ok(Self(bytes.try_into()?))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = [u8; $size];

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::bytes::HexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self($crate::bytes::decode_hex(text)?))
            }
        }
    };
}

/// Serde as a hex string without `0x`, by `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use {fixed_bytes, serde_as_text};

fixed_bytes! {
    /// An sr25519 public key; also a reward address (farming §2).
    PublicKey, 32
}
serde_as_text!(PublicKey);

impl PublicKey {
    /// BLAKE3 of the key (farming §2).
    pub fn hash(&self) -> crate::Blake3Hash {
        crate::hashes::blake3_hash(&self.0)
    }
}

fixed_bytes! {
    /// An sr25519 signature over a reward hash (farming §7).
    Signature, 64
}
serde_as_text!(Signature);
