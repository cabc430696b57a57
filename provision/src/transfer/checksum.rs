//! SHA-256 of a stream that is put aside in its middle and taken up again, by another process if need be.

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};

/// SHA-256 of a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checksum(Sha256);

impl Checksum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of what came until now, in hex.
    pub(crate) fn hex(&self) -> String {
        hex::encode(self.0.clone().finalize())
    }

    /// Its state, in hex.
    pub(crate) fn save(&self) -> String {
        hex::encode(self.0.serialize())
    }

    /// From its state; none when it is no such.
    pub(crate) fn restore(state: &str) -> Option<Self> {
        let bytes = hex::decode(state).ok()?;
        let state = SerializedState::<Sha256>::try_from(bytes.as_slice()).ok()?;
        Sha256::deserialize(&state).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_goes_on_wherever_it_was_put_aside() {
        let bytes: Vec<u8> = (0..1000_u32).map(|i| (i * 7) as u8).collect();
        let whole = hex::encode(Sha256::digest(&bytes));
        for cut in [0, 1, 63, 64, 65, 640, 999, 1000] {
            let mut first = Checksum::default();
            first.add(&bytes[..cut]);
            assert_eq!(first.hex(), hex::encode(Sha256::digest(&bytes[..cut])));
            let mut second = Checksum::restore(&first.save()).expect("its own state");
            second.add(&bytes[cut..]);
            assert_eq!(second.hex(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let state = Checksum::default().save();
        for wrong in ["", "00", "xyz", &state[2..], &format!("{state}00")] {
            assert!(Checksum::restore(wrong).is_none(), "{wrong}");
        }
    }
}
