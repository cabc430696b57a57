//! What follows from a cluster's secret. Pure.
//!
//! Roles prove the secret to one another, and NATS asks them for a password. That password follows from the secret, so that
//! there is one thing to keep; from the password the secret does not follow.

/// Whom a NATS server asks for a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatsUser {
    /// A role or a utility.
    Client,
    /// Another server of the NATS cluster.
    Route,
}

impl NatsUser {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Route];

    /// The user's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "autonomys",
            Self::Route => "autonomys-route",
        }
    }

    /// The user's password, 64 hexadecimal digits.
    pub fn password(self, key: &[u8; 32]) -> String {
        let context = match self {
            Self::Client => "autonomys farming cluster 2026-11 NATS client password",
            Self::Route => "autonomys farming cluster 2026-11 NATS route password",
        };
        blake3::Hash::from(blake3::derive_key(context, key)).to_hex().to_string()
    }
}

/// The key of a secret, of which white space at both ends does not count.
pub fn key(secret: &[u8]) -> [u8; 32] {
    blake3::derive_key("autonomys farming cluster 2026-11 secret", secret.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_follow_from_the_secret_alone() {
        let key = key(b"correct horse battery\n");
        assert_eq!(key, super::key(b"  correct horse battery"));
        let [client, route] = NatsUser::ALL.map(|user| user.password(&key));
        assert_ne!(client, route);
        assert!([&client, &route].iter().all(|password| password.len() == 64));
        assert_ne!(NatsUser::Client.password(&super::key(b"correct horse batterx")), client);
        assert!(!client.contains(&hex(&key)), "the key does not stand in it");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
