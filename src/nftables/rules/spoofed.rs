//! Sources that do not belong on the bridge they came in on: forged, or of somebody behind the container.
//!
//! What is dropped, on bridges of containers that are known by name and nowhere else: IPv4 from any address but those of
//! the bridge's networks and 0.0.0.0; IPv6 from any but those of its networks, fe80::/10 and ::. So a container that passes
//! on what others sent (a VPN gateway, a router, a cluster's node) has to translate their addresses to its own, and one
//! with several networks cannot send by one from its address in another. DHCP, neighbour discovery, duplicate address
//! detection, reports of multicast groups, broadcasts, and published ports asked for from inside all send from admitted
//! addresses. Packets between containers of one bridge are looked at only where br_netfilter is on; the interface is
//! the bridge then too. The looped-back copy of the host's own multicast counts as having come in on the bridge, so programs
//! of the host that send there from an address of elsewhere do not hear themselves.

use super::parts::{
    Field, both, comes_in_on, counter, drops, goto, lookup, named, on_interface, pair, returns,
    rule,
};
use crate::nftables::expr::{Expr, Reg, Rule};
use crate::nftables::names;

/// Chain `spoofed`. All other interfaces, and hosts without known bridges, pay one question.
pub fn spoofed() -> Vec<Rule> {
    // iifname != @bridges return
    let elsewhere =
        rule("not from a known bridge", [comes_in_on(names::BRIDGES, false), returns()]);
    // iifname . ip saddr != @homes4 goto forged
    let forged = both(|family| {
        let source = on_interface(Field::Saddr, family);
        let strange = vec![lookup(names::HOMES, family, true)];
        rule(named("a forged source", family), [source, strange, counter(), goto(names::FORGED)])
    });
    std::iter::once(elsewhere).chain(forged).collect()
}

/// Chain `forged`. A full set ends the rule that notes, so that dropping is another's.
pub fn forged(dry_run: bool) -> Vec<Rule> {
    // update @spoofs4 { ip saddr . ip daddr counter }
    let mut rules = Vec::from(both(|family| {
        let set = names::SPOOFS.of(family).to_owned();
        rule(
            named("note the pair", family),
            [pair(family), vec![Expr::Update { set, from: Reg::ONE }]],
        )
    }));
    if !dry_run {
        rules.push(rule("drop what is forged", [drops()]));
    }
    rules
}
