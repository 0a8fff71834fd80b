//! What differs between the rules wanted and the rules the kernel has. Pure.

use std::fmt;

use super::element::Key;
use super::expr::Rule;
use super::names;
use super::phrase::phrase;
use super::render;
use super::ruleset::{Chain, Ruleset, Set};

/// What happened to a thing that should be as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is not there.
    Missing,
    /// It is there and should not be.
    Extra,
    /// It is another one; both as text.
    Differs {
        /// What is there.
        is: String,
        /// What should be.
        wanted: String,
    },
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// The table itself.
    Table(Change),
    /// A set's being there, type, flags or timeout.
    Set {
        /// Its name.
        set: String,
        /// What about it.
        change: Change,
    },
    /// An element of a set that follows from the options.
    Element {
        /// The set.
        set: String,
        /// The element as text.
        element: String,
        /// What about it; never `Differs`.
        change: Change,
    },
    /// A chain's being there, or its hook, priority or policy.
    Chain {
        /// Its name.
        chain: String,
        /// What about it.
        change: Change,
    },
    /// A rule.
    Rule {
        /// The chain it is in.
        chain: String,
        /// Its comment, or for one without, its text.
        rule: String,
        /// What about it.
        change: Change,
    },
    /// All rules are there, in another order.
    Order {
        /// The chain they are in.
        chain: String,
    },
}

/// Names everything that is missing, changed or extra. Empty means in order.
pub fn check(wanted: &Ruleset, actual: Option<&Ruleset>) -> Vec<Drift> {
    let Some(actual) = actual else { return vec![Drift::Table(Change::Missing)] };
    let wanted = &wanted.in_place_of(actual);
    let mut drift = Vec::new();
    if wanted.dormant != actual.dormant {
        drift.push(Drift::Table(differs(sleep_word(actual.dormant), sleep_word(wanted.dormant))));
    }
    for set in &wanted.sets {
        check_set(set, actual.set(&set.name), &mut drift);
    }
    for set in actual.sets.iter().filter(|set| wanted.set(&set.name).is_none()) {
        drift.push(Drift::Set { set: set.name.clone(), change: Change::Extra });
    }
    for chain in &wanted.chains {
        check_chain(chain, actual.chain(&chain.name), &mut drift);
    }
    for chain in actual.chains.iter().filter(|chain| wanted.chain(&chain.name).is_none()) {
        drift.push(Drift::Chain { chain: chain.name.clone(), change: Change::Extra });
    }
    drift
}

fn differs(is: impl Into<String>, wanted: impl Into<String>) -> Change {
    Change::Differs { is: is.into(), wanted: wanted.into() }
}

fn sleep_word(dormant: bool) -> &'static str {
    if dormant { "dormant" } else { "active" }
}

/// Whether a set of the kernel can serve as the one wanted: everything but the elements. More room than wanted is
/// fine: a list that grew took it, and options do not know of it.
pub fn serves_as(wanted: &Set, actual: &Set) -> bool {
    let kind = |set: &Set| (set.key, set.flags, set.timeout_ms, set.gc_interval_ms);
    let room = (wanted.size == 0) == (actual.size == 0) && actual.size >= wanted.size;
    kind(wanted) == kind(actual) && wanted.each == actual.each && room
}

fn check_set(wanted: &Set, actual: Option<&Set>, drift: &mut Vec<Drift>) {
    let set = wanted.name.clone();
    let Some(actual) = actual else {
        return drift.push(Drift::Set { set, change: Change::Missing });
    };
    if !serves_as(wanted, actual) {
        return drift
            .push(Drift::Set { set, change: differs(set_words(actual), set_words(wanted)) });
    }
    let Some(want) = &wanted.elements else { return };
    let have = actual.elements.as_deref().unwrap_or_default();
    let element =
        |key: Key, change| Drift::Element { set: set.clone(), element: key.to_string(), change };
    if actual.catch_all {
        drift.push(Drift::Element {
            set: set.clone(),
            element: "*".to_owned(),
            change: Change::Extra,
        });
    }
    drift.extend(not_in(want, have).into_iter().map(|key| element(key, Change::Missing)));
    drift.extend(not_in(have, want).into_iter().map(|key| element(key, Change::Extra)));
}

/// The elements of `a` that are not, as they stand, in `b`. Both are sorted.
pub fn not_in(a: &[Key], b: &[Key]) -> Vec<Key> {
    a.iter().filter(|key| b.binary_search(key).is_err()).copied().collect()
}

fn set_words(set: &Set) -> String {
    let kind = format!("type {}, flags {}", render::key(set.key), render::flags(set.flags));
    std::iter::once(kind).chain(render::properties(set)).collect::<Vec<_>>().join(", ")
}

fn hook_words(chain: &Chain) -> String {
    chain.hook.as_ref().map_or_else(|| "a regular chain".to_owned(), render::hook)
}

fn check_chain(wanted: &Chain, actual: Option<&Chain>, drift: &mut Vec<Drift>) {
    let chain = wanted.name.clone();
    let Some(actual) = actual else {
        return drift.push(Drift::Chain { chain, change: Change::Missing });
    };
    if wanted.hook != actual.hook {
        drift.push(Drift::Chain {
            chain: chain.clone(),
            change: differs(hook_words(actual), hook_words(wanted)),
        });
    }
    let before = drift.len();
    check_rules(&chain, &wanted.rules, &actual.rules, drift);
    if drift.len() == before && wanted.rules != actual.rules {
        drift.push(Drift::Order { chain });
    }
}

fn check_rules(chain: &str, wanted: &[Rule], actual: &[Rule], drift: &mut Vec<Drift>) {
    let mut unmatched: Vec<&Rule> = actual.iter().collect();
    let report = |rule: &Rule, change| Drift::Rule {
        chain: chain.to_owned(),
        rule: rule_name(rule),
        change,
    };
    for rule in wanted {
        let exact = unmatched.iter().position(|candidate| *candidate == rule);
        let named = || unmatched.iter().position(|candidate| candidate.comment == rule.comment);
        match exact.or_else(named) {
            None => drift.push(report(rule, Change::Missing)),
            Some(place) => {
                let found = unmatched.remove(place);
                if found != rule {
                    drift.push(report(rule, differs(rule_words(found), rule_words(rule))));
                }
            }
        }
    }
    drift.extend(unmatched.into_iter().map(|rule| report(rule, Change::Extra)));
}

/// A rule as near to nft text as can be.
pub fn rule_words(rule: &Rule) -> String {
    match phrase(&rule.exprs) {
        Ok(words) | Err(words) => words,
    }
}

fn rule_name(rule: &Rule) -> String {
    if rule.comment.is_empty() { rule_words(rule) } else { rule.comment.clone() }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Missing => f.write_str("missing"),
            Change::Extra => f.write_str("should not be there"),
            Change::Differs { is, wanted } => write!(f, "changed: is `{is}`, should be `{wanted}`"),
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Drift::Table(change) => write!(f, "table inet {}: {change}", names::TABLE),
            Drift::Set { set, change } => write!(f, "set {set}: {change}"),
            Drift::Element { set, element, change } => {
                write!(f, "set {set}: element {element}: {change}")
            }
            Drift::Chain { chain, change } => write!(f, "chain {chain}: {change}"),
            Drift::Rule { chain, rule, change } => {
                write!(f, "chain {chain}: rule \"{rule}\": {change}")
            }
            Drift::Order { chain } => write!(f, "chain {chain}: the rules are in another order"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::expr::{Expr, Verdict};
    use crate::nftables::options::Options;
    use crate::nftables::ruleset::INTERVAL;

    #[track_caller]
    fn says(change: impl FnOnce(&mut Ruleset), lines: &[&str]) {
        let wanted = Ruleset::new(&Options::default());
        let mut actual = wanted.clone();
        change(&mut actual);
        let drift: Vec<String> =
            check(&wanted, Some(&actual)).iter().map(Drift::to_string).collect();
        assert_eq!(drift, lines);
    }

    #[test]
    fn nothing_is_nothing() {
        says(|_| {}, &[]);
    }

    #[test]
    fn names_the_table() {
        let wanted = Ruleset::new(&Options::default());
        assert_eq!(
            check(&wanted, None).iter().map(Drift::to_string).collect::<String>(),
            "table inet synhold: missing"
        );
        says(
            |is| is.dormant = true,
            &["table inet synhold: changed: is `dormant`, should be `active`"],
        );
    }

    #[test]
    fn names_sets_and_elements() {
        says(|is| drop(is.sets.remove(3)), &["set quarantine6: missing"]);
        says(
            |is| is.sets[2].flags = INTERVAL,
            &["set quarantine4: changed: is `type ipv4_addr, flags interval`, \
               should be `type ipv4_addr, flags timeout`"],
        );
        says(
            |is| is.sets[0].elements = Some(vec![Key::point([0, 0, 0, 1].into())]),
            &[
                "set containers4: element 172.16.0.0/12: missing",
                "set containers4: element 0.0.0.1: should not be there",
            ],
        );
        says(
            |is| is.sets[1].catch_all = true,
            &["set containers6: element *: should not be there"],
        );
        says(
            |is| is.sets[11].name.push('x'),
            &["set blockhosts6: missing", "set blockhosts6x: should not be there"],
        );
    }

    #[test]
    fn names_what_a_set_is_beside_its_type() {
        let hosts = "set blockhosts4: changed: is `type ipv4_addr, flags none";
        let wanted = "`, should be `type ipv4_addr, flags none, size 65536`";
        says(|is| is.sets[10].size = 9, &[&format!("{hosts}, size 9{wanted}")]);
        says(|is| is.sets[10].size = 0, &[&format!("{hosts}{wanted}")]);
        says(|is| is.sets[10].size = 131_072, &[]);
        let block = "set block4: changed: is `type ipv4_addr, flags interval,timeout";
        let wanted = "`, should be `type ipv4_addr, flags interval,timeout, gc-interval 1d`";
        says(|is| is.sets[8].gc_interval_ms = 0, &[&format!("{block}{wanted}")]);
        says(|is| is.sets[8].size = 70, &[&format!("{block}, gc-interval 1d, size 70{wanted}")]);
        let denied = "type ipv4_addr . ipv4_addr, flags timeout, timeout 60s, size 65536";
        says(
            |is| is.sets[12].each = vec![Expr::Unknown("quota".to_owned())],
            &[&format!(
                "set denied4: changed: is `{denied}, [quota]`, should be `{denied}, counter`"
            )],
        );
    }

    #[test]
    fn names_chains() {
        let owned = Ruleset::new(&Options { owned: true, ..Options::default() });
        let is = owned.chain(names::OWNED).unwrap().clone();
        says(|actual| actual.chains.push(is), &["chain installed_by_run: should not be there"]);
        says(|is| drop(is.chains.remove(1)), &["chain verdict: missing"]);
        says(
            |is| is.chains[0].hook.as_mut().unwrap().priority = 5,
            &[
                "chain forward: changed: is `type filter hook forward priority filter + 5; policy accept;`, \
               should be `type filter hook forward priority filter - 1; policy accept;`",
            ],
        );
    }

    #[test]
    fn names_rules() {
        says(
            |is| drop(is.chains[0].rules.remove(5)),
            &["chain forward: rule \"refused by the daemon\": missing"],
        );
        says(
            |is| is.chains[1].rules[3].exprs = vec![Expr::Verdict(Verdict::Accept)],
            &[
                "chain verdict: rule \"ask the daemon\": changed: is `accept`, should be `counter queue to 0`",
            ],
        );
        let stranger = Rule {
            comment: String::new(),
            exprs: vec![Expr::Counter, Expr::Verdict(Verdict::Accept)],
        };
        says(
            |is| is.chains[0].rules.insert(0, stranger),
            &["chain forward: rule \"counter accept\": should not be there"],
        );
        says(
            |is| is.chains[2].rules.extend_from_within(..1),
            &["chain refuse: rule \"refuse it silently, IPv4\": should not be there"],
        );
        says(|is| is.chains[2].rules.swap(0, 1), &["chain refuse: the rules are in another order"]);
    }
}
