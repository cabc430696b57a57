//! Making the connection and following its state.

use super::ClusterClient;
use crate::backoff::Backoff;
use crate::contract::{ClusterName, MIN_MAX_PAYLOAD};
use crate::error::ClientError;
use crate::secret::ClusterSecret;
use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerInfo};
use primitives::cluster_secret::NatsUser;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often the client pings its server; after two pings without an answer it turns to another one. A slot is a second, and
/// what is sent meanwhile is lost (docs/adr/0005-nats-pings.md).
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// How long one attempt to connect may take where there is nobody else to turn to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where there are other servers: one that hangs takes connections and says nothing, and is often the next to be
/// tried, while every second is a slot.
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(1);
/// How often the log repeats that NATS cannot be reached.
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// Messages that a subscription holds before the client drops some and says so.
const SUBSCRIPTION_CAPACITY: usize = 4096;

/// Whether NATS is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// It is.
    Connected,
    /// It is not; the client keeps trying.
    Disconnected,
}

/// Where NATS is and which cluster on it is meant.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `nats://HOST:PORT`, also several with commas between them; a server given twice counts once.
    pub servers: Vec<String>,
    /// The cluster on these servers.
    pub cluster: ClusterName,
    /// How the connection is called in the server's lists, and by peers of other versions: role, instance, build.
    pub name: String,
    /// The cluster's secret, where it is known: the password follows from it. A server that asks for none does not mind.
    pub secret: Option<ClusterSecret>,
}

/// Parses the list and drops what is there twice.
fn parse_servers(given: &[String]) -> Result<Vec<ServerAddr>, ClientError> {
    let mut seen = HashSet::new();
    let mut servers = Vec::new();
    for text in given.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()) {
        let wrong = |why: &dyn std::fmt::Display| {
            ClientError::Servers(format!(
                "{text:?} is no address of a NATS server (expected nats://HOST:PORT): {why}"
            ))
        };
        let server: ServerAddr = text.parse().map_err(|error| wrong(&error))?;
        if !server.clone().into_inner().has_host() {
            return Err(wrong(&"it has no host"));
        }
        if seen.insert((server.host().to_ascii_lowercase(), server.port())) {
            servers.push(server);
        } else {
            tracing::warn!(
                server = format!("{}:{}", server.host(), server.port()),
                "a NATS server is given twice; it counts once",
            );
        }
    }
    if servers.is_empty() {
        return Err(ClientError::Servers(
            "no NATS server is given: use --nats-server nats://HOST:PORT".to_owned(),
        ));
    }
    Ok(servers)
}

/// Addresses for the log, without user names and passwords.
fn names(servers: &[ServerAddr]) -> Vec<String> {
    servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect()
}

fn check_max_payload(info: &ServerInfo) -> Result<(), ClientError> {
    if info.max_payload < MIN_MAX_PAYLOAD {
        let server = format!("{} ({}:{})", info.server_name, info.host, info.port);
        return Err(ClientError::MaxPayload { server, found: info.max_payload });
    }
    Ok(())
}

fn connect_options(
    options: &NatsOptions,
    servers: &[ServerAddr],
    state: watch::Sender<ConnectionState>,
) -> ConnectOptions {
    // A user that stands in the servers' URLs is meant.
    let given = servers.iter().any(|server| server.username().is_some());
    let password = options.secret.as_ref().filter(|_| !given).map(ClusterSecret::nats_password);
    let servers = servers.len();
    let connect_timeout = if servers > 1 { CONNECT_TIMEOUT_OF_SEVERAL } else { CONNECT_TIMEOUT };
    let connecting = match password {
        Some(password) => {
            ConnectOptions::with_user_and_password(NatsUser::Client.name().to_owned(), password)
        }
        None => ConnectOptions::new(),
    };
    connecting
        .name(&options.name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(connect_timeout)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .max_reconnects(None)
        .reconnect_delay_callback(move |attempts| reconnect_delay(attempts, servers))
        .event_callback(move |event| {
            match &event {
                Event::Connected => {
                    if state.send_replace(ConnectionState::Connected) == ConnectionState::Disconnected {
                        tracing::info!("connected to NATS");
                    }
                }
                Event::Disconnected => {
                    state.send_replace(ConnectionState::Disconnected);
                    tracing::warn!("the connection to NATS is lost; trying to get it back");
                }
                Event::Closed => {
                    state.send_replace(ConnectionState::Disconnected);
                }
                Event::SlowConsumer(subscription) => {
                    tracing::warn!(
                        subscription,
                        "messages of NATS were dropped: this process is too slow for them"
                    );
                }
                Event::LameDuckMode => tracing::info!("the NATS server is going to stop"),
                Event::ServerError(error) => tracing::warn!(%error, "NATS server"),
                Event::ClientError(error) => tracing::debug!(%error, "NATS client"),
                Event::Draining => {}
            }
            std::future::ready(())
        })
}

/// How long to wait before the next attempt: hardly at all until every server has been tried, then longer and longer.
fn reconnect_delay(attempts: usize, servers: usize) -> Duration {
    let again = attempts.saturating_sub(servers).min(6) as u32;
    Duration::from_millis(100 * 2u64.pow(again)).min(Duration::from_secs(4))
}

/// See [`ClusterClient::connect`].
pub(super) async fn connect(options: &NatsOptions) -> Result<ClusterClient, ClientError> {
    let servers = parse_servers(&options.servers)?;
    let addresses = names(&servers);
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(4));
    let mut last_said: Option<Instant> = None;
    loop {
        let (sender, state) = watch::channel(ConnectionState::Disconnected);
        match connect_options(options, &servers, sender).connect(&servers[..]).await {
            Ok(nats) => {
                let info = nats.server_info();
                check_max_payload(&info)?;
                tracing::debug!(server = info.server_name, version = info.version, "NATS server");
                let client = ClusterClient {
                    nats,
                    cluster: options.cluster.clone(),
                    servers: addresses.into(),
                    name: options.name.as_str().into(),
                    state,
                };
                client.wait_connected().await;
                tokio::spawn(watch_max_payload(client.clone()));
                return Ok(client);
            }
            Err(error) => {
                if last_said.is_none_or(|said| said.elapsed() >= REMINDER_INTERVAL) {
                    last_said = Some(Instant::now());
                    let what = match error.kind() {
                        ConnectErrorKind::AuthorizationViolation => {
                            "NATS asks for the password of another cluster secret: give its file with \
                             --cluster-secret-file; trying on"
                        }
                        _ => "no NATS server can be reached; waiting for one",
                    };
                    tracing::warn!(servers = addresses.join(","), %error, "{what}");
                }
                backoff.wait().await;
            }
        }
    }
}

/// A reconnection may lead to another server: says so when that one is configured wrongly. Ends with the connection.
async fn watch_max_payload(client: ClusterClient) {
    let mut state = client.watch_state();
    while state.changed().await.is_ok() {
        if *state.borrow_and_update() == ConnectionState::Connected
            && let Err(error) = check_max_payload(&client.nats.server_info())
        {
            tracing::error!("{error}");
        }
    }
}

impl ClusterClient {
    /// Waits until NATS is connected.
    pub async fn wait_connected(&self) {
        let mut state = self.state.clone();
        // The sender lives in the client that `self` holds.
        let _ = state.wait_for(|state| *state == ConnectionState::Connected).await;
    }

    /// Tells the server that this connection is over and waits until everything is sent, at most `deadline`.
    pub async fn close(&self, deadline: Duration) {
        if let Err(error) = tokio::time::timeout(deadline, self.nats.flush()).await {
            tracing::debug!(%error, "NATS did not take everything in time");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn servers_given_twice_collapse() {
        let given = ["nats://a:4222,nats://b:4222".to_owned(), "nats://A:4222".to_owned(), "b".to_owned()];
        assert_eq!(names(&parse_servers(&given).unwrap()), ["a:4222", "b:4222"]);
    }

    #[test]
    fn every_server_is_tried_at_once_and_then_more_and_more_seldom() {
        let delays = |servers| (0..12).map(move |attempts| reconnect_delay(attempts, servers).as_millis());
        assert!(delays(3).take(4).all(|delay| delay == 100));
        assert!(delays(3).is_sorted());
        assert_eq!(delays(3).next_back(), Some(4000));
    }

    #[test]
    fn unusable_lists_are_named() {
        for (given, expected) in
            [("", "no NATS server"), ("http://a:1", "http://a:1"), ("nats://", "nats://")]
        {
            let error = parse_servers(&[given.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn passwords_stay_out_of_the_log() {
        let servers = parse_servers(&["nats://user:secret@host:1".to_owned()]).unwrap();
        assert_eq!(names(&servers), ["host:1"]);
    }

    #[test]
    fn a_small_max_payload_is_refused_with_what_to_do() {
        let info = ServerInfo { max_payload: MIN_MAX_PAYLOAD - 1, ..ServerInfo::default() };
        let error = check_max_payload(&info).unwrap_err().to_string();
        assert!(error.contains("2097151") && error.contains("max_payload: 3MB"), "{error}");
        check_max_payload(&ServerInfo { max_payload: MIN_MAX_PAYLOAD, ..ServerInfo::default() }).unwrap();
    }
}
