//! What the registry keeps about one address.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use super::Known;
use crate::engine::limits::{ASKERS_PER_ADDRESS_MAX, NAMES_PER_ADDRESS_MAX, NAMES_PER_EVENT_MAX};
use crate::engine::name::Name;
use crate::engine::record::Kind;
use crate::engine::verdict::Grade;

/// Bytes of an address with one name, but for the name's text, as measured at a million of them.
pub(super) const ADDRESS_BYTES: u64 = 180;
/// Bytes of a link of a chain, but for its text.
const LINK_BYTES: usize = 40;

/// An address as 16 bytes (IPv4 mapped), which packs a map slot into 24 bytes instead of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 16]);

/// What is known about one address. The name seen last is in place, since most addresses have just one; the others
/// follow from the oldest on, so that what is read late, of another day, does not push ahead of what is known since.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) first: Seen,
    #[expect(
        clippy::box_collection,
        reason = "8 bytes instead of 24 in every entry that has one name"
    )]
    pub(super) more: Option<Box<Vec<Seen>>>,
    #[expect(
        clippy::box_collection,
        reason = "8 bytes instead of 24 in every entry that has one asker"
    )]
    pub(super) askers: Option<Box<Vec<IpAddr>>>,
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

impl Entry {
    pub(super) fn names(&self) -> impl Iterator<Item = &Seen> {
        std::iter::once(&self.first).chain(self.more.iter().flat_map(|more| more.iter().rev()))
    }

    pub(super) fn grade(&self, clients: &[IpAddr]) -> Grade {
        if self.names().all(|seen| seen.kind.is_static()) {
            return Grade::Static;
        }
        let asked = self
            .names()
            .filter_map(|seen| seen.asker.as_ref())
            .chain(self.askers.iter().flat_map(|askers| askers.iter()))
            .any(|asker| clients.contains(asker));
        if asked { Grade::Own } else { Grade::Other }
    }

    pub(super) fn known(&self) -> Known {
        let names: Vec<Name> =
            self.names().take(NAMES_PER_EVENT_MAX).map(|seen| seen.name.clone()).collect();
        let total = 1 + self.more.as_ref().map_or(0, |more| more.len());
        Known { more: total - names.len(), names, marks: Vec::new() }
    }

    /// Bytes it takes, roughly.
    pub(super) fn cost(&self) -> u64 {
        let askers = self.askers.as_ref().map_or(0, |askers| askers.len() * size_of::<IpAddr>());
        self.names().map(Seen::cost).sum::<u64>() + askers as u64
    }

    /// When any of its names was seen last.
    pub(super) fn last(&self) -> u32 {
        self.first.last
    }

    /// Merges another sighting of a name that is known; some, with the asker who has no place by its name, if it is.
    pub(super) fn update(&mut self, seen: &Seen) -> Option<Option<IpAddr>> {
        if self.first.name == seen.name {
            return Some(self.first.update(seen));
        }
        let more = self.more.as_mut()?;
        let place = more.iter().position(|known| known.name == seen.name)?;
        let known = more.get_mut(place)?;
        let newer = seen.last >= known.last;
        let asker = known.update(seen);
        if newer {
            self.move_up(place);
        }
        Some(asker)
    }

    /// Puts a name that was seen again where its time says.
    fn move_up(&mut self, place: usize) {
        let Some(more) = self.more.as_mut() else { return };
        let Some(last) = more.get(place).map(|seen| seen.last) else { return };
        let end = more.partition_point(|other| other.last <= last);
        if let Some(passed) = more.get_mut(place..end) {
            passed.rotate_left(1);
        }
        match more.last_mut() {
            Some(latest) if end > place && latest.last == last && last >= self.first.last => {
                std::mem::swap(latest, &mut self.first);
            }
            _ => {}
        }
    }

    /// Adds a name; the one seen least lately makes room if need be, and that may be this one.
    pub(super) fn add(&mut self, seen: Seen) {
        let more = self.more.get_or_insert_default();
        if seen.last >= self.first.last {
            more.push(std::mem::replace(&mut self.first, seen));
        } else {
            more.insert(more.partition_point(|other| other.last <= seen.last), seen);
        }
        if more.len() < NAMES_PER_ADDRESS_MAX {
            return;
        }
        let evicted = more.remove(0);
        self.remember_asker(evicted.asker);
    }

    pub(super) fn has_asker(&self, clients: &BTreeSet<IpAddr>) -> bool {
        let mut named = self.names().filter_map(|seen| seen.asker);
        named.any(|asker| clients.contains(&asker))
            || self.askers.iter().flat_map(|askers| askers.iter()).any(|a| clients.contains(a))
    }

    pub(super) fn forget_askers(&mut self, clients: &BTreeSet<IpAddr>) {
        let more = self.more.iter_mut().flat_map(|more| more.iter_mut());
        for seen in std::iter::once(&mut self.first).chain(more) {
            seen.asker.take_if(|asker| clients.contains(asker));
        }
        if let Some(askers) = &mut self.askers {
            askers.retain(|asker| !clients.contains(asker));
        }
    }

    pub(super) fn remember_asker(&mut self, asker: Option<IpAddr>) {
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

    /// Merges another sighting of the same name, which history may bring after later ones; returns the asker who is
    /// not, or no longer, its last.
    fn update(&mut self, other: &Seen) -> Option<IpAddr> {
        self.first = self.first.min(other.first);
        let newer = other.last >= self.last;
        self.last = self.last.max(other.last);
        if self.kind.is_static() || (newer && !other.kind.is_static()) {
            self.kind = other.kind;
        }
        match (self.asker, other.asker) {
            (Some(old), Some(new)) if old != new && newer => {
                self.asker = Some(new);
                Some(old)
            }
            (Some(old), Some(new)) => (old != new).then_some(new),
            (old, new) => {
                self.asker = old.or(new);
                None
            }
        }
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
