//! Queries by serial number: a direct-mapped table, and a second place for those not answered when their slot is taken.

use std::net::IpAddr;

use crate::dns::line::Qtype;

use super::pending::Pending;

/// A query that is known.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The name asked, in its normal form; empty if it was none.
    pub name: &'a str,
    /// Who asked.
    pub client: IpAddr,
    /// The type asked for.
    pub qtype: Qtype,
}

/// Serial number and process: dnsmasq's children may use serial numbers of their parent.
pub type Key = (u64, Option<u32>);

/// A query as it was logged.
pub struct Query {
    /// What its answer will be known by.
    pub key: Key,
    /// Who asked, from which port.
    pub client: (IpAddr, u16),
    /// The type asked for.
    pub qtype: Qtype,
    /// Its answer has come; more lines of it may follow.
    pub answered: bool,
    /// The name asked, in its normal form; empty if it was none.
    pub name: String,
}

impl Query {
    /// Evidence may still come of it.
    fn is_awaited(&self) -> bool {
        !self.answered && !self.name.is_empty() && matches!(self.qtype, Qtype::A | Qtype::Aaaa)
    }
}

/// The table.
pub struct Serials {
    slots: Vec<Option<Query>>,
    pending: Pending,
}

impl Serials {
    /// A table of `size` queries, and of `pending` more that are still to be answered.
    pub fn new(size: usize, pending: usize) -> Serials {
        let slots = std::iter::repeat_with(|| None).take(size).collect();
        Serials { slots, pending: Pending::new(pending) }
    }

    /// Remembers a query in place of whatever had its slot.
    pub fn ask(
        &mut self,
        serial: u64,
        pid: Option<u32>,
        client: (IpAddr, u16),
        qtype: Qtype,
        name: &str,
    ) {
        let (key, index) = ((serial, pid), self.index(serial, pid));
        self.pending.supersede(key);
        let Some(place) = self.slots.get_mut(index) else { return };
        // The old name's memory is used again: no allocation once the table has filled up.
        let mut kept = match place.take() {
            Some(old) if old.is_awaited() && old.key != key => self.pending.keep(old),
            Some(old) => old.name,
            None => String::new(),
        };
        kept.clear();
        kept.push_str(name);
        *place = Some(Query { key, client, qtype, answered: false, name: kept });
    }

    /// The query a line with this serial number, process and client answers; for good if `answered`.
    pub fn get(
        &mut self,
        serial: u64,
        pid: Option<u32>,
        client: Option<(IpAddr, u16)>,
        answered: bool,
    ) -> Option<Asked<'_>> {
        let (key, index) = ((serial, pid), self.index(serial, pid));
        let slot = self.slots.get_mut(index).and_then(Option::as_mut);
        let query = match slot.filter(|query| query.key == key) {
            Some(query) => query,
            None => self.pending.get(key)?,
        };
        // A restarted dnsmasq uses its serial numbers again.
        if Some(query.client) != client || query.name.is_empty() {
            return None;
        }
        query.answered |= answered;
        Some(Asked { name: &query.name, client: query.client.0, qtype: query.qtype })
    }

    /// The process has started anew: nothing it was asked before will be answered.
    pub fn forget(&mut self, pid: Option<u32>) {
        for place in &mut self.slots {
            if place.as_ref().is_some_and(|query| query.key.1 == pid) {
                *place = None;
            }
        }
        self.pending.forget(pid);
    }

    fn index(&self, serial: u64, pid: Option<u32>) -> usize {
        // Spreads processes apart; neighbouring serial numbers of one stay neighbours.
        let spread = u64::from(pid.unwrap_or(0)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let size = self.slots.len().max(1) as u64;
        usize::try_from(serial.wrapping_add(spread) % size).unwrap_or(0)
    }

    /// Queries in the second place.
    #[cfg(test)]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }
}
