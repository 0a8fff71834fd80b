//! How good what is known about an address is for whoever asks, and what is suspicious about it.

use std::net::IpAddr;

use super::Known;
use super::entry::{Entry, GONE, Row, steps};
use crate::engine::abuse::NEW_NAME;
use crate::engine::inquiry::Inquiry;
use crate::engine::limits::{NAMES_PER_EVENT_MAX, USED_STEP};
use crate::engine::lists::DomainSet;
use crate::engine::mark::Mark;
use crate::engine::name::Name;
use crate::engine::verdict::Grade;

/// One name of an address, lent out while the address is locked.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'a> {
    entry: &'a Entry,
    row: &'a Row,
    slot: u8,
}

/// What sorts of evidence there are, for whoever finds that the best of them is not enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sorts {
    /// Somebody asked, at any time.
    pub any: bool,
    /// Somebody asked not too long ago.
    pub fresh: bool,
    /// Whoever inquires asked, at any time.
    pub own: bool,
    /// A hosts file or a configuration says so.
    pub fixed: bool,
}

impl<'a> Naming<'a> {
    /// The name asked.
    pub fn name(&self) -> &'a Name {
        &self.row.name.name
    }

    /// CNAME targets between the name and the address.
    pub fn chain(&self) -> impl Iterator<Item = &'a Name> + use<'a> {
        self.row.chain()
    }

    /// Whether one of these asked for it, whenever that was.
    pub fn asked_by(&self, clients: &[IpAddr]) -> bool {
        self.entry.asked(self.slot, self.row, |asker, _| clients.contains(&asker))
    }

    fn is_under(&self, domains: &DomainSet) -> bool {
        let found = |name: &Name| domains.find(name).is_some();
        !domains.is_empty() && (found(self.name()) || self.chain().any(found))
    }
}

impl Entry {
    pub(super) fn namings(&self) -> impl Iterator<Item = Naming<'_>> {
        self.rows().map(|(slot, row)| Naming { entry: self, row, slot })
    }

    fn asked(&self, slot: u8, row: &Row, by: impl Fn(IpAddr, u32) -> bool) -> bool {
        let others = || self.others().iter().filter(|other| other.row == slot);
        row.asker.as_ref().is_some_and(|asker| by(asker.address, row.asked))
            || others().any(|other| by(other.asker.address, other.last))
    }

    /// Answers to names under `blocked` domains count for nothing. What a hosts file or a configuration says stands for as
    /// long as it is said, has no time to live and is never stale.
    pub(super) fn grade(&self, inquiry: &Inquiry<'_>, blocked: &DomainSet) -> Grade {
        let is_own =
            |asker: IpAddr, last: u32| inquiry.is_fresh(last) && inquiry.clients.contains(&asker);
        let (mut best, mut any) = (Grade::Never, false);
        for naming in self.namings().filter(|naming| !naming.is_under(blocked)) {
            let Naming { row, slot, .. } = naming;
            any = true;
            best = best.min(match row.kind.is_static() {
                true => Grade::Static,
                false if self.asked(slot, row, is_own) => return Grade::Own,
                false if inquiry.is_fresh(row.last) => Grade::Other,
                false => Grade::Stale,
            });
        }
        // Names that were pushed out say who asked all the same.
        for gone in self.others().iter().filter(|other| any && other.row == GONE) {
            best = best.min(match inquiry.is_fresh(gone.last) {
                true if inquiry.clients.contains(&gone.asker.address) => return Grade::Own,
                true => Grade::Other,
                false => Grade::Stale,
            });
        }
        best
    }

    /// The same evidence sort by sort.
    pub(super) fn sorts(&self, inquiry: &Inquiry<'_>, blocked: &DomainSet) -> Sorts {
        let mut sorts = Sorts::default();
        for naming in self.namings().filter(|naming| !naming.is_under(blocked)) {
            if naming.row.kind.is_static() {
                sorts.fixed = true;
            } else {
                sorts.any = true;
                sorts.fresh |= inquiry.is_fresh(naming.row.last);
                sorts.own |= naming.asked_by(inquiry.clients);
            }
        }
        let counts = sorts.any || sorts.fixed;
        for gone in self.others().iter().filter(|other| counts && other.row == GONE) {
            sorts.any = true;
            sorts.fresh |= inquiry.is_fresh(gone.last);
            sorts.own |= inquiry.clients.contains(&gone.asker.address);
        }
        sorts
    }

    pub(super) fn known(&self, inquiry: &Inquiry<'_>) -> Known {
        let total = 1 + self.more.len();
        let name = |row: &Row| row.name.name.clone();
        let names = match total {
            1 => vec![name(&self.first)],
            _ => self.latest().iter().take(NAMES_PER_EVENT_MAX).map(|(_, row)| name(row)).collect(),
        };
        Known { more: total - names.len(), names, marks: self.marks(inquiry.at.seconds()) }
    }

    fn marks(&self, at: u32) -> Vec<Mark> {
        let names = || self.rows().map(|(_, row)| &row.name);
        let is_new = |first: u32| at.saturating_sub(first) < NEW_NAME;
        let holds = |mark: &Mark| match mark {
            Mark::NewName => names().all(|name| is_new(name.facts().first)),
            Mark::ManyAddresses => names().any(|name| name.is_wide(at)),
            Mark::NameFlood => names().any(|name| name.is_flood()),
        };
        Mark::ALL.into_iter().filter(holds).collect()
    }

    /// Whether a use at that moment has to be noted: this is asked for every accepted flow, and hardly ever so.
    pub(super) fn is_used_news(&self, inquiry: &Inquiry<'_>, refresh: bool) -> bool {
        let at = inquiry.at.seconds();
        let ages =
            || self.basis(inquiry.clients).is_some_and(|(_, last)| at > last + step(inquiry));
        steps(self.used, at, USED_STEP) || (refresh && ages())
    }

    /// Notes a use; with `refresh` the name it rests on is as fresh as if it had been resolved again, for the client that
    /// asked for it, else for whoever did.
    pub(super) fn note_use(&mut self, inquiry: &Inquiry<'_>, refresh: bool) {
        let at = inquiry.at.seconds();
        self.used = self.used.max(at);
        let basis = self.basis(inquiry.clients).filter(|_| refresh);
        let Some((slot, _)) = basis else { return };
        let is_own = |asker: IpAddr| inquiry.clients.contains(&asker);
        for other in self.others.iter_mut().flat_map(|others| others.iter_mut()) {
            if other.row == slot && is_own(other.asker.address) {
                other.last = other.last.max(at);
            }
        }
        if let Some(row) = self.row_mut(slot) {
            row.last = row.last.max(at);
            if row.asker.as_ref().is_some_and(|asker| is_own(asker.address)) {
                row.asked = row.asked.max(at);
            }
        }
    }

    /// What a flow of these clients rests on, and since when: the latest name of their own, else the latest of all.
    fn basis(&self, clients: &[IpAddr]) -> Option<(u8, u32)> {
        let own = |slot: u8, row: &Row| {
            let first = row.asker.as_ref().map(|asker| (asker.address, row.asked));
            let others = self.others().iter().filter(|other| other.row == slot);
            let all = first.into_iter().chain(others.map(|o| (o.asker.address, o.last)));
            all.filter(|(asker, _)| clients.contains(asker)).map(|(_, last)| last).max()
        };
        let rows = || self.rows().filter(|(_, row)| !row.kind.is_static());
        let latest_own = rows().filter_map(|(slot, row)| Some((slot, own(slot, row)?)));
        let latest_own = latest_own.max_by_key(|(_, last)| *last);
        latest_own
            .or_else(|| rows().map(|(slot, row)| (slot, row.last)).max_by_key(|(_, last)| *last))
    }
}

/// How much older evidence gets before a use makes it fresh again: an eighth of what it may, at most an hour.
fn step(inquiry: &Inquiry<'_>) -> u32 {
    let eighth = inquiry.max_age.map_or(u64::MAX, |most| most.as_secs() / 8);
    u32::try_from(eighth).unwrap_or(u32::MAX).min(USED_STEP)
}
