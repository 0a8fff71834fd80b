//! What the kernel does with sources that do not belong, and with containers that have a policy of their own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use synhold::nftables::{self, Bridge, Options, Posture, Refuse, Ruleset, probe};

use super::lab::net::connect;
use super::lab::ns::Ns;
use super::lab::raw::{self, Raw};
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Wire;
use super::lab::{CONTAINER_NETS, CT2_4, CT4, CT6, Lab, SRV4, SRV6, Side, at, eventually};
use super::stand::{PORT, SOON, Stand, add, assert_passes, assert_refused, hits, waiting};

/// The lab behind rules without a daemon: what no rule refuses passes.
struct Gate {
    far: Wire,
    _servers: [Server; 2],
    lab: Lab,
}

/// The options of the lab's networks: one bridge each, as far as the rules can tell.
fn options() -> Options {
    let net = |text: &&str| text.parse().unwrap();
    let bridge = |interface: &str, nets: &[&str]| Bridge {
        interface: interface.to_owned(),
        nets: nets.iter().map(net).collect(),
    };
    Options {
        posture: Posture::Open,
        containers: CONTAINER_NETS.iter().map(net).collect(),
        bridges: vec![bridge("ct", &CONTAINER_NETS[..2]), bridge("ct2", &CONTAINER_NETS[2..])],
        ..Options::default()
    }
}

impl Gate {
    fn new(name: &str, options: Options) -> Gate {
        let lab = Lab::new(name);
        let at = everywhere(PORT);
        let _servers = [Server::tcp(&lab.srv, &at), Server::udp(&lab.srv, &at)];
        let far = Wire::watch(&lab.srv, "eth0");
        let gate = Gate { far, _servers, lab };
        gate.install(options);
        gate
    }

    fn install(&self, options: Options) {
        self.lab.gw.run(|| {
            let options = Options { queue_via: probe().unwrap(), ..options };
            let current = nftables::read().unwrap();
            nftables::apply(&Ruleset::new(&options), current.as_ref()).unwrap();
        });
    }

    /// Packets to `dst` that reached the far side, now that all that was sent has.
    fn seen(&self, dst: SocketAddr) -> usize {
        self.far.count_settled(&self.lab, Side::Srv, |p| p.is_syn_to(dst) || p.is_udp_to(dst))
    }

    fn nft(&self, text: &str) -> String {
        self.lab.gw.nft(&format!("{text}\n"))
    }

    /// What a rule has counted.
    fn counted(&self, comment: &str) -> u64 {
        let counts = self.lab.gw.run(|| nftables::counters().unwrap());
        counts.iter().filter(|count| count.rule == comment).map(|count| count.count.packets).sum()
    }
}

fn server(n: u8) -> IpAddr {
    IpAddr::from([203, 0, 113, n])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A source of nobody, one of the neighbour's, a link-local one, and IPv6's likes; each to a port of its own.
const FORGED: [(&str, u16); 6] = [
    ("198.51.100.7", 9001),
    ("172.31.8.2", 9002),
    ("169.254.7.7", 9003),
    ("2001:db8:5::7", 9004),
    ("fd07:8::2", 9005),
    ("203.0.113.10", 9006),
];

fn forged_to(src: &str, port: u16) -> SocketAddr {
    at(if ip(src).is_ipv4() { IpAddr::from(SRV4) } else { SRV6.into() }, port)
}

#[test]
fn a_forged_source_gets_nowhere_and_is_noted() {
    let gate = Gate::new("forged", options());
    let raw = Raw::to_gateway(&gate.lab, Side::Ct);
    for (src, port) in FORGED {
        raw.send(&raw::syn(at(ip(src), 40_000), forged_to(src, port), 1));
        raw.send(&raw::udp(at(ip(src), 40_000), forged_to(src, port), b"x"));
    }
    // Behind it on the same link, so that all of it has arrived.
    for (src, to) in [(IpAddr::from(CT4), IpAddr::from(SRV4)), (CT6.into(), SRV6.into())] {
        raw.send(&raw::udp(at(src, 40_000), at(to, 9_100), b"proper"));
        eventually("a proper source passes", SOON, || gate.seen(at(to, 9_100)) == 1);
    }
    for (src, port) in FORGED {
        let to = forged_to(src, port);
        assert_eq!(gate.seen(to), 0, "{src}");
        let family = if to.is_ipv4() { 4 } else { 6 };
        let noted = gate.nft(&format!("list set inet synhold spoofs{family}"));
        let pair = format!("{src} . {} counter packets 2", to.ip());
        assert!(noted.contains(&pair), "{pair} in {noted}");
    }
    // The other side of the gateway may send from anywhere.
    let near = Wire::watch(&gate.lab.ct, "eth0");
    Raw::to_gateway(&gate.lab, Side::Srv).send(&raw::syn(at(server(9), 1), at(CT4, 9_200), 1));
    eventually("it is no bridge", SOON, || {
        near.count_settled(&gate.lab, Side::Ct, |p| p.is_syn_to(at(CT4, 9_200))) == 1
    });
}

#[test]
fn a_dry_run_and_no_anti_spoof_let_forged_sources_through() {
    let gate = Gate::new("forged-dry", Options { dry_run: true, ..options() });
    let raw = Raw::to_gateway(&gate.lab, Side::Ct);
    let (src, to) = (at(ip("198.51.100.7"), 40_000), |port| at(SRV4, port));
    raw.send(&raw::udp(src, to(9_001), b"x"));
    eventually("only counted", SOON, || gate.seen(to(9_001)) == 1);
    assert!(gate.nft("list set inet synhold spoofs4").contains("198.51.100.7 . 203.0.113.10"));
    assert_eq!(gate.counted("a forged source, IPv4"), 1);

    gate.install(Options { anti_spoof: false, ..options() });
    raw.send(&raw::udp(src, to(9_002), b"x"));
    eventually("not looked at", SOON, || gate.seen(to(9_002)) == 1);
    gate.install(Options { bridges: Vec::new(), ..options() });
    raw.send(&raw::udp(src, to(9_003), b"x"));
    eventually("no bridge is known", SOON, || gate.seen(to(9_003)) == 1);
    gate.install(options());
    raw.send(&raw::udp(src, to(9_004), b"x"));
    raw.send(&raw::udp(at(CT4, 40_000), to(9_005), b"x"));
    eventually("a proper one passes", SOON, || gate.seen(to(9_005)) == 1);
    assert_eq!(gate.seen(to(9_004)), 0);
}

#[test]
fn what_a_host_sends_before_it_has_an_address_gets_in() {
    let gate = Gate::new("unplaced", options());
    // The gateway itself is asked: link-local, from nowhere, and for a neighbour.
    let admitted = || gate.counted("a forged source, IPv4") + gate.counted("a forged source, IPv6");
    let raw = Raw::to_gateway(&gate.lab, Side::Ct);
    let all = ip("255.255.255.255");
    raw.send(&raw::udp(at(ip("0.0.0.0"), 68), at(all, 67), b"discover"));
    raw.send(&raw::udp(at(ip("::"), 68), at(ip("ff02::16"), 67), b"report"));
    raw.send(&raw::udp(at(ip("fe80::7"), 546), at(ip("ff02::1:2"), 547), b"solicit"));
    // Neighbours are found anew.
    gate.lab.ct.ip("neigh flush dev eth0 nud permanent\n");
    gate.lab.gw.ip("neigh flush dev ct nud permanent\n");
    assert_passes(&gate.lab.ct, at(SRV6, PORT));
    assert_passes(&gate.lab.ct, at(SRV4, PORT));
    assert_eq!(admitted(), 0);
    // A positive control: the count counts.
    raw.send(&raw::udp(at(ip("fec0::7"), 68), at(SRV6, 9_001), b"x"));
    eventually("it does", SOON, || admitted() == 1);
}

#[test]
fn exempt_passes_and_quarantine_beats_it() {
    let gate = Gate::new("exempt", options());
    for src in [IpAddr::from(CT4), CT6.into()] {
        add(&gate.lab, "exempt", src);
    }
    gate.nft("add element inet synhold blockhosts4 { 203.0.113.66 }");
    gate.nft("add element inet synhold blockhosts6 { 2001:db8:113::66 }");
    for to in [server(66), ip("2001:db8:113::66")] {
        assert_passes(&gate.lab.ct, at(to, PORT));
        assert_refused(&gate.lab.ct2, at(to, PORT));
    }
    assert_eq!(gate.counted("not judged, IPv4"), 1);
    gate.nft("add element inet synhold quarantine4 { 172.31.7.2 }");
    assert_refused(&gate.lab.ct, at(server(66), PORT));
    assert_refused(&gate.lab.ct, at(server(40), PORT));
}

#[test]
fn a_container_in_a_dry_run_of_its_own_is_noted_and_passes() {
    let gate = Gate::new("dryrun", Options { refuse_dot: true, ..options() });
    add(&gate.lab, "dryrun", CT4.into());
    gate.nft("add element inet synhold blockhosts4 { 203.0.113.66 }");
    gate.nft("add element inet synhold block4 { 203.0.113.128/25 }");
    gate.nft(
        "add element inet synhold denied4 { 172.31.7.2 . 203.0.113.40, 172.31.8.2 . 203.0.113.40 }",
    );
    let _dot = Server::tcp(&gate.lab.srv, &[at(server(50), 853)]);
    for (n, noted) in [(66, true), (129, true), (40, false)] {
        assert_passes(&gate.lab.ct, at(server(n), PORT));
        assert_refused(&gate.lab.ct2, at(server(n), PORT));
        assert_eq!(hits(&gate.lab, CT4.into(), server(n)), noted.then_some(1));
        assert_eq!(hits(&gate.lab, CT2_4.into(), server(n)), noted.then_some(1));
    }
    assert_passes(&gate.lab.ct, at(server(50), 853));
    assert_refused(&gate.lab.ct2, at(server(50), 853));
    // It went on to the rule that asks the daemon.
    assert_eq!(gate.counted("judge tcp"), 4);
    gate.nft("add element inet synhold quarantine4 { 172.31.7.2 }");
    assert_refused(&gate.lab.ct, at(server(40), PORT));
}

#[test]
fn the_other_way_is_silence_or_a_reset() {
    for (name, refuse) in [("other-reset", Refuse::Reset), ("other-drop", Refuse::Drop)] {
        let gate = Gate::new(name, Options { refuse, ..options() });
        add(&gate.lab, "otherway", CT4.into());
        add(&gate.lab, "otherway", CT6.into());
        gate.nft("add element inet synhold blockhosts4 { 203.0.113.66 }");
        gate.nft("add element inet synhold blockhosts6 { 2001:db8:113::66 }");
        for to in [server(66), ip("2001:db8:113::66")] {
            let (reset, silent) = match refuse {
                Refuse::Reset => (&gate.lab.ct2, &gate.lab.ct),
                Refuse::Drop => (&gate.lab.ct, &gate.lab.ct2),
            };
            assert_refused(reset, at(to, PORT));
            assert_silent(silent, at(to, PORT));
            assert_eq!(gate.seen(at(to, PORT)), 0);
        }
    }
}

fn assert_silent(ns: &Ns, to: SocketAddr) {
    let error = connect(ns, to, Duration::from_millis(400)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{to}");
}

#[test]
fn what_one_container_is_permitted_beats_block_for_it_alone() {
    let gate = Gate::new("permits", options());
    gate.nft("add element inet synhold block4 { 203.0.113.0/24 }");
    gate.nft("add element inet synhold block6 { 2001:db8:113::/64 }");
    gate.nft("add element inet synhold permits4 { 172.31.7.2 . 203.0.113.64-203.0.113.70 }");
    gate.nft("add element inet synhold permits6 { fd07:7::2 . 2001:db8:113::40/122 }");
    for (inside, outside) in
        [(server(70), server(71)), (ip("2001:db8:113::7f"), ip("2001:db8:113::80"))]
    {
        assert_passes(&gate.lab.ct, at(inside, PORT));
        assert_refused(&gate.lab.ct, at(outside, PORT));
        assert_refused(&gate.lab.ct2, at(inside, PORT));
    }
}

#[test]
fn networks_come_and_go_over_packets_that_wait() {
    let mut stand = Stand::new("networks-held", &["--hold-ms", "900"]);
    let (ns, dst) = (stand.lab.ct.clone(), at(SRV4, PORT));
    let client = std::thread::spawn(move || connect(&ns, dst, SOON).map_err(|e| e.to_string()));
    stand.wait_held(1);
    for bridges in [options().bridges, Vec::new()] {
        let with = Ruleset::new(&Options { bridges, ..options() });
        stand.lab.gw.run(|| {
            let current = nftables::read().unwrap().unwrap();
            let target = current.with_networks_of(&with);
            nftables::apply(&target, Some(&current)).unwrap();
        });
        assert_eq!(waiting(&stand.lab), 1);
    }
    stand.resolve(CT4.into(), "held.example", SRV4.into());
    client.join().unwrap().unwrap();
}

#[test]
fn policy_sets_a_stranger_fills_are_emptied_and_a_forged_source_is_told() {
    let stand = Stand::with_lists("strangers", &[], &[("block.txt", "203.0.113.66\n")]);
    let add = |text: &str| stand.lab.gw.nft(&format!("add element inet synhold {text}\n"));
    for (set, element) in [
        ("exempt4", "172.31.7.2"),
        ("dryrun6", "fd07:7::2"),
        ("otherway4", "172.31.7.2"),
        ("permits4", "172.31.7.2 . 203.0.113.0/24"),
        ("bridges", "\"ct\""),
        ("homes4", "\"ct\" . 172.31.7.0/24"),
    ] {
        add(&format!("{set} {{ {element} }}"));
        stand.wait_members(set, &[]);
    }
    assert_refused(&stand.lab.ct, at(server(66), PORT));
    // As the rule against it would note one.
    add("spoofs4 { 198.51.100.7 . 203.0.113.10 counter packets 3 bytes 180 }");
    let told = stand.daemon.expect_event("a forged source", |e| e["set"] == "spoofs4", SOON);
    for (key, wanted) in [("event", "block"), ("src", "198.51.100.7"), ("dst", "203.0.113.10")] {
        assert_eq!(told[key], wanted, "{told}");
    }
    assert_eq!((&told["count"], &told["list"]), (&3.into(), &serde_json::Value::Null), "{told}");
}
