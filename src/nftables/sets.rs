//! The sets the rules ask, and the networks that are not egress.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::element;
use super::expr::Expr;
use super::interface::Interface;
use super::names;
use super::options::{LocalPolicy, Options};
use super::ruleset::{CONCAT, DYNAMIC, INTERVAL, Key, Set, TIMEOUT};
use crate::engine::intervals::{Span, merge, without};
use crate::engine::net::{Family, Net, NetError, number};
use crate::engine::special::{METADATA, NOWHERE4, NOWHERE6, PRIVATE4, PRIVATE6};

/// What a host sends from before it has an address: it asks DHCP for one, or reports its multicast groups (RFC 3376).
/// Linux takes it for nothing but broadcast and multicast, and forwards none.
const UNPLACED4: [(Ipv4Addr, u8); 1] = [(Ipv4Addr::UNSPECIFIED, 32)];

/// The same for IPv6, where it looks whether somebody has the address already (RFC 4862); and where neighbours are found:
/// link-local addresses, which are forwarded nowhere.
const UNPLACED6: [(Ipv6Addr, u8); 2] =
    [(Ipv6Addr::UNSPECIFIED, 128), (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)];

/// All sets, in the order of [`names::all`].
pub fn wanted(options: &Options) -> Vec<Set> {
    names::all().map(|(pair, family)| set(pair, family, options)).collect()
}

fn set(pair: names::Pair, family: Family, options: &Options) -> Set {
    let plain = Set {
        name: pair.of(family).to_owned(),
        key: Key::Address(family),
        flags: 0,
        timeout_ms: 0,
        gc_interval_ms: 0,
        size: 0,
        each: Vec::new(),
        elements: None,
        catch_all: false,
    };
    match pair {
        names::CONTAINERS => {
            let ours = options.canary.iter().filter(|net| net.family() == family);
            let ours = ours.map(|net| net.span());
            let judged = merge(containers(family, options).chain(ours));
            Set { flags: INTERVAL, elements: Some(keys(family, judged)), ..plain }
        }
        names::LOCAL => {
            let elements = Some(keys(family, local(family, options)));
            Set { flags: INTERVAL, elements, ..plain }
        }
        names::QUARANTINE => Set { flags: TIMEOUT, ..plain },
        names::BLOCKHOSTS => Set { size: options.hosts_size, ..plain },
        names::DENIED => Set {
            key: Key::Pair(family),
            flags: TIMEOUT,
            timeout_ms: names::DENIED_TIMEOUT_MS,
            size: names::DENIED_MAX,
            each: vec![Expr::Counter],
            ..plain
        },
        names::HITS | names::SPOOFS => Set {
            key: Key::Pair(family),
            flags: TIMEOUT | DYNAMIC,
            timeout_ms: names::HITS_TIMEOUT_MS,
            size: names::HITS_MAX,
            ..plain
        },
        names::EXEMPT | names::DRYRUN | names::OTHERWAY => plain,
        names::PERMITS => Set { key: Key::Pair(family), flags: INTERVAL | CONCAT, ..plain },
        names::BRIDGES => {
            let elements = Some(homes(options).into_keys().map(element::Key::Interface).collect());
            Set { key: Key::Interface, elements, ..plain }
        }
        names::HOMES => {
            let of = |(interface, nets): (Interface, Vec<Net>)| {
                let spans = merge(admitted(family, &nets));
                spans.into_iter().map(move |span| element::Key::Home(interface, family, span))
            };
            let elements = Some(homes(options).into_iter().flat_map(of).collect());
            Set { key: Key::Home(family), flags: INTERVAL | CONCAT, elements, ..plain }
        }
        // Allow and block.
        _ => Set { flags: INTERVAL | TIMEOUT, gc_interval_ms: names::GC_INTERVAL_MS, ..plain },
    }
}

fn keys(family: Family, spans: Vec<Span>) -> Vec<element::Key> {
    spans.into_iter().map(|span| element::Key::Span(family, span)).collect()
}

/// The networks on each bridge; two may share one.
fn homes(options: &Options) -> BTreeMap<Interface, Vec<Net>> {
    let mut homes: BTreeMap<Interface, Vec<Net>> = BTreeMap::new();
    for bridge in &options.bridges {
        if let Some(interface) = Interface::new(&bridge.interface) {
            homes.entry(interface).or_default().extend(&bridge.nets);
        }
    }
    homes
}

/// The sources that get in on a bridge with these networks.
fn admitted(family: Family, nets: &[Net]) -> impl Iterator<Item = Span> {
    let everywhere = fixed(&UNPLACED4, &UNPLACED6).flatten();
    let all = everywhere.chain(nets.iter().copied());
    all.filter(move |net| net.family() == family).map(Net::span)
}

fn containers(family: Family, options: &Options) -> impl Iterator<Item = Span> {
    options.containers.iter().filter(move |net| net.family() == family).map(|net| net.span())
}

fn local(family: Family, options: &Options) -> Vec<Span> {
    let judged = options.local_policy == LocalPolicy::Judge;
    let host = options.host_addresses.iter().map(|address| Ok(Net::from(*address)));
    let private = fixed(PRIVATE4, PRIVATE6).filter(|_| !judged);
    let nets = fixed(NOWHERE4, NOWHERE6).chain(host).chain(private).flatten();
    let nets = nets.filter(|net| net.family() == family).map(Net::span);
    let spans = merge(nets.chain(containers(family, options).filter(|_| !judged)));
    // They look local, and are judged all the same, whatever else is called local.
    let metadata =
        METADATA.into_iter().filter(|address| Family::of(*address) == family).map(number);
    metadata.fold(spans, |spans, address| without(&spans, Span::new(address, address)))
}

fn fixed(
    v4: &'static [(Ipv4Addr, u8)],
    v6: &'static [(Ipv6Addr, u8)],
) -> impl Iterator<Item = Result<Net, NetError>> {
    let v4 = v4.iter().map(|(address, prefix)| Net::new(IpAddr::V4(*address), *prefix));
    v4.chain(v6.iter().map(|(address, prefix)| Net::new(IpAddr::V6(*address), *prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(set: &str, options: &Options, address: &str) -> bool {
        let sets = wanted(options);
        let found = sets.iter().find(|candidate| candidate.name == set).unwrap();
        let address = number(address.parse().unwrap());
        let holds = |key: &element::Key| matches!(key, element::Key::Span(_, span) if span.contains(address));
        found.elements.as_ref().unwrap().iter().any(holds)
    }

    fn options(containers: &[&str], host: &[&str]) -> Options {
        Options {
            containers: containers.iter().map(|net| net.parse().unwrap()).collect(),
            host_addresses: host.iter().map(|address| address.parse().unwrap()).collect(),
            ..Options::default()
        }
    }

    #[test]
    fn every_constant_is_a_network() {
        assert!(fixed(NOWHERE4, NOWHERE6).chain(fixed(PRIVATE4, PRIVATE6)).all(|n| n.is_ok()));
        assert_eq!(Options::default().containers.len(), 1);
    }

    #[test]
    fn metadata_services_are_judged_even_if_called_local() {
        let all = options(
            &["169.254.0.0/16", "100.100.100.0/24", "fd00::/8"],
            &["169.254.169.254", "fd00:ec2::254"],
        );
        for options in [&options(&[], &[]), &all] {
            assert!(!covers("local4", options, "169.254.169.254"));
            assert!(covers("local4", options, "169.254.169.253"));
            assert!(covers("local4", options, "169.254.169.255"));
            assert!(!covers("local4", options, "100.100.100.200"));
            assert!(covers("local4", options, "100.100.100.199"));
            assert!(covers("local4", options, "100.100.100.201"));
            assert!(!covers("local6", options, "fd00:ec2::254"));
            assert!(covers("local6", options, "fd00:ec2::253"));
            assert!(covers("local6", options, "fd00:ec2::255"));
        }
    }

    #[test]
    fn local_is_private_own_and_container_networks() {
        let options =
            options(&["198.51.100.0/24", "2001:db8:5::/64"], &["203.0.113.7", "2001:db8::7"]);
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.254",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.1.1",
            "0.1.2.3",
            "255.255.255.255",
            "239.1.2.3",
            "198.51.100.9",
            "203.0.113.7",
        ] {
            assert!(covers("local4", &options, address), "{address}");
        }
        for address in [
            "203.0.113.8",
            "8.8.8.8",
            "240.0.0.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.169.0.1",
        ] {
            assert!(!covers("local4", &options, address), "{address}");
        }
        for address in
            ["::", "::1", "fc00::1", "fe80::1", "ff02::1", "2001:db8:5::9", "2001:db8::7"]
        {
            assert!(covers("local6", &options, address), "{address}");
        }
        for address in ["::2", "2001:db8::8", "fec0::1", "2606:4700::1111"] {
            assert!(!covers("local6", &options, address), "{address}");
        }
    }

    #[test]
    fn judged_local_networks_leave_what_leads_to_nobody_else() {
        let options = Options {
            local_policy: LocalPolicy::Judge,
            ..options(&["172.17.0.0/16", "fd00:1::/64"], &["172.17.0.1", "fd00:1::1"])
        };
        for address in ["0.0.0.1", "127.0.0.1", "169.254.0.9", "239.1.2.3", "255.255.255.255"] {
            assert!(covers("local4", &options, address), "{address}");
        }
        for address in ["10.1.2.3", "100.64.0.1", "172.17.0.2", "192.168.1.1", "169.254.169.254"] {
            assert!(!covers("local4", &options, address), "{address}");
        }
        for address in ["::", "::1", "fe80::1", "ff02::1", "fd00:1::1"] {
            assert!(covers("local6", &options, address), "{address}");
        }
        for address in ["fc00::1", "fd00:1::2", "fd00:ec2::254"] {
            assert!(!covers("local6", &options, address), "{address}");
        }
        assert!(covers("local4", &options, "172.17.0.1"), "the host's own");
    }

    #[test]
    fn container_networks_are_merged_and_kept_apart_by_family() {
        let options =
            options(&["172.17.0.0/16", "172.16.0.0/16", "172.17.3.0/24", "fd00:1::/64"], &[]);
        let sets = wanted(&options);
        assert_eq!(sets[0].elements.as_ref().unwrap().len(), 1);
        assert_eq!(sets[1].elements.as_ref().unwrap().len(), 1);
        assert!(covers("containers6", &options, "fd00:1::2"));
    }
}
