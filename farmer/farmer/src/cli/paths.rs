//! `path=DIR,sectors=N`, `path=DIR,size=S`: how farms and caches are named on the command line.

use std::path::PathBuf;
use std::str::FromStr;

/// How much a farm may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// So many sectors.
    Sectors(u16),
    /// So many bytes, as the reference counts them.
    Bytes(u64),
}

/// A farm's directory and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarmPath {
    /// The directory.
    pub path: PathBuf,
    /// Its size.
    pub space: Space,
}

/// A cache's directory and, if limited, its size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePath {
    /// The directory.
    pub path: PathBuf,
    /// Bytes that it may take.
    pub size: Option<u64>,
}

struct Fields {
    path: PathBuf,
    sectors: Option<u16>,
    size: Option<u64>,
}

fn parse_fields(text: &str, known: &[&str]) -> Result<Fields, String> {
    let mut path = None;
    let mut sectors = None;
    let mut size = None;
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("{field:?} is not KEY=VALUE"))?;
        if !known.contains(&key) {
            return Err(format!("unknown key {key:?}; known are {}", known.join(", ")));
        }
        let twice = match key {
            "path" => path.replace(value).is_some(),
            "sectors" => {
                let number = value.parse().ok().filter(|number| *number <= primitives::farms::MAX_SECTORS);
                let number = number.ok_or_else(|| {
                    format!(
                        "sectors={value}: expected a whole number up to {}",
                        primitives::farms::MAX_SECTORS
                    )
                })?;
                sectors.replace(number).is_some()
            }
            _ => {
                let bytes =
                    primitives::parse_size(value).map_err(|error| format!("size={value}: {error}"))?;
                size.replace(bytes).is_some()
            }
        };
        if twice {
            return Err(format!("{key}= is given twice"));
        }
    }
    let path = path.filter(|path| !path.is_empty()).ok_or("path=DIR is missing")?;
    Ok(Fields { path: path.into(), sectors, size })
}

impl FromStr for FarmPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Fields { path, sectors, size } = parse_fields(text, &["path", "sectors", "size"])?;
        let space = match (sectors, size) {
            (Some(sectors), None) => Space::Sectors(sectors),
            (None, Some(size)) => Space::Bytes(size),
            (None, None) => return Err("give sectors=N or size=SIZE behind the path".into()),
            (Some(_), Some(_)) => return Err("give sectors=N or size=SIZE, not both".into()),
        };
        Ok(Self { path, space })
    }
}

impl FromStr for CachePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Fields { path, size, .. } = parse_fields(text, &["path", "size"])?;
        Ok(Self { path, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guides_farm() {
        let farm: FarmPath = "path=/mnt/nvme0n1/,sectors=8000".parse().unwrap();
        assert_eq!(farm, FarmPath { path: "/mnt/nvme0n1/".into(), space: Space::Sectors(8000) });
        let farm: FarmPath = "path=/mnt/nvme0n1/,size=7.5T".parse().unwrap();
        assert_eq!(farm.space, Space::Bytes(7_500_000_000_000));
    }

    #[test]
    fn a_bad_size_is_told_where_and_why() {
        let error = "path=/a,size=5X".parse::<CachePath>().unwrap_err();
        assert!(error.contains("size=5X") && error.contains("unknown unit \"X\""), "{error}");
    }

    #[test]
    fn bad_paths() {
        for text in [
            "",
            "path=",
            "/mnt",
            "path=/a",
            "path=/a,sectors=x",
            "path=/a,sectors=65535",
            "path=/a,sectors=-1",
            "path=/a,sectors=1,size=1G",
            "path=/a,path=/b,sectors=1",
            "path=/a,sector=1",
        ] {
            assert!(text.parse::<FarmPath>().is_err(), "{text} was accepted");
        }
        assert!("path=/a,sectors=3".parse::<CachePath>().is_err());
    }
}
