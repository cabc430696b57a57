//! A farm's identity: the key that names its sectors and signs its rewards (farming §7, §8).

use parity_scale_codec::{Decode, Encode};
use primitives::{Blake3Hash, PublicKey, Signature};
use rand::TryRngCore;
use schnorrkel::{ExpansionMode, Keypair};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of the file in a farm's directory.
pub const IDENTITY_FILE: &str = "identity.bin";
/// Context of reward signatures.
pub const REWARD_SIGNING_CONTEXT: &[u8] = b"subspace_reward";

/// Bytes of entropy in a new identity.
const ENTROPY_SIZE: usize = 32;
/// Longest file that can be one: entropy of BIP39 has at most 32 bytes, behind a compact length.
const FILE_SIZE_MAX: u64 = 64;

/// Why an identity could not be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is no identity. Its contents are not shown: they are secret.
    #[error("{path}: expected 33 bytes of SCALE-encoded entropy, found {size} bytes that are something else")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: usize,
    },
    /// The operating system gave no random numbers.
    #[error("no randomness for a new identity: {0}")]
    Randomness(String),
}

/// An sr25519 key pair made from entropy as Substrate makes it from a BIP39 mnemonic without password.
///
/// The secret is wiped from memory when this is dropped, and is never shown.
pub struct Identity {
    keypair: Keypair,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity of `entropy`: 16, 20, 24, 28 or 32 bytes; none for any other length.
    pub fn from_entropy(entropy: &[u8]) -> Option<Self> {
        let mini_secret = substrate_bip39::mini_secret_from_entropy(entropy, "").ok()?;
        Some(Self { keypair: mini_secret.expand_to_keypair(ExpansionMode::Ed25519) })
    }

    /// Opens the identity of the farm in `directory`; none if there is no file.
    ///
    /// # Errors
    /// [`IdentityError::Io`], [`IdentityError::Malformed`].
    pub fn open(directory: &Path) -> Result<Option<Self>, IdentityError> {
        let path = directory.join(IDENTITY_FILE);
        let at = |source| IdentityError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(error)),
        };
        // Room for all of it, so that the secret is not left behind in an outgrown allocation.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_SIZE_MAX as usize + 1));
        file.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(at)?;
        let malformed = || IdentityError::Malformed { path: path.clone(), size: bytes.len() };
        let mut input = bytes.as_slice();
        let entropy = Zeroizing::new(Vec::<u8>::decode(&mut input).map_err(|_| malformed())?);
        if !input.is_empty() {
            return Err(malformed());
        }
        Self::from_entropy(&entropy).ok_or_else(malformed).map(Some)
    }

    /// Makes a new identity and writes it to `directory`, readable by its owner only.
    ///
    /// # Errors
    /// [`IdentityError::Io`], also if there is one already; [`IdentityError::Randomness`].
    pub fn create(directory: &Path) -> Result<Self, IdentityError> {
        let mut entropy = Zeroizing::new([0; ENTROPY_SIZE]);
        rand::rngs::OsRng
            .try_fill_bytes(&mut *entropy)
            .map_err(|error| IdentityError::Randomness(error.to_string()))?;
        Self::create_from_entropy(directory, &entropy)
    }

    /// Writes the identity of given entropy to `directory`: for development chains and tests.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_from_entropy(
        directory: &Path,
        entropy: &[u8; ENTROPY_SIZE],
    ) -> Result<Self, IdentityError> {
        let path = directory.join(IDENTITY_FILE);
        let at = |source| IdentityError::Io { path: path.clone(), source };
        let encoded = Zeroizing::new(entropy.as_slice().encode());
        // A file that was cut off would lose the farm: written aside, then put in place as a whole.
        let partial = directory.join(format!("{IDENTITY_FILE}.new"));
        let _ = std::fs::remove_file(&partial);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&partial).map_err(at)?;
        file.write_all(&encoded).and_then(|()| file.sync_all()).map_err(at)?;
        let linked = std::fs::hard_link(&partial, &path);
        std::fs::remove_file(&partial).map_err(at)?;
        linked.map_err(at)?;
        crate::plot::sync_directory(directory).map_err(at)?;
        Ok(Self::from_entropy(entropy).expect("32 bytes are a valid length of entropy"))
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.keypair.public.to_bytes())
    }

    /// Signs a reward hash. Signatures are randomised: two of the same hash differ.
    pub fn sign_reward_hash(&self, hash: &Blake3Hash) -> Signature {
        let context = schnorrkel::context::signing_context(REWARD_SIGNING_CONTEXT);
        Signature(self.keypair.sign(context.bytes(&hash.0)).to_bytes())
    }
}

/// Whether `signature` is one of `public_key` over a reward hash.
pub fn is_reward_signature_valid(hash: &Blake3Hash, signature: &Signature, public_key: &PublicKey) -> bool {
    let Ok(public_key) = schnorrkel::PublicKey::from_bytes(&public_key.0) else { return false };
    let Ok(signature) = schnorrkel::Signature::from_bytes(&signature.0) else { return false };
    let context = schnorrkel::context::signing_context(REWARD_SIGNING_CONTEXT);
    public_key.verify(context.bytes(&hash.0), &signature).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn file_is_the_references_and_private() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Identity::open(directory.path()).unwrap().is_none());
        let made = Identity::create_from_entropy(directory.path(), &[7; 32]).unwrap();
        let path = directory.path().join(IDENTITY_FILE);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes, [&[0x80], &[7; 32][..]].concat());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let opened = Identity::open(directory.path()).unwrap().unwrap();
        assert_eq!(opened.public_key(), made.public_key());
        // A second one must not replace the first.
        assert!(matches!(Identity::create(directory.path()), Err(IdentityError::Io { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn new_identities_differ() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let keys = [&one, &two].map(|dir| Identity::create(dir.path()).unwrap().public_key());
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn damaged_files_are_refused_without_showing_them() {
        let directory = tempfile::tempdir().unwrap();
        for bytes in [&[][..], &[0x80, 1, 2], &[0x80; 40], &[0x80; 4096], &[4, 9]] {
            std::fs::write(directory.path().join(IDENTITY_FILE), bytes).unwrap();
            let error = Identity::open(directory.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Malformed { .. }), "{error}");
        }
    }

    #[test]
    fn debug_shows_the_public_key_only() {
        let identity = Identity::from_entropy(&[1; 32]).unwrap();
        let shown = format!("{identity:?}");
        assert_eq!(shown, format!("Identity {{ public_key: {:?}, .. }}", identity.public_key()));
    }

    #[test]
    fn signatures_verify_for_their_hash_and_key_only() {
        let identity = Identity::from_entropy(&[2; 32]).unwrap();
        let other = Identity::from_entropy(&[3; 16]).unwrap();
        let hash = Blake3Hash([9; 32]);
        let signature = identity.sign_reward_hash(&hash);
        assert!(is_reward_signature_valid(&hash, &signature, &identity.public_key()));
        assert!(!is_reward_signature_valid(&hash, &signature, &other.public_key()));
        assert!(!is_reward_signature_valid(&Blake3Hash([8; 32]), &signature, &identity.public_key()));
        assert!(!is_reward_signature_valid(&hash, &Signature([0; 64]), &identity.public_key()));
    }
}
