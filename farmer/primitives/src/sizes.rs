//! Sizes as people write them: `500G`, `7.5T`, `4TiB`.

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It does not begin with a number.
    #[error("{0:?} is no size; use for example 500G, 7.5T or 4TiB")]
    Number(String),
    /// Behind the number stands something else than a unit.
    #[error("{text:?}: unknown unit {unit:?}; use for example 500G, 7.5T or 4TiB")]
    Unit {
        /// The whole text.
        text: String,
        /// What stands in the unit's place.
        unit: String,
    },
    /// 2^64 bytes or more.
    #[error("{0:?} is too large: the largest size is 18446744073709551615 bytes")]
    TooLarge(String),
}

/// Bytes with an optional unit: powers of 1000 (`k M G T P`, with or without `B`) or of 1024 (`KiB MiB GiB TiB PiB`),
/// in capitals or not. A fraction of a byte is dropped.
///
/// # Errors
/// When it is no number, the unit is unknown, or the bytes do not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
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
        _ if number.is_empty() => return Err(SizeError::Number(text.into())),
        _ => return Err(SizeError::Unit { text: text.into(), unit: unit.into() }),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.contains('.') {
        return Err(SizeError::Number(text.into()));
    }
    // All that is left to go wrong is the length of the number.
    let too_large = || SizeError::TooLarge(text.into());
    let digits: u128 = digits.parse().map_err(|_| too_large())?;
    let scale = u32::try_from(fraction.len()).ok().and_then(|length| 10_u128.checked_pow(length));
    let bytes = scale.and_then(|scale| Some(digits.checked_mul(u128::from(factor))? / scale));
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("123", 123),
            ("5T", 5_000_000_000_000),
            ("3MB", 3_000_000),
            ("3mb", 3_000_000),
            ("20 GiB", 20 << 30),
            ("1.5GiB", 3 << 29),
            ("1.5G", 1_500_000_000),
            ("0.0000000001TB", 100),
            ("1.0005k", 1000),
            (".5T", 500_000_000_000),
            ("7.5 TB", 7_500_000_000_000),
            ("2PiB", 2 << 50),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_told_why() {
        let number = |text: &str| SizeError::Number(text.into());
        for text in ["", "T", "MB", "-1", "x", "1.2.3G", ".", ".T"] {
            assert_eq!(parse_size(text), Err(number(text)), "{text}");
        }
        for (text, unit) in
            [("5X", "X"), ("5 gigs", "gigs"), ("1e9", "e9"), ("4Ti B", "Ti B"), ("1_000", "_000")]
        {
            let expected = SizeError::Unit { text: text.into(), unit: unit.into() };
            assert_eq!(parse_size(text), Err(expected), "{text}");
        }
        for text in [
            "18446744073709551616",
            "99999999P",
            "99999999999999T",
            "1.00000000000000000000000000000000000000000G",
            "9999999999999999999999999999999999999999",
        ] {
            assert_eq!(parse_size(text), Err(SizeError::TooLarge(text.into())), "{text}");
        }
    }
}
