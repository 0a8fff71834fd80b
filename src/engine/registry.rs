//! The registry: which names an address answered to, when, for whom. Shared by verdict threads and log readers.

use std::collections::hash_map::RandomState;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;

use super::limits::{
    ASKER_BYTES_MAX, ASKERS_COUNTED_MAX, ASKERS_PER_ADDRESS_MAX, NAME_BYTES_MAX,
    NAMES_PER_ADDRESS_MAX, NAMES_PER_EVENT_MAX, REGISTRY_BYTES_MAX, REGISTRY_SHARDS,
};
use super::name::Name;
use super::record::{Kind, Record};
use super::verdict::Grade;

/// Bytes of an address with one name, but for the name's text, as measured at a million of them.
const ADDRESS_BYTES: u64 = 180;
/// Bytes of a link of a chain, but for its text.
const LINK_BYTES: usize = 40;

/// Address to names. Every method may be called from any thread.
#[derive(Debug)]
pub struct Registry {
    entries: DashMap<Key, Box<Entry>, RandomState>,
    addresses: AtomicUsize,
    changes: AtomicU64,
    left_out: AtomicU64,
    /// Estimated bytes, altogether and by who asked: one container cannot fill what all share.
    bytes: AtomicU64,
    bytes_by_asker: DashMap<Option<IpAddr>, u64>,
}

impl Default for Registry {
    fn default() -> Registry {
        let entries = DashMap::with_hasher_and_shard_amount(RandomState::new(), REGISTRY_SHARDS);
        let (addresses, changes, left_out, bytes, bytes_by_asker) = Default::default();
        Registry { entries, addresses, changes, left_out, bytes, bytes_by_asker }
    }
}

/// An address as 16 bytes (IPv4 mapped), which packs a map slot into 24 bytes instead of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key([u8; 16]);

/// What is known about one address. The first name is in place, since most addresses have just one.
#[derive(Debug)]
struct Entry {
    first: Seen,
    #[expect(
        clippy::box_collection,
        reason = "8 bytes instead of 24 in every entry that has one name"
    )]
    more: Option<Box<Vec<Seen>>>,
    #[expect(
        clippy::box_collection,
        reason = "8 bytes instead of 24 in every entry that has one asker"
    )]
    askers: Option<Box<Vec<IpAddr>>>,
}

/// One name of an address. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The name asked.
    pub name: Name,
    /// When it first resolved to the address.
    pub first: u32,
    /// When it last did.
    pub last: u32,
    /// Who asked last, where the log said so.
    pub asker: Option<IpAddr>,
    /// How we know; a reply outranks a hosts file.
    pub kind: Kind,
    /// CNAME targets between the name and the address, when it was first seen.
    // Boxed, since most names have no chain: 8 bytes instead of 24 in every one.
    pub chain: Option<Box<Vec<Name>>>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The address or the name was not known for it.
    New,
    /// Seen before; times and asker are brought up to date.
    Seen,
    /// New, but the registry is full, or the asker has used up its share of it.
    LeftOut,
}

/// What a verdict needs to know about an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// A few names, latest first.
    pub names: Vec<Name>,
    /// Names beyond those.
    pub more: usize,
}

impl Registry {
    /// Takes a record in.
    pub fn insert(&self, record: &Record) -> Inserted {
        let seen = Seen {
            name: record.name.clone(),
            first: record.time.seconds(),
            last: record.time.seconds(),
            asker: record.client,
            kind: record.kind,
            chain: (!record.chain.is_empty()).then(|| Box::new(record.chain.clone())),
        };
        self.merge(record.address, seen)
    }

    /// Takes in one name of one address, as [`Registry::insert`] does and as a saved registry holds it.
    pub fn merge(&self, address: IpAddr, seen: Seen) -> Inserted {
        self.changes.fetch_add(1, Relaxed);
        let key = Key::from(address);
        // Nearly every record is about an address that is known: that takes no entry, and no second look.
        let inserted = match self.entries.get_mut(&key) {
            Some(mut entry) => self.merge_into(&mut entry, seen),
            None => match self.entries.entry(key) {
                dashmap::Entry::Occupied(mut entry) => self.merge_into(entry.get_mut(), seen),
                dashmap::Entry::Vacant(_) if !self.charge(&seen) => Inserted::LeftOut,
                dashmap::Entry::Vacant(vacant) => {
                    vacant.insert(Box::new(Entry { first: seen, more: None, askers: None }));
                    self.addresses.fetch_add(1, Relaxed);
                    Inserted::New
                }
            },
        };
        if inserted == Inserted::LeftOut {
            self.left_out.fetch_add(1, Relaxed);
        }
        inserted
    }

    fn merge_into(&self, entry: &mut Entry, seen: Seen) -> Inserted {
        if let Some(known) = entry.find(&seen.name) {
            let displaced = known.update(&seen);
            entry.remember_asker(displaced);
            return Inserted::Seen;
        }
        if !self.charge(&seen) {
            // The address is evidence already; at least its asker is to be known.
            entry.remember_asker(seen.asker);
            return Inserted::LeftOut;
        }
        if let Some(evicted) = entry.add(seen) {
            self.refund(&evicted);
        }
        Inserted::New
    }

    /// Books the memory of a new name, unless there is no more of it for its asker or for anybody.
    fn charge(&self, seen: &Seen) -> bool {
        let cost = seen.cost();
        if self.bytes.load(Relaxed) + cost > REGISTRY_BYTES_MAX {
            return false;
        }
        let mut used = self.bytes_by_asker.entry(self.account(seen.asker)).or_default();
        if *used + cost > ASKER_BYTES_MAX {
            return false;
        }
        *used += cost;
        self.bytes.fetch_add(cost, Relaxed);
        true
    }

    fn refund(&self, seen: &Seen) {
        let cost = seen.cost();
        self.bytes.fetch_sub(cost, Relaxed);
        if let Some(mut used) = self.bytes_by_asker.get_mut(&self.account(seen.asker)) {
            *used = used.saturating_sub(cost);
        }
    }

    /// Askers beyond those that are counted share one account with those nobody knows.
    fn account(&self, asker: Option<IpAddr>) -> Option<IpAddr> {
        let room = self.bytes_by_asker.len() < ASKERS_COUNTED_MAX;
        asker.filter(|_| room || self.bytes_by_asker.contains_key(&asker))
    }

    /// True once there is no room for another address, whoever asks.
    pub fn is_full(&self) -> bool {
        self.bytes.load(Relaxed) + ADDRESS_BYTES + NAME_BYTES_MAX as u64 > REGISTRY_BYTES_MAX
    }

    /// Who asked for an address, beyond the last asker of each of its names.
    pub fn askers(&self, address: IpAddr) -> Vec<IpAddr> {
        let entry = self.entries.get(&Key::from(address));
        entry
            .and_then(|entry| entry.askers.as_ref().map(|askers| askers.to_vec()))
            .unwrap_or_default()
    }

    /// Remembers who asked for an address, as a saved registry holds it.
    pub fn remember_askers(&self, address: IpAddr, askers: &[IpAddr]) {
        if let Some(mut entry) = self.entries.get_mut(&Key::from(address)) {
            askers.iter().for_each(|asker| entry.remember_asker(Some(*asker)));
        }
    }

    /// The grade of the evidence that `client` may open a flow to `address`.
    pub fn grade(&self, client: IpAddr, address: IpAddr) -> Grade {
        self.entries.get(&Key::from(address)).map_or(Grade::Never, |entry| entry.grade(client))
    }

    /// Grade and names in one look-up.
    pub fn look_up(&self, client: IpAddr, address: IpAddr) -> (Grade, Known) {
        match self.entries.get(&Key::from(address)) {
            Some(entry) => (entry.grade(client), entry.known()),
            None => (Grade::Never, Known::default()),
        }
    }

    /// Every name of an address, latest first.
    pub fn names(&self, address: IpAddr) -> Vec<Seen> {
        let entry = self.entries.get(&Key::from(address));
        entry.map_or_else(Vec::new, |entry| entry.names().cloned().collect())
    }

    /// Addresses known.
    pub fn len(&self) -> usize {
        self.addresses.load(Relaxed)
    }

    /// True while nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that grows with every change, so that a saver knows whether there is something to save.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// Names and addresses there was no room for.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }

    /// Every address, in no order. Copied out, so that whoever goes through them keeps no record waiting.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::with_capacity(self.len());
        addresses.extend(self.entries.iter().map(|entry| IpAddr::from(*entry.key())));
        addresses
    }
}

impl Entry {
    fn names(&self) -> impl Iterator<Item = &Seen> {
        std::iter::once(&self.first).chain(self.more.iter().flat_map(|more| more.iter().rev()))
    }

    fn grade(&self, client: IpAddr) -> Grade {
        if self.names().all(|seen| seen.kind.is_static()) {
            return Grade::Static;
        }
        let asked = self.names().any(|seen| seen.asker == Some(client))
            || self.askers.iter().any(|askers| askers.contains(&client));
        if asked { Grade::Own } else { Grade::Other }
    }

    fn known(&self) -> Known {
        let names: Vec<Name> =
            self.names().take(NAMES_PER_EVENT_MAX).map(|seen| seen.name.clone()).collect();
        let total = 1 + self.more.as_ref().map_or(0, |more| more.len());
        Known { more: total - names.len(), names }
    }

    fn find(&mut self, name: &Name) -> Option<&mut Seen> {
        std::iter::once(&mut self.first)
            .chain(self.more.iter_mut().flat_map(|more| more.iter_mut()))
            .find(|known| known.name == *name)
    }

    /// Adds a name; gives back the one it pushes out.
    fn add(&mut self, seen: Seen) -> Option<Seen> {
        let previous = std::mem::replace(&mut self.first, seen);
        let more = self.more.get_or_insert_default();
        more.push(previous);
        if more.len() < NAMES_PER_ADDRESS_MAX {
            return None;
        }
        let oldest =
            (0..more.len()).min_by_key(|&i| more.get(i).map_or(u32::MAX, |seen| seen.last))?;
        let evicted = more.remove(oldest);
        self.remember_asker(evicted.asker);
        Some(evicted)
    }

    fn remember_asker(&mut self, asker: Option<IpAddr>) {
        let Some(asker) = asker else { return };
        let askers = self.askers.get_or_insert_default();
        if askers.contains(&asker) {
            return;
        }
        if askers.len() >= ASKERS_PER_ADDRESS_MAX {
            askers.remove(0);
        }
        askers.push(asker);
    }
}

impl Seen {
    /// Bytes it takes, roughly: its place in the map, itself, and the texts it does not share.
    fn cost(&self) -> u64 {
        let links = self.chain.iter().flat_map(|chain| chain.iter());
        let texts: usize = links.map(|link| link.as_str().len() + LINK_BYTES).sum();
        ADDRESS_BYTES + (self.name.as_str().len() + texts) as u64
    }

    /// Merges a later sighting of the same name; returns the asker it displaced.
    fn update(&mut self, later: &Seen) -> Option<IpAddr> {
        self.first = self.first.min(later.first);
        let newer = later.last >= self.last;
        self.last = self.last.max(later.last);
        if self.kind.is_static() || (newer && !later.kind.is_static()) {
            self.kind = later.kind;
        }
        let displaced = match (self.asker, later.asker) {
            (Some(old), Some(new)) if old != new => Some(old),
            _ => None,
        };
        self.asker = later.asker.or(self.asker);
        displaced
    }
}

impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Key {
        match address {
            IpAddr::V4(v4) => Key(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => Key(v6.octets()),
        }
    }
}

impl From<Key> for IpAddr {
    fn from(key: Key) -> IpAddr {
        Ipv6Addr::from(key.0).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::Wall;

    fn record(address: &str, name: &str, client: Option<&str>, kind: Kind, second: u64) -> Record {
        Record {
            address: address.parse().unwrap(),
            name: Name::new(name).unwrap(),
            client: client.map(|client| client.parse().unwrap()),
            kind,
            chain: vec![],
            time: Wall(second * 1_000_000),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn grades_tell_own_other_static_and_never_apart() {
        let registry = Registry::default();
        registry.insert(&record("203.0.113.9", "a.example", Some("172.17.0.2"), Kind::Reply, 1));
        registry.insert(&record("203.0.113.10", "h.example", Some("172.17.0.2"), Kind::Hosts, 1));
        assert_eq!(registry.grade(ip("172.17.0.2"), ip("203.0.113.9")), Grade::Own);
        assert_eq!(registry.grade(ip("172.17.0.3"), ip("203.0.113.9")), Grade::Other);
        assert_eq!(registry.grade(ip("172.17.0.2"), ip("203.0.113.10")), Grade::Static);
        assert_eq!(registry.grade(ip("172.17.0.2"), ip("203.0.113.11")), Grade::Never);
    }

    #[test]
    fn a_later_asker_does_not_take_the_grade_away_from_an_earlier_one() {
        let registry = Registry::default();
        for client in ["172.17.0.2", "172.17.0.3", "172.17.0.4"] {
            registry.insert(&record("2001:db8::9", "a.example", Some(client), Kind::Reply, 1));
        }
        for client in ["172.17.0.2", "172.17.0.3", "172.17.0.4"] {
            assert_eq!(registry.grade(ip(client), ip("2001:db8::9")), Grade::Own, "{client}");
        }
    }

    #[test]
    fn names_and_askers_of_one_address_are_bounded_and_the_latest_stay() {
        let registry = Registry::default();
        for i in 0..1_000u64 {
            let client = format!("172.17.{}.{}", i / 250, i % 250 + 1);
            registry.insert(&record(
                "203.0.113.9",
                &format!("n{i}.example"),
                Some(&client),
                Kind::Reply,
                i,
            ));
        }
        let names = registry.names(ip("203.0.113.9"));
        assert_eq!(names.len(), NAMES_PER_ADDRESS_MAX);
        assert_eq!(names[0].name.as_str(), "n999.example");
        assert!(names.iter().all(|seen| seen.last >= 984));
        let (grade, known) = registry.look_up(ip("172.17.3.250"), ip("203.0.113.9"));
        assert_eq!(
            (grade, known.names.len(), known.more),
            (Grade::Own, 4, NAMES_PER_ADDRESS_MAX - 4)
        );
        let askers = registry.entries.get(&Key::from(ip("203.0.113.9"))).unwrap();
        assert!(askers.askers.as_ref().unwrap().len() <= ASKERS_PER_ADDRESS_MAX);
    }

    #[test]
    fn a_name_seen_again_keeps_its_first_time_and_a_reply_outranks_a_hosts_file() {
        let registry = Registry::default();
        registry.insert(&record("203.0.113.9", "a.example", None, Kind::Hosts, 5));
        registry.insert(&record("203.0.113.9", "a.example", Some("172.17.0.2"), Kind::Cached, 9));
        registry.insert(&record("203.0.113.9", "a.example", None, Kind::Hosts, 11));
        let names = registry.names(ip("203.0.113.9"));
        assert_eq!(
            (names.len(), names[0].first, names[0].last, names[0].kind),
            (1, 5, 11, Kind::Cached)
        );
        assert_eq!(names[0].asker, Some(ip("172.17.0.2")));
    }

    #[test]
    fn v4_and_v6_addresses_come_back_as_they_went_in() {
        let registry = Registry::default();
        for address in ["203.0.113.9", "2001:db8::9", "::1"] {
            registry.insert(&record(address, "a.example", None, Kind::Reply, 1));
        }
        let mut seen = registry.addresses();
        seen.sort();
        assert_eq!(seen, [ip("203.0.113.9"), ip("::1"), ip("2001:db8::9")]);
        assert_eq!(registry.len(), 3);
    }

    fn random(n: u32, client: &str) -> Record {
        let address = std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n));
        record(&address.to_string(), &format!("n{n}.evil.example"), Some(client), Kind::Reply, 1)
    }

    #[test]
    fn one_asker_can_use_up_its_share_and_nobody_elses() {
        let registry = Registry::default();
        registry.bytes_by_asker.insert(Some(ip("172.17.0.66")), ASKER_BYTES_MAX - 500);
        let inserted: Vec<Inserted> =
            (0..3).map(|n| registry.insert(&random(n, "172.17.0.66"))).collect();
        assert_eq!(inserted, [Inserted::New, Inserted::New, Inserted::LeftOut]);
        assert_eq!(registry.insert(&random(9, "172.17.0.2")), Inserted::New);
        assert!(!registry.is_full());
        assert_eq!(registry.left_out(), 1);
    }

    #[test]
    fn a_full_registry_says_so_and_still_updates_what_it_has() {
        let registry = Registry::default();
        registry.insert(&random(1, "172.17.0.2"));
        registry.bytes.store(REGISTRY_BYTES_MAX, Relaxed);
        assert!(registry.is_full());
        assert_eq!(registry.insert(&random(2, "172.17.0.2")), Inserted::LeftOut);
        assert_eq!(registry.insert(&random(1, "172.17.0.3")), Inserted::Seen);
        assert_eq!(registry.grade(ip("172.17.0.3"), ip("2001:db8::1")), Grade::Own);
    }

    #[test]
    fn names_pushed_out_give_their_memory_back() {
        let registry = Registry::default();
        for n in 0..1_000 {
            registry.insert(&record("203.0.113.9", &format!("n{n}.example"), None, Kind::Reply, n));
        }
        let names = NAMES_PER_ADDRESS_MAX as u64;
        assert!(registry.bytes.load(Relaxed) <= names * (ADDRESS_BYTES + 20));
    }
}
