//! The identity of an instance: a ULID, kept in a file or made anew at every start.

use crate::roles::Error;
use cluster::contract::InstanceId;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// File that keeps an instance's identity.
const INSTANCE_FILE: &str = "instance-id";
/// It has 27 bytes.
const FILE_SIZE_MAX: u64 = 256;

/// Where an instance's identity comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// From a file in this directory, made at the first start.
    Kept(PathBuf),
    /// A new one at every start.
    Fresh,
}

impl Home {
    /// The directory's, unless there is none or `tmp` asks for a new identity.
    pub fn new(directory: Option<&Path>, tmp: bool) -> Self {
        match directory {
            Some(directory) if !tmp => Self::Kept(directory.to_owned()),
            _ => Self::Fresh,
        }
    }

    /// The identity.
    ///
    /// # Errors
    /// When the file cannot be read or made, or holds something else.
    pub fn instance(&self) -> Result<InstanceId, Error> {
        let Self::Kept(directory) = self else { return Ok(InstanceId::generate()) };
        fs::create_dir_all(directory).map_err(|error| Error::io("create", directory, error))?;
        let path = directory.join(INSTANCE_FILE);
        let read = |file: fs::File| {
            let mut text = String::new();
            file.take(FILE_SIZE_MAX).read_to_string(&mut text).map(|_| text)
        };
        match fs::File::open(&path).and_then(read) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let path = path.display();
                Error::Config(format!(
                    "{path} holds no instance id (26 characters of a ULID); delete it and a new one is made"
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path),
            Err(error) => Err(Error::io("read", &path, error)),
        }
    }
}

/// Makes an identity; the file is whole or absent whatever happens.
fn make(path: &Path) -> Result<InstanceId, Error> {
    let instance = InstanceId::generate();
    let partial = path.with_extension("partial");
    fs::write(&partial, format!("{instance}\n")).map_err(|error| Error::io("write", &partial, error))?;
    fs::rename(&partial, path).map_err(|error| Error::io("create", path, error))?;
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_kept_unless_tmp() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base");
        let kept = Home::new(Some(&base), false);
        let first = kept.instance().unwrap();
        assert_eq!(kept.instance().unwrap(), first);
        let tmp = Home::new(Some(&base), true);
        assert_ne!(tmp.instance().unwrap(), tmp.instance().unwrap());
        assert_eq!(kept.instance().unwrap(), first);
    }

    #[test]
    fn a_damaged_identity_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(INSTANCE_FILE);
        fs::write(&file, "no ulid").unwrap();
        let error = Home::new(Some(directory.path()), false).instance().unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("instance-id"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "no ulid");
    }
}
