//! What others put into our table, told apart from what can be put back as it was. Pure.

use super::drift::serves_as;
use super::expr::{Expr, Rule, Verdict};
use super::names;
use super::plan::Step;
use super::ruleset::{Chain, Ruleset, Set};

/// A ruleset that can be put back, and what cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restorable {
    /// To be applied later, in place of what was applied meanwhile.
    pub ruleset: Ruleset,
    /// What of the earlier ruleset is not in it, in words.
    pub discarded: Vec<String>,
}

/// What of `previous` can be put back over `applied` without loss and without deleting a base chain. Rules that
/// were not understood, or need what is not ours, and sets and chains of others are left out. Sets of ours that
/// had another type stay as applied.
pub fn restorable(previous: &Ruleset, applied: &Ruleset) -> Restorable {
    let mut discarded = Vec::new();
    // One of the two may have more room; that one stays.
    let is_kept = |set: &&Set| {
        let ours = applied.set(&set.name);
        ours.is_some_and(|ours| serves_as(ours, set) || serves_as(set, ours))
    };
    for set in previous.sets.iter().filter(|set| !is_kept(set)) {
        discarded.push(format!("set {}", set.name));
    }
    for set in previous.sets.iter().filter(is_kept).filter(|set| set.catch_all) {
        discarded.push(format!("element * of set {}", set.name));
    }
    let sets = applied.sets.iter().map(|ours| {
        let before = previous.set(&ours.name).filter(is_kept).unwrap_or(ours);
        Set { catch_all: false, ..before.clone() }
    });
    let mut chains: Vec<Chain> = Vec::new();
    for chain in &previous.chains {
        if !is_ours(&chain.name) {
            discarded.push(format!("chain {}", chain.name));
            continue;
        }
        let (rules, lost): (Vec<Rule>, Vec<Rule>) =
            chain.rules.iter().cloned().partition(|rule| is_writable(rule, previous));
        discarded.extend(lost.into_iter().map(|rule| told(&chain.name, rule)));
        chains.push(Chain { rules, ..chain.clone() });
    }
    // A base chain that was not there stays, for deleting it would drop what waits in queues; empty, it does nothing.
    for base in applied.chains.iter().filter(|chain| chain.hook.is_some()) {
        if previous.chain(&base.name).is_none() {
            chains.insert(0, Chain { rules: Vec::new(), ..base.clone() });
        }
    }
    let ruleset = Ruleset { dormant: false, sets: sets.collect(), chains };
    Restorable { ruleset, discarded }
}

fn is_ours(chain: &str) -> bool {
    names::COPIES.iter().any(|(ours, _)| *ours == chain)
}

/// Every expression is understood, and what it names is there when only what is ours is.
fn is_writable(rule: &Rule, previous: &Ruleset) -> bool {
    rule.exprs.iter().all(|expr| match expr {
        Expr::Unknown(_) => false,
        Expr::Lookup { set, .. } | Expr::Update { set, .. } => names::set_rank(set) != usize::MAX,
        Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => {
            is_ours(chain) && previous.chain(chain).is_some()
        }
        _ => true,
    })
}

fn told(chain: &str, rule: Rule) -> String {
    let comment = if rule.comment.is_empty() {
        super::drift::rule_words(&rule)
    } else {
        rule.comment.clone()
    };
    Step::AddRule(chain.to_owned(), Rule { comment, ..rule }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::intervals::Span;
    use crate::engine::net::Family;
    use crate::nftables::element::Key;
    use crate::nftables::options::{Options, Refuse};
    use crate::nftables::plan::plan;
    use crate::nftables::ruleset::INTERVAL;

    fn rule(exprs: &[Expr]) -> Rule {
        Rule { comment: String::new(), exprs: exprs.to_vec() }
    }

    fn applied() -> Ruleset {
        Ruleset::new(&Options { refuse: Refuse::Drop, queues: 3, ..Options::default() })
    }

    #[test]
    fn what_is_ours_comes_back_whole() {
        let previous = Ruleset::new(&Options::default());
        let back = restorable(&previous, &applied());
        assert_eq!((back.ruleset, back.discarded), (previous, Vec::new()));
    }

    #[test]
    fn what_is_not_ours_is_named_and_left_out() {
        let clean = Ruleset::new(&Options::default());
        let mut previous = clean.clone();
        let stray = Chain { name: "stray".to_owned(), hook: None, rules: Vec::new() };
        previous.chains.push(stray);
        previous.sets.push(Set { name: "mine".to_owned(), ..clean.sets[0].clone() });
        previous.sets[0].catch_all = true;
        previous.sets[2].flags = INTERVAL;
        let foreign = [
            rule(&[Expr::Unknown("limit".to_owned()), Expr::Verdict(Verdict::Drop)]),
            rule(&[Expr::Lookup {
                set: "__set0".to_owned(),
                from: super::super::expr::Reg::ONE,
                inverted: false,
            }]),
            rule(&[Expr::Verdict(Verdict::Goto("stray".to_owned()))]),
        ];
        let understood = rule(&[Expr::Counter, Expr::Verdict(Verdict::Accept)]);
        previous.chains[0].rules.splice(0..0, foreign);
        previous.chains[0].rules.push(understood.clone());

        let back = restorable(&previous, &applied());
        assert_eq!(
            back.discarded,
            [
                "set quarantine4",
                "set mine",
                "element * of set containers4",
                "rule \"[limit] drop\" of chain forward",
                "rule \"[@__set0]\" of chain forward",
                "rule \"goto stray\" of chain forward",
                "chain stray",
            ]
        );
        let mut wanted = clean;
        wanted.chains[0].rules.push(understood);
        assert_eq!(back.ruleset, wanted);
        plan(&back.ruleset, Some(&applied())).unwrap();
    }

    #[test]
    fn a_table_without_our_base_chains_gets_empty_ones() {
        let ours = applied();
        let back = restorable(&Ruleset { dormant: true, ..Ruleset::default() }, &ours).ruleset;
        let empty = |name| Chain { rules: Vec::new(), ..ours.chain(name).unwrap().clone() };
        assert_eq!(back.chains, [names::SPOOFED, names::HOST, names::FORWARD].map(empty));
        assert!(!back.dormant);
        assert_eq!(back.sets, ours.sets);
        plan(&back, Some(&ours)).unwrap();
    }

    #[test]
    fn a_set_that_grew_meanwhile_is_none_that_was_lost() {
        let previous = Ruleset::new(&Options::default());
        let mut grown = applied();
        grown.sets[10].size *= 2;
        for (before, after) in [(&previous, &grown), (&grown, &previous)] {
            let back = restorable(before, after);
            assert_eq!(back.discarded, Vec::<String>::new());
            let steps = plan(&back.ruleset, Some(after)).unwrap().steps;
            let gone = steps.iter().any(|step| matches!(step, Step::DeleteSet(_)));
            assert_eq!(gone, before == &grown && after == &previous, "{steps:?}");
        }
    }

    #[test]
    fn elements_that_differed_come_back() {
        let mut previous = Ruleset::new(&Options::default());
        let span = Key::Span(Family::V4, Span::new(1, 9));
        previous.sets[4].elements = Some(vec![span]);
        assert_eq!(restorable(&previous, &applied()).ruleset, previous);
    }
}
