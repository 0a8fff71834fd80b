//! The registry: which names an address answered to, when, for whom. Shared by verdict threads and log readers.
//!
//! Addresses, names and clients are each in a table of many parts with a lock of their own; no lock is for all. Whoever
//! has the lock of a part of the addresses may take one of the names, the clients or the alarms, one at a time; nobody
//! takes a lock of the addresses under another lock. A look-up takes one, and shares it with all others.

mod alarms;
mod askers;
mod entry;
mod grade;
mod names;
mod news;
mod restore;
mod room;
mod saved;
mod share;
mod table;
mod take;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::inquiry::Inquiry;
use super::lists::DomainSet;
use super::mark::Mark;
use super::name::Name;
use super::rebind::Inside;
use super::record::Record;
use super::verdict::Grade;
use alarms::Alarms;
use askers::Clients;
use entry::Entry;
use names::Names;
use news::{How, News};
use room::Room;
use table::Table;

pub use alarms::Alert;
pub use askers::UNOWNED;
pub use entry::Seen;
pub use grade::{Naming, Sorts};
pub use names::NameFacts;
pub use room::{Limits, Vacated};
pub use saved::{Asker, Saved};
pub use table::Dirty;

/// Address to names. Every method may be called from any thread.
#[derive(Debug)]
pub struct Registry {
    table: Table,
    names: Names,
    clients: Clients,
    alarms: Alarms,
    room: Room,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new(Limits::default())
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The address or the name was not known for it.
    New,
    /// Seen before; times and asker are brought up to date.
    Seen,
    /// New, but there is no room, or its asker has its share and used all of it, until [`Registry::make_room`] has been
    /// called.
    LeftOut,
    /// No evidence: a public name answered with such an address.
    Rejected(Inside),
}

/// What a verdict needs to know about an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// A few names, the one seen last first.
    pub names: Vec<Name>,
    /// Names beyond those.
    pub more: usize,
    /// What is suspicious about them.
    pub marks: Vec<Mark>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Addresses.
    pub addresses: usize,
    /// Different names, those of CNAME chains included.
    pub names: usize,
    /// Clients of whom something is known.
    pub askers: usize,
    /// Bytes, by our own estimate.
    pub bytes: u64,
    /// What there may be.
    pub limits: Limits,
}

/// The part of a table that a hash belongs to; the table itself uses other bits of it.
#[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
fn part<T>(parts: &[T], hash: u64) -> &T {
    &parts[usize::try_from(hash >> 32).unwrap_or(0) % parts.len()]
}

impl Registry {
    /// An empty registry.
    pub fn new(limits: Limits) -> Registry {
        let (table, names, clients, alarms) = Default::default();
        Registry { table, names, clients, alarms, room: Room::new(limits) }
    }

    /// Says how much may be kept; what is too much goes with the next [`Registry::make_room`].
    pub fn set_limits(&self, limits: Limits) {
        self.room.set(limits);
    }

    /// Takes a record of this moment in: it counts for marks and alarms.
    pub fn insert(&self, record: &Record) -> Inserted {
        self.insert_for(record, None)
    }

    /// The same on the account of `payer`, an address of the asker's container or [`UNOWNED`]. Whoever has none pays for
    /// itself.
    pub fn insert_for(&self, record: &Record, payer: Option<IpAddr>) -> Inserted {
        self.take(record.address, &News::of(record, How::Live).paid_by(payer))
    }

    /// Takes a record of the past in.
    pub fn recall(&self, record: &Record) -> Inserted {
        self.recall_for(record, None)
    }

    /// The same on the account of `payer`, as with [`Registry::insert_for`].
    pub fn recall_for(&self, record: &Record, payer: Option<IpAddr>) -> Inserted {
        self.take(record.address, &News::of(record, How::History).paid_by(payer))
    }

    /// Takes in one name of one address, as it was saved.
    pub fn merge(&self, address: IpAddr, seen: &Seen) -> Inserted {
        self.take(address, &News::restored(seen))
    }

    /// True while there is no room for another address.
    pub fn is_full(&self) -> bool {
        self.room.is_full()
    }

    /// True if [`Registry::make_room`] is to be called soon: little room is left, or an asker has more than its share.
    pub fn wants_room(&self) -> bool {
        self.room.is_wanted() || self.clients.is_full()
    }

    /// Everyone who asked for an address.
    pub fn askers(&self, address: IpAddr) -> Vec<IpAddr> {
        let saved = self.saved(address).unwrap_or_default();
        let askers: BTreeSet<IpAddr> = saved.askers.iter().map(|asker| asker.address).collect();
        askers.into_iter().collect()
    }

    /// Whether a client asked for anything that is still known.
    pub fn has_asked(&self, client: IpAddr) -> bool {
        self.clients.knows(client)
    }

    /// Forgets what these clients asked for; that somebody asked is still known. Goes through all addresses, so it is for
    /// a thread nobody waits for.
    pub fn forget_askers(&self, clients: &BTreeSet<IpAddr>) {
        for address in self.table.keys(|entry| entry.has_asker(clients)) {
            let mut place = self.table.lock(address);
            let Some(entry) = place.entry() else { continue };
            self.changing(entry, |entry| entry.forget_askers(clients));
            place.changed();
        }
    }

    /// The grade of the evidence for a flow to `address`.
    pub fn grade(&self, inquiry: &Inquiry<'_>, address: IpAddr) -> Grade {
        self.grade_beside(inquiry, &DomainSet::default(), address)
    }

    /// The same where answers to names under `blocked` domains are no evidence.
    pub fn grade_beside(&self, inquiry: &Inquiry<'_>, blocked: &DomainSet, at: IpAddr) -> Grade {
        self.table.with(at, |entry| entry.grade(inquiry, blocked)).unwrap_or(Grade::Never)
    }

    /// All sorts of evidence for a flow to an address, beside names under `blocked` domains.
    pub fn sorts(&self, inquiry: &Inquiry<'_>, blocked: &DomainSet, address: IpAddr) -> Sorts {
        self.table.with(address, |entry| entry.sorts(inquiry, blocked)).unwrap_or_default()
    }

    /// Grade and names in one look-up.
    pub fn look_up(&self, inquiry: &Inquiry<'_>, address: IpAddr) -> (Grade, Known) {
        self.look_up_beside(inquiry, &DomainSet::default(), address)
    }

    /// The same where answers to names under `blocked` domains are no evidence; they are told all the same.
    pub fn look_up_beside(
        &self,
        inquiry: &Inquiry<'_>,
        blocked: &DomainSet,
        address: IpAddr,
    ) -> (Grade, Known) {
        let look = |entry: &Entry| (entry.grade(inquiry, blocked), entry.known(inquiry));
        self.table.with(address, look).unwrap_or((Grade::Never, Known::default()))
    }

    /// Notes that a flow of the asking container to `address` was let through: it is not thrown out for a while. With
    /// `refresh` the evidence is as fresh as if it had been resolved again. Writes, and locks readers out, once an hour
    /// and address at most as a rule; more often only to refresh what is stale sooner.
    pub fn used(&self, inquiry: &Inquiry<'_>, address: IpAddr, refresh: bool) {
        let is_news = |entry: &Entry| entry.is_used_news(inquiry, refresh);
        if !self.table.with(address, is_news).unwrap_or(false) {
            return;
        }
        let mut place = self.table.lock(address);
        let Some(entry) = place.entry() else { return };
        entry.note_use(inquiry, refresh);
        place.changed();
    }

    /// Takes what changed since this was called last.
    pub fn take_dirty(&self) -> Dirty {
        self.table.take_dirty()
    }

    /// Takes what is to be told about the records since this was called last; each thing at most once an hour.
    pub fn take_alarms(&self) -> Vec<Alert> {
        self.alarms.take()
    }

    /// Forgets an address with all its names; true if it was known.
    pub fn forget(&self, address: IpAddr) -> bool {
        self.throw_out(address, u32::MAX)
    }

    /// Hands the names of an address to `ask`, in no order, without copying them. The address stays locked meanwhile.
    pub fn with_names<R>(
        &self,
        address: IpAddr,
        ask: impl FnOnce(&mut dyn Iterator<Item = Naming<'_>>) -> R,
    ) -> Option<R> {
        self.table.with(address, |entry| ask(&mut entry.namings()))
    }

    /// Every name of an address, latest first.
    pub fn names(&self, address: IpAddr) -> Vec<Seen> {
        self.saved(address).unwrap_or_default().names
    }

    /// What is known of a name across all its addresses.
    pub fn find(&self, name: &Name) -> Option<NameFacts> {
        self.names.facts(name)
    }

    /// Addresses known.
    pub fn len(&self) -> usize {
        self.room.addresses.load(Relaxed)
    }

    /// True while nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much there is.
    pub fn stats(&self) -> Stats {
        Stats {
            addresses: self.len(),
            names: self.names.len(),
            askers: self.clients.len(),
            bytes: self.room.bytes.load(Relaxed),
            limits: self.room.limits(),
        }
    }

    /// Every address of a name, in no order; none for a name that only CNAME chains have. Goes through the parts one by one,
    /// and no further than to the last of them.
    pub fn addresses_of(&self, name: &Name) -> Vec<IpAddr> {
        let Some(shared) = self.names.find(name) else { return Vec::new() };
        let has = |entry: &Entry| entry.rows().any(|(_, row)| Arc::ptr_eq(&row.name, &shared));
        let found = self.table.keys_up_to(|| shared.addresses(), has);
        self.names.release(shared);
        found
    }

    /// Every address, in no order. Copied out, so that whoever goes through them keeps no record waiting.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.table.keys(|_| true)
    }
}

#[cfg(test)]
#[path = "registry_test.rs"]
mod tests;

#[cfg(test)]
#[path = "registry/account_test.rs"]
mod account_tests;

#[cfg(test)]
#[path = "registry/age_test.rs"]
mod age_tests;

#[cfg(test)]
#[path = "registry/marks_test.rs"]
mod marks_tests;

#[cfg(test)]
#[path = "registry/room_test.rs"]
mod room_tests;

#[cfg(test)]
#[path = "registry/saved_test.rs"]
mod saved_tests;
