//! What may go wrong between farmer and node.

use primitives::rpc::GenesisHash;
use std::time::Duration;

/// Why a call to the node failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("node address {url:?}: {reason}; expected ws://HOST:PORT")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There was no connection for as long as the call was willing to wait. Nothing was sent.
    #[error("no connection to the node at {url}: {reason}")]
    NotConnected {
        /// The node.
        url: String,
        /// Why the last attempt failed.
        reason: String,
    },
    /// The connection broke after a submission was sent: whether the node took it is not known.
    #[error(
        "the connection to the node at {url} broke during {method}: whether the node received it is unknown"
    )]
    Interrupted {
        /// The node.
        url: String,
        /// The method.
        method: &'static str,
    },
    /// The node did not answer in time.
    #[error("the node at {url} did not answer {method} within {} s", waited.as_secs())]
    Timeout {
        /// The node.
        url: String,
        /// The method.
        method: String,
        /// How long the call waited.
        waited: Duration,
    },
    /// Another chain answers at this address.
    #[error(
        "the node at {url} is on another chain: expected genesis {expected}, found {found}; point to a node of the \
         right chain, or use other farms"
    )]
    WrongGenesis {
        /// The node.
        url: String,
        /// Genesis of the chain expected.
        expected: GenesisHash,
        /// Genesis found.
        found: GenesisHash,
    },
    /// The node serves safe methods only.
    #[error(
        "the node at {url} refuses {method} as unsafe: start it with `--farmer`, and with `--rpc-methods unsafe` if it \
         is not on this host"
    )]
    UnsafeMethod {
        /// The node.
        url: String,
        /// The method.
        method: String,
    },
    /// The node does not know the method.
    #[error("the node at {url} has no method {method}: is it an Autonomys node started with `--farmer`?")]
    UnknownMethod {
        /// The node.
        url: String,
        /// The method.
        method: String,
    },
    /// The node ignored a solution: its slot is gone or its queue is full. The solution was not taken.
    #[error("the node ignored the solution: {message}")]
    SolutionIgnored {
        /// The node's words.
        message: String,
    },
    /// The node may not send as much as the answer is; it would be as much the next time.
    #[error(
        "the node at {url} may not send as much as its answer to {method} is: start it with a larger \
         --rpc-max-response-size (megabytes)"
    )]
    AnswerTooLarge {
        /// The node.
        url: String,
        /// The method.
        method: String,
    },
    /// Any other error answer.
    #[error("the node at {url} answered {method} with error {code}: {message}")]
    Rpc {
        /// The node.
        url: String,
        /// The method.
        method: String,
        /// JSON-RPC code.
        code: i32,
        /// The node's words.
        message: String,
    },
    /// The answer is not what the method gives.
    #[error("the node at {url} gave no valid answer to {method}: {reason}")]
    Malformed {
        /// The node.
        url: String,
        /// The method.
        method: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// More was asked for than one call may carry.
    #[error("{method}: {asked} entries asked for, {limit} is the limit of one call")]
    TooMany {
        /// The method.
        method: &'static str,
        /// Entries asked for.
        asked: usize,
        /// Largest number allowed.
        limit: usize,
    },
}

impl Error {
    /// Whether it is certain that the node did not take what was submitted, so that it may go to another node.
    pub fn is_certainly_undelivered(&self) -> bool {
        match self {
            Self::NotConnected { .. }
            | Self::SolutionIgnored { .. }
            | Self::UnsafeMethod { .. }
            | Self::UnknownMethod { .. }
            | Self::WrongGenesis { .. }
            | Self::TooMany { .. }
            | Self::Address { .. } => true,
            Self::Interrupted { .. }
            | Self::Timeout { .. }
            | Self::AnswerTooLarge { .. }
            | Self::Rpc { .. }
            | Self::Malformed { .. } => false,
        }
    }

    /// Whether trying again without a change at the node is pointless.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::UnsafeMethod { .. }
                | Self::UnknownMethod { .. }
                | Self::AnswerTooLarge { .. }
                | Self::WrongGenesis { .. }
        )
    }
}
