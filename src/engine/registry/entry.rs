//! What the registry keeps about one address: its names, who asked for each, and when.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::askers::Client;
use super::names::Shared;
use super::news::{How, News};
use crate::engine::limits::{NAMES_PER_ADDRESS_MAX, SEEN_STEP};
use crate::engine::name::Name;
use crate::engine::record::Kind;

/// An address as 16 bytes (IPv4 mapped): a byte less than two families apart, and no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key([u8; 16]);

/// What is known about one address. Most have one name that one client asked for, and that is in place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) first: Row,
    /// Names beyond that, in no order.
    pub(super) more: Box<[Row]>,
    #[expect(clippy::box_collection, reason = "8 bytes instead of 24 in nearly every entry")]
    pub(super) others: Option<Box<Vec<Sighting>>>,
    /// When a flow was let through, roughly; 0 is never.
    pub(super) used: u32,
    /// Told as changed, and not fetched since.
    pub(super) dirty: bool,
}

/// One name of the address. Times are seconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: Arc<Shared>,
    #[expect(clippy::box_collection, reason = "8 bytes instead of 24, and most have none")]
    pub(super) chain: Option<Box<Vec<Arc<Shared>>>>,
    /// Who asked first, as far as it is remembered: the name is on its account.
    pub(super) asker: Option<Arc<Client>>,
    /// When that one asked last.
    pub(super) asked: u32,
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) kind: Kind,
}

/// A client that asked for a name too.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) asker: Arc<Client>,
    pub(super) last: u32,
    /// Which name, or [`GONE`].
    pub(super) row: u8,
}

/// The place of a name that is no longer kept.
pub(super) const GONE: u8 = u8::MAX;
const _: () = assert!(NAMES_PER_ADDRESS_MAX < GONE as usize);

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
    /// CNAME targets between the name and the address, when it was seen last.
    pub chain: Option<Box<Vec<Name>>>,
}

/// Whether a time has come to another step, so that it is worth writing down.
pub(super) fn steps(before: u32, after: u32, step: u32) -> bool {
    after / step > before / step
}

impl Entry {
    pub(super) fn new(key: Key, first: Row) -> Entry {
        Entry { key, first, more: Box::default(), others: None, used: 0, dirty: false }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (u8, &Row)> {
        (0..GONE).zip(std::iter::once(&self.first).chain(&self.more))
    }

    /// The rows, the one seen last first.
    pub(super) fn latest(&self) -> Vec<(u8, &Row)> {
        let mut rows: Vec<(u8, &Row)> = self.rows().collect();
        rows.sort_by_key(|(slot, row)| std::cmp::Reverse((row.last, *slot)));
        rows
    }

    pub(super) fn row_mut(&mut self, slot: u8) -> Option<&mut Row> {
        match usize::from(slot).checked_sub(1) {
            None => Some(&mut self.first),
            Some(place) => self.more.get_mut(place),
        }
    }

    pub(super) fn slot_of(&self, name: &Name) -> Option<u8> {
        let same = |row: &Row| row.name.name.as_str() == name.as_str();
        self.rows().find(|(_, row)| same(row)).map(|(slot, _)| slot)
    }

    pub(super) fn others(&self) -> &[Sighting] {
        self.others.as_ref().map_or(&[], |others| others.as_slice())
    }

    /// When any of its names was seen last.
    pub(super) fn last(&self) -> u32 {
        self.rows().map(|(_, row)| row.last).max().unwrap_or(0)
    }

    /// When it was seen or used last.
    pub(super) fn live(&self) -> u32 {
        self.last().max(self.used)
    }

    /// Takes in another sighting of a name that is known; true if that is worth writing down.
    pub(super) fn see(&mut self, slot: u8, news: &News<'_>) -> bool {
        self.row_mut(slot).is_some_and(|row| row.see(news))
    }

    /// Notes that a client asked for a name, if it is known to have asked before: whether that is worth writing down.
    pub(super) fn asked_again(&mut self, slot: u8, client: IpAddr, at: u32) -> Option<bool> {
        let again = |last: &mut u32| {
            let before = *last;
            *last = before.max(at);
            Some(steps(before, *last, SEEN_STEP))
        };
        let row = self.row_mut(slot)?;
        if row.asker.as_ref().is_some_and(|asker| asker.address == client) {
            return again(&mut row.asked);
        }
        let same = |other: &&mut Sighting| other.row == slot && other.asker.address == client;
        let known = self.others.as_mut()?.iter_mut().find(same)?;
        again(&mut known.last)
    }

    /// Notes a client that had not asked for a name before.
    pub(super) fn asked_first(&mut self, slot: u8, client: Arc<Client>, at: u32) {
        match self.row_mut(slot) {
            Some(row) if row.asker.is_none() => (row.asker, row.asked) = (Some(client), at),
            Some(_) => self.add_other(Sighting { asker: client, last: at, row: slot }),
            None => self.asked_gone(client, at),
        }
    }

    /// Notes a client that asked for a name that is not kept.
    pub(super) fn asked_gone(&mut self, client: Arc<Client>, at: u32) {
        let others = self.others.iter_mut().flat_map(|others| others.iter_mut());
        let mut gone = others.filter(|other| other.row == GONE);
        match gone.find(|other| Arc::ptr_eq(&other.asker, &client)) {
            Some(known) => known.last = known.last.max(at),
            None => self.add_other(Sighting { asker: client, last: at, row: GONE }),
        }
    }

    /// Whether another name takes the place of one of these.
    pub(super) fn is_crowded(&self) -> bool {
        self.more.len() + 1 >= NAMES_PER_ADDRESS_MAX
    }

    /// Adds a name. If there are too many, one makes room; it is returned, and may be the new one.
    pub(super) fn add(&mut self, row: Row) -> Option<Row> {
        if !self.is_crowded() {
            let mut more = std::mem::take(&mut self.more).into_vec();
            more.reserve_exact(1);
            more.push(row);
            self.more = more.into_boxed_slice();
            return None;
        }
        let displaced = match self.displaced_by(&row) {
            None => row,
            Some(slot) => {
                self.orphan(slot);
                match self.row_mut(slot) {
                    Some(old) => std::mem::replace(old, row),
                    None => row,
                }
            }
        };
        if let Some(asker) = displaced.asker.as_ref().filter(|_| !displaced.kind.is_static()) {
            self.asked_gone(Arc::clone(asker), displaced.asked);
        }
        Some(displaced)
    }
}

impl Row {
    /// Merges another sighting of the same name, which history may bring after later ones.
    fn see(&mut self, news: &News<'_>) -> bool {
        let before = (self.first, self.last, self.kind);
        self.first = self.first.min(news.first);
        let newer = news.last >= self.last;
        self.last = self.last.max(news.last);
        if self.kind.is_static() || (newer && !news.kind.is_static()) {
            self.kind = news.kind;
        }
        self.name.seen_first(self.first);
        before.0 != self.first
            || before.2.is_static() != self.kind.is_static()
            || steps(before.1, self.last, SEEN_STEP)
    }

    /// Whether a later answer came by other links. What was saved in the same second may be older.
    pub(super) fn leads_elsewhere(&self, news: &News<'_>) -> bool {
        let is_later = match news.how {
            How::Restored => news.last > self.last,
            How::Live | How::History => news.last >= self.last,
        };
        is_later && !news.kind.is_static() && !self.chain().eq(news.chain)
    }

    pub(super) fn chain(&self) -> impl Iterator<Item = &Name> {
        self.chain.iter().flat_map(|chain| chain.iter()).map(|link| &link.name)
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
