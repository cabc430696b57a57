//! What carries requests: a WebSocket, or single HTTP requests.

use crate::client::Options;
use jsonrpsee::core::ClientError;
use jsonrpsee::core::client::{ClientT, Subscription, SubscriptionClientT};
use jsonrpsee::core::params::ArrayParams;
use jsonrpsee::ws_client::{PingConfig, WsClient, WsClientBuilder};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Largest request and response, bytes.
const MAX_MESSAGE_SIZE: u32 = 20 * 1024 * 1024;
/// Pings find a dead peer that never closed its socket.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const INACTIVE_LIMIT: Duration = Duration::from_secs(30);

/// A connection to a node, or what stands for one.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Everything.
    WebSocket(WsClient),
    /// Requests alone: no subscriptions.
    Http {
        client: HttpClient,
        /// A request did not get through.
        broken: CancellationToken,
    },
}

impl Transport {
    /// Connects; over HTTP nothing is sent yet.
    pub(crate) async fn connect(url: &str, options: &Options) -> Result<Self, ClientError> {
        if url.starts_with("http://") {
            let client = HttpClientBuilder::default()
                .max_request_size(MAX_MESSAGE_SIZE)
                .max_response_size(MAX_MESSAGE_SIZE)
                .request_timeout(options.call_timeout)
                .build(url)?;
            return Ok(Self::Http { client, broken: CancellationToken::new() });
        }
        let building = WsClientBuilder::default()
            .max_request_size(MAX_MESSAGE_SIZE)
            .max_response_size(MAX_MESSAGE_SIZE)
            .connection_timeout(options.connect_timeout)
            .request_timeout(options.call_timeout)
            .enable_ws_ping(
                PingConfig::new().ping_interval(PING_INTERVAL).inactive_limit(INACTIVE_LIMIT).max_failures(1),
            )
            .build(url);
        building.await.map(Self::WebSocket)
    }

    pub(crate) async fn request<R: DeserializeOwned>(
        &self,
        method: &str,
        params: ArrayParams,
    ) -> Result<R, ClientError> {
        match self {
            Self::WebSocket(client) => client.request(method, params).await,
            Self::Http { client, broken } => {
                let answer = client.request(method, params).await;
                if let Err(ClientError::Transport(_)) = &answer {
                    broken.cancel();
                }
                answer
            }
        }
    }

    pub(crate) async fn subscribe<T: DeserializeOwned>(
        &self,
        subscribe: &str,
        params: ArrayParams,
        unsubscribe: &str,
    ) -> Result<Subscription<T>, ClientError> {
        match self {
            Self::WebSocket(client) => client.subscribe(subscribe, params, unsubscribe).await,
            Self::Http { .. } => Err(ClientError::HttpNotImplemented),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        match self {
            Self::WebSocket(client) => client.is_connected(),
            Self::Http { broken, .. } => !broken.is_cancelled(),
        }
    }

    /// Waits until it is of no further use; says why.
    pub(crate) async fn on_disconnect(&self) -> String {
        match self {
            Self::WebSocket(client) => client.on_disconnect().await.to_string(),
            Self::Http { broken, .. } => {
                broken.cancelled().await;
                "a request did not get through".to_owned()
            }
        }
    }
}
