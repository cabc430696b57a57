//! Which proofs are wanted, from whom and how long: what this plot-client tells proof-servers that ask back.
//!
//! A server asks as soon as it takes a request, so that one that hangs is noticed within a moment. Of several requests for
//! one chunk each goes to another server.

use cluster::contract::{InstanceId, ProofWanted, ProofWantedRequest};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// The proofs that this plot-client waits for.
#[derive(Debug, Default)]
pub struct WantedProofs {
    requests: Mutex<HashMap<u64, Arc<Wanted>>>,
}

/// One proof, asked of one server after another.
#[derive(Debug)]
pub struct Wanted {
    deadline: Instant,
    /// The servers that have it in hand, each with the request that it took.
    takers: Mutex<Vec<(InstanceId, u64)>>,
    taken: watch::Sender<u64>,
}

/// One request for a proof; dropped, it is not wanted any more.
#[derive(Debug)]
pub struct WantedRequest {
    /// Its name.
    pub id: u64,
    proofs: Arc<WantedProofs>,
    wanted: Arc<Wanted>,
}

impl Wanted {
    /// A proof that is wanted until `deadline`.
    pub fn until(deadline: Instant) -> Arc<Self> {
        Arc::new(Self { deadline, takers: Mutex::default(), taken: watch::channel(0).0 })
    }

    /// Counts how often a server has taken a request.
    pub fn taken(&self) -> watch::Receiver<u64> {
        self.taken.subscribe()
    }

    /// Whether a server has it in hand.
    pub fn is_in_hand(&self) -> bool {
        !self.takers.lock().is_empty()
    }

    fn take(&self, request: &ProofWantedRequest) -> ProofWanted {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let mut takers = self.takers.lock();
        let (server, id) = (request.server, request.id);
        let again = takers.contains(&(server, id));
        let other = takers.iter().any(|(taker, taken)| *taker == server || *taken == id);
        if left.is_zero() || (other && !again) {
            return ProofWanted { left_ms: None };
        }
        if !again {
            takers.push((server, id));
            self.taken.send_modify(|taken| *taken += 1);
        }
        ProofWanted { left_ms: u32::try_from(left.as_millis()).ok() }
    }
}

impl WantedProofs {
    /// Enters a request for a proof.
    pub fn request(self: &Arc<Self>, wanted: &Arc<Wanted>) -> WantedRequest {
        let mut requests = self.requests.lock();
        // Never one of an earlier process of this identity, whose requests may still lie about.
        let mut id = rand::random();
        while requests.contains_key(&id) {
            id = rand::random();
        }
        requests.insert(id, Arc::clone(wanted));
        WantedRequest { id, proofs: Arc::clone(self), wanted: Arc::clone(wanted) }
    }

    /// Answers a proof-server that has taken a request.
    pub fn answer(&self, request: &ProofWantedRequest) -> ProofWanted {
        let wanted = self.requests.lock().get(&request.id).cloned();
        wanted.map_or(ProofWanted { left_ms: None }, |wanted| wanted.take(request))
    }
}

impl Drop for WantedRequest {
    fn drop(&mut self) {
        self.proofs.requests.lock().remove(&self.id);
        self.wanted.takers.lock().retain(|(_, id)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use ulid::Ulid;

    #[test]
    fn each_request_goes_to_another_server_while_it_is_wanted() {
        let proofs = Arc::new(WantedProofs::default());
        let wanted = Wanted::until(Instant::now() + Duration::from_secs(60));
        let [one, two] = [1, 2].map(|server| InstanceId(Ulid(server)));
        let (first, second) = (proofs.request(&wanted), proofs.request(&wanted));
        let is_wanted = |id, server| {
            proofs.answer(&ProofWantedRequest { id, server }).left_ms.is_some_and(|left| left > 30_000)
        };
        assert!(!wanted.is_in_hand());
        assert!(is_wanted(first.id, one) && wanted.is_in_hand());
        assert!(is_wanted(first.id, one), "the same server may ask again");
        assert!(!is_wanted(first.id, two), "it is taken");
        assert!(!is_wanted(second.id, one), "another server is to have it");
        assert!(is_wanted(second.id, two));
        assert_eq!(*wanted.taken().borrow(), 2);
        let id = first.id;
        drop(first);
        assert!(!is_wanted(id, one), "nobody waits any more");
        let again = proofs.request(&wanted);
        assert!(is_wanted(again.id, one), "it may have room by now");
        drop((second, again));
        assert!(!wanted.is_in_hand() && proofs.requests.lock().is_empty());
        let late = proofs.request(&Wanted::until(Instant::now()));
        assert!(!is_wanted(late.id, one));
    }
}
