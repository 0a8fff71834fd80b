//! Whose an address's names are: who pays for what, who makes room first, and what is left when one has to go.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::askers::Client;
use super::entry::{Entry, GONE, Row, Sighting};
use crate::engine::limits::ASKERS_PER_ADDRESS_MAX;

/// Bytes of an address without its names: its entry and its share of the table, as measured at a million of them.
const ADDRESS_BYTES: u64 = 72;
/// Bytes of a name at an address, whether in the entry or beyond it.
const ROW_BYTES: u64 = 48;
/// Bytes of a name in the table of names but for its text, for each address that has it: nobody is to gain by names that
/// others have too, nor to pay less when they go.
const NAME_BYTES: u64 = 90;
/// Bytes of a link of a chain but for its text: as a name that has its place in the chain. Most links are shared by many
/// addresses, but whoever makes them up may make each up anew.
const LINK_BYTES: u64 = NAME_BYTES + 8;
/// Bytes of one more asker, with what its list has in reserve.
const SIGHTING_BYTES: u64 = 24;

/// One part of what an address takes: who pays, addresses, bytes.
pub(super) type Item<'a> = (Option<&'a Arc<Client>>, usize, u64);

impl Row {
    fn cost(&self) -> u64 {
        let text = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let links: u64 = self.chain().map(|link| LINK_BYTES + text(link.as_str().len())).sum();
        ROW_BYTES + NAME_BYTES + text(self.name.name.as_str().len()) + links
    }
}

impl Entry {
    /// Everything it takes. The address itself is on the account of whoever has its first name.
    pub(super) fn bill(&self) -> impl Iterator<Item = Item<'_>> {
        let address = (self.first.asker.as_ref(), 1, ADDRESS_BYTES);
        let names = self.rows().map(|(_, row)| (row.asker.as_ref(), 0, row.cost()));
        let others = self.others().iter().map(|other| (Some(&other.asker), 0, SIGHTING_BYTES));
        std::iter::once(address).chain(names).chain(others)
    }

    /// Those on whose account something of it is, each once.
    pub(super) fn payers(&self) -> Vec<&Arc<Client>> {
        let mut payers: Vec<_> = self.bill().filter_map(|(client, ..)| client).collect();
        payers.sort_unstable_by_key(|client| client.address);
        payers.dedup_by_key(|client| client.address);
        payers
    }

    /// Which name makes room for a new one, or nothing if the new one does: of whoever pays for most names here, one
    /// nobody else asked for before one that others need too, and of those the one seen least lately.
    pub(super) fn displaced_by(&self, new: &Row) -> Option<u8> {
        let of = |row: &Row| row.asker.as_ref().map(|asker| asker.account_id());
        let rows = || self.rows().chain(std::iter::once((GONE, new)));
        let names = |payer: Option<usize>| rows().filter(|(_, row)| of(row) == payer).count();
        let alone = |slot: u8| !self.others().iter().any(|other| other.row == slot);
        let first_to_go = rows()
            .max_by_key(|(slot, row)| (names(of(row)), alone(*slot), std::cmp::Reverse(row.last)));
        first_to_go.map(|(slot, _)| slot).filter(|slot| *slot != GONE)
    }

    /// Who asked for a name that goes is remembered without it, unless a file of ours had it.
    pub(super) fn orphan(&mut self, slot: u8) {
        let fixed = self.row_mut(slot).is_none_or(|row| row.kind.is_static());
        let Some(others) = &mut self.others else { return };
        let orphans: Vec<Sighting> = others.extract_if(.., |other| other.row == slot).collect();
        for orphan in orphans.into_iter().filter(|_| !fixed) {
            self.asked_gone(orphan.asker, orphan.last);
        }
    }

    /// Adds a sighting. If there are too many, one of whoever pays for most makes room, the oldest.
    pub(super) fn add_other(&mut self, sighting: Sighting) {
        let others = self.others.get_or_insert_default();
        others.push(sighting);
        if others.len() <= ASKERS_PER_ADDRESS_MAX {
            return;
        }
        let mut counts: HashMap<usize, usize> = HashMap::new();
        others.iter().for_each(|other| *counts.entry(other.asker.account_id()).or_default() += 1);
        let first_to_go = others.iter().enumerate().max_by_key(|(_, other)| {
            (counts.get(&other.asker.account_id()).copied(), std::cmp::Reverse(other.last))
        });
        if let Some((place, _)) = first_to_go {
            others.swap_remove(place);
        }
    }

    /// Whether one of these asked.
    pub(super) fn has_asker(&self, clients: &BTreeSet<IpAddr>) -> bool {
        let named = self.rows().filter_map(|(_, row)| row.asker.as_ref());
        let mut all = named.chain(self.others().iter().map(|other| &other.asker));
        all.any(|asker| clients.contains(&asker.address))
    }

    /// Forgets that these asked; that somebody did is still known.
    pub(super) fn forget_askers(&mut self, clients: &BTreeSet<IpAddr>) {
        self.drop_others(|asker| clients.contains(&asker.address));
        for slot in 0..GONE {
            let Some(row) = self.row_mut(slot) else { break };
            if row.asker.as_ref().is_some_and(|asker| clients.contains(&asker.address)) {
                row.asker = None;
                self.promote(slot);
            }
        }
    }

    /// Takes everything that is on one asker's account and that no other asker needs, and returns the names. True if
    /// nothing is left: then the address is to go, with the names it still has.
    pub(super) fn shed(&mut self, client: &Arc<Client>) -> (Vec<Row>, bool) {
        let is_client = |asker: &Arc<Client>| Arc::ptr_eq(asker, client);
        self.drop_others(is_client);
        let mut going = Vec::new();
        for slot in 0..GONE {
            let Some(row) = self.row_mut(slot) else { break };
            if row.asker.as_ref().is_some_and(is_client) {
                row.asker = None;
                if !self.promote(slot) {
                    going.push(slot);
                }
            }
        }
        if going.len() == self.rows().count() {
            // Somebody may have asked for a name that was pushed out.
            let Some(heir) = self.take_other(GONE) else { return (Vec::new(), true) };
            going.pop();
            let slot = u8::try_from(going.len()).unwrap_or(GONE);
            if let Some(row) = self.row_mut(slot) {
                (row.asker, row.asked) = (Some(heir.asker), heir.last);
            }
        }
        (going.into_iter().rev().filter_map(|slot| self.remove(slot)).collect(), false)
    }

    fn drop_others(&mut self, goes: impl Fn(&Arc<Client>) -> bool) {
        if let Some(others) = &mut self.others {
            others.retain(|other| !goes(&other.asker));
        }
        self.others.take_if(|others| others.is_empty());
    }

    fn take_other(&mut self, row: u8) -> Option<Sighting> {
        let others = self.others.as_mut()?;
        let place = others.iter().position(|other| other.row == row)?;
        let other = others.remove(place);
        self.others.take_if(|others| others.is_empty());
        Some(other)
    }

    /// Puts a name on the account of the next who asked for it; false if there is none.
    fn promote(&mut self, slot: u8) -> bool {
        let Some(other) = self.take_other(slot) else { return false };
        if let Some(row) = self.row_mut(slot) {
            (row.asker, row.asked) = (Some(other.asker), other.last);
        }
        true
    }

    /// Takes a name out, unless it is the only one.
    fn remove(&mut self, slot: u8) -> Option<Row> {
        let mut more = std::mem::take(&mut self.more).into_vec();
        let removed = match usize::from(slot).checked_sub(1) {
            None if more.is_empty() => None,
            None => Some(std::mem::replace(&mut self.first, more.remove(0))),
            Some(place) => (place < more.len()).then(|| more.remove(place)),
        };
        self.more = more.into_boxed_slice();
        if removed.is_some() {
            for other in self.others.iter_mut().flat_map(|others| others.iter_mut()) {
                // Nobody asked for the removed one: it would have been promoted.
                if other.row != GONE && other.row > slot {
                    other.row -= 1;
                }
            }
        }
        removed
    }
}
