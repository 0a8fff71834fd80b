//! How news gets into the registry, and how an address leaves it: with its books kept and its names given back.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::askers::Client;
use super::entry::{Entry, Row, Seen};
use super::names::Shared;
use super::news::{How, News};
use super::saved::{Asker, Saved};
use super::table::Place;
use super::{Alert, Inserted, Registry};
use crate::engine::mark::Alarm;
use crate::engine::time::Wall;

impl Registry {
    /// Takes one sighting in.
    pub(super) fn take(&self, address: IpAddr, news: &News<'_>) -> Inserted {
        let mut place = self.table.lock(address);
        if let Some(client) = self.full_asker(&mut place, news) {
            // No part is locked under another.
            drop(place);
            self.make_way(&client, address, news.last);
            place = self.table.lock(address);
        }
        let Some(entry) = place.entry() else { return self.take_address(&mut place, news) };
        let Some(slot) = entry.slot_of(news.name) else { return self.take_name(&mut place, news) };
        let mut worth = self.take_chain(entry, slot, news);
        worth |= entry.see(slot, news);
        if let Some(client) = news.asker {
            let again = entry.asked_again(slot, client, news.last);
            worth |= again.unwrap_or(true);
            if again.is_none() {
                self.take_asker(entry, slot, client, news);
            }
        }
        if worth {
            place.changed();
        }
        Inserted::Seen
    }

    /// Who asked, if that is news and there is too much on its account to take it in.
    fn full_asker(&self, place: &mut Place<'_>, news: &News<'_>) -> Option<Arc<Client>> {
        let asker = news.asker.filter(|_| news.how != How::Restored)?;
        if place.entry().is_some_and(|entry| entry.slot_of(news.name).is_some()) {
            return None;
        }
        self.clients.of(asker, news.payer).filter(|client| self.room.is_over(client))
    }

    /// The first name of an address that was not known.
    fn take_address(&self, place: &mut Place<'_>, news: &News<'_>) -> Inserted {
        let client = news.asker.and_then(|asker| self.clients.of(asker, news.payer));
        let floods = self.floods(place, client.as_ref(), news);
        if !self.room.fits(client.as_ref(), news.how == How::Restored) {
            return Inserted::LeftOut;
        }
        let row = self.row(client, news, floods);
        self.widen(&row, place, news);
        let entry = Entry::new(place.key, row);
        self.book(&entry, 1);
        place.put(entry);
        place.changed();
        self.room.addresses.fetch_add(1, Relaxed);
        Inserted::New
    }

    /// Another name of an address that is known.
    fn take_name(&self, place: &mut Place<'_>, news: &News<'_>) -> Inserted {
        let client = news.asker.and_then(|asker| self.clients.of(asker, news.payer));
        let floods = self.floods(place, client.as_ref(), news);
        if !self.room.fits_name(client.as_ref(), news.how == How::Restored) {
            return self.take_asker_alone(place, client, news);
        }
        let row = self.row(client, news, floods);
        // Where names push out one another, one that comes back is no news of the name.
        if !place.entry().is_some_and(|entry| entry.is_crowded()) {
            self.widen(&row, place, news);
        }
        let Some(entry) = place.entry() else { return Inserted::LeftOut };
        let displaced = self.changing(entry, |entry| entry.add(row));
        if let Some(row) = displaced {
            self.release(row);
        }
        place.changed();
        Inserted::New
    }

    /// There is no room for the name. The address is evidence already; at least its asker is to be known.
    fn take_asker_alone(
        &self,
        place: &mut Place<'_>,
        client: Option<Arc<Client>>,
        news: &News<'_>,
    ) -> Inserted {
        let client = client.filter(|_| !news.kind.is_static());
        if let (Some(client), Some(entry)) = (client, place.entry()) {
            self.changing(entry, |entry| entry.asked_gone(client, news.last));
            place.changed();
        }
        Inserted::LeftOut
    }

    fn take_asker(&self, entry: &mut Entry, slot: u8, client: IpAddr, news: &News<'_>) {
        if let Some(client) = self.clients.of(client, news.payer) {
            self.changing(entry, |entry| entry.asked_first(slot, client, news.last));
        }
    }

    /// Follows a name that is known to where it leads by now; true if that is elsewhere.
    fn take_chain(&self, entry: &mut Entry, slot: u8, news: &News<'_>) -> bool {
        let Some(row) = entry.row_mut(slot).filter(|row| row.leads_elsewhere(news)) else {
            return false;
        };
        if !self.room.fits_name(row.asker.as_ref(), news.how == How::Restored) {
            return false;
        }
        let chain = self.chain(news);
        let before = self.changing(entry, |entry| {
            entry.row_mut(slot).and_then(|row| std::mem::replace(&mut row.chain, chain))
        });
        before.into_iter().flat_map(|chain| *chain).for_each(|link| self.names.release(link));
        true
    }

    #[expect(clippy::box_collection, reason = "as rows keep it")]
    fn chain(&self, news: &News<'_>) -> Option<Box<Vec<Arc<Shared>>>> {
        let links = news.chain.iter().map(|link| self.names.intern(link, news.first));
        (!news.chain.is_empty()).then(|| Box::new(links.collect()))
    }

    /// Counts an address that is new for a name.
    fn widen(&self, row: &Row, place: &Place<'_>, news: &News<'_>) {
        if news.how == How::Live && row.name.widen(news.last) {
            self.raise(Alarm::ManyAddresses, place, news);
        }
    }

    pub(super) fn row(&self, client: Option<Arc<Client>>, news: &News<'_>, floods: bool) -> Row {
        let name = self.names.intern(news.name, news.first);
        name.seen_first(news.first);
        name.join();
        if floods {
            name.mark_flood();
        }
        Row {
            name,
            chain: self.chain(news),
            asker: client,
            asked: news.last,
            first: news.first,
            last: news.last,
            kind: news.kind,
        }
    }

    /// Counts a name that is new to us; true if its asker brings too many of them.
    fn floods(&self, place: &Place<'_>, client: Option<&Arc<Client>>, news: &News<'_>) -> bool {
        let Some(client) = client.filter(|_| news.how == How::Live) else { return false };
        let is_new = self.names.facts(news.name).is_none_or(|facts| facts.addresses == 0);
        let floods = is_new && client.floods(news.last);
        if floods {
            self.raise(Alarm::NameFlood, place, news);
        }
        floods
    }

    fn raise(&self, alarm: Alarm, place: &Place<'_>, news: &News<'_>) {
        let (name, address) = (news.name.clone(), IpAddr::from(place.key));
        let at = Wall(u64::from(news.last) * 1_000_000);
        let (client, count, withheld) = (news.asker, 1, 0);
        let alert = Alert { alarm, name, address, client, count, withheld, at };
        self.alarms.raise(alert, news.payer);
    }

    /// Everything that is known of an address; nothing if it was forgotten.
    pub fn saved(&self, address: IpAddr) -> Option<Saved> {
        self.table.with(address, Saved::of)
    }

    /// Takes in what was saved of an address, beside what is known by now: in any order, and as often as you like.
    /// Shares do not bound it, the whole does.
    pub fn restore(&self, address: IpAddr, saved: &Saved) -> Inserted {
        if let Some(done) = self.restore_at_once(address, saved) {
            return done;
        }
        let mut result = Inserted::Seen;
        for (index, seen) in saved.names.iter().enumerate().rev() {
            match self.take(address, &News::saved(saved, index, seen)) {
                Inserted::Seen => {}
                other => result = other,
            }
        }
        if let Some(used) = saved.used {
            self.restore_used(address, used);
        }
        for asker in &saved.askers {
            self.restore_asker(address, saved.names.get(usize::from(asker.name)), *asker);
        }
        result
    }

    fn restore_used(&self, address: IpAddr, used: u32) {
        let mut place = self.table.lock(address);
        if let Some(entry) = place.entry().filter(|entry| entry.used < used) {
            entry.used = used;
            place.changed();
        }
    }

    fn restore_asker(&self, address: IpAddr, name: Option<&Seen>, asker: Asker) {
        let mut place = self.table.lock(address);
        let Some(entry) = place.entry() else { return };
        let slot = name.and_then(|seen| entry.slot_of(&seen.name));
        let known = slot.and_then(|slot| entry.asked_again(slot, asker.address, asker.last));
        let Some(client) = self.clients.of(asker.address, None).filter(|_| known.is_none()) else {
            if known == Some(true) {
                place.changed();
            }
            return;
        };
        self.changing(entry, |entry| match slot {
            Some(slot) => entry.asked_first(slot, client, asker.last),
            None => entry.asked_gone(client, asker.last),
        });
        place.changed();
    }

    /// Throws an address out if it was neither seen nor used since `before`; true if it went.
    pub(super) fn throw_out(&self, address: IpAddr, before: u32) -> bool {
        let mut place = self.table.lock(address);
        place.entry().is_some_and(|entry| entry.live() < before || before == u32::MAX)
            && self.take_out(&mut place)
    }

    /// Takes one asker's own evidence from an address; true if the address went with it.
    pub(super) fn shed(&self, client: &Arc<Client>, address: IpAddr) -> bool {
        let mut place = self.table.lock(address);
        let Some(entry) = place.entry() else { return false };
        let (rows, is_empty) = self.changing(entry, |entry| entry.shed(client));
        rows.into_iter().for_each(|row| self.release(row));
        if is_empty {
            return self.take_out(&mut place);
        }
        place.changed();
        false
    }

    fn take_out(&self, place: &mut Place<'_>) -> bool {
        let Some(entry) = place.take() else { return false };
        self.book(&entry, -1);
        self.room.addresses.fetch_sub(1, Relaxed);
        let Entry { first, more, .. } = entry;
        std::iter::once(first).chain(more).for_each(|row| self.release(row));
        place.changed();
        true
    }

    pub(super) fn release(&self, row: Row) {
        row.name.leave();
        self.names.release(row.name);
        for link in row.chain.into_iter().flat_map(|chain| *chain) {
            self.names.release(link);
        }
    }

    /// Changes an entry and books what that does to whoever pays.
    pub(super) fn changing<R>(&self, entry: &mut Entry, change: impl FnOnce(&mut Entry) -> R) -> R {
        let mut bill = Bill::default();
        bill.add(entry, -1);
        let result = change(entry);
        bill.add(entry, 1);
        self.settle(bill);
        result
    }

    pub(super) fn book(&self, entry: &Entry, sign: i64) {
        let mut bill = Bill::default();
        bill.add(entry, sign);
        self.settle(bill);
    }

    pub(super) fn settle(&self, bill: Bill) {
        for (client, addresses, bytes) in bill.0 {
            if (addresses, bytes) == (0, 0) {
                continue;
            }
            self.room.bytes.fetch_add(bytes.cast_unsigned(), Relaxed);
            if let Some(client) = client {
                client.book(addresses, bytes);
            }
        }
    }
}

/// What changes on whose account: addresses and bytes. Mostly one or two, so they are gone through.
#[derive(Default)]
pub(super) struct Bill(Vec<Change>);

type Change = (Option<Arc<Client>>, isize, i64);

impl Bill {
    pub(super) fn add(&mut self, entry: &Entry, sign: i64) {
        for (client, addresses, bytes) in entry.bill() {
            let addresses =
                isize::try_from(sign).unwrap_or(0) * isize::try_from(addresses).unwrap_or(0);
            let bytes = sign * i64::try_from(bytes).unwrap_or(i64::MAX);
            let of = |client: Option<&Arc<Client>>| client.map(Arc::as_ptr);
            match self.0.iter_mut().find(|(payer, ..)| of(payer.as_ref()) == of(client)) {
                Some((_, had, took)) => (*had, *took) = (*had + addresses, *took + bytes),
                None => self.0.push((client.cloned(), addresses, bytes)),
            }
        }
    }
}

impl Saved {
    fn of(entry: &Entry) -> Saved {
        let rows = entry.latest();
        let place = |slot: u8| rows.iter().position(|(other, _)| *other == slot);
        let index = |slot| place(slot).and_then(|at| u16::try_from(at).ok());
        let first = rows.iter().filter_map(|(slot, row)| {
            let asker = row.asker.as_ref()?.address;
            Some(Asker { address: asker, last: row.asked, name: index(*slot)? })
        });
        let others = entry.others().iter().map(|other| Asker {
            address: other.asker.address,
            last: other.last,
            name: index(other.row).unwrap_or(Asker::UNNAMED),
        });
        let mut askers: Vec<Asker> = first.chain(others).collect();
        askers.sort_unstable_by_key(|asker| (asker.name, asker.address));
        let names = rows.iter().map(|(slot, row)| row.seen(index(*slot), &askers)).collect();
        Saved { names, askers, used: Some(entry.used).filter(|used| *used > 0) }
    }
}

impl Row {
    fn seen(&self, index: Option<u16>, askers: &[Asker]) -> Seen {
        let own = askers.iter().filter(|asker| Some(asker.name) == index);
        Seen {
            name: self.name.name.clone(),
            first: self.first,
            last: self.last,
            asker: own.max_by_key(|asker| asker.last).map(|asker| asker.address),
            kind: self.kind,
            chain: self.chain.is_some().then(|| Box::new(self.chain().cloned().collect())),
        }
    }
}
