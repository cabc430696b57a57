//! Names, addresses and paths by range: `storage-[01..24]`.

use std::ops::RangeInclusive;

/// Values of one range at most.
pub(super) const RANGE_MAX: usize = 4096;

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RangeError {
    /// Brackets with something else between them.
    #[error("`[{0}]` is no range: two whole numbers with `..` between them, such as `[1..24]`")]
    Malformed(String),
    /// A bracket without its other.
    #[error("a `[` or `]` without its other: a range is written `[1..24]`")]
    Unclosed,
    /// More than one pair of brackets.
    #[error("one range at most, found several")]
    Several,
    /// The second bound is below the first.
    #[error("`[{first}..{last}]` runs backwards")]
    Reversed {
        /// As written.
        first: String,
        /// As written.
        last: String,
    },
    /// Too many values.
    #[error("{0} values, a range has at most {RANGE_MAX}")]
    TooLarge(u64),
}

/// A text with one range in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range<'a> {
    before: &'a str,
    after: &'a str,
    values: RangeInclusive<u32>,
    /// Digits at least, with zeros in front: those of the first bound when it begins with a zero.
    digits: usize,
}

impl<'a> Range<'a> {
    /// Finds the range in `text`; none in a text without brackets.
    ///
    /// # Errors
    /// There are brackets, but not one range of at most [`RANGE_MAX`] values.
    pub(super) fn find(text: &'a str) -> Result<Option<Self>, RangeError> {
        let (before, rest) = match (text.split_once('['), text.contains(']')) {
            (None, false) => return Ok(None),
            (None, true) => return Err(RangeError::Unclosed),
            (Some(found), _) => found,
        };
        let (inside, after) = rest.split_once(']').ok_or(RangeError::Unclosed)?;
        if before.contains(']') || inside.contains('[') {
            return Err(RangeError::Unclosed);
        }
        if after.contains(['[', ']']) {
            return Err(RangeError::Several);
        }
        let malformed = || RangeError::Malformed(inside.to_string());
        let (first, last) = inside.split_once("..").ok_or_else(malformed)?;
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u32>().ok(),
            false => None,
        };
        let low = number(first).ok_or_else(malformed)?;
        let high = number(last).ok_or_else(malformed)?;
        if high < low {
            return Err(RangeError::Reversed { first: first.to_string(), last: last.to_string() });
        }
        let count = u64::from(high - low) + 1;
        if count > RANGE_MAX as u64 {
            return Err(RangeError::TooLarge(count));
        }
        let digits = if first.starts_with('0') { first.len() } else { 1 };
        Ok(Some(Self { before, after, values: low..=high, digits }))
    }

    /// How many values it has.
    pub(super) fn count(&self) -> usize {
        (self.values.end() - self.values.start()) as usize + 1
    }

    /// The text once for each value.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        let (before, after, digits) = (self.before, self.after, self.digits);
        self.values.clone().map(move |value| format!("{before}{value:0digits$}{after}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        Range::find(text).expect("a range").expect("is there").texts().collect()
    }

    #[test]
    fn zeros_in_front_are_those_of_the_first_bound() {
        assert_eq!(texts("storage-[8..11]"), ["storage-8", "storage-9", "storage-10", "storage-11"]);
        assert_eq!(texts("s[08..11]x"), ["s08x", "s09x", "s10x", "s11x"]);
        assert_eq!(texts("[0..1]"), ["0", "1"]);
        assert_eq!(texts("s[099..100]"), ["s099", "s100"]);
        assert_eq!(Range::find("storage-1"), Ok(None));
    }

    #[test]
    fn what_is_no_range_is_said() {
        for bad in
            ["a[1-3]", "a[1..]", "a[..3]", "a[1...3]", "a[x..y]", "a[-1..3]", "a[1,3]", "a[]", "a[+1..3]"]
        {
            assert!(matches!(Range::find(bad), Err(RangeError::Malformed(_))), "{bad}");
        }
        for bad in ["a[1..3", "a1..3]", "a]1[", "a[[1..3]"] {
            assert_eq!(Range::find(bad), Err(RangeError::Unclosed), "{bad}");
        }
        assert_eq!(Range::find("a[1..2]b[1..2]"), Err(RangeError::Several));
        assert!(matches!(Range::find("a[3..1]"), Err(RangeError::Reversed { .. })));
        assert_eq!(
            Range::find("a[0..4095]").map(|range| range.map(|range| range.count())),
            Ok(Some(RANGE_MAX))
        );
        assert_eq!(Range::find("a[0..4096]"), Err(RangeError::TooLarge(4097)));
        assert_eq!(Range::find("a[0..4294967295]"), Err(RangeError::TooLarge(1 << 32)));
    }
}
