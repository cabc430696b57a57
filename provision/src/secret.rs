//! Secrets, which cannot be printed or serialised: the type has neither form.

use crate::error::{Error, Result};
use crate::inventory::SecretReference;
use crate::transport::{Command, Transport};
use primitives::cluster_secret;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;

/// Longest secret accepted, in bytes.
const SECRET_MAX: usize = 4096;
/// Shortest secret accepted, in bytes: what a passphrase generator gives at least.
const SECRET_MIN: usize = 16;

/// A secret. Its only way out is [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The bytes, to be written to a file of mode 0600 and nowhere else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// A text with the passwords of NATS in the places of their marks.
    pub fn fill(&self, text: &str) -> String {
        cluster_secret::fill(text, &cluster_secret::key(&self.0))
    }

    /// The other way round: with marks in the places of the passwords.
    pub fn mark(&self, text: &str) -> String {
        cluster_secret::mark(text, &cluster_secret::key(&self.0))
    }

    /// 32 bytes of the kernel's randomness, in hex.
    ///
    /// # Errors
    /// The kernel's source of randomness cannot be read.
    pub fn generate() -> Result<Self> {
        use std::io::Read;
        let mut bytes = [0; 32];
        let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        read.map_err(|error| Error::Secret(format!("/dev/urandom: {error}")))?;
        Ok(Self(hex::encode(bytes).into_bytes()))
    }

    /// Fetches what `reference` names, from the control machine; none for [`SecretReference::Generate`].
    ///
    /// # Errors
    /// The source is missing or fails, or what it gives is too short or long.
    pub async fn fetch(reference: &SecretReference, control: &dyn Transport) -> Result<Option<Self>> {
        let (text, source) = match reference {
            SecretReference::Generate => return Ok(None),
            SecretReference::File(path) => {
                let bytes = control.read(path, SECRET_MAX as u64).await?;
                let bytes =
                    bytes.ok_or_else(|| Error::Secret(format!("there is no file {}", path.display())))?;
                (bytes, path.display().to_string())
            }
            SecretReference::Env(name) => {
                let value = std::env::var(name)
                    .map_err(|_| Error::Secret(format!("the environment variable {name} is not set")))?;
                (value.into_bytes(), format!("the environment variable {name}"))
            }
            SecretReference::Command(words) => {
                let (program, arguments) = words.split_first().expect("the parser refuses an empty command");
                let command = Command::new(program).args(arguments).deadline(Duration::from_secs(60));
                let output = control.run(&command).await?;
                if !output.success() {
                    // Its output may be the secret; only the status is told.
                    return Err(Error::Secret(format!("`{program}` failed: {}", output.status)));
                }
                (output.stdout, format!("`{program}`"))
            }
        };
        Self::checked(&text, &source).map(Some)
    }

    /// The one that a host has at `path`.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub async fn of_host(path: &Path, transport: &dyn Transport) -> Result<Self> {
        let there = transport.read(path, SECRET_MAX as u64).await?.unwrap_or_default();
        Self::checked(&there, &path.display().to_string())
    }

    /// Tells apart what hosts have at `path` without telling what it is: the beginning of a SHA-256, in hex. None when
    /// nothing is there, or may not be read.
    pub async fn fingerprint(path: &Path, transport: &dyn Transport) -> Option<String> {
        let there = transport.read(path, SECRET_MAX as u64).await.ok()??;
        let line = Self::line(&there);
        let digest = Sha256::new().chain_update(b"autonomys cluster secret").chain_update(line).finalize();
        (!line.is_empty()).then(|| hex::encode(&digest[..8]))
    }

    fn line(text: &[u8]) -> &[u8] {
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    fn checked(text: &[u8], source: &str) -> Result<Self> {
        let line = Self::line(text);
        if !(SECRET_MIN..=SECRET_MAX).contains(&line.len()) {
            let message =
                format!("{source} gives {} bytes, expected {SECRET_MIN} to {SECRET_MAX}", line.len());
            return Err(Error::Secret(message));
        }
        Ok(Self(line.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Local;

    #[test]
    fn no_form_shows_the_secret() {
        let secret = Secret::checked(b"correct horse battery\n", "test").expect("long enough");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.expose(), b"correct horse battery");
        let error = Secret::checked(b"short-secret\n", "a file").expect_err("too short");
        assert!(!error.to_string().contains("short-secret"), "{error}");
    }

    #[tokio::test]
    async fn fingerprints_tell_secrets_apart() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("secret");
        let mut told = Vec::new();
        for text in ["", "sixteen bytes or more", "sixteen bytes or more\r\n", "sixteen bytes, or more"] {
            std::fs::write(&path, text).expect("written");
            told.push(Secret::fingerprint(&path, &Local).await);
        }
        assert!(told[0].is_none() && told[1].as_ref().is_some_and(|print| print.len() == 16));
        assert!(told[1] == told[2] && told[2] != told[3], "{told:?}");
        assert_eq!(Secret::fingerprint(&directory.path().join("none"), &Local).await, None);
    }
}
