//! Ties answers to their queries: only what answers an A or AAAA query is evidence, credited to the name that was asked.

mod burst;
mod gaps;
mod names;
mod pending;
mod serials;
mod texts;

use std::net::IpAddr;

use crate::engine::health::Skip;
use crate::engine::limits::{NAME_BYTES_MAX, QUERIES_MAX};
use crate::engine::name::normalise;
use crate::engine::{Kind, Name, Record, Wall};

use super::line::{Line, Message, Qtype, Value};
use burst::Bursts;
use gaps::Gaps;
use names::Names;
use serials::Serials;

/// An address that answers a query, as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The address: IPv4 also where an AAAA record holds one (`::ffff:a.b.c.d`), since that is what goes over the wire.
    pub address: IpAddr,
    /// The name asked, in its normal form.
    pub name: &'a str,
    /// Who asked.
    pub client: Option<IpAddr>,
    /// Where dnsmasq took it from.
    pub kind: Kind,
    /// CNAME targets between the name and the address, in order, in their normal form.
    pub chain: &'a [String],
    /// When its line was logged, where the source tells; a correlator does not know.
    pub logged: Option<Wall>,
}

impl Answer<'_> {
    /// Keeps the answer as of when it was logged, which is `now` where the source does not tell and never later.
    /// `None` only for a name that is none, which a correlator never hands out.
    pub fn to_record(self, now: Wall) -> Option<Record> {
        let time = self.logged.map_or(now, |logged| logged.min(now));
        let chain = self.chain.iter().filter_map(|link| Name::new(link).ok()).collect();
        let name = Name::new(self.name).ok()?;
        Some(Record {
            address: self.address,
            name,
            client: self.client,
            kind: self.kind,
            chain,
            time,
        })
    }
}

/// One record as a line shows it: its source, owner and value.
type Shown<'a> = (Kind, &'a str, Value);

/// Queries remembered beyond [`QUERIES_MAX`] while they are not answered. dnsmasq has at most 150 on their way by
/// default, 1000 as we start it; the rest are questions sent again, whose first serial number is never answered.
const PENDING_MAX: usize = 4096;

/// Joins the lines of one log. Its memory is bounded whatever the lines hold.
///
/// With `log-queries=extra` the serial number says which query a line answers, and nothing a container asks can make a
/// line count that should not. Nor can it make an answer to another container not count: only queries that were
/// answered give way to newer ones, and of those that were not, each client loses its own. That last point does not
/// hold against a container that forges thousands of source addresses.
///
/// With plain `log-queries` names are all there is: a name somebody also asks a TXT record of gives no evidence, since
/// the two answers look the same. That lasts for ten minutes whatever else is asked, and longer as long as the
/// question is one of the last [`QUERIES_MAX`]. What a flood can still do is keep answers from counting: of more than
/// [`QUERIES_MAX`] queries the oldest are forgotten, and hundreds of thousands of names asked as text cast doubt on
/// others too. Nor is it known which of several askers an answer goes to. That is why `extra` is what synhold uses
/// itself.
pub struct Correlator {
    serials: Serials,
    names: Names,
    bursts: Bursts,
    gaps: Gaps,
    missing: u64,
}

impl Default for Correlator {
    fn default() -> Correlator {
        Correlator {
            serials: Serials::new(QUERIES_MAX, PENDING_MAX),
            names: Names::new(QUERIES_MAX),
            bursts: Bursts::default(),
            gaps: Gaps::default(),
            missing: 0,
        }
    }
}

impl Correlator {
    /// Takes the next line in, and hands over every answer it completes.
    ///
    /// # Errors
    /// [`Skip::Unmatched`] for an address no A or AAAA query of that family is known for.
    pub fn feed(&mut self, line: &Line<'_>, emit: &mut dyn FnMut(Answer<'_>)) -> Result<(), Skip> {
        match line.message {
            Message::Query { qtype, name, client } => {
                self.ask(line, qtype, name, client);
                Ok(())
            }
            Message::Answer { kind, name, value } => match line.serial {
                Some(serial) => {
                    let found = self.by_serial(serial, line, (kind, name, value), emit);
                    self.gaps.see(serial);
                    found
                }
                None => self.by_name(line.pid, (kind, name, value), emit),
            },
            Message::Duplicate => {
                self.repeat(line, emit);
                Ok(())
            }
            Message::Started => {
                self.serials.forget(line.pid);
                self.gaps.forget();
                self.bursts.close(line.pid);
                Ok(())
            }
            Message::Other => {
                if let Some(serial) = line.serial {
                    self.gaps.see(serial);
                }
                self.interrupt(line);
                Ok(())
            }
            Message::Lost(_) => Ok(()),
        }
    }

    /// A line that could not be read was of this query.
    pub fn garbled(&mut self, serial: u64) {
        self.gaps.see(serial);
    }

    /// Lines that others have shown to be missing since this was asked last.
    pub fn take_missing(&mut self) -> u64 {
        std::mem::take(&mut self.missing)
    }

    fn ask(&mut self, line: &Line<'_>, qtype: Qtype, name: &str, client: IpAddr) {
        let mut buffer = [0; NAME_BYTES_MAX];
        // What cannot be a name can be no evidence either. Its query still takes its serial number's place.
        let name = normalise(name, &mut buffer).unwrap_or_default();
        match (line.serial, line.client) {
            (Some(serial), peer) => {
                self.gaps.ask(serial, line.pid);
                self.serials.ask(serial, line.pid, peer.unwrap_or((client, 0)), qtype, name);
            }
            (None, _) => {
                self.names.ask(qtype, name, client);
                self.bursts.close(line.pid);
            }
        }
    }

    fn by_serial(
        &mut self,
        serial: u64,
        line: &Line<'_>,
        (kind, owner, value): Shown<'_>,
        emit: &mut dyn FnMut(Answer<'_>),
    ) -> Result<(), Skip> {
        // An alias may come from the cache, and the rest be asked for upstream.
        let answered = value != Value::Cname;
        let asked = self.serials.get(serial, line.pid, line.client, answered);
        let asked = match (asked, value) {
            (Some(asked), _) => asked,
            (None, Value::Address(_)) => {
                self.missing += u64::from(self.gaps.is_missing(serial, line.pid));
                return Err(Skip::Unmatched);
            }
            (None, Value::Cname | Value::Other) => return Ok(()),
        };
        let burst = self.bursts.writer(line.pid);
        burst.follow(serial, asked.name, owner);
        let Value::Address(address) = value else { return Ok(()) };
        if !asked.qtype.gives(address) {
            return Err(Skip::Unmatched);
        }
        burst.remember(kind, address);
        let (name, client, chain) = (asked.name, Some(asked.client), burst.links());
        emit(Answer { address: address.to_canonical(), name, client, kind, chain, logged: None });
        Ok(())
    }

    fn by_name(
        &mut self,
        pid: Option<u32>,
        (kind, owner, value): Shown<'_>,
        emit: &mut dyn FnMut(Answer<'_>),
    ) -> Result<(), Skip> {
        let burst = self.bursts.writer(pid);
        let address = match value {
            Value::Address(address) => address,
            Value::Cname => {
                burst.alias(owner);
                return Ok(());
            }
            Value::Other => {
                burst.record(owner);
                return Ok(());
            }
        };
        burst.record(owner);
        // A PTR answer is logged as `ADDRESS is NAME`, and the name may look like an address.
        if owner.parse::<IpAddr>().is_ok() || burst.is_overlong() {
            return Err(Skip::Unmatched);
        }
        let asked = self.names.get(burst.head(), burst.links(), address);
        let (name, client) = asked.ok_or(Skip::Unmatched)?;
        let (address, client, chain) = (address.to_canonical(), Some(client), burst.links());
        emit(Answer { address, name, client, kind, chain, logged: None });
        Ok(())
    }

    /// One question from several clients is forwarded once, and its answer logged for the first of them only.
    fn repeat(&mut self, line: &Line<'_>, emit: &mut dyn FnMut(Answer<'_>)) {
        let Some(serial) = line.serial else { return };
        let Some(asked) = self.serials.get(serial, line.pid, line.client, true) else { return };
        let burst = self.bursts.writer(line.pid);
        if burst.head() != asked.name {
            return;
        }
        for &(kind, address) in burst.addresses() {
            if asked.qtype.gives(address) {
                let (name, client, chain) = (asked.name, Some(asked.client), burst.links());
                emit(Answer {
                    address: address.to_canonical(),
                    name,
                    client,
                    kind,
                    chain,
                    logged: None,
                });
            }
        }
    }

    /// A line between two answers ends the first. Set additions are logged within one.
    fn interrupt(&mut self, line: &Line<'_>) {
        let within = line.text.starts_with("ipset add ") || line.text.starts_with("nftset add ");
        if line.serial.is_none() && !within {
            self.bursts.close(line.pid);
        }
    }
}

#[cfg(test)]
mod floods;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
