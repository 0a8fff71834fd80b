//! The file format: `{"version":1,"addresses":{"ADDRESS":[{"name":..,"first":..,..}]}}`, and the ancestor's
//! `{"ADDRESS":["name", ..]}`. Both are streamed: a million addresses never stand in memory twice.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Loaded;
use crate::engine::registry::{Asker, Inserted, Registry, Saved as Kept, Seen};
use crate::engine::{Kind, Name, Wall};

const VERSION: u64 = 1;

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

/// What we write about an address: its names, and who asked beyond the last asker of each.
#[derive(Serialize)]
#[serde(untagged)]
enum Saved {
    Row(Row),
    Askers { askers: Vec<IpAddr> },
}

/// The same in either format; what is neither is skipped and counted.
#[derive(Deserialize)]
#[serde(untagged)]
enum Element {
    Row(Row),
    Askers { askers: Vec<IpAddr> },
    Name(Name),
    Other(IgnoredAny),
}

/// Addresses put into words before they are written; no lock of the registry is held while they are.
const ADDRESSES_PER_WRITE: usize = 256;

pub(super) fn write(out: &mut impl Write, registry: &Registry) -> io::Result<()> {
    write!(out, "{{\"version\":{VERSION},\"addresses\":{{")?;
    let mut text = Vec::new();
    let mut comma = "";
    for some in registry.addresses().chunks(ADDRESSES_PER_WRITE) {
        text.clear();
        for &address in some {
            let rows =
                registry.names(address).into_iter().rev().map(|seen| Saved::Row(seen.into()));
            let askers = registry.askers(address);
            let others = (!askers.is_empty()).then_some(Saved::Askers { askers });
            let elements: Vec<Saved> = rows.chain(others).collect();
            write!(text, "{comma}\n\"{address}\":")?;
            serde_json::to_writer(&mut text, &elements)?;
            comma = ",";
        }
        out.write_all(&text)?;
    }
    out.write_all(b"\n}}\n")
}

pub(super) fn read(
    input: impl Read,
    registry: &Registry,
    only: Option<&HashSet<IpAddr>>,
    now: Wall,
) -> Result<Loaded, serde_json::Error> {
    let mut loaded = Loaded::default();
    let mut deserializer = serde_json::Deserializer::from_reader(input);
    Top { addresses: Addresses { registry, only, now, loaded: &mut loaded } }
        .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(loaded)
}

struct Addresses<'a> {
    registry: &'a Registry,
    /// What is taken in; everything if this is nothing.
    only: Option<&'a HashSet<IpAddr>>,
    now: Wall,
    loaded: &'a mut Loaded,
}

/// The whole file: our version with its addresses, or the ancestor's bare map.
struct Top<'a> {
    addresses: Addresses<'a>,
}

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a registry: an object of addresses")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "version" => match map.next_value::<u64>()? {
                    VERSION => {}
                    other => {
                        return Err(A::Error::custom(format!(
                            "version {other} is not known to this synhold"
                        )));
                    }
                },
                "addresses" => map.next_value_seed(&mut self.addresses)?,
                address => self.addresses.take_next(address, &mut map)?,
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Addresses<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Addresses<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of addresses, each with a list of names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(address) = map.next_key::<String>()? {
            self.take_next(&address, &mut map)?;
        }
        Ok(())
    }
}

impl Addresses<'_> {
    fn take_next<'de, A: MapAccess<'de>>(
        &mut self,
        address: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let wanted = |only: &HashSet<IpAddr>| address.parse().is_ok_and(|at| only.contains(&at));
        if self.only.is_none_or(wanted) {
            let elements = map.next_value()?;
            self.take(address, elements);
        } else {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn take(&mut self, address: &str, elements: Vec<Element>) {
        let Ok(address) = address.parse::<IpAddr>() else {
            self.loaded.skipped += 1;
            return;
        };
        for element in elements {
            let seen = match element {
                Element::Row(row) => Seen::from(row),
                Element::Name(name) => self.undated(name),
                Element::Askers { askers } => {
                    self.remember(address, &askers);
                    continue;
                }
                Element::Other(_) => {
                    self.loaded.skipped += 1;
                    continue;
                }
            };
            match self.registry.merge(address, &seen) {
                Inserted::LeftOut | Inserted::Rejected(_) => self.loaded.skipped += 1,
                Inserted::New | Inserted::Seen => self.loaded.names += 1,
            }
        }
    }

    /// Who asked beside the last of each name: for the name seen last, as far as is known.
    fn remember(&self, address: IpAddr, askers: &[IpAddr]) {
        let names = self.registry.names(address);
        let Some(last) = names.first().map(|seen| seen.last) else { return };
        let asker = |address: &IpAddr| Asker { address: *address, last, name: 0 };
        let askers = askers.iter().map(asker).collect();
        self.registry.restore(address, &Kept { names, askers, used: None });
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
    fn from(row: Row) -> Seen {
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
