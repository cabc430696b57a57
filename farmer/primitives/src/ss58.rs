//! SS58 addresses of accounts: base58 of prefix ‖ key ‖ checksum.
//! The format is documented at <https://docs.substrate.io/reference/address-formats/>.

use crate::PublicKey;
use blake2::Digest;

/// Address type of the Autonomys live network and its test networks (their addresses begin with `su` or `st`).
pub const AUTONOMYS_PREFIX: u16 = 6094;
/// Address type 42: any Substrate chain.
pub const GENERIC_PREFIX: u16 = 42;

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ss58Error {
    /// A character stands outside the base58 alphabet.
    #[error("not base58: {0}")]
    Base58(String),
    /// The decoded bytes are no prefix, 32-byte key and 2-byte checksum.
    #[error("{0} bytes, expected 35 or 36 (prefix, 32-byte key, checksum)")]
    Length(usize),
    /// The address was mistyped.
    #[error("the checksum does not match: a character is wrong or missing")]
    Checksum,
}

fn checksum(payload: &[u8]) -> [u8; 2] {
    let digest = blake2::Blake2b512::new().chain_update(b"SS58PRE").chain_update(payload).finalize();
    [digest[0], digest[1]]
}

/// Decodes an address into its network prefix and key, and checks its checksum.
pub fn decode(address: &str) -> Result<(u16, PublicKey), Ss58Error> {
    let bytes = bs58::decode(address).into_vec().map_err(|error| Ss58Error::Base58(error.to_string()))?;
    let prefix_length = match bytes.first() {
        Some(0..64) => 1,
        Some(64..128) => 2,
        _ => return Err(Ss58Error::Length(bytes.len())),
    };
    if bytes.len() != prefix_length + 32 + 2 {
        return Err(Ss58Error::Length(bytes.len()));
    }
    let (payload, found) = bytes.split_at(bytes.len() - 2);
    if checksum(payload) != found {
        return Err(Ss58Error::Checksum);
    }
    let prefix = if prefix_length == 1 {
        u16::from(payload[0])
    } else {
        let lower = ((payload[0] & 0b0011_1111) << 2) | (payload[1] >> 6);
        u16::from(lower) | (u16::from(payload[1] & 0b0011_1111) << 8)
    };
    let key = payload[prefix_length..].try_into().expect("32 bytes were counted above");
    Ok((prefix, PublicKey(key)))
}

/// Encodes a key for the network with `prefix`.
pub fn encode(prefix: u16, key: &PublicKey) -> String {
    let mut payload = if prefix < 64 {
        vec![prefix as u8]
    } else {
        let first = ((prefix & 0b1111_1100) >> 2) as u8 | 0b0100_0000;
        let second = (prefix >> 8) as u8 | (((prefix & 0b11) << 6) as u8);
        vec![first, second]
    };
    payload.extend_from_slice(&key.0);
    let sum = checksum(&payload);
    payload.extend_from_slice(&sum);
    bs58::encode(payload).into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_address_of_alice() {
        // Substrate's documented development account.
        let (prefix, key) = decode("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY").expect("valid");
        assert_eq!(prefix, GENERIC_PREFIX);
        assert_eq!(key.to_string(), "d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d");
    }

    #[test]
    fn round_trip_with_two_byte_prefix() {
        let key = PublicKey([7; 32]);
        for prefix in [0, 42, 63, 64, 255, 256, AUTONOMYS_PREFIX, 16383] {
            assert_eq!(decode(&encode(prefix, &key)), Ok((prefix, key)), "prefix {prefix}");
        }
    }

    #[test]
    fn every_mistyped_character_is_found() {
        let address = encode(AUTONOMYS_PREFIX, &PublicKey([9; 32]));
        for position in 0..address.len() {
            let mut wrong = address.clone().into_bytes();
            wrong[position] = if wrong[position] == b'z' { b'y' } else { b'z' };
            let wrong = String::from_utf8(wrong).expect("ASCII");
            assert!(wrong == address || decode(&wrong).is_err(), "{wrong} was accepted");
        }
    }
}
