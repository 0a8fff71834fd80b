//! The rules that options ask for.

use rustables::HookClass;

use super::drift::serves_as;
use super::element::Key;
use super::expr::Rule;
use super::options::{DnsRedirect, Options};
use super::ruleset::{Chain, Hook, Ruleset, Set};
use super::{Family, names, rules, sets};
use crate::engine::canary::Place;
use crate::engine::intervals::{Span, merge};
use crate::engine::net::Net;

impl Ruleset {
    /// The rules these options ask for.
    pub fn new(options: &Options) -> Ruleset {
        let mut chains = vec![
            chain(names::FORWARD, hook_of(names::FORWARD), rules::forward(options)),
            chain(names::VERDICT, None, rules::verdict(options)),
            chain(names::REFUSE, None, rules::refuse(options.refuse)),
            chain(names::ENFORCE, None, rules::enforce(options.dry_run)),
            chain(names::BLOCKED, None, rules::blocked(options.dry_run)),
            chain(names::CUT, None, rules::cut(options.dry_run)),
            chain(names::INBOUND, None, rules::inbound(options.dry_run)),
            chain(names::HOST, hook_of(names::HOST), rules::host(options.dry_run)),
        ];
        if options.anti_spoof {
            chains.push(chain(names::SPOOFED, hook_of(names::SPOOFED), rules::spoofed()));
            chains.push(chain(names::FORGED, None, rules::forged(options.dry_run)));
        }
        if options.dns_redirect != DnsRedirect::Off {
            let rules = rules::dns_redirect(options.dns_redirect);
            chains.push(chain(names::REDIRECT, hook_of(names::REDIRECT), rules));
        }
        chains.extend(options.owned.then(|| chain(names::OWNED, None, Vec::new())));
        Ruleset { dormant: false, sets: sets::wanted(options), chains }
    }
}

impl Ruleset {
    /// Whether somebody told where containers are: an engine's bridges are never guessed.
    pub fn knows_bridges(&self) -> bool {
        let bridges = self.set(names::BRIDGES.v4).and_then(|set| set.elements.as_ref());
        bridges.is_some_and(|bridges| !bridges.is_empty())
    }

    /// Where a running daemon's own packets come from, if it sends any.
    pub fn canary(&self) -> Vec<Net> {
        let alone = |(family, span): (Family, Span)| {
            let address = family.address(span.first());
            let is_ours = span.first() == span.last() && Place::of_sender(address).is_some();
            is_ours.then(|| Net::from(address))
        };
        let sets = Family::BOTH.map(|family| self.set(names::CONTAINERS.of(family)));
        sets.into_iter().flatten().filter_map(|set| set.ranges().find_map(alone)).collect()
    }

    /// The same, judging the source of our own packets as well.
    pub fn with_canary(&self, canary: &[Net]) -> Ruleset {
        let mut same = self.clone();
        for net in canary {
            let name = names::CONTAINERS.of(net.family());
            if let Some(set) = same.sets.iter_mut().find(|set| set.name == name) {
                let spans = merge(set.ranges().map(|(_, span)| span).chain([net.span()]));
                let key = |span| Key::Span(net.family(), span);
                set.elements = Some(spans.into_iter().map(key).collect());
            }
        }
        same
    }

    /// The same, judging the containers that `other` judges as well.
    pub fn judging_also(&self, other: &Ruleset) -> Ruleset {
        let mut same = self.clone();
        for family in Family::BOTH {
            let name = names::CONTAINERS.of(family);
            let Some(set) = same.sets.iter_mut().find(|set| set.name == name) else { continue };
            let theirs = other.set(name).filter(|theirs| serves_as(theirs, set));
            let ranges = set.ranges().chain(theirs.into_iter().flat_map(Set::ranges));
            let spans = merge(ranges.map(|(_, span)| span));
            set.elements = Some(spans.into_iter().map(|span| Key::Span(family, span)).collect());
        }
        same
    }

    /// The same, with the sets that follow the networks holding what those of `other` do. Sets of another type stay.
    pub fn with_networks_of(&self, other: &Ruleset) -> Ruleset {
        let mut same = self.clone();
        for set in same.sets.iter_mut().filter(|set| names::is_managed(&set.name)) {
            let theirs = other.set(&set.name).filter(|theirs| serves_as(theirs, set));
            if let Some(theirs) = theirs {
                set.elements.clone_from(&theirs.elements);
                set.catch_all = theirs.catch_all;
            }
        }
        same
    }
}

impl Ruleset {
    /// What is wanted in place of `current`: a base chain of ours that is there and not wanted stays, empty. Deleting
    /// it would drop every packet waiting in any queue of the network namespace.
    pub fn in_place_of(&self, current: &Ruleset) -> Ruleset {
        let is_base = |chain: &&Chain| chain.hook.is_some() && self.chain(&chain.name).is_none();
        let resting = current.chains.iter().filter(is_base).filter_map(|there| {
            hook_of(&there.name).map(|hook| chain(&there.name, Some(hook), Vec::new()))
        });
        let chains = self.chains.iter().cloned().chain(resting).collect();
        Ruleset { chains, ..self.clone() }
    }
}

fn chain(name: &str, hook: Option<Hook>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), hook, rules }
}

/// Where a base chain of ours hangs.
fn hook_of(name: &str) -> Option<Hook> {
    let (kind, class, priority) = match name {
        names::FORWARD => ("filter", HookClass::Forward, names::PRIORITY),
        names::HOST => ("filter", HookClass::In, names::PRIORITY),
        names::SPOOFED => ("filter", HookClass::PreRouting, names::SPOOFED_PRIORITY),
        names::REDIRECT => ("nat", HookClass::PreRouting, names::REDIRECT_PRIORITY),
        _ => return None,
    };
    Some(Hook { kind: kind.to_owned(), num: class as u32, priority, policy_drop: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::drift::{Drift, check};
    use crate::nftables::expr::{Expr, Verdict};
    use crate::nftables::plan::{Step, plan};

    fn with(dns_redirect: DnsRedirect) -> Ruleset {
        Ruleset::new(&Options { dns_redirect, ..Options::default() })
    }

    #[test]
    fn the_canarys_source_is_judged_and_known_again() {
        let places = Family::BOTH.iter().filter_map(|family| Place::free(*family, &[]));
        let canary: Vec<Net> = places.map(Place::judged).collect();
        let plain = Ruleset::new(&Options::default());
        let with = Ruleset::new(&Options { canary: canary.clone(), ..Options::default() });
        assert_eq!((plain.canary(), with.canary()), (Vec::new(), canary.clone()));
        assert_eq!(plain.with_canary(&canary), with);
        assert_eq!(with.with_canary(&canary), with);
        let local = |rules: &Ruleset| {
            Family::BOTH.map(|family| rules.set(names::LOCAL.of(family)).cloned())
        };
        assert_eq!(local(&plain), local(&with), "and is not local for that");
    }

    fn lines(wanted: &Ruleset, actual: &Ruleset) -> Vec<String> {
        check(wanted, Some(actual)).iter().map(Drift::to_string).collect()
    }

    #[test]
    fn a_base_chain_no_longer_wanted_stays_empty() {
        let (off, mut on) = (with(DnsRedirect::Off), with(DnsRedirect::Gateway));
        assert_eq!(lines(&on, &off), ["chain dns_redirect: missing"]);
        let rules = on.chains.last().unwrap().rules.len();
        assert_eq!(lines(&off, &on).len(), rules);
        let steps: Vec<String> =
            plan(&off, Some(&on)).unwrap().steps.iter().map(Step::to_string).collect();
        assert_eq!(steps, ["the flush of chain dns_redirect"]);
        on.chains.last_mut().unwrap().rules.clear();
        assert_eq!(lines(&off, &on), Vec::<String>::new());
        assert!(plan(&off, Some(&on)).unwrap().steps.is_empty());
    }

    #[test]
    fn what_somebody_did_to_it_is_undone_all_the_same() {
        let (off, mut on) = (with(DnsRedirect::Off), with(DnsRedirect::Gateway));
        let chain = on.chains.last_mut().unwrap();
        chain.hook.as_mut().unwrap().policy_drop = true;
        let exprs = vec![Expr::Verdict(Verdict::Drop)];
        chain.rules = vec![Rule { comment: "theirs".to_owned(), exprs }];
        assert_eq!(lines(&off, &on).len(), 2);
        assert_eq!(plan(&off, Some(&on)).unwrap().chains.len(), 1, "its policy is set");

        // One that is not where ours hangs cannot be changed; a regular one can go.
        on.chains.last_mut().unwrap().hook.as_mut().unwrap().priority = 0;
        assert!(plan(&off, Some(&on)).is_err());
        on.chains.last_mut().unwrap().hook = None;
        assert_eq!(lines(&off, &on), ["chain dns_redirect: should not be there"]);
        let steps = plan(&off, Some(&on)).unwrap().steps;
        assert!(steps.contains(&Step::DeleteChain(names::REDIRECT.to_owned())));
    }
}
