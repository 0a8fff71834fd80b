//! Entries that no rule asks about, since nothing local is judged.

use crate::engine::net::Family;
use crate::engine::ranges::RangeSet;
use crate::lists::Entry;
use crate::nftables::ruleset::Set;
use crate::nftables::{self, Options, Ruleset, names};

/// What is local: by the rules in the kernel, or else by those that would be put in unless configured otherwise.
pub fn local() -> RangeSet {
    // Whoever may not ask the kernel may still edit a list.
    let rules = nftables::read().ok().flatten();
    let rules = rules.unwrap_or_else(|| Ruleset::new(&Options::default()));
    let sets = Family::BOTH.into_iter().filter_map(|family| rules.set(names::LOCAL.of(family)));
    RangeSet::new(sets.flat_map(Set::ranges))
}

/// The set of local addresses that has the whole entry.
pub fn unjudged(entry: &Entry, local: &RangeSet) -> Option<String> {
    match entry {
        Entry::Addresses(family, span) => {
            let all = local.outside(*family, *span).is_empty();
            all.then(|| names::LOCAL.of(*family).to_owned())
        }
        Entry::Domain(_) | Entry::Container(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::net::Net;

    #[test]
    fn only_what_is_local_as_a_whole_is_not_judged() {
        let nets = ["10.0.0.0/8", "fc00::/7"].map(|net| net.parse::<Net>().unwrap());
        let local = RangeSet::new(nets.map(|net| (net.family(), net.span())));
        for (entry, set) in [
            ("10.9.9.9", Some("local4")),
            ("10.0.0.0/8", Some("local4")),
            ("fd00::/64", Some("local6")),
            ("8.0.0.0/5", None),
            ("203.0.113.1", None),
            ("shop.example", None),
        ] {
            let found = unjudged(&entry.parse().unwrap(), &local);
            assert_eq!(found.as_deref(), set, "{entry}");
        }
    }
}
