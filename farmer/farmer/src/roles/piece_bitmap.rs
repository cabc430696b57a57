//! Sets of piece indices: one bit a piece, 32 KiB for a thousand segments.

use primitives::PieceIndex;

/// A set of piece indices below a bound; one bit each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PieceBitmap {
    words: Vec<u64>,
}

impl PieceBitmap {
    /// All pieces below `bound`.
    pub fn below(bound: u64) -> Self {
        let mut set = Self { words: vec![u64::MAX; bound.div_ceil(64) as usize] };
        if let Some(last) = set.words.last_mut()
            && !bound.is_multiple_of(64)
        {
            *last = (1 << (bound % 64)) - 1;
        }
        set
    }

    /// Adds a piece.
    pub fn insert(&mut self, piece: PieceIndex) {
        let word = (piece.0 / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (piece.0 % 64);
    }

    /// Removes a piece.
    pub fn remove(&mut self, piece: PieceIndex) {
        if let Some(word) = self.words.get_mut((piece.0 / 64) as usize) {
            *word &= !(1 << (piece.0 % 64));
        }
    }

    /// Whether a piece is in it.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.words.get((piece.0 / 64) as usize).is_some_and(|word| word >> (piece.0 % 64) & 1 == 1)
    }

    /// Number of pieces.
    pub fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// All pieces, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> {
        self.words.iter().enumerate().flat_map(|(index, &word)| Bits { word, base: index as u64 * 64 })
    }

    /// The last piece.
    pub fn last(&self) -> Option<PieceIndex> {
        let (index, word) = self.words.iter().enumerate().rfind(|(_, word)| **word != 0)?;
        Some(PieceIndex(index as u64 * 64 + u64::from(63 - word.leading_zeros())))
    }

    /// The pieces of this set that `other` lacks.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        Self { words: self.words.iter().zip(others).map(|(word, other)| word & !other).collect() }
    }
}

struct Bits {
    word: u64,
    base: u64,
}

impl Iterator for Bits {
    type Item = PieceIndex;

    fn next(&mut self) -> Option<PieceIndex> {
        if self.word == 0 {
            return None;
        }
        let bit = self.word.trailing_zeros();
        self.word &= self.word - 1;
        Some(PieceIndex(self.base + u64::from(bit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        for bound in [0, 1, 63, 64, 65, 300] {
            let set = PieceBitmap::below(bound);
            assert_eq!(set.len(), bound);
            assert!(set.iter().eq((0..bound).map(PieceIndex)));
            assert_eq!(set.is_empty(), bound == 0);
        }
        let mut few = PieceBitmap::default();
        few.insert(PieceIndex(70));
        few.insert(PieceIndex(500));
        assert!(
            few.contains(PieceIndex(70)) && !few.contains(PieceIndex(71)) && !few.contains(PieceIndex(9000))
        );
        assert!(few.without(&PieceBitmap::below(71)).iter().eq([PieceIndex(500)]));
        assert_eq!(few.last(), Some(PieceIndex(500)));
        few.remove(PieceIndex(500));
        assert_eq!((few.last(), PieceBitmap::default().last()), (Some(PieceIndex(70)), None));
        few.remove(PieceIndex(9000));
        assert_eq!(few.len(), 1);
        assert_eq!(PieceBitmap::below(71).without(&few).len(), 70);
    }
}
