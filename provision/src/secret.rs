//! Secrets, which cannot be printed or serialised: the type has neither form.

use crate::error::{Error, Result};
use crate::inventory::SecretReference;
use crate::transport::{Command, Transport};
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

    fn checked(text: &[u8], source: &str) -> Result<Self> {
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
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

    #[test]
    fn no_form_shows_the_secret() {
        let secret = Secret::checked(b"correct horse battery\n", "test").expect("long enough");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.expose(), b"correct horse battery");
        let error = Secret::checked(b"short-secret\n", "a file").expect_err("too short");
        assert!(!error.to_string().contains("short-secret"), "{error}");
    }
}
