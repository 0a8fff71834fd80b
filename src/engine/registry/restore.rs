//! Taking back a whole address at once, as when a million of them are read: one lock, one account, one place in the table.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use super::entry::{Entry, Row, Seen};
use super::news::News;
use super::saved::{Asker, Saved};
use super::table::Place;
use super::take::Bill;
use super::{Inserted, Registry};
use crate::engine::limits::NAMES_PER_ADDRESS_MAX;

impl Registry {
    /// Makes room in the tables for so many addresses, so that they need not grow step by step.
    pub fn reserve(&self, addresses: usize) {
        self.table.reserve(addresses.min(self.room.limits().addresses));
    }

    /// Forgets what is known of an address and takes in what was saved of it.
    pub fn replace(&self, address: IpAddr, saved: &Saved) {
        if !self.replace_at_once(address, saved) {
            self.forget(address);
            self.restore(address, saved);
        }
    }

    /// Takes in what was saved of an address of which nothing is known; nothing if it has to be taken in bit by bit.
    pub(super) fn restore_at_once(&self, address: IpAddr, saved: &Saved) -> Option<Inserted> {
        if !is_plain(saved) || !self.room.fits_whole() || !self.room.fits(None, true) {
            return None;
        }
        let mut place = self.table.lock(address);
        if place.entry().is_some() {
            return None;
        }
        let mut entry = self.entry_of(&place, saved, &mut Vec::new())?;
        self.book(&entry, 1);
        entry.dirty = place.note();
        place.put(entry);
        self.room.addresses.fetch_add(1, Relaxed);
        Some(Inserted::New)
    }

    /// Puts what was saved in the place of what is known, if something is; what both have stays where it is.
    fn replace_at_once(&self, address: IpAddr, saved: &Saved) -> bool {
        if !is_plain(saved) || !self.room.fits_whole() {
            return false;
        }
        let mut place = self.table.lock(address);
        let Some(old) = place.take() else { return false };
        let mut bill = Bill::default();
        bill.add(&old, -1);
        let was_dirty = old.dirty;
        let mut rows: Vec<Row> = std::iter::once(old.first).chain(old.more).collect();
        // Before anything is taken in: a name that only this address had begins anew, if it does.
        let goes = |row: &mut Row| !saved.names.iter().any(|seen| row.becomes(seen));
        rows.extract_if(.., goes).for_each(|row| self.release(row));
        let Some(mut entry) = self.entry_of(&place, saved, &mut rows) else { return false };
        bill.add(&entry, 1);
        self.settle(bill);
        entry.dirty = was_dirty || place.note();
        place.put(entry);
        true
    }

    /// What was saved as it is in the table. Names that are among `known` are taken from there.
    fn entry_of(&self, place: &Place<'_>, saved: &Saved, known: &mut Vec<Row>) -> Option<Entry> {
        let names = saved.names.iter().enumerate().rev();
        let mut rows = names.map(|(index, seen)| self.row_of(saved, (index, seen), known));
        let mut entry = Entry::new(place.key, rows.next()?);
        entry.more = rows.collect();
        entry.used = saved.used.unwrap_or(0);
        for asker in &saved.askers {
            self.put_asker(&mut entry, *asker);
        }
        Some(entry)
    }

    fn row_of(&self, saved: &Saved, (index, seen): (usize, &Seen), known: &mut Vec<Row>) -> Row {
        let news = News::saved(saved, index, seen);
        let client = news.asker.and_then(|asker| self.clients.of(asker, news.payer));
        let Some(at) = known.iter().position(|row| row.name.name == seen.name) else {
            return self.row(client, &news, false);
        };
        let row = known.swap_remove(at);
        row.name.seen_first(seen.first);
        let (first, last, kind) = (seen.first, seen.last, seen.kind);
        Row { asker: client, asked: seen.last, first, last, kind, ..row }
    }

    /// Notes who asked, at an entry whose rows are the saved names, the last one first.
    fn put_asker(&self, entry: &mut Entry, asker: Asker) {
        let slot = entry.more.len().checked_sub(usize::from(asker.name));
        let slot = slot.and_then(|slot| u8::try_from(slot).ok());
        let known = slot.and_then(|slot| entry.asked_again(slot, asker.address, asker.last));
        if known.is_some() {
            return;
        }
        let Some(client) = self.clients.of(asker.address, None) else { return };
        match slot {
            Some(slot) => entry.asked_first(slot, client, asker.last),
            None => entry.asked_gone(client, asker.last),
        }
    }
}

/// Whether it can be taken in as it is: some names, not too many, each once. What we saved is; a file made elsewhere
/// may say anything.
fn is_plain(saved: &Saved) -> bool {
    let names = &saved.names;
    let is_again = |(index, seen): (usize, &Seen)| {
        names.iter().take(index).any(|before| before.name == seen.name)
    };
    (1..=NAMES_PER_ADDRESS_MAX).contains(&names.len()) && !names.iter().enumerate().any(is_again)
}

impl Row {
    /// Whether it is the same name, reached the same way, and not forgotten in between.
    fn becomes(&self, seen: &Seen) -> bool {
        let chain = seen.chain.iter().flat_map(|chain| chain.iter());
        self.name.name == seen.name && self.first >= seen.first && self.chain().eq(chain)
    }
}
