//! The chains that refuse: whom, and how.

use super::parts::{
    Field, L4, both, counter, drops, goto, is_in, l4_is, named, pair, returns, rule,
};
use crate::engine::net::Family;
use crate::nftables::expr::{Expr, Reg, Reject, Rule};
use crate::nftables::names;
use crate::nftables::options::Refuse;

/// Chain `enforce`: refuses, unless the container is in a dry run of its own. Jumped to: for that one the rules go on.
pub fn enforce(dry_run: bool) -> Vec<Rule> {
    if dry_run {
        return Vec::new();
    }
    // ip saddr @dryrun4 counter return
    let spared = both(|family| {
        let spared = is_in(Field::Saddr, family, names::DRYRUN, true);
        rule(named("a dry run of its own", family), [spared, counter(), returns()])
    });
    spared.into_iter().chain([rule("refuse all others", [goto(names::REFUSE)])]).collect()
}

/// Chain `blocked`: notes who met a list. Jumped to.
pub fn blocked(dry_run: bool) -> Vec<Rule> {
    noted("refuse what a list names", (!dry_run).then_some(names::ENFORCE))
}

/// Chain `cut`: notes who has to do with a container in quarantine. Nobody is spared.
pub fn cut(dry_run: bool) -> Vec<Rule> {
    noted("refuse whatever the mode", (!dry_run).then_some(names::REFUSE))
}

/// A full set ends the rule that notes, so that refusing is another's.
fn noted(what: &str, refuse: Option<&str>) -> Vec<Rule> {
    // update @hits4 { ip saddr . ip daddr counter }
    let mut rules = Vec::from(both(|family| {
        let set = names::HITS.of(family).to_owned();
        let note = vec![Expr::Update { set, from: Reg::ONE }];
        rule(named("note the pair", family), [pair(family), note])
    }));
    rules.extend(refuse.map(|chain| rule(what, [goto(chain)])));
    rules
}

/// Chain `refuse`.
pub fn refuse(how: Refuse) -> Vec<Rule> {
    let mut rules = Vec::new();
    match how {
        Refuse::Reset => {
            // ip saddr @otherway4 counter drop
            rules.extend(both(|family| {
                let other = is_in(Field::Saddr, family, names::OTHERWAY, true);
                rule(named("refuse it silently", family), [other, counter(), drops()])
            }));
            rules.extend(aloud(None));
        }
        Refuse::Drop => {
            rules.extend(Family::BOTH.into_iter().flat_map(|family| aloud(Some(family))));
            // counter drop
            rules.push(rule("refuse silently", [counter(), drops()]));
        }
    }
    rules
}

/// Says so, to all or to those of one family who are to be told.
fn aloud(whom: Option<Family>) -> [Rule; 2] {
    // ip saddr @otherway4
    let whose = || whom.map_or_else(Vec::new, |of| is_in(Field::Saddr, of, names::OTHERWAY, true));
    let called = |what: &str| whom.map_or_else(|| what.to_owned(), |of| named(what, of));
    let (tcp, other) =
        (vec![Expr::Reject(Reject::TcpReset)], vec![Expr::Reject(Reject::AdminProhibited)]);
    [
        // meta l4proto tcp counter reject with tcp reset
        rule(called("refuse tcp"), [whose(), l4_is(L4::Tcp), counter(), tcp]),
        // counter reject with icmpx admin-prohibited
        rule(called("refuse"), [whose(), counter(), other]),
    ]
}
