//! What a cache holds, at the end of its heartbeat.

use crate::transfer::ItemType;
use parity_scale_codec::{Decode, Encode, Error, Input, Output};

/// In which form a member holds pieces.
///
/// Takes no byte for plain pieces, which are the default and all that builds before it knew: their heartbeats and those of
/// this build are the same bytes, so the message keeps its version. Those builds cannot read the heartbeat of a cache that
/// holds another form, say so, and do without that cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldItems(pub ItemType);

impl Default for HeldItems {
    fn default() -> Self {
        Self(ItemType::Piece)
    }
}

impl Encode for HeldItems {
    fn encode_to<T: Output + ?Sized>(&self, output: &mut T) {
        if *self != Self::default() {
            self.0.encode_to(output);
        }
    }
}

impl Decode for HeldItems {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        if input.remaining_len()? == Some(0) {
            return Ok(Self::default());
        }
        let held = Self(ItemType::decode(input)?);
        if held == Self::default() { Err("plain pieces are not spelt out".into()) } else { Ok(held) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use parity_scale_codec::DecodeAll;

    #[test]
    fn plain_pieces_take_no_byte() {
        for (held, bytes) in [(ItemType::Piece, &[][..]), (ItemType::SplitParityPiece, &[1][..])] {
            assert_eq!(HeldItems(held).encode(), bytes);
            assert_eq!(HeldItems::decode_all(&mut &*bytes).unwrap(), HeldItems(held));
        }
        for bytes in [&[0][..], &[2], &[1, 0]] {
            assert!(HeldItems::decode_all(&mut &*bytes).is_err(), "{bytes:?}");
        }
    }
}
