//! Who has acknowledged a segment header: archiving waits for every subscriber, for a while (farming §9).

use jsonrpsee::ConnectionId;
use parking_lot::{Condvar, Mutex};
use primitives::SegmentIndex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct State {
    /// Subscriptions of each connection.
    subscribers: HashMap<usize, usize>,
    /// The segment that is waited for, and whose acknowledgements are still due.
    awaited: Option<(SegmentIndex, HashSet<usize>)>,
    cancelled: bool,
}

/// The subscribers of segment headers and what they owe.
#[derive(Debug, Default)]
pub(crate) struct Acknowledgements {
    state: Mutex<State>,
    changed: Condvar,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everybody acknowledged or went away.
    Complete,
    /// So many did not in time.
    TimedOut(usize),
    /// The process is stopping.
    Cancelled,
}

/// A subscriber; dropping it ends the subscription and what it owes.
#[derive(Debug)]
pub(crate) struct Subscriber {
    acknowledgements: Arc<Acknowledgements>,
    connection: usize,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut state = self.acknowledgements.state.lock();
        let left = state.subscribers.get_mut(&self.connection).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            state.subscribers.remove(&self.connection);
            if let Some((_, due)) = &mut state.awaited {
                due.remove(&self.connection);
            }
        }
        self.acknowledgements.changed.notify_all();
    }
}

impl Acknowledgements {
    pub(crate) fn subscribe(self: &Arc<Self>, connection: ConnectionId) -> Subscriber {
        *self.state.lock().subscribers.entry(connection.0).or_default() += 1;
        Subscriber { acknowledgements: Arc::clone(self), connection: connection.0 }
    }

    /// Everybody who is subscribed now owes an acknowledgement of `index`; to be called before it is announced.
    pub(crate) fn expect(&self, index: SegmentIndex) {
        let mut state = self.state.lock();
        let due = state.subscribers.keys().copied().collect();
        state.awaited = Some((index, due));
    }

    pub(crate) fn acknowledge(&self, index: SegmentIndex, connection: ConnectionId) {
        let mut state = self.state.lock();
        if let Some((awaited, due)) = &mut state.awaited
            && *awaited == index
        {
            due.remove(&connection.0);
        }
        self.changed.notify_all();
    }

    /// Waits until nobody owes anything.
    pub(crate) fn wait(&self, timeout: Duration) -> Outcome {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        loop {
            if state.cancelled {
                return Outcome::Cancelled;
            }
            let due = state.awaited.as_ref().map_or(0, |(_, due)| due.len());
            if due == 0 {
                state.awaited = None;
                return Outcome::Complete;
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                state.awaited = None;
                return Outcome::TimedOut(due);
            }
        }
    }

    /// Ends the current and every later wait.
    pub(crate) fn cancel(&self) {
        self.state.lock().cancelled = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn waits_for_every_subscriber_of_the_segment() {
        let acknowledgements = Arc::new(Acknowledgements::default());
        acknowledgements.expect(SegmentIndex(1));
        assert_eq!(acknowledgements.wait(LONG), Outcome::Complete, "nobody is subscribed");

        let first = acknowledgements.subscribe(ConnectionId(1));
        let _second = acknowledgements.subscribe(ConnectionId(2));
        let again = acknowledgements.subscribe(ConnectionId(2));
        acknowledgements.expect(SegmentIndex(2));
        let short = Duration::from_millis(10);
        acknowledgements.acknowledge(SegmentIndex(1), ConnectionId(1));
        acknowledgements.acknowledge(SegmentIndex(2), ConnectionId(9));
        drop(again);
        assert_eq!(acknowledgements.wait(short), Outcome::TimedOut(2));

        acknowledgements.expect(SegmentIndex(3));
        let waiting = Arc::clone(&acknowledgements);
        let thread = std::thread::spawn(move || waiting.wait(LONG));
        acknowledgements.acknowledge(SegmentIndex(3), ConnectionId(2));
        drop(first);
        assert_eq!(thread.join().expect("no panic"), Outcome::Complete);

        acknowledgements.expect(SegmentIndex(4));
        acknowledgements.cancel();
        assert_eq!(acknowledgements.wait(LONG), Outcome::Cancelled);
    }
}
