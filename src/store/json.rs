//! The registry as JSON: `{"version":2,"addresses":{"ADDRESS":[{"name":..,"first":..,..}, {"askers":..}, {"used":..}]}}`,
//! our version 1 without times of askers, and the ancestor's `{"ADDRESS":["name", ..]}`. All are streamed: a million
//! addresses never stand in memory twice.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::bounded::{Elements, List};
use crate::engine::limits::CHAIN_MAX;
use crate::engine::registry::{Asker, Registry, Saved, Seen};
use crate::engine::{Kind, Name, Wall};

/// What is written; what is read goes from 1 to this.
pub const JSON_VERSION: u64 = 2;
/// Addresses put into words before they are written; no lock of the registry is held while they are.
const ADDRESSES_PER_WRITE: usize = 256;

/// One name of an address as it stands in the file. Times are seconds since the Unix epoch.
#[derive(Serialize, Deserialize)]
struct Row {
    name: Name,
    first: u32,
    last: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asker: Option<IpAddr>,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chain: Vec<Name>,
}

/// An asker; when and for which name stands there since version 2. No name is one that is no longer kept.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum AskerRow {
    Dated {
        address: IpAddr,
        last: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
    },
    Undated(IpAddr),
}

/// What we write about an address: its names, who asked beyond the last asker of each, and when it was used.
#[derive(Serialize)]
#[serde(untagged)]
enum Written {
    Row(Row),
    Askers { askers: Vec<AskerRow> },
    Used { used: u32 },
}

/// The same in any version; what is none is skipped and counted.
#[derive(Deserialize)]
#[serde(untagged)]
enum Element {
    Row(Row),
    Askers { askers: Vec<AskerRow> },
    Used { used: u32 },
    Name(Name),
    Other(IgnoredAny),
}

pub(super) fn write(out: &mut impl Write, registry: &Registry) -> io::Result<()> {
    write!(out, "{{\"version\":{JSON_VERSION},\"addresses\":{{")?;
    let mut text = Vec::new();
    let mut comma = "";
    // In order, so that two exports can be compared.
    let mut addresses = registry.addresses();
    addresses.sort_unstable();
    for some in addresses.chunks(ADDRESSES_PER_WRITE) {
        text.clear();
        for &address in some {
            let Some(saved) = registry.saved(address) else { continue };
            write!(text, "{comma}\n\"{address}\":")?;
            serde_json::to_writer(&mut text, &elements(saved))?;
            comma = ",";
        }
        out.write_all(&text)?;
    }
    out.write_all(b"\n}}\n")
}

/// What stands there for one address.
pub fn json_of(saved: Saved) -> serde_json::Value {
    // Nothing of it has keys that are no text, which alone could fail.
    serde_json::to_value(elements(saved)).unwrap_or_default()
}

fn elements(saved: Saved) -> Vec<Written> {
    let dated = |asker: &Asker| AskerRow::Dated {
        address: asker.address,
        last: asker.last,
        name: saved.names.get(usize::from(asker.name)).map(|seen| seen.name.clone()),
    };
    let askers: Vec<AskerRow> = saved.askers.iter().map(dated).collect();
    let rows = saved.names.into_iter().rev().map(|seen| Written::Row(seen.into()));
    let askers = (!askers.is_empty()).then_some(Written::Askers { askers });
    rows.chain(askers).chain(saved.used.map(|used| Written::Used { used })).collect()
}

/// Hands every address to `take`; returns how many entries make no sense.
pub(super) fn read(
    input: impl Read,
    now: Wall,
    take: impl FnMut(IpAddr, Saved),
) -> Result<u64, serde_json::Error> {
    let mut addresses = Addresses { take, now, skipped: 0 };
    let mut deserializer = serde_json::Deserializer::from_reader(input);
    Top { addresses: &mut addresses }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(addresses.skipped)
}

struct Addresses<T> {
    take: T,
    now: Wall,
    skipped: u64,
}

/// The whole file: our version with its addresses, or the ancestor's bare map.
struct Top<'a, T> {
    addresses: &'a mut Addresses<T>,
}

impl<'de, T: FnMut(IpAddr, Saved)> DeserializeSeed<'de> for Top<'_, T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: FnMut(IpAddr, Saved)> Visitor<'de> for Top<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a registry: an object of addresses")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "version" => match map.next_value::<u64>()? {
                    1..=JSON_VERSION => {}
                    other => {
                        return Err(A::Error::custom(format!(
                            "version {other} is not known to this synhold"
                        )));
                    }
                },
                "addresses" => map.next_value_seed(&mut *self.addresses)?,
                address => self.addresses.take(address, map.next_value_seed(List)?),
            }
        }
        Ok(())
    }
}

impl<'de, T: FnMut(IpAddr, Saved)> DeserializeSeed<'de> for &mut Addresses<T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: FnMut(IpAddr, Saved)> Visitor<'de> for &mut Addresses<T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of addresses, each with a list of names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(address) = map.next_key::<String>()? {
            self.take(&address, map.next_value_seed(List)?);
        }
        Ok(())
    }
}

impl<T: FnMut(IpAddr, Saved)> Addresses<T> {
    fn take(&mut self, address: &str, elements: Elements) {
        self.skipped += elements.beyond;
        let Ok(address) = address.parse::<IpAddr>() else {
            self.skipped += 1;
            return;
        };
        let mut saved = Saved::default();
        let mut asked = Vec::new();
        for element in elements.kept {
            // Anything is an element, were it another one.
            match serde_json::from_value(element).unwrap_or(Element::Other(IgnoredAny)) {
                Element::Row(row) => saved.names.push(row.into()),
                Element::Name(name) => saved.names.push(self.undated(name)),
                Element::Askers { askers } => asked = askers,
                Element::Used { used } => saved.used = Some(used),
                Element::Other(_) => self.skipped += 1,
            }
        }
        // The latest first, as everywhere else.
        saved.names.reverse();
        let Some(latest) = saved.names.iter().map(|seen| seen.last).max() else { return };
        let place = |name: Name| saved.names.iter().position(|seen| seen.name == name);
        let number =
            |name: Option<Name>| name.and_then(place).and_then(|at| u16::try_from(at).ok());
        let dated = |asker| match asker {
            AskerRow::Dated { address, last, name } => {
                Asker { address, last, name: number(name).unwrap_or(Asker::UNNAMED) }
            }
            // When and for what is not known; that it was is.
            AskerRow::Undated(address) => Asker { address, last: latest, name: 0 },
        };
        saved.askers = asked.into_iter().map(dated).collect();
        (self.take)(address, saved);
    }

    fn undated(&self, name: Name) -> Seen {
        let now = self.now.seconds();
        Seen { name, first: now, last: now, asker: None, kind: Kind::Reply, chain: None }
    }
}

impl From<Seen> for Row {
    fn from(seen: Seen) -> Row {
        Row {
            name: seen.name,
            first: seen.first,
            last: seen.last,
            asker: seen.asker,
            kind: seen.kind,
            chain: seen.chain.map(|chain| *chain).unwrap_or_default(),
        }
    }
}

impl From<Row> for Seen {
    fn from(mut row: Row) -> Seen {
        row.chain.truncate(CHAIN_MAX);
        let chain = (!row.chain.is_empty()).then(|| Box::new(row.chain));
        Seen {
            name: row.name,
            first: row.first,
            last: row.last,
            asker: row.asker,
            kind: row.kind,
            chain,
        }
    }
}
