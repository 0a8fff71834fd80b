//! From what the kernel has to what is wanted: the steps of one transaction. Pure.

use std::fmt;

use super::drift::{not_in, serves_as};
use super::element;
use super::error::Error;
use super::expr::{Expr, Rule};
use super::names;
use super::render::hook;
use super::ruleset::{Chain, Ruleset, Set};

/// What a transaction does with the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableStep {
    /// See that it is there and awake.
    Add,
    /// Take it away with all that is in it.
    Delete,
}

/// One transaction: table first, then chains, then the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// What to do with the table.
    pub table: TableStep,
    /// Chains to add, or whose policy to set.
    pub chains: Vec<Chain>,
    /// Everything else, in order.
    pub steps: Vec<Step>,
}

/// One message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete a chain's rules.
    FlushChain(String),
    /// Delete an empty chain.
    DeleteChain(String),
    /// Delete a set.
    DeleteSet(String),
    /// Add a set, without elements.
    AddSet(Set),
    /// Take `*` out of a set.
    DeleteCatchAll(String),
    /// Take elements out of a set.
    DeleteElements(String, Vec<element::Key>),
    /// Put elements into a set.
    AddElements(String, Vec<element::Key>),
    /// Append a rule.
    AddRule(String, Rule),
}

/// Elements in one message. At most [`element::ELEMENT_BYTES_MAX`] each: under the 64 KiB that a nested attribute can say.
const PER_MESSAGE: usize = 500;

/// The transaction that brings the kernel from `current` to `wanted`. Chains that are as they should be keep
/// their rules, and so their counters. Base chains are never deleted: that would drop every queued packet.
///
/// # Errors
/// [`Error::InTheWay`] if what is there cannot become what is wanted; [`Error::NotOurs`] if that cannot be written.
pub fn plan(wanted: &Ruleset, current: Option<&Ruleset>) -> Result<Transaction, Error> {
    let nothing = Ruleset::default();
    let current = current.unwrap_or(&nothing);
    let wanted = &wanted.in_place_of(current);
    check_hooks(wanted, current)?;
    let reshaped = |set: &&Set| current.set(&set.name).is_some_and(|have| !serves_as(set, have));
    // A set can only be deleted when no rule asks it any more.
    let all_rules_go = wanted.sets.iter().any(|set| reshaped(&set));
    let is_stale = |chain: &&Chain| {
        all_rules_go || current.chain(&chain.name).is_none_or(|c| c.rules != chain.rules)
    };
    let stale: Vec<&Chain> = wanted.chains.iter().filter(is_stale).collect();
    check_writable(&stale)?;
    let extra: Vec<&Chain> =
        current.chains.iter().filter(|chain| wanted.chain(&chain.name).is_none()).collect();

    let mut steps = Vec::new();
    // New chains are flushed too: if somebody put the same one in meanwhile, rules would double.
    steps.extend(stale.iter().chain(&extra).map(|chain| Step::FlushChain(chain.name.clone())));
    let unwanted = current
        .sets
        .iter()
        .filter(|set| wanted.set(&set.name).is_none_or(|want| !serves_as(want, set)));
    steps.extend(unwanted.map(|set| Step::DeleteSet(set.name.clone())));
    // Behind the sets: a map's elements may lead to such a chain.
    steps.extend(extra.iter().map(|chain| Step::DeleteChain(chain.name.clone())));
    for set in &wanted.sets {
        set_steps(set, current.set(&set.name).filter(|have| serves_as(set, have)), &mut steps);
    }
    for chain in stale {
        steps
            .extend(chain.rules.iter().map(|rule| Step::AddRule(chain.name.clone(), rule.clone())));
    }
    Ok(Transaction { table: TableStep::Add, chains: chains_to_add(wanted, current), steps })
}

/// The transaction that has to go first to wake a table which lacks a base chain: the kernel adds none while it
/// changes the table's flags. Nothing in such a table sees packets, asleep or awake.
pub fn wake(wanted: &Ruleset, current: Option<&Ruleset>) -> Option<Transaction> {
    let asleep = current.filter(|current| current.dormant)?;
    let lacks = |chain: &Chain| chain.hook.is_some() && asleep.chain(&chain.name).is_none();
    wanted.chains.iter().any(lacks).then(|| Transaction {
        table: TableStep::Add,
        chains: Vec::new(),
        steps: Vec::new(),
    })
}

/// What the decoder could not read must not be written back as something else.
fn check_writable(chains: &[&Chain]) -> Result<(), Error> {
    let rules = chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)));
    for (chain, rule) in rules {
        if rule.exprs.iter().any(|expr| matches!(expr, Expr::Unknown(_))) {
            let what = Step::AddRule(chain.name.clone(), rule.clone()).to_string();
            return Err(Error::NotOurs { what });
        }
    }
    Ok(())
}

fn chains_to_add(wanted: &Ruleset, current: &Ruleset) -> Vec<Chain> {
    let differs =
        |chain: &&Chain| current.chain(&chain.name).is_none_or(|have| have.hook != chain.hook);
    wanted.chains.iter().filter(differs).cloned().collect()
}

/// A chain's kind, hook and priority are for life; only its policy can change.
fn check_hooks(wanted: &Ruleset, current: &Ruleset) -> Result<(), Error> {
    for have in &current.chains {
        let is = have.hook.as_ref().map_or("a regular chain".to_owned(), hook);
        match (wanted.chain(&have.name).map(|chain| &chain.hook), &have.hook) {
            (None, None) => {}
            (None, Some(_)) => {
                let what = format!("chain {} ({is}), which is not ours,", have.name);
                return Err(Error::InTheWay { what });
            }
            (Some(want), found) => {
                let fixed =
                    |hook: &super::ruleset::Hook| (hook.kind.clone(), hook.num, hook.priority);
                if want.as_ref().map(fixed) != found.as_ref().map(fixed) {
                    let want = want.as_ref().map_or("a regular chain".to_owned(), hook);
                    let what = format!("chain {} (is {is} should be {want})", have.name);
                    return Err(Error::InTheWay { what });
                }
            }
        }
    }
    Ok(())
}

fn set_steps(wanted: &Set, current: Option<&Set>, steps: &mut Vec<Step>) {
    if current.is_none() {
        steps.push(Step::AddSet(wanted.clone()));
    }
    let Some(want) = &wanted.elements else { return };
    let have = current.and_then(|set| set.elements.as_deref()).unwrap_or_default();
    if current.is_some_and(|set| set.catch_all) {
        steps.push(Step::DeleteCatchAll(wanted.name.clone()));
    }
    let (gone, new) = (not_in(have, want), not_in(want, have));
    // Deleting first: a range that grew would overlap itself.
    for chunk in gone.chunks(PER_MESSAGE) {
        steps.push(Step::DeleteElements(wanted.name.clone(), chunk.to_vec()));
    }
    for chunk in new.chunks(PER_MESSAGE) {
        steps.push(Step::AddElements(wanted.name.clone(), chunk.to_vec()));
    }
}

impl fmt::Display for TableStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableStep::Add => write!(f, "table inet {}", names::TABLE),
            TableStep::Delete => write!(f, "the removal of table inet {}", names::TABLE),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::FlushChain(chain) => write!(f, "the flush of chain {chain}"),
            Step::DeleteChain(chain) => write!(f, "the removal of chain {chain}"),
            Step::DeleteSet(set) => write!(f, "the removal of set {set}"),
            Step::AddSet(set) => write!(f, "set {}", set.name),
            Step::DeleteCatchAll(set) => write!(f, "the removal of element * of set {set}"),
            Step::DeleteElements(set, ..) => write!(f, "the removal of elements of set {set}"),
            Step::AddElements(set, ..) => write!(f, "elements of set {set}"),
            Step::AddRule(chain, rule) => write!(f, "rule \"{}\" of chain {chain}", rule.comment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::options::Options;
    use crate::nftables::ruleset::INTERVAL;
    use std::net::IpAddr;

    fn wanted() -> Ruleset {
        Ruleset::new(&Options::default())
    }

    fn span(address: u32) -> element::Key {
        element::Key::point(IpAddr::V4(address.into()))
    }

    #[track_caller]
    fn steps(change: impl FnOnce(&mut Ruleset)) -> Vec<String> {
        let mut current = wanted();
        change(&mut current);
        let transaction = plan(&wanted(), Some(&current)).unwrap();
        let chains = transaction.chains.iter().map(|chain| format!("chain {}", chain.name));
        chains.chain(transaction.steps.iter().map(Step::to_string)).collect()
    }

    #[test]
    fn nothing_to_do_is_no_step() {
        assert!(steps(|_| {}).is_empty());
    }

    #[test]
    fn only_the_chain_that_differs_is_written_again() {
        let wanted = [
            "the flush of chain verdict",
            "rule \"no flow, of a dry run, IPv4\" of chain verdict",
            "rule \"no flow, of a dry run, IPv6\" of chain verdict",
            "rule \"no flow at all\" of chain verdict",
            "rule \"ask the daemon\" of chain verdict",
        ];
        assert_eq!(steps(|is| is.chains[1].rules.clear()), wanted);
    }

    #[test]
    fn a_policy_is_set_in_place() {
        assert_eq!(
            steps(|is| is.chains[0].hook.as_mut().unwrap().policy_drop = true),
            ["chain forward"]
        );
    }

    #[test]
    fn ranges_change_by_difference() {
        let steps = steps(|is| is.sets[4].elements.as_mut().unwrap()[0] = span(1));
        assert_eq!(steps, ["the removal of elements of set local4", "elements of set local4"]);
    }

    #[test]
    fn an_older_table_gets_the_base_chain_it_lacks() {
        let steps = steps(|is| is.chains.retain(|chain| chain.name != names::HOST));
        let rules = Ruleset::new(&Options::default()).chain(names::HOST).unwrap().rules.len();
        assert_eq!(steps[..2], ["chain host", "the flush of chain host"]);
        assert_eq!(steps.len(), 2 + rules, "and nothing else is touched: {steps:?}");
    }

    #[test]
    fn a_set_of_another_type_is_made_anew_with_every_rule() {
        let steps = steps(|is| is.sets[2].flags = INTERVAL);
        assert_eq!(
            steps[..11],
            [
                "the flush of chain forward",
                "the flush of chain verdict",
                "the flush of chain refuse",
                "the flush of chain enforce",
                "the flush of chain blocked",
                "the flush of chain cut",
                "the flush of chain inbound",
                "the flush of chain host",
                "the flush of chain spoofed",
                "the flush of chain forged",
                "the removal of set quarantine4",
            ]
        );
        assert_eq!(steps[11], "set quarantine4");
        assert_eq!(
            steps.len(),
            12 + wanted().chains.iter().map(|chain| chain.rules.len()).sum::<usize>()
        );
    }

    #[test]
    fn a_set_with_more_room_than_wanted_is_kept() {
        assert!(steps(|is| is.sets[10].size *= 2).is_empty());
        let smaller = steps(|is| is.sets[10].size /= 2);
        assert!(smaller.contains(&"the removal of set blockhosts4".to_owned()), "{smaller:?}");
    }

    #[test]
    fn strangers_go_unless_they_are_base_chains() {
        let stray = Chain { name: "stray".to_owned(), hook: None, rules: Vec::new() };
        let steps = steps(|is| is.chains.push(stray.clone()));
        assert_eq!(steps, ["the flush of chain stray", "the removal of chain stray"]);
        let mut current = wanted();
        current.chains.push(Chain { hook: current.chains[0].hook.clone(), ..stray });
        assert!(
            plan(&wanted(), Some(&current))
                .unwrap_err()
                .to_string()
                .starts_with("chain stray (type filter hook forward")
        );
    }

    #[test]
    fn sets_go_before_the_chains_their_elements_may_lead_to() {
        let steps = steps(|is| {
            let stray = Chain { name: "stray".to_owned(), hook: None, rules: Vec::new() };
            is.sets.push(Set { name: "map".to_owned(), ..is.sets[0].clone() });
            is.chains.push(stray);
        });
        let wanted =
            ["the flush of chain stray", "the removal of set map", "the removal of chain stray"];
        assert_eq!(steps, wanted);
    }

    #[test]
    fn every_address_is_one_element() {
        let steps = steps(|is| is.sets[4].catch_all = true);
        assert_eq!(steps, ["the removal of element * of set local4"]);
    }

    #[test]
    fn what_cannot_be_read_is_not_written() {
        let mut wanted = wanted();
        wanted.chains[1].rules[0].exprs.push(Expr::Unknown("limit".to_owned()));
        let error = plan(&wanted, None).unwrap_err();
        assert!(matches!(error, Error::NotOurs { .. }), "{error}");
    }

    #[test]
    fn only_a_table_that_lacks_a_base_chain_is_woken_first() {
        let mut current = wanted();
        assert_eq!(wake(&wanted(), Some(&current)), None);
        current.dormant = true;
        assert_eq!(wake(&wanted(), Some(&current)), None);
        current.chains.remove(0);
        assert!(wake(&wanted(), Some(&current)).is_some());
        assert_eq!(wake(&wanted(), None), None);
    }

    #[test]
    fn a_base_chain_elsewhere_is_in_the_way() {
        let mut current = wanted();
        current.chains[0].hook.as_mut().unwrap().priority = 7;
        let text = plan(&wanted(), Some(&current)).unwrap_err().to_string();
        assert!(
            text.contains("priority filter + 7") && text.contains("priority filter - 1"),
            "{text}"
        );
        current.chains[0].hook = None;
        assert!(plan(&wanted(), Some(&current)).is_err());
    }

    #[test]
    fn large_sets_take_several_messages() {
        let spans = (0..1_300).map(|n| span(n * 10)).collect();
        let mut wanted = wanted();
        wanted.sets[0].elements = Some(spans);
        let steps = plan(&wanted, None).unwrap().steps;
        let chunks = steps
            .iter()
            .filter(|step| matches!(step, Step::AddElements(set, ..) if set == "containers4"));
        assert_eq!(chunks.count(), 3);
    }
}
