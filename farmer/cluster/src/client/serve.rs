//! Answering requests and listening to broadcasts.

use super::ClusterClient;
use super::skew::{Skews, sender};
use crate::contract::envelope::seal_reply;
use crate::contract::{
    Broadcast, Envelope, InstanceId, InstanceRequest, QueueRequest, Refusal, Request, ScatterRequest,
};
use crate::error::ClientError;
use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Most requests of a service that wait for their turn.
const MAX_WAITING: usize = 1024;
/// Most bytes of requests of a service that wait for their turn.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// How long a service that ends waits for the server to stop sending.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A service that answers requests; stops at once when dropped.
#[derive(Debug)]
pub struct Serving {
    subject: String,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Serving {
    /// Takes no more requests and waits for those in hand, at most `deadline`.
    pub async fn drain(mut self, deadline: Duration) {
        self.stop.cancel();
        if let Some(mut task) = self.task.take()
            && tokio::time::timeout(deadline, &mut task).await.is_err()
        {
            tracing::warn!(subject = self.subject, "requests were given up: they did not end in time");
            task.abort();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Broadcasts as they come.
#[derive(Debug)]
pub struct Broadcasts<B> {
    client: ClusterClient,
    subscriber: Subscriber,
    skews: Skews,
    message: PhantomData<fn() -> B>,
}

impl<B: Broadcast> Broadcasts<B> {
    /// The next broadcast; those that cannot be used are logged and left out. None when the client is closed.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<B> {
        loop {
            let message = self.subscriber.next().await?;
            match B::open(&message.payload) {
                Ok(broadcast) => return Some(broadcast),
                Err(error) => match self.client.skew(&message.subject, sender(&message), &error) {
                    Some(skew) => self.skews.warn(skew),
                    None => tracing::warn!(subject = %message.subject, %error, "a broadcast cannot be used"),
                },
            }
        }
    }
}

/// What a handler decided.
enum Answer<T> {
    Reply(Result<T, Refusal>),
    Silence,
}

/// Makes an answer of what a handler gives.
type Answering<T, R> = fn(T) -> Answer<<R as Request>::Reply>;

impl ClusterClient {
    /// Listens to a broadcast, from now on and across reconnections.
    ///
    /// # Errors
    /// When the client is closed.
    pub async fn listen<B: Broadcast>(&self) -> Result<Broadcasts<B>, ClientError> {
        let subject = self.subject(B::SUBJECT);
        let subscriber = self
            .nats
            .subscribe(subject.clone())
            .await
            .map_err(|error| ClientError::nats(format!("listening to {subject}"), error))?;
        Ok(Broadcasts { client: self.clone(), subscriber, skews: Skews::default(), message: PhantomData })
    }

    /// Answers requests to the role, in turn with its other instances; at most `concurrency` at once, the next ones (as
    /// many as fit 32 MiB) wait, those beyond are refused with [`Refusal::Busy`].
    ///
    /// # Errors
    /// When the client is closed.
    pub async fn serve_queue<R, H, F>(&self, concurrency: usize, handler: H) -> Result<Serving, ClientError>
    where
        R: QueueRequest,
        H: Fn(R) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R::Reply, Refusal>> + Send + 'static,
    {
        let subject = self.subject(R::SUBJECT);
        // One queue group per subject: instances that serve only some of a role's requests do not starve the others.
        let subscriber = self
            .nats
            .queue_subscribe(subject.clone(), "instances".to_owned())
            .await
            .map_err(|error| ClientError::nats(format!("serving {subject}"), error))?;
        Ok(self.serve(subject, subscriber, concurrency, handler, Answer::Reply))
    }

    /// Answers requests to this instance; at most `concurrency` at once.
    ///
    /// # Errors
    /// When the client is closed.
    pub async fn serve_instance<R, H, F>(
        &self,
        instance: InstanceId,
        concurrency: usize,
        handler: H,
    ) -> Result<Serving, ClientError>
    where
        R: InstanceRequest,
        H: Fn(R) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R::Reply, Refusal>> + Send + 'static,
    {
        let subject = self.instance_subject(R::SUBJECT, instance);
        let subscriber = self.subscribe(&subject).await?;
        Ok(self.serve(subject, subscriber, concurrency, handler, Answer::Reply))
    }

    /// Answers requests to everyone; a handler that gives none keeps silent.
    ///
    /// # Errors
    /// When the client is closed.
    pub async fn serve_scatter<R, H, F>(&self, handler: H) -> Result<Serving, ClientError>
    where
        R: ScatterRequest,
        H: Fn(R) -> F + Send + Sync + 'static,
        F: Future<Output = Option<R::Reply>> + Send + 'static,
    {
        let subject = self.subject(R::SUBJECT);
        let subscriber = self.subscribe(&subject).await?;
        Ok(self.serve(subject, subscriber, 1, handler, |reply| match reply {
            Some(reply) => Answer::Reply(Ok(reply)),
            None => Answer::Silence,
        }))
    }

    async fn subscribe(&self, subject: &str) -> Result<Subscriber, ClientError> {
        self.nats
            .subscribe(subject.to_owned())
            .await
            .map_err(|error| ClientError::nats(format!("serving {subject}"), error))
    }

    fn serve<R, H, F, T>(
        &self,
        subject: String,
        subscriber: Subscriber,
        concurrency: usize,
        handler: H,
        answer: Answering<T, R>,
    ) -> Serving
    where
        R: Request,
        H: Fn(R) -> F + Send + Sync + 'static,
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let stop = CancellationToken::new();
        let (client, skews) = (self.clone(), Skews::default());
        let service = Service { client, subject: subject.clone(), handler, answer, skews };
        let task = tokio::spawn(run(Arc::new(service), subscriber, concurrency.max(1), stop.clone()));
        Serving { subject, stop, task: Some(task) }
    }
}

struct Service<H, A> {
    client: ClusterClient,
    subject: String,
    handler: H,
    answer: A,
    skews: Skews,
}

async fn run<R, H, F, T>(
    service: Arc<Service<H, Answering<T, R>>>,
    mut subscriber: Subscriber,
    concurrency: usize,
    stop: CancellationToken,
) where
    R: Request,
    H: Fn(R) -> F + Send + Sync + 'static,
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let permits = Arc::new(Semaphore::new(concurrency));
    let limit = concurrency + max_waiting::<R>();
    let mut in_hand = JoinSet::new();
    let mut draining = false;
    // Runs out while draining only: the server no longer answers.
    let given_up = sleep(Duration::MAX);
    tokio::pin!(given_up);
    loop {
        let message = tokio::select! {
            biased;
            () = stop.cancelled(), if !draining => {
                // Other instances take what comes from now on; what the server has sent already is still answered.
                draining = true;
                given_up.as_mut().reset(Instant::now() + DRAIN_TIMEOUT);
                if subscriber.drain().await.is_err() {
                    break;
                }
                continue;
            }
            () = &mut given_up => break,
            message = subscriber.next() => message,
        };
        let Some(message) = message else { break };
        while in_hand.try_join_next().is_some() {}
        if in_hand.len() >= limit {
            service.refuse(message).await;
            continue;
        }
        let (service, permits) = (Arc::clone(&service), Arc::clone(&permits));
        in_hand.spawn(async move { service.answer::<R, F, T>(message, &permits).await });
    }
    while in_hand.join_next().await.is_some() {}
}

/// Requests that may wait for their turn: what is beyond is refused, since a subscription would take it all into memory.
const fn max_waiting<R: Request>() -> usize {
    let fit = MAX_WAITING_BYTES / (R::MAX_BYTES + 1024);
    if fit > MAX_WAITING { MAX_WAITING } else { fit }
}

impl<H, A> Service<H, A> {
    async fn refuse(&self, message: Message) {
        tracing::debug!(subject = self.subject, "too many requests; one is refused");
        if let Some(reply_to) = message.reply {
            self.reply(reply_to, seal_reply::<bool>(Err(Refusal::Busy))).await;
        }
    }

    async fn reply(&self, reply_to: Subject, payload: Bytes) {
        let headers = self.client.headers();
        if let Err(error) = self.client.nats.publish_with_headers(reply_to, headers, payload).await {
            tracing::warn!(subject = self.subject, %error, "an answer could not be sent");
        }
    }

    async fn answer<R, F, T>(&self, message: Message, permits: &Semaphore)
    where
        R: Request,
        H: Fn(R) -> F,
        F: Future<Output = T>,
        A: Fn(T) -> Answer<R::Reply>,
    {
        let Some(reply_to) = message.reply.clone() else {
            tracing::warn!(subject = %message.subject, "a request without a place for its answer");
            return;
        };
        let reply = match R::open(&message.payload) {
            Ok(request) => {
                drop(message.payload);
                let handle = async {
                    let _permit = permits.acquire().await.expect("the semaphore is never closed");
                    (self.handler)(request).await
                };
                // Time spent waiting counts: after the deadline nobody listens any more.
                match tokio::time::timeout(R::DEADLINE, handle).await {
                    Ok(output) => match (self.answer)(output) {
                        Answer::Reply(reply) => reply,
                        Answer::Silence => return,
                    },
                    Err(_) => Err(Refusal::failed(format_args!("no result within {:?}", R::DEADLINE))),
                }
            }
            Err(error) => {
                match self.client.skew(&self.subject, sender(&message), &error) {
                    Some(skew) => self.skews.warn(skew),
                    None => tracing::warn!(subject = self.subject, %error, "a request cannot be used"),
                }
                Err(error.into())
            }
        };
        self.reply(reply_to, seal_reply(reply)).await;
    }
}
