//! The connection to NATS: typed requests, broadcasts and services of the [`crate::contract`].

mod connect;
mod serve;
pub(crate) mod skew;

pub use connect::{ConnectionState, NatsOptions};
pub use serve::{Broadcasts, Serving};
pub use skew::Skew;

use crate::contract::envelope::open_reply;
use crate::contract::{
    Broadcast, ClusterName, Envelope, InstanceId, InstanceRequest, QueueRequest, Refusal, Request,
    SUBJECT_PREFIX, ScatterRequest,
};
use crate::error::ClientError;
use async_nats::RequestErrorKind;
use bytes::Bytes;
use futures::StreamExt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Most answers that a scattered request collects.
const MAX_SCATTER_REPLIES: usize = 4096;

/// A connection to the cluster's NATS, shared by everything in a process; cheap to clone.
///
/// It reconnects by itself; what is requested while it is not connected fails at once with
/// [`ClientError::Disconnected`].
#[derive(Debug, Clone)]
pub struct ClusterClient {
    nats: async_nats::Client,
    cluster: ClusterName,
    servers: Arc<[String]>,
    /// What peers call this side when they cannot read its messages.
    name: Arc<str>,
    state: watch::Receiver<ConnectionState>,
}

impl ClusterClient {
    /// Connects to the first server that answers; waits, with one clear line in the log, while none does.
    ///
    /// Never gives up on servers that cannot be reached: callers that want to stop drop the future.
    ///
    /// # Errors
    /// When the list of servers cannot be used, or a server's `max_payload` is below 2 MiB.
    pub async fn connect(options: &NatsOptions) -> Result<Self, ClientError> {
        connect::connect(options).await
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Whether NATS is connected now.
    pub fn state(&self) -> ConnectionState {
        *self.state.borrow()
    }

    /// Follows the state of the connection.
    pub fn watch_state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// The address under which the NATS server sees this host: what a server role advertises by default.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.nats.try_server_info()?.client_ip.parse().ok()
    }

    /// Number of NATS servers known: those given, or those that the connected one tells of, whichever are more; 1
    /// when the connected server is not clustered.
    pub fn server_count(&self) -> usize {
        match self.nats.try_server_info() {
            Some(info) if info.cluster.is_some() => self.servers.len().max(info.connect_urls.len()).max(1),
            _ => 1,
        }
    }

    pub(crate) fn nats(&self) -> &async_nats::Client {
        &self.nats
    }

    fn subject(&self, subject: &str) -> String {
        format!("{SUBJECT_PREFIX}.{}.{subject}", self.cluster)
    }

    fn instance_subject(&self, subject: &str, instance: InstanceId) -> String {
        format!("{SUBJECT_PREFIX}.{}.{subject}.{instance}", self.cluster)
    }

    /// Sends a message to whoever listens.
    ///
    /// # Errors
    /// When NATS is not connected, or the message is out of its bounds.
    pub async fn broadcast<B: Broadcast>(&self, message: &B) -> Result<(), ClientError> {
        let subject = self.subject(B::SUBJECT);
        let payload = self.sealed(&subject, message)?;
        if self.state() != ConnectionState::Connected {
            return Err(ClientError::Disconnected { subject });
        }
        self.nats
            .publish_with_headers(subject.clone(), self.headers(), payload)
            .await
            .map_err(|error| ClientError::nats(format!("sending {subject}"), error))
    }

    /// Asks any instance of the role, within the message's deadline.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn request<R: QueueRequest>(&self, message: &R) -> Result<R::Reply, ClientError> {
        self.ask(self.subject(R::SUBJECT), message, R::DEADLINE).await
    }

    /// [`Self::request`] with a deadline of its own.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn request_within<R: QueueRequest>(
        &self,
        message: &R,
        deadline: Duration,
    ) -> Result<R::Reply, ClientError> {
        self.ask(self.subject(R::SUBJECT), message, deadline).await
    }

    /// Asks one instance, within the message's deadline.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn request_instance<R: InstanceRequest>(
        &self,
        instance: InstanceId,
        message: &R,
    ) -> Result<R::Reply, ClientError> {
        self.ask(self.instance_subject(R::SUBJECT, instance), message, R::DEADLINE).await
    }

    /// [`Self::request_instance`] with a deadline of its own.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn request_instance_within<R: InstanceRequest>(
        &self,
        instance: InstanceId,
        message: &R,
        deadline: Duration,
    ) -> Result<R::Reply, ClientError> {
        self.ask(self.instance_subject(R::SUBJECT, instance), message, deadline).await
    }

    /// Asks everyone and collects what is answered within `window`; answers that cannot be used are logged and left out.
    ///
    /// # Errors
    /// When NATS is not connected. That nobody answers is no error.
    pub async fn scatter<R: ScatterRequest>(
        &self,
        message: &R,
        window: Duration,
    ) -> Result<Vec<R::Reply>, ClientError> {
        let subject = self.subject(R::SUBJECT);
        let payload = self.sealed(&subject, message)?;
        if self.state() != ConnectionState::Connected {
            return Err(ClientError::Disconnected { subject });
        }
        let failed = |error: &dyn ToString| ClientError::nats(format!("asking {subject}"), error.to_string());
        let inbox = self.nats.new_inbox();
        let mut answers = self.nats.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
        self.nats
            .publish_with_reply_and_headers(subject.clone(), inbox, self.headers(), payload)
            .await
            .map_err(|error| failed(&error))?;
        let mut replies = Vec::new();
        let collect = async {
            while let Some(answer) = answers.next().await {
                if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
                    break;
                }
                match self.opened::<R>(&subject, &answer) {
                    Ok(reply) => replies.push(reply),
                    Err(error) => tracing::warn!(%error, "the answer of a member is left out"),
                }
                if replies.len() >= MAX_SCATTER_REPLIES {
                    break;
                }
            }
        };
        // Running out of time is how it normally ends.
        let _ = tokio::time::timeout(window, collect).await;
        Ok(replies)
    }

    /// Encodes a message that is about to be sent.
    fn sealed<M: Envelope>(&self, subject: &str, message: &M) -> Result<Bytes, ClientError> {
        let not_sendable = |source| ClientError::NotSendable { subject: subject.to_owned(), source };
        let payload = message.seal().map_err(not_sendable)?;
        let limit = self.nats.max_payload();
        if payload.len() > limit {
            let found = payload.len();
            return Err(not_sendable(crate::contract::EnvelopeError::TooLarge { found, limit }));
        }
        Ok(payload)
    }

    async fn ask<R: Request>(
        &self,
        subject: String,
        message: &R,
        deadline: Duration,
    ) -> Result<R::Reply, ClientError> {
        let payload = self.sealed(&subject, message)?;
        if self.state() != ConnectionState::Connected {
            return Err(ClientError::Disconnected { subject });
        }
        let request =
            async_nats::Request::new().payload(payload).headers(self.headers()).timeout(Some(deadline));
        let answer = match self.nats.send_request(subject.clone(), request).await {
            Ok(answer) => answer,
            Err(error) => {
                return Err(match error.kind() {
                    RequestErrorKind::NoResponders => ClientError::NoResponders { subject },
                    RequestErrorKind::TimedOut => ClientError::TimedOut { subject, after: deadline },
                    _ => ClientError::nats(format!("asking {subject}"), error),
                });
            }
        };
        self.opened::<R>(&subject, &answer)
    }

    /// What a responder answered.
    fn opened<R: Request>(
        &self,
        subject: &str,
        answer: &async_nats::Message,
    ) -> Result<R::Reply, ClientError> {
        let subject = subject.to_owned();
        match open_reply::<R::Reply>(&answer.payload) {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(Refusal::Version { found, expected })) => {
                let skew = self.skew_of(&subject, skew::sender(answer), expected, found);
                Err(ClientError::Skew { skew, is_delivered: false })
            }
            Ok(Err(refusal)) => Err(ClientError::Refused { subject, refusal }),
            Err(source) => {
                Err(match self.skew(&format!("the answer to {subject}"), skew::sender(answer), &source) {
                    Some(skew) => ClientError::Skew { skew, is_delivered: true },
                    None => ClientError::BadReply { subject, source },
                })
            }
        }
    }
}
