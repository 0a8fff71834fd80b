//! `synhold explain NAME`: every address that the name is known to have, and what to do if it has none.

use anyhow::Result;
use serde::Serialize;

use super::{Explanation, explain, listed, tell};
use crate::cli::lists::Place;
use crate::cli::{Answer, say, say_json, words};
use crate::control::{LookedUp, Question, RegistryAddress};
use crate::daemon::clock;
use crate::daemon::control::Asker;
use crate::engine::{Name, Wall};
use crate::lists::{Found, Kind};

/// Addresses explained, those seen last first: a service in many places has them all alike.
const ADDRESSES_MAX: usize = 4;

/// The whole answer about a name.
#[derive(Serialize)]
struct Named {
    name: Name,
    /// Every address that is explained passes, and there is one.
    passes: bool,
    /// When it first resolved and last did, by address.
    addresses: Vec<Explanation>,
    /// Addresses beyond those.
    more: u64,
    /// Those among them that this container has no packet for, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without: Vec<String>,
    /// What lists say about the name.
    entries: Vec<Found>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    lists_not_asked: Option<String>,
    /// What to do where no address is known.
    advice: Vec<String>,
}

pub(super) fn run(
    asker: &mut Asker,
    place: &Place,
    name: &Name,
    container: Option<&str>,
) -> Result<Answer> {
    let what = name.to_string();
    let found: LookedUp = asker.ask(&Question::RegistryLookup { what, container: None })?;
    let mut known = found.addresses;
    known.sort_by_key(|address| std::cmp::Reverse(last(address, name)));
    let all = known.len() as u64 + found.more;
    let mut addresses = Vec::new();
    let mut faults = Vec::new();
    for address in known.iter().take(ADDRESSES_MAX) {
        match explain(asker, place, address.address, container)? {
            Ok(explanation) => addresses.push(explanation),
            // A container without an address of that family has no packet for it.
            Err(fault) => faults.push(fault),
        }
    }
    let without = faults.iter().map(|fault| fault.message.clone()).collect();
    if let (Some(fault), true) = (faults.pop(), addresses.is_empty()) {
        return Err(fault.into());
    }
    let (entries, lists_not_asked) = listed(asker, place, name)?;
    let named = Named {
        passes: !addresses.is_empty() && addresses.iter().all(|one| one.passes),
        more: all.saturating_sub(addresses.len() as u64),
        without,
        advice: if all == 0 { unknown(name, container, &entries) } else { Vec::new() },
        addresses,
        name: name.clone(),
        entries,
        lists_not_asked,
    };
    if place.json {
        say_json(&named)?;
    } else {
        say(&told(&named, clock::wall()))?;
    }
    Ok(if named.passes { Answer::Fine } else { Answer::No })
}

fn last(address: &RegistryAddress, name: &Name) -> Option<Wall> {
    address.names.iter().filter(|known| known.name == *name).map(|known| known.last).max()
}

fn unknown(name: &Name, container: Option<&str>, entries: &[Found]) -> Vec<String> {
    let blocked = entries.iter().any(|found| found.kind == Kind::Block);
    let who = container.map_or("the container".to_owned(), words::plain);
    let mut advice = vec![
        format!(
            "have {who} resolve it through the resolver whose log is read: its addresses are known from then on"
        ),
        format!(
            "if {who} did resolve it: it asked another resolver, or the answer was no evidence; \
             `synhold status` shows the sources, `synhold events --only alert` what was rejected"
        ),
    ];
    if blocked {
        advice.insert(0, format!("it is blocked by name: `synhold allow {name}` lets it through"));
    }
    advice
}

/// Addresses that are not explained, and why not.
fn rest(named: &Named) -> String {
    let without = named.without.len() as u64;
    let parts = [
        (without, "that this container has no packet for"),
        (named.more.saturating_sub(without), "more that were seen less lately"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    parts.map(|(count, why)| format!(", and {count} {why}")).collect()
}

fn told(named: &Named, now: Wall) -> String {
    let name = &named.name;
    let mut lines = Vec::new();
    if named.addresses.is_empty() {
        lines.push(format!("NOT KNOWN: no DNS answer ever gave {name} an address"));
    } else {
        let count = named.addresses.len();
        let more = rest(named);
        let plural = if count == 1 { "address" } else { "addresses, the one seen last first" };
        lines.push(format!("{name} has {count} {plural}{more}"));
    }
    lines.extend(named.without.iter().map(|why| format!("  {}", words::plain(why))));
    lines.extend(named.entries.iter().map(|found| format!("  {}", crate::cli::lists::one(found))));
    lines.extend(named.lists_not_asked.iter().map(|why| format!("  {}", words::plain(why))));
    for explanation in &named.addresses {
        lines.push(String::new());
        lines.push(format!("--- {}", explanation.daemon.address));
        lines.push(tell(explanation, now));
    }
    if !named.advice.is_empty() {
        lines.push(String::new());
        lines.push("What to do:".to_owned());
        lines.extend(named.advice.iter().flat_map(|one| words::point(one, super::WIDTH)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_other_family_are_told_from_those_that_are_too_many() {
        let say = |more: u64, without: &[&str]| {
            let named = Named {
                name: Name::new("shop.example").unwrap(),
                passes: false,
                addresses: Vec::new(),
                more,
                without: without.iter().map(|&why| why.to_owned()).collect(),
                entries: Vec::new(),
                lists_not_asked: None,
                advice: Vec::new(),
            };
            rest(&named)
        };
        assert_eq!(say(0, &[]), "");
        assert_eq!(
            say(1, &["web has no address of the family of fd00::1"]),
            ", and 1 that this container has no packet for"
        );
        assert_eq!(say(3, &[]), ", and 3 more that were seen less lately");
        assert_eq!(
            say(3, &["a"]),
            ", and 1 that this container has no packet for, and 2 more that were seen less lately"
        );
    }
}
