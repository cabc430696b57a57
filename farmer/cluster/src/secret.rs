//! The secret that peers of a cluster share (design §4).

use primitives::cluster_secret::{self, NatsUser};
use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Least bytes of a secret in a file.
const MIN_BYTES: usize = 16;
/// Most bytes of a secret in a file.
const MAX_BYTES: u64 = 4096;

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the cluster secret {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file's content cannot be a secret.
    #[error(
        "the cluster secret {} has {found} bytes without its white space, {MIN_BYTES} to {MAX_BYTES} are needed: \
         make one with `head -c 32 /dev/urandom | base64`",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes found.
        found: usize,
    },
}

/// What peers prove to each other that they know; never shown or logged.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret {
    /// Constant-time comparison comes with the type.
    key: blake3::Hash,
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

impl ClusterSecret {
    /// Makes the key of any bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self { key: cluster_secret::key(bytes).into() }
    }

    /// A nats-server's configuration with the passwords that follow from the secret, in the places of their marks.
    pub fn fill(&self, text: &str) -> String {
        cluster_secret::fill(text, self.key.as_bytes())
    }

    /// The password by which a NATS server knows members of the cluster.
    pub(crate) fn nats_password(&self) -> String {
        NatsUser::Client.password(self.key.as_bytes())
    }

    /// A new random secret; the bytes are what others need to make the same.
    pub fn generate() -> (Self, [u8; 32]) {
        let bytes: [u8; 32] = rand::random();
        (Self::from_bytes(&bytes), bytes)
    }

    /// Reads a secret; white space around it does not count.
    ///
    /// # Errors
    /// When the file cannot be read or is too short or too long to be a secret.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let read = |source| SecretError::Read { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(read)?;
        warn_if_others_can_read(path, &file.metadata().map_err(read)?, "the cluster secret");
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
        let trimmed = bytes.trim_ascii();
        if trimmed.len() < MIN_BYTES || bytes.len() as u64 > MAX_BYTES {
            return Err(SecretError::Length { path: path.to_owned(), found: trimmed.len() });
        }
        Ok(Self::from_bytes(trimmed))
    }

    /// A proof of knowledge of the secret, bound to a purpose and to `transcript`.
    pub(crate) fn proof(&self, purpose: &str, transcript: &[&[u8]]) -> blake3::Hash {
        let key = blake3::derive_key(purpose, self.key.as_bytes());
        let mut hasher = blake3::Hasher::new_keyed(&key);
        for part in transcript {
            hasher.update(part);
        }
        hasher.finalize()
    }
}

/// Warns of a file with a secret in it that not only its owner can read.
pub(crate) fn warn_if_others_can_read(path: &Path, metadata: &fs::Metadata, what: &str) {
    let mode = metadata.mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(), mode = format!("{:o}", mode & 0o777),
            "others than its owner can read {what}: chmod 600 it",
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_come_from_files_and_stay_hidden() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "  0123456789abcdef\n").unwrap();
        let secret = ClusterSecret::from_file(&path).unwrap();
        assert_eq!(secret, ClusterSecret::from_bytes(b"0123456789abcdef"));
        assert_ne!(secret, ClusterSecret::from_bytes(b"0123456789abcdeg"));
        assert_eq!(format!("{secret:?}"), "ClusterSecret(..)");
        for wrong in ["", "short\n", &"x".repeat(5000)] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(ClusterSecret::from_file(&path), Err(SecretError::Length { .. })));
        }
        let error = ClusterSecret::from_file(&directory.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn proofs_are_bound_to_purpose_and_transcript() {
        let (secret, bytes) = ClusterSecret::generate();
        assert_eq!(secret, ClusterSecret::from_bytes(&bytes));
        let proof = secret.proof("a", &[b"x", b"y"]);
        assert_eq!(proof, secret.proof("a", &[b"xy"]));
        assert_ne!(proof, secret.proof("b", &[b"xy"]));
        assert_ne!(proof, secret.proof("a", &[b"xz"]));
        assert_ne!(proof, ClusterSecret::generate().0.proof("a", &[b"xy"]));
    }
}
