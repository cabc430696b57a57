//! Which caches there are and who of them is asked for which piece.

use cluster::contract::{InstanceId, Role};
use cluster::sharding::{Shard, ShardMap};
use cluster::transfer::ItemType;
use cluster::{MemberInfo, Members};
use primitives::{Piece, PieceIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::watch;

/// What a cache is meant to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// Its share, by its capacity.
    Sharded {
        /// Pieces that it may hold.
        capacity: u64,
    },
    /// Everything.
    Full,
}

/// A cache that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// The member.
    pub instance: InstanceId,
    /// Where it takes connections.
    pub address: SocketAddr,
    /// What it is meant to hold.
    pub kind: CacheKind,
    /// In which form it holds pieces; all caches give plain ones.
    pub holds: ItemType,
}

/// Knows the caches that are there now.
pub trait CacheDirectory: Send + Sync {
    /// All caches.
    fn caches(&self) -> Vec<Cache>;
}

impl CacheDirectory for Vec<Cache> {
    fn caches(&self) -> Vec<Cache> {
        self.clone()
    }
}

impl CacheDirectory for watch::Receiver<Arc<Members>> {
    fn caches(&self) -> Vec<Cache> {
        let members = Arc::clone(&self.borrow());
        let cache = |member: &MemberInfo| {
            let kind = match member.role {
                // In pieces, as everybody who places pieces counts.
                Role::ShardedCache => {
                    CacheKind::Sharded { capacity: member.capacity_bytes / Piece::SIZE as u64 }
                }
                Role::FullPieceShardedCache => CacheKind::Full,
                _ => return None,
            };
            let address = member.address?.0;
            Some(Cache { instance: member.instance, address, kind, holds: member.holds.0 })
        };
        members.all().iter().filter_map(cache).collect()
    }
}

/// Which caches are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those at one of these addresses, each for everything.
    At(Vec<IpAddr>),
    /// For each piece the sharded cache that owns it.
    Owners,
    /// For each piece the sharded cache that owned it, or will, when members come and go.
    NextOwners,
    /// Those that hold everything; each for a part.
    Full,
}

impl Selection {
    /// Name for the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::At(_) => "caches of this host",
            Self::Owners => "shard owners",
            Self::NextOwners => "next shard owners",
            Self::Full => "full copies",
        }
    }

    /// Rounds of requests: in each every cache is asked once, for the pieces that those before it did not give.
    pub fn rounds(
        &self,
        caches: &[Cache],
        missing: &BTreeSet<PieceIndex>,
    ) -> Vec<Vec<(Cache, Vec<PieceIndex>)>> {
        let all = || missing.iter().copied().collect::<Vec<_>>();
        match self {
            Self::At(addresses) => {
                let local = caches.iter().filter(|cache| addresses.contains(&cache.address.ip()));
                local.map(|cache| vec![(*cache, all())]).collect()
            }
            Self::Owners => vec![by_owner(caches, missing, 0)],
            Self::NextOwners => vec![by_owner(caches, missing, 1), by_owner(caches, missing, 2)],
            Self::Full => {
                let full: Vec<_> =
                    caches.iter().filter(|cache| cache.kind == CacheKind::Full).copied().collect();
                (0..full.len()).map(|shift| split(&full, shift, missing)).collect()
            }
        }
    }
}

/// The pieces by the sharded cache that stands at `rank` in each one's order of preference.
fn by_owner(caches: &[Cache], missing: &BTreeSet<PieceIndex>, rank: usize) -> Vec<(Cache, Vec<PieceIndex>)> {
    let capacity = |cache: &Cache| match cache.kind {
        CacheKind::Sharded { capacity } => Some(Shard { member: cache.instance, capacity }),
        CacheKind::Full => None,
    };
    let map = ShardMap::new(caches.iter().filter_map(capacity));
    let mut groups: BTreeMap<InstanceId, Vec<PieceIndex>> = BTreeMap::new();
    for index in missing {
        if let Some(owner) = map.ranking(*index).get(rank) {
            groups.entry(*owner).or_default().push(*index);
        }
    }
    let cache = |instance| caches.iter().find(|cache| cache.instance == instance).copied();
    groups.into_iter().filter_map(|(owner, pieces)| Some((cache(owner)?, pieces))).collect()
}

/// The pieces in as many parts as there are caches; every round gives each cache another part.
fn split(caches: &[Cache], shift: usize, missing: &BTreeSet<PieceIndex>) -> Vec<(Cache, Vec<PieceIndex>)> {
    let mut parts: Vec<_> = caches.iter().map(|cache| (*cache, Vec::new())).collect();
    for (position, index) in missing.iter().enumerate() {
        let part = (position + shift) % parts.len();
        parts[part].1.push(*index);
    }
    parts
}

/// Addresses of this host's interfaces.
pub fn local_addresses() -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    match std::fs::read_to_string("/proc/net/fib_trie") {
        Ok(table) => addresses.extend(local_ipv4(&table)),
        Err(error) => tracing::warn!("The addresses of this host are not known: {error}"),
    }
    if let Ok(table) = std::fs::read_to_string("/proc/net/if_inet6") {
        addresses.extend(local_ipv6(&table));
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Local addresses in the kernel's routing trie: each stands in the line above a `/32 host LOCAL`.
fn local_ipv4(table: &str) -> Vec<IpAddr> {
    let mut last: Option<IpAddr> = None;
    let mut addresses = Vec::new();
    for line in table.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            addresses.extend(last);
        }
    }
    addresses
}

/// Addresses in the kernel's list of IPv6 interfaces: 32 hex digits at the beginning of each line.
fn local_ipv6(table: &str) -> Vec<IpAddr> {
    let address = |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok();
    table.lines().filter_map(address).map(|bits| IpAddr::V6(bits.into())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ulid::Ulid;

    fn cache(id: u128, kind: CacheKind) -> Cache {
        let address = SocketAddr::from(([10, 0, 0, id as u8], 9950));
        Cache { instance: InstanceId(Ulid(id)), address, kind, holds: ItemType::Piece }
    }

    fn pieces(count: u64) -> BTreeSet<PieceIndex> {
        (0..count).map(PieceIndex).collect()
    }

    fn asked(round: &[(Cache, Vec<PieceIndex>)]) -> BTreeSet<PieceIndex> {
        round.iter().flat_map(|(_, pieces)| pieces).copied().collect()
    }

    #[test]
    fn owners_share_the_pieces_and_next_owners_are_others() {
        let sharded = |id| cache(id, CacheKind::Sharded { capacity: 100 });
        let caches = vec![sharded(1), sharded(2), sharded(3), cache(4, CacheKind::Full)];
        let rounds = Selection::Owners.rounds(&caches, &pieces(300));
        assert_eq!(rounds.len(), 1);
        assert_eq!(asked(&rounds[0]), pieces(300));
        assert!(rounds[0].iter().all(|(cache, pieces)| cache.kind != CacheKind::Full && pieces.len() > 50));
        let next = Selection::NextOwners.rounds(&caches, &pieces(300));
        let holder = |round: &[(Cache, Vec<PieceIndex>)], piece| {
            round.iter().find(|(_, pieces)| pieces.contains(&piece)).unwrap().0.instance
        };
        for piece in pieces(300) {
            let order = [holder(&rounds[0], piece), holder(&next[0], piece), holder(&next[1], piece)];
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 3);
        }
        assert!(Selection::Owners.rounds(&[], &pieces(3))[0].is_empty());
    }

    #[test]
    fn full_copies_share_the_load_and_each_is_asked_for_each_piece() {
        let caches: Vec<_> = (1..=3).map(|id| cache(id, CacheKind::Full)).collect();
        let rounds = Selection::Full.rounds(&caches, &pieces(9));
        assert_eq!(rounds.len(), 3);
        for round in &rounds {
            assert_eq!(asked(round), pieces(9));
            assert!(round.iter().all(|(_, pieces)| pieces.len() == 3));
        }
        for id in 1..=3 {
            let of = |round: &Vec<(Cache, Vec<PieceIndex>)>| {
                round.iter().find(|(cache, _)| cache.instance.0.0 == id).unwrap().1.clone()
            };
            assert_eq!(rounds.iter().flat_map(of).collect::<BTreeSet<_>>(), pieces(9));
        }
        assert!(Selection::Full.rounds(&[], &pieces(9)).is_empty());
    }

    #[test]
    fn caches_of_this_host_are_asked_for_everything() {
        let caches = vec![cache(1, CacheKind::Full), cache(2, CacheKind::Sharded { capacity: 1 })];
        let rounds = Selection::At(vec![[10, 0, 0, 2].into()]).rounds(&caches, &pieces(4));
        assert_eq!(rounds, [[(caches[1], pieces(4).into_iter().collect::<Vec<_>>())]]);
    }

    #[test]
    fn addresses_of_the_kernels_tables() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.168.1.2\n        \
                     /32 host LOCAL\n     |-- 192.168.1.255\n        /32 link BROADCAST\n";
        assert_eq!(local_ipv4(table), [IpAddr::from([192, 168, 1, 2])]);
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(local_ipv6(table), [IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]);
        assert!(local_addresses().contains(&IpAddr::from([127, 0, 0, 1])));
    }
}
