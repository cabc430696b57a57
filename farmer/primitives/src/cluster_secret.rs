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

    /// What stands for the password in configuration until that is written where it is read: so no plan and no store holds it.
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Client => "NATS-CLIENT-PASSWORD",
            Self::Route => "NATS-ROUTE-PASSWORD",
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

/// A text with the passwords in the places of their marks.
pub fn fill(text: &str, key: &[u8; 32]) -> String {
    NatsUser::ALL.iter().fold(text.to_owned(), |text, user| text.replace(user.mark(), &user.password(key)))
}

/// The other way round: with marks in the places of the passwords.
pub fn mark(text: &str, key: &[u8; 32]) -> String {
    NatsUser::ALL.iter().fold(text.to_owned(), |text, user| text.replace(&user.password(key), user.mark()))
}

/// Whether a text has a place for a password.
pub fn is_marked(text: &str) -> bool {
    NatsUser::ALL.iter().any(|user| text.contains(user.mark()))
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

    #[test]
    fn passwords_come_and_go() {
        let key = key(b"correct horse battery");
        let text = "password: NATS-CLIENT-PASSWORD\nroute: nats://r:NATS-ROUTE-PASSWORD@h:1\n";
        let filled = fill(text, &key);
        assert!(is_marked(text) && !is_marked(&filled) && filled.len() > text.len());
        assert_eq!(mark(&filled, &key), text);
        assert_eq!(
            mark(&filled, &super::key(b"another horse, battery")),
            filled,
            "of another secret they are not known"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
