//! What people ask of a registry and do to it, whether a daemon has it in memory or a command has read it from disk.

use std::fmt;
use std::net::IpAddr;

use serde_json::Value;

use crate::control::{
    Fault, FaultKind, Forgotten, Imported, LookedUp, RegistryAddress, RegistryAsker, RegistryName,
};
use crate::engine::inquiry::Inquiry;
use crate::engine::registry::{Asker, Inserted, Registry, Saved};
use crate::engine::sieve::Sieve;
use crate::engine::{Name, Wall};
use crate::store;

/// Addresses of one name that are told; the rest is a count. Four screens.
const ADDRESSES_TOLD_MAX: usize = 200;
const SECOND: u64 = 1_000_000;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An address.
    Address(IpAddr),
    /// A name, and what has it.
    Name(Name),
}

impl Subject {
    /// As a person writes it.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> Result<Subject, Fault> {
        if let Ok(address) = text.parse() {
            return Ok(Subject::Address(address));
        }
        let name = Name::new(text).map(Subject::Name);
        name.map_err(|error| {
            let text: String = text.chars().take(80).collect();
            Fault::new(FaultKind::Malformed, format!("{text:?} is no address and no name: {error}"))
        })
    }

    /// The addresses it is about; a name's are found by going through all.
    pub fn addresses(&self, registry: &Registry) -> Vec<IpAddr> {
        match self {
            Subject::Address(address) => {
                registry.saved(*address).map(|_| *address).into_iter().collect()
            }
            Subject::Name(name) => {
                let mut found = registry.addresses_of(name);
                found.sort_unstable();
                found
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Address(address) => address.fmt(f),
            Subject::Name(name) => name.fmt(f),
        }
    }
}

/// Looks up, with grades for whoever inquires.
pub fn look_up(
    registry: &Registry,
    subject: &Subject,
    inquiry: Option<&Inquiry<'_>>,
    name_of: &dyn Fn(IpAddr) -> Option<String>,
) -> LookedUp {
    let found = subject.addresses(registry);
    let tell = |address: &IpAddr| {
        let saved = registry.saved(*address)?;
        let mut told = told(*address, &saved, name_of);
        if let Some(inquiry) = inquiry {
            let (grade, known) = registry.look_up(inquiry, *address);
            (told.grade, told.marks) = (Some(grade), known.marks);
        }
        Some(told)
    };
    let addresses: Vec<RegistryAddress> =
        found.iter().take(ADDRESSES_TOLD_MAX).filter_map(tell).collect();
    let more = found.len().saturating_sub(ADDRESSES_TOLD_MAX);
    LookedUp { addresses, more: u64::try_from(more).unwrap_or(u64::MAX), container: None }
}

fn told(
    address: IpAddr,
    saved: &Saved,
    name_of: &dyn Fn(IpAddr) -> Option<String>,
) -> RegistryAddress {
    let at = |seconds: u32| Wall(u64::from(seconds) * SECOND);
    let asker = |asker: &Asker| RegistryAsker {
        address: asker.address,
        container: name_of(asker.address),
        last: at(asker.last),
    };
    let of = |place: usize| {
        let of = saved.askers.iter().filter(move |asker| usize::from(asker.name) == place);
        of.map(asker).collect()
    };
    let names = saved.names.iter().enumerate().map(|(place, seen)| RegistryName {
        name: seen.name.clone(),
        kind: seen.kind,
        first: at(seen.first),
        last: at(seen.last),
        chain: seen.chain.as_deref().cloned().unwrap_or_default(),
        askers: of(place),
    });
    let unnamed = |asker: &&Asker| usize::from(asker.name) >= saved.names.len();
    RegistryAddress {
        address,
        grade: None,
        marks: Vec::new(),
        used: saved.used.map(|used| crate::control::show(at(used))),
        names: names.collect(),
        askers: saved.askers.iter().filter(unnamed).map(asker).collect(),
    }
}

/// Forgets an address, or every address of a name.
pub fn forget(registry: &Registry, subject: &Subject) -> Forgotten {
    let mut addresses = subject.addresses(registry);
    addresses.retain(|address| registry.forget(*address));
    Forgotten { addresses }
}

/// Takes in what goes through the `sieve` of one address, beside what is known.
pub fn merge(
    registry: &Registry,
    sieve: &Sieve,
    address: IpAddr,
    mut saved: Saved,
    into: &mut Imported,
) {
    sieve.sift(address, &mut saved);
    // Its names have been counted by the sieve.
    if saved.names.is_empty() {
        return;
    }
    let was_known = registry.saved(address).is_some();
    match registry.restore(address, &saved) {
        Inserted::LeftOut | Inserted::Rejected(_) => into.skipped += 1,
        Inserted::New | Inserted::Seen if was_known => into.known += 1,
        Inserted::New | Inserted::Seen => into.new += 1,
    }
}

/// The same with what a part of an exported registry says.
///
/// # Errors
/// If it is none.
pub fn import(
    registry: &Registry,
    sieve: &Sieve,
    part: &Value,
    now: Wall,
) -> Result<Imported, Fault> {
    let mut imported = Imported::default();
    let text = part.to_string();
    let take = |address, saved: Saved| merge(registry, sieve, address, saved, &mut imported);
    match store::parse_json(&text, now, take) {
        Ok(skipped) => {
            imported.skipped += skipped + sieve.left_out();
            Ok(imported)
        }
        Err(error) => Err(Fault::new(FaultKind::Malformed, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rebind::Rebinding;

    #[test]
    fn what_is_imported_is_no_way_around_the_check_for_rebinding() {
        let now = Wall(1_800_000_000_000_000);
        let part: Value = serde_json::json!({ "version": 2, "addresses": {
            "169.254.169.254": [{"name":"evil.example.com","first":1,"last":2,"kind":"reply"}],
            "192.168.1.1": [{"name":"evil.example.com","first":1,"last":2,"kind":"cached"},
                {"name":"meant.example.com","first":1,"last":2,"kind":"hosts"}],
            "93.184.215.14": [{"name":"good.example.com","first":1,"last":4_000_000_000u32,"kind":"reply"}],
        }});
        let registry = Registry::default();
        let sieve = Sieve::new(Some(std::sync::Arc::new(Rebinding::default())), now);
        let imported = import(&registry, &sieve, &part, now).unwrap();
        assert_eq!(imported, Imported { new: 2, known: 0, skipped: 2 });
        assert!(registry.saved("169.254.169.254".parse().unwrap()).is_none());
        let names = registry.names("192.168.1.1".parse().unwrap());
        assert_eq!((names.len(), names[0].name.as_str()), (1, "meant.example.com"));
        let last = registry.names("93.184.215.14".parse().unwrap())[0].last;
        assert_eq!(last, now.seconds(), "a time to come would never grow old");
    }
}
