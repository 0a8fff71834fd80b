//! Queries by serial number: a direct-mapped table, so that a flood only ever displaces queries 8192 serials away.

use std::net::IpAddr;

use crate::dns::line::Qtype;

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

struct Slot {
    serial: u64,
    pid: Option<u32>,
    client: (IpAddr, u16),
    qtype: Qtype,
    name: String,
}

/// The table.
pub struct Serials {
    slots: Vec<Option<Slot>>,
}

impl Serials {
    /// A table of `size` queries.
    pub fn new(size: usize) -> Serials {
        Serials { slots: std::iter::repeat_with(|| None).take(size).collect() }
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
        let index = self.index(serial, pid);
        let Some(place) = self.slots.get_mut(index) else { return };
        // The old name's memory is used again: no allocation once the table has filled up.
        let mut kept = place.take().map_or_else(String::new, |slot| slot.name);
        kept.clear();
        kept.push_str(name);
        *place = Some(Slot { serial, pid, client, qtype, name: kept });
    }

    /// The query a line with this serial number, process and client answers.
    pub fn get(
        &self,
        serial: u64,
        pid: Option<u32>,
        client: Option<(IpAddr, u16)>,
    ) -> Option<Asked<'_>> {
        let slot = self.slots.get(self.index(serial, pid))?.as_ref()?;
        // dnsmasq's children may use serial numbers of their parent, and a restarted dnsmasq uses them again.
        let same = slot.serial == serial && slot.pid == pid && Some(slot.client) == client;
        (same && !slot.name.is_empty()).then_some(Asked {
            name: &slot.name,
            client: slot.client.0,
            qtype: slot.qtype,
        })
    }

    /// The process has started anew: nothing it was asked before will be answered.
    pub fn forget(&mut self, pid: Option<u32>) {
        for place in &mut self.slots {
            if place.as_ref().is_some_and(|slot| slot.pid == pid) {
                *place = None;
            }
        }
    }

    fn index(&self, serial: u64, pid: Option<u32>) -> usize {
        // Spreads processes apart; neighbouring serial numbers of one stay neighbours.
        let spread = u64::from(pid.unwrap_or(0)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let size = self.slots.len().max(1) as u64;
        usize::try_from(serial.wrapping_add(spread) % size).unwrap_or(0)
    }
}
