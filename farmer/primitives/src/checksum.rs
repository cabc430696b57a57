//! SCALE values followed by the BLAKE3 of their encoding (archival §2.3).

use crate::hashes::blake3_hash;
use parity_scale_codec::{Decode, Encode, Error, Input, Output};

/// A value whose encoding carries its own BLAKE3; decoding refuses a mismatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Blake3Checksummed<T>(pub T);

impl<T: Encode> Encode for Blake3Checksummed<T> {
    fn size_hint(&self) -> usize {
        self.0.size_hint() + 32
    }

    fn encode_to<O: Output + ?Sized>(&self, dest: &mut O) {
        let encoded = self.0.encode();
        dest.write(&encoded);
        dest.write(blake3_hash(&encoded).as_ref());
    }
}

/// Passes bytes through to the inner input and hashes them.
struct HashingInput<'a, I: Input + ?Sized> {
    inner: &'a mut I,
    hasher: blake3::Hasher,
}

impl<I: Input + ?Sized> Input for HashingInput<'_, I> {
    fn remaining_len(&mut self) -> Result<Option<usize>, Error> {
        self.inner.remaining_len()
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), Error> {
        self.inner.read(into)?;
        self.hasher.update(into);
        Ok(())
    }
}

impl<T: Decode> Decode for Blake3Checksummed<T> {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        let mut hashing = HashingInput { inner: input, hasher: blake3::Hasher::new() };
        let value = T::decode(&mut hashing)?;
        let expected = *hashing.hasher.finalize().as_bytes();
        let stored = <[u8; 32]>::decode(input)?;
        if stored != expected {
            return Err(Error::from("checksum mismatch"));
        }
        Ok(Self(value))
    }
}
