//! Chain `dns_redirect`: whatever server a container asks, its question comes to our resolver.

use std::net::IpAddr;

use super::parts::{
    DNS_PORT, Field, L4, address_is, both, counter, dport_is, is_in, l4_is, load, named, returns,
    rule,
};
use crate::engine::net::Family;
use crate::nftables::expr::{Expr, Reg, Rule};
use crate::nftables::names;
use crate::nftables::options::DnsRedirect;

/// Chain `dns_redirect`; the chain sees the first packet of each flow only.
pub fn dns_redirect(to: DnsRedirect) -> Vec<Rule> {
    let mut rules = Vec::new();
    // What is refused everything gets no resolver either.
    // ip saddr @quarantine4 return
    rules.extend(both(|family| {
        let quarantined = is_in(Field::Saddr, family, names::QUARANTINE, true);
        rule(named("quarantined", family), [quarantined, returns()])
    }));
    // A resolver of ours among them would be asked its own questions.
    // ip saddr @exempt4 return
    rules.extend(both(|family| {
        let exempt = is_in(Field::Saddr, family, names::EXEMPT, true);
        rule(named("not judged", family), [exempt, returns()])
    }));
    for (family, target) in Family::BOTH.map(|family| (family, target(to, family))) {
        match target {
            Target::None => {}
            Target::Here => {
                // immediate 53; redirect to it
                let here =
                    || vec![load(&DNS_PORT.to_be_bytes()), Expr::Redirect { port: Reg::ONE }];
                rules.extend(questions(family, here));
            }
            Target::Address(address) => rules.extend(to_address(family, address)),
        }
    }
    rules
}

/// Where questions of one family go.
enum Target {
    None,
    Here,
    Address(IpAddr),
}

fn target(to: DnsRedirect, family: Family) -> Target {
    match (to, family) {
        (DnsRedirect::Off, _) => Target::None,
        (DnsRedirect::Gateway, _) => Target::Here,
        (DnsRedirect::To { v4: Some(v4), .. }, Family::V4) => Target::Address(v4.into()),
        (DnsRedirect::To { v6: Some(v6), .. }, Family::V6) => Target::Address(v6.into()),
        (DnsRedirect::To { .. }, _) => Target::None,
    }
}

fn to_address(family: Family, address: IpAddr) -> Vec<Rule> {
    // It asks others on behalf of everybody.
    // ip saddr 10.0.0.53 return
    let itself =
        rule(named("our resolver", family), [address_is(Field::Saddr, address), returns()]);
    // ip daddr 10.0.0.53 return
    let already =
        rule(named("asks our resolver", family), [address_is(Field::Daddr, address), returns()]);
    let bytes = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    // immediate ADDRESS; dnat to it
    let there = || vec![load(&bytes), Expr::Dnat { family, to: Reg::ONE }];
    [itself, already].into_iter().chain(questions(family, there)).collect()
}

/// `ip saddr @containers4 udp dport 53 counter ...`, and the same over TCP.
fn questions(family: Family, away: impl Fn() -> Vec<Expr>) -> [Rule; 2] {
    [L4::Udp, L4::Tcp].map(|l4| {
        let asks = [l4_is(l4), dport_is(DNS_PORT)].concat();
        let container = is_in(Field::Saddr, family, names::CONTAINERS, true);
        let what = format!("dns over {} to our resolver", l4.name());
        rule(named(&what, family), [container, asks, counter(), away()])
    })
}
