//! The rules of each chain, with the nft text each one stands for.

mod inbound;
mod parts;
mod redirect;
mod refusing;
mod spoofed;

pub use inbound::inbound;
pub use redirect::dns_redirect;
pub use refusing::{blocked, cut, enforce, refuse};
pub use spoofed::{forged, spoofed};

use super::expr::{CmpOp, CtKey, Expr, Reg, Rule};
use super::names;
use super::options::{Options, QueueVia};
use parts::{
    DNS_PORT, DOT_PORT, Field, L4, STATE_INVALID, STATE_NEW, STATUS_CONFIRMED, accept, both,
    counter, dport_is, drops, flow_is, flow_port_is, goto, is_in, is_invalid, is_loopback,
    is_reply, jump, l4_is, lookup, mark_is, masked, named, pair, returns, rule,
};

/// Chain `forward`: which first packets are ours to judge, and which need no judging.
pub fn forward(options: &Options) -> Vec<Rule> {
    let mut rules = first_packets_only();
    rules.extend(both(|family| {
        // ip saddr != @containers4 goto inbound
        rule(
            named("not a container", family),
            [is_in(Field::Saddr, family, names::CONTAINERS, false), goto(names::INBOUND)],
        )
    }));
    // meta mark 0x73796e68 goto refuse
    rules.push(rule("refused by the daemon", [mark_is(names::REFUSE_MARK), goto(names::REFUSE)]));
    rules.extend(address_rules(options.dry_run));
    // ct state & invalid != 0 goto verdict
    rules.push(rule("invalid", [is_invalid(), goto(names::VERDICT)]));
    if options.refuse_dot {
        rules.extend(encrypted_dns(options.dry_run));
    }
    for l4 in [L4::Udp, L4::Tcp] {
        // udp dport 53 counter return
        rules.push(rule(
            format!("dns over {}", l4.name()),
            [l4_is(l4), dport_is(DNS_PORT), counter(), returns()],
        ));
    }
    for l4 in [L4::Tcp, L4::Udp] {
        // Any new TCP packet, not only SYN: an ACK first would be picked up mid-stream and confirm the flow.
        // By what conntrack will confirm, not by the header: it reads through an IPv6 authentication header and
        // `meta l4proto` does not, so that such a packet would pass and open the way for the bare flow.
        // ct original protocol tcp counter goto verdict
        rules.push(rule(
            format!("judge {}", l4.name()),
            [flow_is(l4), counter(), goto(names::VERDICT)],
        ));
    }
    rules
}

/// DNS over TLS and over QUIC, which no log of ours would show. As in [`forward`], by what conntrack will confirm;
/// nft lists such a rule, but has no words to read it.
fn encrypted_dns(dry_run: bool) -> [Rule; 2] {
    [(L4::Tcp, "DNS over TLS"), (L4::Udp, "DNS over QUIC")].map(|(l4, what)| {
        let refused = if dry_run { Vec::new() } else { jump(names::ENFORCE) };
        // ct original protocol tcp, ct original proto-dst 853 counter jump enforce
        rule(what, [flow_is(l4), flow_port_is(DOT_PORT), counter(), refused])
    })
}

/// Chain `host`: what comes to this host itself. Nobody is judged here, only a container in quarantine is refused. A
/// known flow pays one look at its state, and loopback is left alone even if somebody lists an address of this host.
///
/// Its questions for names are refused whatever conntrack calls them: an answer that was under way when its flow was
/// ended opens the flow anew from this side, and who keeps asking would keep a way out.
pub fn host(dry_run: bool) -> Vec<Rule> {
    // iif lo return
    let loopback = rule("loopback", [is_loopback(), returns()]);
    // meta l4proto udp th dport 53 ip saddr @quarantine4 counter goto cut
    let asks = both(|family| {
        let question = [l4_is(L4::Udp), dport_is(DNS_PORT)].concat();
        let quarantined = is_in(Field::Saddr, family, names::QUARANTINE, true);
        rule(
            named("asks although quarantined", family),
            [question, quarantined, counter(), to(names::CUT, dry_run)],
        )
    });
    // A dry run ends no flow, and would count such a question twice.
    let asks = asks.into_iter().filter(|_| !dry_run);
    let rest = [known_flow()].into_iter().chain(quarantined(dry_run));
    [loopback].into_iter().chain(asks).chain(rest).collect()
}

fn known_flow() -> Rule {
    let state = Expr::Ct(CtKey::State, Reg::ONE);
    // ct state & (invalid | new) == 0 return
    rule("known flow", [masked(state, STATE_INVALID | STATE_NEW, CmpOp::Eq), returns()])
}

/// Replies, established flows, and flows whose first packet was already let through go on at once.
fn first_packets_only() -> Vec<Rule> {
    let status = Expr::Ct(CtKey::Status, Reg::ONE);
    vec![
        known_flow(),
        // ct direction != original return
        rule("a reply", [is_reply(), returns()]),
        // ct status & confirmed != 0 return
        rule("already accepted", [masked(status, STATUS_CONFIRMED, CmpOp::Neq), returns()]),
    ]
}

/// A packet conntrack finds invalid (a bad checksum, impossible flags) can carry a payload to whoever waits for it,
/// and opens no flow that could be judged. Dropped without an answer, as it would deserve none.
fn invalid(options: &Options) -> Rule {
    let verdict = match options.passes_unjudged() {
        // ct state & invalid != 0 counter drop
        false => drops(),
        // ct state & invalid != 0 counter return
        true => returns(),
    };
    rule("no flow at all", [is_invalid(), counter(), verdict])
}

fn quarantined(dry_run: bool) -> [Rule; 2] {
    // ip saddr @quarantine4 counter goto cut
    both(|family| {
        let quarantined = is_in(Field::Saddr, family, names::QUARANTINE, true);
        rule(named("quarantined", family), [quarantined, counter(), to(names::CUT, dry_run)])
    })
}

/// What addresses alone decide, in this order: quarantine beats a container's mode, and allow always beats block. A dry
/// run counts what it would refuse and goes on, so that the daemon judges it as well; for a container in a dry run of its
/// own, so does whoever jumped to [`names::BLOCKED`] or [`names::ENFORCE`].
fn address_rules(dry_run: bool) -> Vec<Rule> {
    let mut rules = Vec::from(quarantined(dry_run));
    // Its neighbours would open the way back for it, or go on with what it began.
    // ip daddr @quarantine4 counter goto cut
    rules.extend(both(|family| {
        let quarantined = is_in(Field::Daddr, family, names::QUARANTINE, true);
        let what = named("to a quarantined container", family);
        rule(what, [quarantined, counter(), to(names::CUT, dry_run)])
    }));
    // ip saddr @exempt4 counter return
    rules.extend(both(|family| {
        let exempt = is_in(Field::Saddr, family, names::EXEMPT, true);
        rule(named("not judged", family), [exempt, counter(), returns()])
    }));
    // ip daddr @local4 return
    rules.extend(both(|family| {
        rule(named("local", family), [is_in(Field::Daddr, family, names::LOCAL, true), returns()])
    }));
    // ip daddr @allow4 counter accept
    rules.extend(both(|family| {
        let allowed = is_in(Field::Daddr, family, names::ALLOW, true);
        rule(named("allowed", family), [allowed, counter(), accept()])
    }));
    // ip saddr . ip daddr @permits4 counter accept
    rules.extend(both(|family| {
        let permitted = vec![lookup(names::PERMITS, family, false)];
        rule(named("allowed for it", family), [pair(family), permitted, counter(), accept()])
    }));
    // ip daddr @block4 counter jump blocked
    for (what, set) in [("blocked", names::BLOCK), ("blocked host", names::BLOCKHOSTS)] {
        rules.extend(both(|family| {
            let listed = is_in(Field::Daddr, family, set, true);
            rule(named(what, family), [listed, counter(), jump(names::BLOCKED)])
        }));
    }
    // ip saddr . ip daddr @denied4 counter jump enforce
    rules.extend(both(|family| {
        let denied = vec![lookup(names::DENIED, family, false)];
        let refused = if dry_run { Vec::new() } else { jump(names::ENFORCE) };
        rule(named("denied a moment ago", family), [pair(family), denied, counter(), refused])
    }));
    rules
}

fn to(chain: &str, dry_run: bool) -> Vec<Expr> {
    if dry_run { jump(chain) } else { goto(chain) }
}

/// Chain `verdict`.
pub fn verdict(options: &Options) -> Vec<Rule> {
    let to = options.queue_to();
    let queue = match options.queue_via {
        // counter queue flags bypass,fanout to 0-3
        QueueVia::Native => Expr::Queue(to),
        // iptables' -j NFQUEUE --queue-balance 0:3 --queue-bypass --queue-cpu-fanout; nft has no text for it
        QueueVia::Compat => Expr::TargetNfqueue(to),
    };
    // ct state & invalid != 0 ip saddr @dryrun4 counter return
    let spared = both(|family| {
        let spared = is_in(Field::Saddr, family, names::DRYRUN, true);
        rule(named("no flow, of a dry run", family), [is_invalid(), spared, counter(), returns()])
    });
    let rest = [invalid(options), rule("ask the daemon", [counter(), vec![queue]])];
    spared.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::expr::Verdict;
    use crate::nftables::{DnsRedirect, Posture, Refuse, Ruleset};
    use std::collections::BTreeSet;

    // NFTNL_UDATA_COMMENT_MAXLEN: nft(8) shows no longer one.
    const COMMENT_MAX: usize = 127;

    #[test]
    fn comments_name_one_rule_each_and_fit() {
        let (v4, v6) = (Some([10, 0, 0, 53].into()), "fd00::53".parse().ok());
        let redirects = [DnsRedirect::Gateway, DnsRedirect::To { v4, v6 }];
        for (refuse, dns_redirect) in [Refuse::Reset, Refuse::Drop].into_iter().zip(redirects) {
            let options = Options { refuse, dns_redirect, refuse_dot: true, ..Options::default() };
            for chain in Ruleset::new(&options).chains {
                let names: BTreeSet<&str> =
                    chain.rules.iter().map(|rule| rule.comment.as_str()).collect();
                assert_eq!(names.len(), chain.rules.len(), "{}", chain.name);
                assert!(names.iter().all(|name| !name.is_empty() && name.len() <= COMMENT_MAX));
                assert!(names.iter().all(|name| !name.contains(['"', '\\', '\n'])));
            }
        }
    }

    #[test]
    fn posture_alone_decides_what_passes_unjudged() {
        for queue_via in [QueueVia::Native, QueueVia::Compat] {
            for (posture, dry_run, wanted) in [
                (Posture::Closed, false, false),
                (Posture::Open, false, true),
                (Posture::Closed, true, true),
            ] {
                let rules = verdict(&Options { posture, queue_via, dry_run, ..Options::default() });
                let Some(Expr::Queue(to) | Expr::TargetNfqueue(to)) = rules[3].exprs.last() else {
                    panic!()
                };
                assert_eq!(to.bypass, wanted);
                let passes = rules[2].exprs.last() == Some(&Expr::Verdict(Verdict::Return));
                assert_eq!(passes, wanted, "and whether invalid packets pass");
            }
        }
    }

    #[test]
    fn no_set_refuses_in_a_dry_run() {
        let leads = |rules: &[Rule], verdict: &dyn Fn(String) -> Verdict, chain: &str| {
            let to = Expr::Verdict(verdict(chain.to_owned()));
            rules.iter().filter(|rule| rule.exprs.contains(&to)).count()
        };
        let (goes, jumps) = (&|chain| Verdict::Goto(chain), &|chain| Verdict::Jump(chain));
        // Of what leads to `refuse`, the daemon's own mark remains.
        for (dry_run, enforcing, cutting) in [(false, 4, 4), (true, 0, 0)] {
            let options = |dry_run| Options { dry_run, refuse_dot: true, ..Options::default() };
            let rules = forward(&options(dry_run));
            assert_eq!(leads(&rules, goes, names::REFUSE), 1);
            assert_eq!(leads(&rules, jumps, names::ENFORCE), enforcing);
            assert_eq!(leads(&rules, jumps, names::BLOCKED), 4);
            assert_eq!(leads(&rules, goes, names::CUT), cutting);
            assert_eq!(rules.len(), forward(&options(false)).len());
            assert_eq!(leads(&blocked(dry_run), goes, names::ENFORCE), usize::from(!dry_run));
            for refusing in [enforce(dry_run), cut(dry_run)] {
                assert_eq!(leads(&refusing, goes, names::REFUSE), usize::from(!dry_run));
            }
            assert_eq!(leads(&host(dry_run), goes, names::CUT), cutting);
            let drops = Expr::Verdict(Verdict::Drop);
            assert_eq!(forged(dry_run).iter().any(|rule| rule.exprs.contains(&drops)), !dry_run);
        }
    }

    #[test]
    fn fanout_needs_more_than_one_queue() {
        let fanout = |queues| Options { queues, ..Options::default() }.queue_to();
        assert!(!fanout(1).fanout && fanout(2).fanout);
        assert_eq!(fanout(0).total, 1);
    }
}
