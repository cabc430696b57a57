//! Errors of the NATS side.

use crate::client::Skew;
use crate::contract::{EnvelopeError, Refusal};
use std::time::Duration;

/// Why something over NATS did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The list of servers cannot be used.
    #[error("{0}")]
    Servers(String),
    /// The server does not let messages of the needed size pass.
    #[error(
        "NATS server {server} has max_payload {found} bytes, the cluster needs at least 2097152 (2 MiB): \
         set `max_payload: 3MB` in its configuration"
    )]
    MaxPayload {
        /// Name and address of the server.
        server: String,
        /// What it allows.
        found: usize,
    },
    /// Nobody listens on the subject: the message was not delivered.
    #[error("nobody answers {subject}")]
    NoResponders {
        /// The subject.
        subject: String,
    },
    /// NATS cannot be reached: the message was not sent.
    #[error("NATS is not connected: {subject} was not sent")]
    Disconnected {
        /// The subject.
        subject: String,
    },
    /// No answer came in time: whether the message was delivered is not known.
    #[error("no answer to {subject} within {after:?}")]
    TimedOut {
        /// The subject.
        subject: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The responder answered with a refusal.
    #[error("{subject}: {refusal}")]
    Refused {
        /// The subject.
        subject: String,
        /// The refusal.
        refusal: Refusal,
    },
    /// The responder is a build that speaks another version of the message, or of its answer.
    #[error("{skew}")]
    Skew {
        /// Who speaks which.
        skew: Skew,
        /// Whether a handler may have seen the request: it is the answer that cannot be read.
        is_delivered: bool,
    },
    /// The message is out of its own bounds and was not sent.
    #[error("{subject} was not sent: {source}")]
    NotSendable {
        /// The subject.
        subject: String,
        /// What is wrong.
        source: EnvelopeError,
    },
    /// The answer could not be decoded.
    #[error("the answer to {subject} cannot be used: {source}")]
    BadReply {
        /// The subject.
        subject: String,
        /// What is wrong.
        source: EnvelopeError,
    },
    /// The NATS client failed.
    #[error("{action} failed: {message}")]
    Nats {
        /// What was attempted.
        action: String,
        /// The client's words.
        message: String,
    },
}

impl ClientError {
    /// Whether it is certain that no handler has seen the request, so that it may go to another instance (design §4).
    pub fn is_not_delivered(&self) -> bool {
        match self {
            Self::NoResponders { .. } | Self::Disconnected { .. } | Self::NotSendable { .. } => true,
            // These are said before the message reaches a handler.
            Self::Refused { refusal, .. } => {
                matches!(refusal, Refusal::Version { .. } | Refusal::Malformed(_) | Refusal::Busy)
            }
            Self::Skew { is_delivered, .. } => !is_delivered,
            _ => false,
        }
    }

    /// Whether trying again later may succeed without anyone's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoResponders { .. }
            | Self::Disconnected { .. }
            | Self::TimedOut { .. }
            | Self::Nats { .. } => true,
            Self::Refused { refusal, .. } => matches!(refusal, Refusal::Unavailable(_) | Refusal::Busy),
            _ => false,
        }
    }

    pub(crate) fn nats(action: impl Into<String>, error: impl ToString) -> Self {
        Self::Nats { action: action.into(), message: error.to_string() }
    }
}
