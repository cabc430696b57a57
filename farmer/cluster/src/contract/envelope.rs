//! Version byte and bounds around every payload.

use super::{MAX_TEXT, Payload, clip};
use bytes::Bytes;
use parity_scale_codec::{Decode, DecodeAll, Encode};

/// First byte of a reply that is a [`Refusal`].
const REFUSAL: u8 = 0;

/// Why a payload was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not even a version byte.
    #[error("the payload is empty")]
    Empty,
    /// The message has another version.
    #[error(
        "the peer speaks version {found} of this message, this build version {expected}: run the same build everywhere"
    )]
    Version {
        /// Version found.
        found: u8,
        /// Version of this build.
        expected: u8,
    },
    /// More bytes than such a message can have.
    #[error("the payload has {found} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Most bytes allowed.
        limit: usize,
    },
    /// Not the SCALE form of the message, or something in it is out of bounds.
    #[error("the payload is malformed: {0}")]
    Malformed(String),
}

/// Why a peer did not answer a request. Its SCALE form is the same in every version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// The request had another version than the responder's.
    #[error(
        "the responder speaks version {expected} of this message, not {found}: run the same build everywhere"
    )]
    #[codec(index = 0)]
    Version {
        /// Version of the request.
        found: u8,
        /// Version of the responder.
        expected: u8,
    },
    /// The request could not be decoded or was out of bounds.
    #[error("the responder did not take the request: {0}")]
    #[codec(index = 1)]
    Malformed(String),
    /// The responder cannot answer now; another instance may, or this one later.
    #[error("the responder cannot answer now: {0}")]
    #[codec(index = 2)]
    Unavailable(String),
    /// The responder tried and failed.
    #[error("the responder failed: {0}")]
    #[codec(index = 3)]
    Failed(String),
    /// The responder has too many requests already and did not look at this one.
    #[error("the responder has too many requests in hand")]
    #[codec(index = 4)]
    Busy,
}

impl Refusal {
    /// The responder cannot answer now.
    pub fn unavailable(reason: impl ToString) -> Self {
        Self::Unavailable(clip(reason.to_string()))
    }

    /// The responder tried and failed.
    pub fn failed(reason: impl ToString) -> Self {
        Self::Failed(clip(reason.to_string()))
    }
}

impl From<EnvelopeError> for Refusal {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Version { found, expected } => Self::Version { found, expected },
            error => Self::Malformed(clip(error.to_string())),
        }
    }
}

/// Encoding and checked decoding of a payload; implemented for every [`Payload`].
pub trait Envelope: Payload {
    /// Version byte and SCALE.
    ///
    /// # Errors
    /// When the message is out of its own bounds: the peer would refuse it.
    fn seal(&self) -> Result<Bytes, EnvelopeError> {
        self.check().map_err(|what| EnvelopeError::Malformed(what.to_owned()))?;
        let mut bytes = Vec::with_capacity(1 + self.size_hint());
        bytes.push(Self::VERSION);
        self.encode_to(&mut bytes);
        if bytes.len() - 1 > Self::MAX_BYTES {
            return Err(EnvelopeError::TooLarge { found: bytes.len() - 1, limit: Self::MAX_BYTES });
        }
        Ok(bytes.into())
    }

    /// Checks version and size, decodes all of it, checks counts.
    ///
    /// # Errors
    /// What is wrong with the payload.
    fn open(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let (&found, body) = bytes.split_first().ok_or(EnvelopeError::Empty)?;
        if found != Self::VERSION {
            return Err(EnvelopeError::Version { found, expected: Self::VERSION });
        }
        if body.len() > Self::MAX_BYTES {
            return Err(EnvelopeError::TooLarge { found: body.len(), limit: Self::MAX_BYTES });
        }
        let message = Self::decode_all(&mut &*body)
            .map_err(|error| EnvelopeError::Malformed(clip(error.to_string())))?;
        message.check().map_err(|what| EnvelopeError::Malformed(what.to_owned()))?;
        Ok(message)
    }
}

impl<T: Payload> Envelope for T {}

/// Encodes an answer; one that is out of bounds becomes a refusal.
pub fn seal_reply<T: Payload>(reply: Result<T, Refusal>) -> Bytes {
    let refusal = match reply.map(|reply| reply.seal()) {
        Ok(Ok(bytes)) => return bytes,
        Ok(Err(error)) => Refusal::failed(format_args!("its own answer is out of bounds: {error}")),
        Err(refusal) => refusal,
    };
    (REFUSAL, refusal).encode().into()
}

/// Decodes an answer.
///
/// # Errors
/// The outer error: the bytes are wrong. The inner: the responder refused.
pub fn open_reply<T: Payload>(bytes: &[u8]) -> Result<Result<T, Refusal>, EnvelopeError> {
    match bytes.split_first() {
        Some((&REFUSAL, body)) => {
            // A responder cuts its texts; the rest of the allowance is for variants to come.
            let limit = 4 * MAX_TEXT;
            if body.len() > limit {
                return Err(EnvelopeError::TooLarge { found: body.len(), limit });
            }
            let refusal = Refusal::decode_all(&mut &*body)
                .map_err(|error| EnvelopeError::Malformed(format!("an unknown kind of refusal: {error}")))?;
            Ok(Err(refusal))
        }
        _ => T::open(bytes).map(Ok),
    }
}
