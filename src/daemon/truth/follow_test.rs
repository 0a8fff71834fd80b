//! The thread that keeps the rules and what it is told of containers, in a network namespace of the test's own. Needs root.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::daemon::hits::Hit;
use crate::daemon::policies::{Networks, Policies};
use crate::daemon::testing::{Parts, in_netns, rules};
use crate::daemon::truth::*;
use crate::engine::Verdict;
use crate::engine::net::{Family, Net};
use crate::events::EventWriter;
use crate::nftables::{self, Bridge, Bulk, Element, Key, Ruleset};

const PATIENCE: Duration = Duration::from_secs(10);
/// For a million entries in a build that checks everything.
const LOAD_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, PartialEq)]
enum Told {
    Loaded,
    Hits(Vec<Hit>),
    Left(Vec<IpAddr>),
}

struct Ear(Sender<Told>);

impl Listener for Ear {
    fn loaded(&mut self, _: &Arc<Lists>, _: ListsReload, _: Held) {
        let _ = self.0.send(Told::Loaded);
    }

    fn hits(&mut self, hits: Vec<Hit>) {
        let _ = self.0.send(Told::Hits(hits));
    }

    fn left(&mut self, addresses: Vec<IpAddr>) {
        let _ = self.0.send(Told::Left(addresses));
    }
}

struct Bench {
    truth: Option<Truth>,
    shared: Arc<Shared>,
    told: Receiver<Told>,
    _writer: EventWriter,
}

impl Bench {
    fn start() -> Bench {
        let (shared, writer) = Parts { unanswered: Verdict::Accept, ..Parts::default() }.shared();
        let shared = Arc::new(shared);
        let rules = Rules::install(&rules(), Mode::Enforce, 0, Default::default()).unwrap();
        let (tell, told) = channel();
        let truth = Truth::start(rules, &shared, Ear(tell)).unwrap();
        let bench = Bench { truth: Some(truth), shared, told, _writer: writer };
        bench.order(Order::Lists(Arc::default()));
        bench.hears(|told| *told == Told::Loaded);
        bench
    }

    fn order(&self, order: Order) {
        self.shared.orders.put_always(order);
    }

    #[track_caller]
    fn hears(&self, is: impl Fn(&Told) -> bool) {
        while !is(&self.told.recv_timeout(LOAD_PATIENCE).expect("nobody tells")) {}
    }

    fn stop(mut self) {
        self.truth.take().unwrap().stop(false).unwrap();
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> Net {
    text.parse().unwrap()
}

/// What sets hold, as people write it; nothing of one that is not there.
fn members(sets: &[&str]) -> Vec<BTreeSet<String>> {
    let of = |set: &&str| {
        let found = nftables::dump(set, 1000).map_or_else(|_| Vec::new(), |(found, _)| found);
        found.iter().map(|found| found.element.key.to_string()).collect()
    };
    sets.iter().map(of).collect()
}

/// Waits until sets hold exactly this.
#[track_caller]
fn wait_for(wanted: &[(&str, &[&str])]) {
    let sets: Vec<&str> = wanted.iter().map(|(set, _)| *set).collect();
    let all: Vec<BTreeSet<String>> = wanted
        .iter()
        .map(|(_, members)| members.iter().map(|member| (*member).to_owned()).collect())
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while members(&sets) != all {
        assert!(Instant::now() < deadline, "{:?}, not {all:?}", members(&sets));
        std::thread::yield_now();
    }
}

fn networks(bridges: &[(&str, &str)]) -> Order {
    let bridge = |(interface, of): &(&str, &str)| Bridge {
        interface: (*interface).to_owned(),
        nets: vec![net(of)],
    };
    Order::Networks(Networks {
        containers: bridges.iter().map(|(_, of)| net(of)).collect(),
        bridges: bridges.iter().map(bridge).collect(),
    })
}

fn policies() -> Arc<Policies> {
    let permit = |src: &str, to: &str| (ip(src), net(to).family(), net(to).span());
    Arc::new(Policies {
        exempt: vec![ip("10.9.0.3"), ip("10.9.0.3"), ip("fd09::3")],
        dryrun: vec![ip("10.9.0.4")],
        otherway: vec![ip("10.9.0.5")],
        permits: vec![
            permit("10.9.0.6", "192.0.2.0/25"),
            permit("10.9.0.6", "192.0.2.64/26"),
            permit("fd09::6", "2001:db8::/64"),
        ],
    })
}

const POLICIES: [(&str, &[&str]); 6] = [
    ("exempt4", &["10.9.0.3"]),
    ("exempt6", &["fd09::3"]),
    ("dryrun4", &["10.9.0.4"]),
    ("otherway4", &["10.9.0.5"]),
    ("permits4", &["10.9.0.6 . 192.0.2.0/25"]),
    ("permits6", &["fd09::6 . 2001:db8::/64"]),
];

const NETWORKS: [(&str, &[&str]); 3] = [
    ("containers4", &["10.9.0.0/16", "203.0.113.0/24"]),
    ("bridges", &["\"br-a\"", "\"br-b\""]),
    (
        "homes4",
        &[
            "\"br-a\" . 0.0.0.0",
            "\"br-a\" . 10.9.0.0/16",
            "\"br-b\" . 0.0.0.0",
            "\"br-b\" . 203.0.113.0/24",
        ],
    ),
];

const BRIDGES: [(&str, &str); 2] = [("br-a", "10.9.0.0/16"), ("br-b", "203.0.113.0/24")];

#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn the_newest_networks_and_policies_hold_whatever_others_do() {
    in_netns(|| {
        let bench = Bench::start();
        bench.order(networks(&[("br-z", "10.1.0.0/16")]));
        bench.order(networks(&BRIDGES));
        bench.order(Order::Policies(Arc::default()));
        bench.order(Order::Policies(policies()));
        wait_for(&NETWORKS);
        wait_for(&POLICIES);
        assert!(members(&["local4"])[0].contains("203.0.113.0/24"), "no egress from now on");
        // Somebody empties some, and adds to others; then all is gone.
        let mut bulk = Bulk::new();
        bulk.flush("exempt4").flush("permits6").flush("homes4").flush("bridges");
        bulk.add("dryrun4", [Element::new(Key::Address(ip("10.9.0.66")))]);
        Channel::open().unwrap().send_bulk(bulk).unwrap();
        wait_for(&NETWORKS);
        wait_for(&POLICIES);
        nftables::remove().unwrap();
        wait_for(&NETWORKS);
        wait_for(&POLICIES);
        // A range that grew, in one transaction with what it was.
        let mut fewer = Policies::clone(&policies());
        fewer.permits[0].2 = net("192.0.2.0/24").span();
        fewer.exempt.remove(2);
        bench.order(Order::Policies(Arc::new(fewer)));
        wait_for(&[("permits4", &["10.9.0.6 . 192.0.2.0/24"]), ("exempt6", &[])]);
        bench.order(networks(&[]));
        wait_for(&[("containers4", &[]), ("bridges", &[]), ("homes4", &[]), ("homes6", &[])]);
        bench.stop();
        assert_eq!(nftables::read().unwrap(), None, "they were our own");
    });
}

#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn the_users_own_rules_come_back_without_policies_and_go_on_judging_the_networks() {
    in_netns(|| {
        let queue_via = nftables::probe().unwrap();
        let users = Ruleset::new(&nftables::Options { queue_num: 7, ..rules().options(queue_via) });
        // As a run that was killed leaves them: with networks of its own.
        let options = nftables::Options {
            containers: vec![net("10.5.0.0/16")],
            bridges: vec![Bridge { interface: "br-k".to_owned(), nets: vec![net("10.5.0.0/16")] }],
            queue_num: 7,
            ..rules().options(queue_via)
        };
        nftables::apply(&Ruleset::new(&options), None).unwrap();
        let mut bulk = Bulk::new();
        bulk.add("exempt4", [Element::new(Key::Address(ip("10.5.0.9")))]);
        Channel::open().unwrap().send_bulk(bulk).unwrap();
        let bench = Bench::start();
        bench.order(networks(&BRIDGES));
        bench.order(Order::Policies(policies()));
        wait_for(&NETWORKS);
        wait_for(&POLICIES);
        bench.stop();
        let followed = BRIDGES.iter().map(|(_, of)| net(of)).collect();
        let followed = nftables::Options { containers: followed, ..rules().options(queue_via) };
        let users = users.judging_also(&Ruleset::new(&followed));
        assert_eq!(nftables::read().unwrap(), Some(users));
        for (set, _) in POLICIES {
            assert!(members(&[set])[0].is_empty(), "{set}");
        }
    });
}

#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn rules_that_are_kept_have_no_policies_either() {
    in_netns(|| {
        let mut bench = Bench::start();
        bench.order(Order::Policies(policies()));
        wait_for(&POLICIES);
        bench.truth.take().unwrap().stop(true).unwrap();
        assert!(nftables::read().unwrap().is_some_and(|kept| !kept.is_owned()));
        for (set, _) in POLICIES {
            assert!(members(&[set])[0].is_empty(), "{set}");
        }
    });
}

fn flows() -> usize {
    conntrack().end_flows(|_| true).unwrap().seen
}

fn conntrack() -> crate::conntrack::Channel {
    crate::conntrack::Channel::open().unwrap()
}

#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn who_gets_an_address_inherits_nothing() {
    in_netns(|| {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        let bench = Bench::start();
        let send = |from: &str| {
            let socket = std::net::UdpSocket::bind((ip(from), 0)).unwrap();
            socket.send_to(b"x", (ip("127.9.9.9"), 9)).unwrap();
        };
        send("127.0.0.2");
        send("127.0.0.3");
        assert_eq!(flows(), 2);
        let (old, other) = ("172.17.0.2", "172.17.0.3");
        let pair = |src: &str| Element::new(Key::Pair(ip(src), ip("192.0.2.9")));
        let mut bulk = Bulk::new();
        for set in ["hits4", "spoofs4"] {
            bulk.add(set, [pair(old), pair(other)]);
        }
        Channel::open().unwrap().send_bulk(bulk).unwrap();
        bench.order(Order::Left(vec![ip(old)]));
        bench.order(Order::Left(vec![ip("127.0.0.2")]));
        bench.hears(|told| matches!(told, Told::Left(all) if all.contains(&ip(old))));
        wait_for(&[
            ("hits4", &["172.17.0.3 . 192.0.2.9"]),
            ("spoofs4", &["172.17.0.3 . 192.0.2.9"]),
        ]);
        let deadline = Instant::now() + PATIENCE;
        while flows() != 1 {
            assert!(Instant::now() < deadline, "{} flows", flows());
            std::thread::yield_now();
        }
        conntrack()
            .end_flows(|flow| {
                assert_eq!(flow.src, ip("127.0.0.3"), "the neighbour's goes on");
                true
            })
            .unwrap();
        bench.stop();
    });
}

/// What one container's start costs beside a million list entries. Prints, and asserts nothing of time.
#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn one_policy_beside_a_million_entries_is_quick() {
    in_netns(|| {
        let bench = Bench::start();
        let span = |n: u128| (Family::V4, crate::engine::intervals::Span::new(n * 16, n * 16 + 3));
        let block = crate::engine::lists::Side::new((1..1_000_000).map(span), [], []);
        let lists = Lists { block, ..Lists::default() };
        bench.order(Order::Lists(Arc::new(lists)));
        bench.hears(|told| *told == Told::Loaded);
        let mut took = Vec::new();
        for n in 2..52_u8 {
            let address = IpAddr::from([10, 9, 0, n]);
            let exempt = (2..=n).map(|n| IpAddr::from([10, 9, 0, n])).collect();
            let policies = Policies { exempt, ..Policies::default() };
            let start = Instant::now();
            bench.order(Order::Policies(Arc::new(policies)));
            let mut channel = Channel::open().unwrap();
            while channel.get("exempt4", Key::Address(address)).unwrap().is_none() {
                assert!(start.elapsed() < PATIENCE);
            }
            took.push(start.elapsed());
        }
        took.sort_unstable();
        println!("policy in the kernel after {:?}, at most {:?}", took[25], took[49]);
        assert_eq!(members(&["exempt4"])[0].len(), 50);
        bench.stop();
    });
}
