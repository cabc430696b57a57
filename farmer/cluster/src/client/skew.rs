//! Peers of other versions: a message says who sent it in a header, so that a receiver which cannot read the message can at
//! least name the sender.

use super::ClusterClient;
use crate::contract::EnvelopeError;
use async_nats::HeaderMap;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;

/// The header.
const SENDER: &str = "Autonomys-Sender";
/// Longest name that is believed, characters.
const MAX_NAME: usize = 160;
/// Peers of other versions that are remembered to have been named.
const MAX_NAMED: usize = 256;

/// Two builds that do not speak the same version of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Skew {
    /// The message: its subject, or what else it is called.
    pub message: String,
    /// The other side: role, instance, build.
    pub theirs: String,
    /// Version of the message that it speaks.
    pub their_version: u8,
    /// This side.
    pub ours: String,
    /// Version of the message that it speaks.
    pub our_version: u8,
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, theirs, their_version, ours, our_version } = self;
        write!(
            f,
            "{theirs} speaks version {their_version} of {message}, and {ours} version {our_version}: they do without each other; \
             run the same build everywhere"
        )
    }
}

/// Peers of other versions, each named once: their messages come every second.
#[derive(Debug, Default)]
pub(crate) struct Skews(Mutex<HashSet<Skew>>);

impl Skews {
    /// Logs a skew that was not logged before.
    pub(crate) fn warn(&self, skew: Skew) {
        if self.is_new(&skew) {
            tracing::warn!("{skew}");
        }
    }

    fn is_new(&self, skew: &Skew) -> bool {
        let mut named = self.0.lock();
        if named.contains(skew) {
            return false;
        }
        if named.len() >= MAX_NAMED {
            named.clear();
        }
        named.insert(skew.clone())
    }
}

impl ClusterClient {
    /// The header that goes with every message of this client.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(SENDER, &*self.name);
        headers
    }

    /// The skew between this side and a peer whose message could not be opened; none when something else was wrong with it.
    pub(crate) fn skew(&self, message: &str, peer: String, error: &EnvelopeError) -> Option<Skew> {
        let EnvelopeError::Version { found, expected } = error else { return None };
        Some(self.skew_of(message, peer, *found, *expected))
    }

    pub(super) fn skew_of(&self, message: &str, theirs: String, their_version: u8, our_version: u8) -> Skew {
        Skew { message: message.to_owned(), theirs, their_version, ours: self.name.to_string(), our_version }
    }
}

/// Who sent a message, as far as it says so; fit for a log.
pub(super) fn sender(message: &async_nats::Message) -> String {
    let name = message.headers.as_ref().and_then(|headers| headers.get(SENDER));
    match name.map(|name| name.as_str()).unwrap_or_default() {
        "" => "a peer that does not say who it is".to_owned(),
        name => name.chars().take(MAX_NAME).map(|c| if c.is_control() { '?' } else { c }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skew(theirs: usize) -> Skew {
        Skew {
            message: "controller.slot".to_owned(),
            theirs: format!("controller {theirs} 2.0.0"),
            their_version: 2,
            ours: "plot-client 7 1.0.0".to_owned(),
            our_version: 1,
        }
    }

    #[test]
    fn a_peer_of_another_version_is_named_once() {
        let skews = Skews::default();
        assert!(skews.is_new(&skew(1)) && skews.is_new(&skew(2)));
        assert!(!skews.is_new(&skew(1)));
        (3..3 * MAX_NAMED).for_each(|theirs| assert!(skews.is_new(&skew(theirs))));
        assert!(skews.0.lock().len() <= MAX_NAMED);
    }

    #[test]
    fn both_sides_and_both_versions_are_named() {
        let text = skew(1).to_string();
        for word in
            ["controller 1 2.0.0 speaks version 2", "controller.slot", "plot-client 7 1.0.0 version 1"]
        {
            assert!(text.contains(word), "{text}");
        }
    }
}
