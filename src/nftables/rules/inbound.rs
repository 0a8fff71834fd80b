//! First packets from outside. Nobody judges them, but after the entry of a refused flow is deleted from conntrack its
//! far end could open it anew from there, and the container's packets would then be replies.

use super::parts::{
    Field, both, counter, drops, is_in, is_opening, lookup, named, returns, reversed, rule,
};
use crate::nftables::expr::Rule;
use crate::nftables::names::{self, Pair};

/// Chain `inbound`: what comes from no container. A dry run only counts.
pub fn inbound(dry_run: bool) -> Vec<Rule> {
    let dropped = || if dry_run { Vec::new() } else { drops() };
    let mut rules = Vec::new();
    // ip daddr @quarantine4 counter drop
    rules.extend(both(|family| {
        let quarantined = is_in(Field::Daddr, family, names::QUARANTINE, true);
        rule(named("to a quarantined container", family), [quarantined, counter(), dropped()])
    }));
    // ip daddr != @containers4 return
    rules.extend(both(|family| {
        let elsewhere = is_in(Field::Daddr, family, names::CONTAINERS, false);
        rule(named("to no container", family), [elsewhere, returns()])
    }));
    // A connection to a published port is no egress, whoever opens it.
    // tcp flags & (syn | ack) == syn return
    rules.push(rule("a connection to a container", [is_opening(), returns()]));
    // Those that are refused nothing hear from everybody.
    // ip daddr @exempt4 return
    for (what, set) in
        [("to one not judged", names::EXEMPT), ("to a dry run of its own", names::DRYRUN)]
    {
        rules.extend(both(|family| {
            rule(named(what, family), [is_in(Field::Daddr, family, set, true), returns()])
        }));
    }
    // What containers may reach whatever the lists say, they may hear from as well.
    // ip saddr @local4 return
    rules.extend(both(|family| {
        let local = is_in(Field::Saddr, family, names::LOCAL, true);
        rule(named("from a local address", family), [local, returns()])
    }));
    // ip saddr @allow4 return
    rules.extend(both(|family| {
        let allowed = is_in(Field::Saddr, family, names::ALLOW, true);
        rule(named("from an allowed address", family), [allowed, returns()])
    }));
    // ip daddr . ip saddr @permits4 return
    rules.extend(both(|family| {
        let permitted = vec![lookup(names::PERMITS, family, false)];
        rule(
            named("from an address allowed for it", family),
            [reversed(family), permitted, returns()],
        )
    }));
    // ip saddr @block4 counter drop
    let from = |set: Pair, what: &str| {
        both(|family| {
            let listed = is_in(Field::Saddr, family, set, true);
            rule(named(what, family), [listed, counter(), dropped()])
        })
    };
    rules.extend(from(names::BLOCK, "from a blocked address"));
    rules.extend(from(names::BLOCKHOSTS, "from a blocked host"));
    // What a domain blocks for one container is in no other set, nor is what a list blocks for it alone.
    // ip daddr . ip saddr @denied4 counter drop
    rules.extend(both(|family| {
        let denied = vec![lookup(names::DENIED, family, false)];
        let what = named("from where a container may not go", family);
        rule(what, [reversed(family), denied, counter(), dropped()])
    }));
    rules
}
