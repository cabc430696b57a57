//! Subscriptions that outlive connections.

use crate::client::Inner;
use crate::{Error, NodeState};
use futures::Stream;
use jsonrpsee::core::params::ArrayParams;
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Notifications read ahead of a slow consumer; the socket's own buffer holds 1,024 more.
const READ_AHEAD: usize = 16;
/// How soon a refused subscription is tried again: the node may be restarted with other options.
const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// Shortest time between two attempts.
const RETRY: Duration = Duration::from_millis(500);

/// What a subscription yields.
#[derive(Debug, Clone)]
pub enum Event<T> {
    /// Subscribed, for the first time or again after a break: notifications may have been missed before this.
    Subscribed,
    /// A notification.
    Item(T),
    /// The node refuses the subscription ([`Error::is_refusal`]); it is tried again now and then.
    Refused(Error),
}

/// A stream of [`Event`]s that never ends while its client lives; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription<T> {
    events: mpsc::Receiver<Event<T>>,
    task: AbortHandle,
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> Subscription<T> {
    /// The next event; none when the client is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Event<T>> {
        self.events.recv().await
    }

    /// The next notification, whatever else happens; none when the client is gone. Cancel safe.
    pub async fn next_item(&mut self) -> Option<T> {
        loop {
            if let Event::Item(item) = self.events.recv().await? {
                return Some(item);
            }
        }
    }
}

impl<T> Stream for Subscription<T> {
    type Item = Event<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(context)
    }
}

/// Starts a subscription with `[subscribe, notification, unsubscribe]` names.
pub(crate) fn start<T>(inner: Weak<Inner>, names: [&'static str; 3], params: ArrayParams) -> Subscription<T>
where
    T: DeserializeOwned + Send + 'static,
{
    let (sender, events) = mpsc::channel(READ_AHEAD);
    let task = tokio::spawn(async move {
        while let Some(inner) = inner.upgrade() {
            let pause = match run(inner, names, params.clone(), &sender).await {
                Ok(()) => RETRY,
                Err(error) if error.is_refusal() => {
                    tracing::warn!("{error}");
                    if sender.send(Event::Refused(error)).await.is_err() {
                        return;
                    }
                    REFUSED_RETRY
                }
                Err(error) => {
                    tracing::debug!(subscription = names[0], %error, "Subscribing again");
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    });
    Subscription { events, task: task.abort_handle() }
}

/// One subscription on one connection; returns when it ended.
async fn run<T>(
    inner: std::sync::Arc<Inner>,
    [subscribe, _, unsubscribe]: [&'static str; 3],
    params: ArrayParams,
    sender: &mpsc::Sender<Event<T>>,
) -> Result<(), Error>
where
    T: DeserializeOwned + Send + 'static,
{
    let mut links = inner.links.subscribe();
    // Only the connection is awaited here, so that a dropped client is noticed within one call timeout.
    let waiting = links.wait_for(|link| link.client.is_some());
    let client = match tokio::time::timeout(inner.options.call_timeout, waiting).await {
        Ok(Ok(link)) => link.client.clone().expect("the condition just waited for"),
        Ok(Err(_)) | Err(_) => {
            return match inner.links.borrow().state.clone() {
                NodeState::WrongGenesis { expected, found } => {
                    Err(Error::WrongGenesis { url: inner.url.clone(), expected, found })
                }
                _ => Ok(()),
            };
        }
    };
    let subscribing = client.subscribe::<T>(subscribe, params, unsubscribe);
    let mut notifications = tokio::time::timeout(inner.options.call_timeout, subscribing)
        .await
        .map_err(|_| inner.timed_out(subscribe))?
        .map_err(|error| inner.translate(subscribe, error).unwrap_or_else(|| inner.not_connected()))?;
    // A subscription must not keep its client alive.
    let url = inner.url.clone();
    drop((inner, client));
    if sender.send(Event::Subscribed).await.is_err() {
        return Ok(());
    }
    while let Some(notification) = notifications.next().await {
        match notification {
            Ok(item) => {
                if sender.send(Event::Item(item)).await.is_err() {
                    return Ok(());
                }
            }
            Err(error) => {
                tracing::warn!(%url, subscription = subscribe, %error, "A notification that cannot be read");
            }
        }
    }
    Ok(())
}
