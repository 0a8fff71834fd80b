//! Containers in quarantine by name: whatever address they have, and no address longer than they have it.

use std::net::IpAddr;

use super::name::Name;
use super::owner::Owners;
use super::time::Wall;

/// Containers that are refused everything, each until a time or for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confined {
    /// Sorted, each once.
    names: Vec<(Name, Option<Wall>)>,
    /// The addresses they have, for the kernel. Sorted, each once.
    places: Vec<(IpAddr, Option<Wall>)>,
}

impl Confined {
    /// Containers by their names, sorted and each once, and where they are is not known yet.
    pub fn new(names: Vec<(Name, Option<Wall>)>) -> Confined {
        Confined { names, places: Vec::new() }
    }

    /// The same containers where they are now.
    pub fn placed(&self, owners: &Owners) -> Confined {
        self.placed_by(owners.iter().map(|(address, owner)| (address, &*owner.name)))
    }

    /// The same by the names of all addresses.
    pub fn placed_by<'n>(&self, named: impl Iterator<Item = (IpAddr, &'n str)>) -> Confined {
        let until = |name: &str| {
            self.names.iter().find(|(confined, _)| is(confined, name)).map(|(_, until)| *until)
        };
        let mut places: Vec<(IpAddr, Option<Wall>)> = match self.names.is_empty() {
            true => Vec::new(),
            false => named.filter_map(|(ip, name)| Some((ip, until(name)?))).collect(),
        };
        places.sort_unstable();
        Confined { names: self.names.clone(), places }
    }

    /// Whether a container is one of them.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|(confined, _)| is(confined, name))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.names.iter().map(|(name, _)| name)
    }

    /// Whether an address was one of theirs when they were placed.
    pub fn has_place(&self, address: IpAddr) -> bool {
        self.places.binary_search_by_key(&address, |(place, _)| *place).is_ok()
    }

    /// Their addresses, and until when.
    pub fn places(&self) -> &[(IpAddr, Option<Wall>)] {
        &self.places
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Names are kept in small letters; two containers that differ by that alone are both meant.
fn is(confined: &Name, name: &str) -> bool {
    confined.as_str().eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name))
}

#[cfg(test)]
#[path = "confined_test.rs"]
mod tests;
