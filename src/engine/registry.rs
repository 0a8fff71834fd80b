//! The registry: which names an address answered to, when, for whom. Shared by verdict threads and log readers.

use std::collections::hash_map::RandomState;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;

use super::limits::{
    ADDRESSES_MAX, ASKERS_PER_ADDRESS_MAX, NAMES_PER_ADDRESS_MAX, NAMES_PER_EVENT_MAX,
};
use super::name::Name;
use super::record::{Kind, Record};
use super::verdict::Grade;

/// Address to names. Every method may be called from any thread.
#[derive(Debug, Default)]
pub struct Registry {
    entries: DashMap<Key, Box<Entry>, RandomState>,
    addresses: AtomicUsize,
    changes: AtomicU64,
    left_out: AtomicU64,
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
    /// CNAME targets between the name and the address.
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
    /// A new address that found the registry full.
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
        if let Some(mut entry) = self.entries.get_mut(&key) {
            return entry.merge(seen);
        }
        if self.addresses.load(Relaxed) >= ADDRESSES_MAX {
            self.left_out.fetch_add(1, Relaxed);
            return Inserted::LeftOut;
        }
        match self.entries.entry(key) {
            dashmap::Entry::Occupied(mut occupied) => occupied.get_mut().merge(seen),
            dashmap::Entry::Vacant(vacant) => {
                vacant.insert(Box::new(Entry { first: seen, more: None, askers: None }));
                self.addresses.fetch_add(1, Relaxed);
                Inserted::New
            }
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

    /// Addresses that found the registry full.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }

    /// Shows every address with its names to `visit`, in no order, a shard locked for reading at a time;
    /// stops at its first error.
    ///
    /// # Errors
    /// Whatever `visit` returns.
    pub fn visit<E>(
        &self,
        mut visit: impl FnMut(IpAddr, &[&Seen]) -> Result<(), E>,
    ) -> Result<(), E> {
        for entry in &self.entries {
            let names: Vec<&Seen> = entry.value().names().collect();
            visit(IpAddr::from(*entry.key()), &names)?;
        }
        Ok(())
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

    fn merge(&mut self, seen: Seen) -> Inserted {
        let known = std::iter::once(&mut self.first)
            .chain(self.more.iter_mut().flat_map(|more| more.iter_mut()))
            .find(|known| known.name == seen.name);
        if let Some(known) = known {
            let displaced = known.update(seen);
            self.remember_asker(displaced);
            return Inserted::Seen;
        }
        let previous = std::mem::replace(&mut self.first, seen);
        let more = self.more.get_or_insert_default();
        more.push(previous);
        if more.len() >= NAMES_PER_ADDRESS_MAX {
            let oldest =
                (0..more.len()).min_by_key(|&i| more.get(i).map_or(u32::MAX, |seen| seen.last));
            let evicted = oldest.map(|oldest| more.remove(oldest));
            self.remember_asker(evicted.and_then(|evicted| evicted.asker));
        }
        Inserted::New
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
    /// Merges a later sighting of the same name; returns the asker it displaced.
    fn update(&mut self, later: Seen) -> Option<IpAddr> {
        self.first = self.first.min(later.first);
        let newer = later.last >= self.last;
        self.last = self.last.max(later.last);
        if self.kind.is_static() || (newer && !later.kind.is_static()) {
            self.kind = later.kind;
        }
        if later.chain.is_some() {
            self.chain = later.chain;
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
        let mut seen = vec![];
        registry
            .visit::<()>(|address, names| {
                assert_eq!(names.len(), 1);
                seen.push(address);
                Ok(())
            })
            .unwrap();
        seen.sort();
        assert_eq!(seen, [ip("203.0.113.9"), ip("::1"), ip("2001:db8::9")]);
        assert_eq!(registry.len(), 3);
    }
}
