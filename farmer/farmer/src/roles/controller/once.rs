//! Does each keyed thing once and gives everybody who asks for it the same answer.

use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::hash::Hash;
use tokio::sync::watch;

/// Entries remembered; the lowest are forgotten first.
const MAX_ENTRIES: usize = 1 << 16;

/// Remembers what was done by key. Keys order by age: the lowest are forgotten first.
///
/// The first who asks does it, in a task of its own, so that it is finished though the asker goes away; others wait for
/// the same answer.
pub struct Once<K, V> {
    entries: Mutex<Entries<K, V>>,
}

struct Entries<K, V> {
    by_key: HashMap<K, watch::Receiver<Option<V>>>,
    ordered: BTreeSet<K>,
}

/// Whether an answer was made for this call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It was.
    First,
    /// It was made, or is being made, for an earlier one.
    Repeated,
}

impl<K, V> Default for Once<K, V> {
    fn default() -> Self {
        Self { entries: Mutex::new(Entries { by_key: HashMap::new(), ordered: BTreeSet::new() }) }
    }
}

impl<K: Clone + Eq + Hash + Ord, V: Clone + Send + Sync + 'static> Once<K, V> {
    /// The answer for `key`, made by `make` unless it was asked for before. None when the task that made it ended
    /// without an answer.
    pub async fn get<F>(&self, key: K, make: impl FnOnce() -> F) -> (Turn, Option<V>)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (turn, mut answer) = self.join(key, make);
        let answer = match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            Err(_) => None,
        };
        (turn, answer)
    }

    fn join<F>(&self, key: K, make: impl FnOnce() -> F) -> (Turn, watch::Receiver<Option<V>>)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut entries = self.entries.lock();
        if let Some(answer) = entries.by_key.get(&key) {
            return (Turn::Repeated, answer.clone());
        }
        let (sender, receiver) = watch::channel(None);
        entries.by_key.insert(key.clone(), receiver.clone());
        entries.ordered.insert(key);
        while entries.ordered.len() > MAX_ENTRIES {
            if let Some(oldest) = entries.ordered.pop_first() {
                entries.by_key.remove(&oldest);
            }
        }
        drop(entries);
        let future = make();
        tokio::spawn(async move {
            sender.send_replace(Some(future.await));
        });
        (Turn::First, receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn everybody_gets_the_answer_that_was_made_once() {
        let once = Arc::new(Once::<u32, u32>::default());
        let made = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let (once, made) = (once.clone(), made.clone());
            async move {
                let make = || async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    made.fetch_add(1, Ordering::SeqCst);
                    7
                };
                once.get(1, make).await
            }
        };
        let (one, other) = tokio::join!(ask(), ask());
        assert_eq!((one.1, other.1), (Some(7), Some(7)));
        assert_eq!([one.0, other.0].iter().filter(|turn| **turn == Turn::First).count(), 1);
        assert_eq!(ask().await, (Turn::Repeated, Some(7)));
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_work_is_finished_though_the_first_asker_goes_away() {
        let once = Once::<u32, u32>::default();
        let make = || async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            9
        };
        let first = tokio::time::timeout(Duration::from_millis(1), once.get(1, make)).await;
        assert!(first.is_err());
        assert_eq!(once.get(1, || async { 0 }).await, (Turn::Repeated, Some(9)));
    }

    #[tokio::test]
    async fn only_the_oldest_are_forgotten() {
        let once = Once::<usize, ()>::default();
        for key in 0..=MAX_ENTRIES {
            once.get(key, || async {}).await;
        }
        assert_eq!(once.get(MAX_ENTRIES, || async {}).await.0, Turn::Repeated);
        assert_eq!(once.get(0, || async {}).await.0, Turn::First);
    }
}
