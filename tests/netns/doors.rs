//! Side doors, closed by option: DNS past our resolver, encrypted DNS, private networks, cloud metadata.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use super::lab::daemon::Daemon;
use super::lab::dns::{Over, dns_ask, dnsmasq, qtype, question, upstream, zone};
use super::lab::net::{connect, udp_ask};
use super::lab::ns::Ns;
use super::lab::raw::{self, Raw};
use super::lab::serve::{Server, everywhere};
use super::lab::wire::{Proto, Wire};
use super::lab::{
    CT2_4, CT2_6, CT4, CT6, DEAD4, DEAD6, DNS4, DNS6, GW2_4, GW2_6, GW4, GW6, Lab, SRV4, SRV6,
    Side, at,
};
use super::stand::{
    Cast, DnsLog, PORT, SOON, STARTED, Stand, add, casts, install, installed, start, start_on,
};

const NAME: &str = "web.example";
const OURS4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
const OURS6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1));
const DOT: u16 = 853;

/// What a container hears when it asks that server for the name, over both transports.
#[track_caller]
fn hears(ns: &Ns, from: IpAddr, server: IpAddr) -> Option<IpAddr> {
    let kind = if server.is_ipv4() { qtype::A } else { qtype::AAAA };
    let ask = |over| dns_ask(ns, at(from, 0), at(server, 53), NAME, kind, over);
    let answers = [Over::Udp, Over::Tcp]
        .map(|over| ask(over).ok().and_then(|reply| reply.addresses().first().copied()));
    assert_eq!(answers[0], answers[1], "UDP and TCP say the same");
    answers[0]
}

/// Our resolver, which says otherwise than the internet's.
fn ours(ns: &Ns, listen: &[IpAddr]) -> Daemon {
    dnsmasq(ns, listen, [zone::host(NAME, OURS4), zone::host(NAME, OURS6)])
}

fn theirs(lab: &Lab) -> Daemon {
    upstream(lab, [zone::host(NAME, SRV4), zone::host(NAME, SRV6)])
}

#[test]
fn every_question_of_a_container_comes_to_the_gateway() {
    for mode in [&[][..], &["--dry-run"]] {
        let lab = installed("dnsgate", mode);
        let _theirs = theirs(&lab);
        let _ours = ours(&lab.gw, &[GW4.into(), GW6.into(), GW2_4.into(), GW2_6.into()]);
        assert_eq!(hears(&lab.ct, CT4.into(), DNS4.into()), Some(SRV4.into()), "the control");
        assert_eq!(hears(&lab.ct, CT6.into(), DNS6.into()), Some(SRV6.into()));

        let redirect = ["--dns-redirect", "gateway"];
        install(&lab, &[mode, &redirect].concat());
        let far = Wire::watch(&lab.srv, "eth0");
        for (from, nobody, elsewhere, ours) in [
            (IpAddr::from(CT4), IpAddr::from(DEAD4), IpAddr::from(DNS4), OURS4),
            (CT6.into(), DEAD6.into(), DNS6.into(), OURS6),
        ] {
            assert_eq!(hears(&lab.ct, from, nobody), Some(ours));
            assert_eq!(hears(&lab.ct, from, elsewhere), Some(ours));
        }
        assert_eq!(hears(&lab.ct2, CT2_4.into(), DNS4.into()), Some(OURS4), "the neighbour too");
        assert_eq!(
            hears(&lab.ct2, CT2_6.into(), GW2_6.into()),
            Some(OURS6),
            "who asks it anyway too"
        );
        let left = far.count_settled(&lab, Side::Srv, |p| !p.outgoing && p.dst.port() == 53);
        assert_eq!(left, 0, "no question left");

        // Somebody refused everything gets no resolver either.
        add(&lab, "quarantine", CT4.into());
        let quarantined = hears(&lab.ct, CT4.into(), DNS4.into());
        assert_eq!(quarantined.is_none(), mode.is_empty(), "{quarantined:?}");

        install(&lab, mode);
        assert_eq!(hears(&lab.ct2, CT2_4.into(), DNS4.into()), Some(SRV4.into()), "off again");
    }
}

/// As musl does it: one socket asks all servers at once, and each answer has to come from the one asked.
#[test]
fn one_socket_may_ask_two_servers_at_once() {
    let lab = installed("dnspair", &["--dns-redirect", "gateway"]);
    let _ours = ours(&lab.gw, &[GW4.into()]);
    let socket = lab.ct.run(|| UdpSocket::bind(at(CT4, 5_353))).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let asked = [at(DEAD4, 53), at(DNS4, 53), at(GW4, 53)];
    for (n, server) in (1..).zip(asked) {
        socket.send_to(&question(n, NAME, qtype::A), server).unwrap();
    }
    let answers: BTreeSet<SocketAddr> =
        asked.iter().map(|_| socket.recv_from(&mut [0; 512]).expect("an answer").1).collect();
    assert_eq!(answers, asked.into_iter().collect());
}

#[test]
fn every_question_comes_to_a_resolver_elsewhere_but_its_own() {
    let both = format!("{CT2_4},{CT2_6}");
    let lab = installed("dnsaway", &["--dns-redirect", &both]);
    let _theirs = theirs(&lab);
    // A container of its own that asks the internet on behalf of the others.
    let listen = [CT2_4.into(), CT2_6.into()];
    let _ours = dnsmasq(&lab.ct2, &listen, [format!("--server={DNS4}")]);
    let far = Wire::watch(&lab.srv, "eth0");
    for (from, nobody, itself, wanted) in [
        (IpAddr::from(CT4), IpAddr::from(DEAD4), IpAddr::from(CT2_4), IpAddr::from(SRV4)),
        (CT6.into(), DEAD6.into(), CT2_6.into(), SRV6.into()),
    ] {
        assert_eq!(hears(&lab.ct, from, nobody), Some(wanted));
        assert_eq!(hears(&lab.ct, from, itself), Some(wanted));
    }
    let asked = |p: &super::lab::wire::Seen| !p.outgoing && p.dst.port() == 53;
    assert!(far.count_settled(&lab, Side::Srv, asked) > 0);
    assert!(far.all().iter().filter(|p| asked(p)).all(|p| p.src.ip() == CT2_4));

    // A family without a resolver is left alone.
    install(&lab, &["--dns-redirect", &CT2_4.to_string()]);
    far.clear();
    assert_eq!(hears(&lab.ct, CT6.into(), DNS6.into()), Some(SRV6.into()));
    far.count_settled(&lab, Side::Srv, |_| true);
    assert!(far.all().iter().any(|p| asked(p) && p.src.ip() == CT6));
}

#[test]
fn a_redirected_question_is_evidence_for_the_one_who_asked() {
    let lab = Lab::new("dnsproof");
    let _theirs = theirs(&lab);
    let _servers = Server::tcp(&lab.srv, &everywhere(PORT));
    let (upstream, gate) = (DNS4.to_string(), GW4.to_string());
    let args = ["--dns-listen", &gate, "--dns-upstream", &upstream, "--dns-redirect", "gateway"];
    let daemon = start_on(&lab, "spawn", &[&args[..], &["--scope", "container"]].concat());
    daemon.ready();
    assert_eq!(hears(&lab.ct, CT4.into(), DEAD4.into()), Some(SRV4.into()));
    connect(&lab.ct, at(SRV4, PORT), SOON).expect("its own question");
    let verdict = daemon.expect_event("verdict", |e| e["event"] == "verdict", SOON);
    assert_eq!((&verdict["grade"], &verdict["names"][0]), (&"own".into(), &NAME.into()));
}

#[test]
fn a_redirection_comes_and_goes_with_the_run_that_asks_for_it() {
    let lab = Lab::new("dnsrun");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let run = |args: &[&str]| {
        let daemon = start(&lab, &log.path, args);
        daemon.ready();
        daemon
    };
    let redirects =
        || lab.gw.nft("list chain inet synhold dns_redirect\n").contains("redirect to :53");
    let gateway = ["--dns-redirect", "gateway"];
    // The user's rules redirect, a run's do not.
    install(&lab, &gateway);
    let users = lab.gw.ruleset();
    let daemon = run(&[]);
    assert!(!redirects());
    daemon.kill9();
    assert!(!redirects(), "left changed");
    assert!(run(&[]).stop().status.success());
    assert_eq!(lab.gw.ruleset(), users, "also after one that was killed");

    // The other way round; what stays of it is an empty chain, and in nobody's way.
    install(&lab, &[]);
    assert!(!redirects());
    let before = lab.gw.ruleset();
    let daemon = run(&gateway);
    assert!(redirects());
    assert!(daemon.stop().status.success());
    assert_eq!(lab.gw.ruleset(), before);
    assert!(run(&[]).stop().status.success());
    assert_eq!(lab.gw.ruleset(), before);
}

#[test]
fn encrypted_dns_is_refused_unless_local_or_allowed() {
    for (mode, refuses) in [(&[][..], true), (&["--dry-run"], false)] {
        let lab = installed("dot", &[mode, &["--refuse-dot"]].concat());
        let at_all = [everywhere(PORT), everywhere(DOT)].concat();
        let _far = (Server::tcp(&lab.srv, &at_all), Server::udp(&lab.srv, &at_all));
        let _near = (Server::tcp(&lab.ct2, &at_all), Server::udp(&lab.ct2, &at_all));
        let passes = |dst: SocketAddr| {
            let connected = connect(&lab.ct, dst, SOON);
            let asked = udp_ask(&lab.ct, None, dst, b"ping", SOON);
            assert_eq!(connected.is_ok(), asked.answered(), "{dst}: {connected:?} {asked:?}");
            if let Err(error) = &connected {
                assert!(error.kind() == ErrorKind::ConnectionRefused && asked.refused());
            }
            connected.is_ok()
        };
        for (Cast { server, .. }, near) in
            casts().into_iter().zip([IpAddr::from(CT2_4), CT2_6.into()])
        {
            let dot = at(server.ip(), DOT);
            assert!(passes(server), "another port");
            assert_eq!(passes(dot), !refuses, "{dot} {mode:?}");
            assert!(passes(at(near, DOT)), "a local server");
            add(&lab, "allow", server.ip());
            assert!(passes(dot), "an allowed server");
        }
        let ruleset = lab.gw.ruleset();
        for comment in ["DNS over TLS", "DNS over QUIC"] {
            let line = ruleset.lines().find(|line| line.contains(comment)).unwrap();
            assert!(line.contains("counter packets 2 "), "one of each family: {line}");
        }
    }
}

#[test]
fn private_networks_are_judged_if_asked_for() {
    for policy in ["allow", "judge"] {
        let args = ["--local-policy", policy, "--hold-ms", "100"];
        let mut stand = Stand::new("localpol", &args);
        let _near = Server::tcp(&stand.lab.ct2, &everywhere(PORT));
        for (from, near) in [(IpAddr::from(CT4), IpAddr::from(CT2_4)), (CT6.into(), CT2_6.into())] {
            let first = connect(&stand.lab.ct, at(near, PORT), SOON);
            assert_eq!(first.is_ok(), policy == "allow", "{near}: {first:?}");
            if policy == "judge" {
                assert_eq!(stand.verdict(at(near, PORT))["reason"], "never-resolved");
                stand.resolve(from, "near.internal", near);
                connect(&stand.lab.ct, at(near, PORT), SOON).expect("resolved");
            }
            // The host itself is nobody else's.
            let gate = at(if near.is_ipv4() { GW2_4.into() } else { IpAddr::from(GW2_6) }, 9);
            let error = connect(&stand.lab.ct, gate, SOON).expect_err("nobody listens there");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert_eq!(
                stand.daemon.feed().count(|e| e["dst"] == gate.ip().to_string().as_str()),
                0
            );
        }
    }
}

#[test]
fn metadata_services_are_reached_only_if_allowed() {
    // Nobody listens and the posture is closed: what is to be judged is dropped.
    let lab = installed("metaallow", &["--fail", "closed"]);
    let _servers =
        (Server::tcp(&lab.srv, &everywhere(PORT)), Server::tcp(&lab.ct2, &everywhere(PORT)));
    let far = Wire::watch(&lab.srv, "eth0");
    let raw = Raw::to_gateway(&lab, Side::Ct);
    connect(&lab.ct, at(CT2_4, PORT), SOON).expect("what is local is not judged");
    for (container, address, net) in [
        (IpAddr::from(CT4), IpAddr::from([169, 254, 169, 254]), "169.254.169.254/32"),
        (CT4.into(), [100, 100, 100, 200].into(), "100.100.100.200/32"),
        (CT6.into(), "fd00:ec2::254".parse().unwrap(), "fd00:ec2::254/128"),
    ] {
        lab.server_owns(net);
        let dst = at(address, PORT);
        let arrived = || far.count_settled(&lab, Side::Srv, |p| p.is_syn_to(dst));
        raw.send(&raw::syn(at(container, 5_000), dst, 1));
        assert_eq!(arrived(), 0, "{address}");
        add(&lab, "allow", address);
        connect(&lab.ct, dst, SOON).expect("allowed");
        assert_eq!(arrived(), 1);
    }
}

#[test]
fn no_header_hides_encrypted_dns() {
    let lab = installed("dotah", &["--refuse-dot"]);
    let far = Wire::watch(&lab.srv, "eth0");
    let raw = Raw::to_gateway(&lab, Side::Ct);
    let (src, dst) = (at(CT6, 4_444), at(SRV6, DOT));
    for wrap in super::bypass::WRAPS6 {
        raw.send(&wrap(&raw::udp(src, at(SRV6, PORT), b"control")));
        raw.send(&wrap(&raw::syn(src, dst, 1)));
        raw.send(&wrap(&raw::udp(src, dst, b"open")));
        raw.send(&raw::udp(src, dst, b"stolen"));
    }
    let to = |port: u16| {
        far.count_settled(&lab, Side::Srv, |p| {
            !p.outgoing && p.dst.port() == port && matches!(p.proto, Proto::Udp | Proto::Tcp)
        })
    };
    assert_eq!((to(PORT), to(DOT)), (2, 0));
}
