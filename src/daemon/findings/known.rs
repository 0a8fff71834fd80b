//! What registry and lists say now about addresses that were refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde::Serialize;

use super::group::Groups;
use crate::daemon::books::Books;
use crate::daemon::ledger::Ledger;
use crate::engine::mark::Mark;
use crate::engine::{Kind, Name, Wall};
use crate::lists::{self, Query};

/// Names of an address that are told.
const NAMES_MAX: usize = 8;
/// Names of an address that lists are asked about: whoever has a blocked one is not to hide it behind others.
const NAMES_ASKED_MAX: usize = 256;
/// Why nobody can tell what is blocked.
const UNREAD: &str = "a list could not be read";
const MISREAD: &str = "the lists of the running synhold's configuration were not read";

/// What is known about one address now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Its names, the one seen last first.
    pub names: Vec<KnownName>,
    /// What is suspicious about them.
    pub marks: Vec<Mark>,
    /// The entry that allows it.
    pub allowed: Option<Listed>,
    /// The entry that blocks it or a name of it, other than `auto.txt`.
    pub blocked: Option<Listed>,
    /// True if the registry could not be asked, so that it may have names that are not here.
    pub unasked: bool,
    /// Why it may be blocked by a list that is not known here, if it may.
    pub unlisted: Option<&'static str>,
}

/// A name of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KnownName {
    /// The name.
    pub name: Name,
    /// How it is known.
    pub kind: Kind,
    /// When it first resolved to the address.
    #[serde(serialize_with = "text")]
    pub first: Wall,
    /// When it last did.
    #[serde(serialize_with = "text")]
    pub last: Wall,
}

/// An entry of a list, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As `list drop has 203.0.113.0/24`.
    pub text: String,
}

fn text<S: serde::Serializer>(time: &Wall, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&lists::show_time(*time))
}

/// Asks registry and lists about all of them. What cannot be asked is a note.
pub(super) fn know(
    addresses: &BTreeSet<IpAddr>,
    groups: &Groups,
    books: &Books,
    notes: &mut Vec<String>,
) -> BTreeMap<IpAddr, Known> {
    let mut known: BTreeMap<IpAddr, Known> =
        addresses.iter().map(|address| (*address, Known::default())).collect();
    let told = Ledger::open(&books.state_dir).and_then(|mut ledger| ledger.many(addresses));
    match told {
        Ok(told) => {
            for at in told {
                let Some(known) = known.get_mut(&at.address) else { continue };
                known.marks = at.marks;
                let name = |name: crate::control::RegistryName| KnownName {
                    name: name.name,
                    kind: name.kind,
                    first: name.first,
                    last: name.last,
                };
                known.names = at.names.into_iter().take(NAMES_ASKED_MAX).map(name).collect();
            }
        }
        Err(error) => {
            notes.push(format!("the registry is not known: {error:#}"));
            known.values_mut().for_each(|known| known.unasked = true);
        }
    }
    for (address, names) in &groups.later {
        let Some(known) = known.get_mut(address) else { continue };
        for (name, at) in names {
            let is_new = known.names.iter().all(|known| known.name != *name);
            if known.names.len() < NAMES_ASKED_MAX && is_new {
                let name = name.clone();
                known.names.push(KnownName { name, kind: Kind::Reply, first: *at, last: *at });
            }
        }
    }
    look_into_lists(&mut known, books, notes);
    known.values_mut().for_each(|known| known.names.truncate(NAMES_MAX));
    known
}

fn look_into_lists(known: &mut BTreeMap<IpAddr, Known>, books: &Books, notes: &mut Vec<String>) {
    let (mut queries, mut about, mut places) = (Vec::new(), Vec::new(), HashMap::new());
    for (address, known) in known.iter() {
        queries.push(Query::Address(*address));
        about.push(vec![*address]);
        for KnownName { name, .. } in &known.names {
            let place = *places.entry(name.clone()).or_insert_with(|| {
                queries.push(Query::Name(name.clone()));
                about.push(Vec::new());
                about.len() - 1
            });
            about.get_mut(place).into_iter().for_each(|about| about.push(*address));
        }
    }
    let findings = books.find(&queries);
    // What was not read may have any of them: an allow of ours would go before its block.
    let unlisted = match (&books.misread, findings.errors.is_empty()) {
        (_, false) => Some(UNREAD),
        (Some(_), true) => Some(MISREAD),
        (None, true) => None,
    };
    known.values_mut().for_each(|known| known.unlisted = unlisted);
    notes.extend(books.misread.clone());
    notes.extend(findings.errors.into_iter().map(|error| format!("a list is not known: {error}")));
    for found in findings.found {
        for address in about.get(found.query).into_iter().flatten() {
            let Some(known) = known.get_mut(address) else { continue };
            let listed = Listed { text: format!("list {} has {}", found.list, found.entry) };
            match found.kind {
                lists::Kind::Allow => known.allowed = known.allowed.take().or(Some(listed)),
                // Whether a blocked name blocks an address depends on who asked for it; a line in allow.txt lets everybody.
                lists::Kind::Block if found.list != lists::Own::Auto.name() => {
                    known.blocked = known.blocked.take().or(Some(listed));
                }
                lists::Kind::Block | lists::Kind::Quarantine => {}
            }
        }
    }
}
