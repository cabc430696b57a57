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
            _ => size.replace(parse_size(value)?).is_some(),
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

/// Bytes with an optional unit: powers of 1000 (`k M G T P`, with or without `B`) or of 1024 (`KiB MiB GiB TiB PiB`).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000_u64.pow(2),
        "g" | "gb" => 1000_u64.pow(3),
        "t" | "tb" => 1000_u64.pow(4),
        "p" | "pb" => 1000_u64.pow(5),
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "pib" => 1 << 50,
        _ => return Err(format!("{text:?}: unknown unit {unit:?}; use for example 500G, 7.5T or 4TiB")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let value: u128 =
        digits.parse().map_err(|_| format!("{text:?} is no size; use for example 500G, 7.5T or 4TiB"))?;
    let scale = u32::try_from(fraction.len()).ok().and_then(|length| 10_u128.checked_pow(length));
    let bytes = scale.and_then(|scale| Some(value.checked_mul(u128::from(factor))? / scale));
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guides_farm() {
        let farm: FarmPath = "path=/mnt/nvme0n1/,sectors=8000".parse().unwrap();
        assert_eq!(farm, FarmPath { path: "/mnt/nvme0n1/".into(), space: Space::Sectors(8000) });
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("123", 123),
            ("5T", 5_000_000_000_000),
            ("1.5GiB", 3 << 29),
            ("7.5 TB", 7_500_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "T",
            "5X",
            "1.2.3G",
            "-1",
            "18446744073709551616",
            "99999999P",
            "1.00000000000000000000000000000000000000000G",
        ] {
            assert!(parse_size(text).is_err(), "{text} was accepted");
        }
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
