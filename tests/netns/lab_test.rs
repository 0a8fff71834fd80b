//! The lab proves itself before anything is proved with it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::lab::daemon::Daemon;
use super::lab::dial::{Dial, connect_many, connect_many_here};
use super::lab::dns::{Over, Rr, dns_ask, dns_query, dnsmasq, qtype, reverse_name, upstream, zone};
use super::lab::net::{abort, connect, connect_from, connect_here, udp_ask};
use super::lab::raw::{self, Ext, Raw};
use super::lab::serve::{Server, everywhere};
use super::lab::wire::{Proto, Seen, Wire};
use super::lab::{
    CT2_4, CT4, CT6, DEAD4, DNS4, GW4, GW6, Lab, SRV4, SRV6, Side, at, eventually, proc,
};

const SOON: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_millis(300);

/// Both families of the server, with the container's address of the same family.
fn pairs(port: u16) -> [(IpAddr, SocketAddr); 2] {
    [(CT4.into(), at(SRV4, port)), (CT6.into(), at(SRV6, port))]
}

#[test]
fn tcp_reaches_the_server_and_the_wire_sees_one_syn() {
    let lab = Lab::new("tcp");
    let server = Server::tcp(&lab.srv, &everywhere(80));
    let (far, near) = (Wire::watch(&lab.srv, "eth0"), Wire::watch(&lab.gw, "srv"));
    for (src, dst) in pairs(80) {
        let took = connect(&lab.ct, dst, SOON).expect("connect");
        assert!(took < Duration::from_millis(500), "{dst}: {took:?}");
        let syn = far.wait_for(|p| p.is_syn_to(dst), SOON).expect("SYN");
        assert_eq!((syn.src.ip(), syn.outgoing, syn.extensions), (src, false, 0));
        assert_eq!(far.count_settled(&lab, Side::Srv, |p| p.is_syn_to(dst)), 1);
        near.wait_for(|p| p.is_syn_to(dst) && p.outgoing, SOON).expect("leaving the gateway");
    }
    eventually("all were served", SOON, || server.served() == 2);

    let (mut stream, _) = connect_from(&lab.ct, at(CT4, 0), at(SRV4, 80), SOON).expect("connect");
    stream.write_all(b"hello").expect("write");
    let mut back = [0; 5];
    stream.read_exact(&mut back).expect("echo");
    assert_eq!(&back, b"hello");

    let closed = connect(&lab.ct, at(SRV4, 81), SOON).expect_err("nobody listens");
    assert_eq!(closed.kind(), ErrorKind::ConnectionRefused);
    let dead = connect(&lab.ct, at(DEAD4, 80), SHORT).expect_err("nobody is there");
    assert_eq!(dead.kind(), ErrorKind::TimedOut);
    far.wait_for(|p| p.is_syn_to(at(DEAD4, 80)), SOON).expect("it went out all the same");
}

#[test]
fn udp_reaches_the_server_and_refusals_are_told_from_silence() {
    let lab = Lab::new("udp");
    let server = Server::udp(&lab.srv, &everywhere(9000));
    let wire = Wire::watch(&lab.srv, "eth0");
    for (src, dst) in pairs(9000) {
        let answer = udp_ask(&lab.ct, Some(at(src, 5000)), dst, b"ping", SOON);
        assert!(answer.answered(), "{answer:?}");
        let seen = wire.wait_for(|p| p.is_udp_to(dst), SOON).expect("datagram");
        assert_eq!((seen.src, seen.payload.as_slice()), (at(src, 5000), b"ping".as_slice()));
        let closed = at(dst.ip(), 9001);
        let refused = udp_ask(&lab.ct, None, closed, b"ping", SOON);
        assert!(refused.refused(), "{refused:?}");
        let icmp = wire.wait_for(|p| p.icmp.is_some_and(|i| i.about.is_some()), SOON);
        let about = icmp.and_then(|p| p.icmp?.about).expect("ICMP error");
        assert_eq!(about.1, closed);
        wire.clear();
    }
    eventually("all were served", SOON, || server.served() == 2);
    assert!(udp_ask(&lab.ct, None, at(DEAD4, 9000), b"ping", SHORT).silent());
}

#[test]
fn a_drop_rule_in_the_gateway_keeps_the_wire_empty() {
    let lab = Lab::new("drop");
    let _server = Server::tcp(&lab.srv, &everywhere(80));
    let wire = Wire::watch(&lab.srv, "eth0");
    let before = lab.gw.ruleset();
    lab.gw.nft(
        "table inet t { chain f { type filter hook forward priority 0; \
         tcp dport 80 ip saddr 172.31.7.2 drop; \
         meta l4proto udp ip6 saddr fd07:7::2 reject with icmpx admin-prohibited; }; }",
    );
    let error = connect(&lab.ct, at(SRV4, 80), SHORT).expect_err("dropped");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let refused = udp_ask(&lab.ct, None, at(SRV6, 80), b"x", SOON);
    assert!(refused.refused(), "{refused:?}");
    let from_ct = |p: &Seen| p.is_syn() && p.src.ip() == IpAddr::from(CT4);
    assert_eq!(wire.count_settled(&lab, Side::Srv, from_ct), 0);
    // The neighbour passes, and so does the container once the rule is gone.
    connect(&lab.ct2, at(SRV4, 80), SOON).expect("neighbour");
    let from_ct2 = |p: &Seen| p.is_syn() && p.src.ip() == IpAddr::from(CT2_4);
    assert_eq!(wire.count_settled(&lab, Side::Srv, from_ct2), 1);
    lab.gw.nft("delete table inet t");
    wire.positive_control(from_ct, || connect(&lab.ct, at(SRV4, 80), SOON).expect("connect"));
    assert_eq!(lab.gw.ruleset(), before);
}

#[test]
fn hand_made_packets_arrive_as_they_were_made() {
    let lab = Lab::new("raw");
    let wire = Wire::watch(&lab.srv, "eth0");
    let raw = Raw::to_gateway(&lab, Side::Ct);
    let to = |port| at(SRV6, port);
    let from = at(CT6, 4000);

    let spoofed = at([172, 31, 7, 77], 4444);
    let syn = raw::syn(spoofed, at(SRV4, 80), 7);
    raw.send_all([&syn, &syn, &syn], 0);
    assert_eq!(wire.wait_count(3, |p| p.is_syn() && p.src == spoofed && p.seq == 7, SOON), 3);

    raw.send(&raw::ack(from, to(81), 5, 6));
    let ack = wire.wait_for(|p| p.dst == to(81), SOON).expect("ACK");
    assert!(ack.ack && !ack.syn);

    let chain = [Ext::HopByHop, Ext::Routing, Ext::DestinationOptions(2)];
    raw.send(&raw::with_extensions(&raw::syn(from, to(82), 1), &chain));
    let seen = wire.wait_for(|p| p.is_syn_to(to(82)), SOON).expect("SYN behind extension headers");
    assert_eq!(seen.extensions, 8 + 8 + 24);

    for dst in [at(SRV4, 83), to(83)] {
        let src = if dst.is_ipv4() { at(CT4, 4000) } else { from };
        let whole = raw::udp(src, dst, &[b'x'; 100]);
        for part in raw::fragments(&whole, 48, 99) {
            raw.send(&part);
        }
        let piece = |first: bool| {
            move |p: &Seen| {
                p.fragment && !p.outgoing && p.src.ip() == src.ip() && (p.dst == dst) == first
            }
        };
        wire.wait_for(piece(true), SOON).expect("first fragment");
        let last = wire.wait_for(piece(false), SOON).expect("last fragment");
        assert_eq!((last.proto, last.dst.port()), (Proto::Udp, 0));
    }

    for dst in [at(SRV4, 84), to(84)] {
        let src = if dst.is_ipv4() { at(CT4, 4000) } else { from };
        let cut = raw::truncated(&raw::syn(src, dst, 1), 10);
        raw.send(&cut);
        let seen = wire.wait_for(|p| p.len == cut.len() && p.dst.ip() == dst.ip(), SOON);
        let seen = seen.expect("cut header");
        assert_eq!((seen.proto, seen.dst.port(), seen.fragment), (Proto::Tcp, 0, false));
    }
}

#[test]
fn whole_fragments_are_put_together_by_the_server() {
    let lab = Lab::new("defrag");
    let server = Server::udp(&lab.srv, &everywhere(9000));
    let raw = Raw::to_gateway(&lab, Side::Ct);
    for (src, dst) in pairs(9000) {
        for part in raw::fragments(&raw::udp(at(src, 4000), dst, &[1; 64]), 16, 1) {
            raw.send(&part);
        }
        let chain = [Ext::HopByHop, Ext::DestinationOptions(0)];
        if dst.is_ipv6() {
            raw.send(&raw::with_extensions(&raw::udp(at(src, 4000), dst, b"x"), &chain));
        }
    }
    eventually("two datagrams of fragments, one behind headers", SOON, || server.served() == 3);
}

#[test]
fn five_thousand_syns_a_second_and_faster() {
    let lab = Lab::new("pace");
    lab.server_owns("198.51.100.0/24");
    let wire = Wire::watch(&lab.srv, "eth0");
    let raw = Raw::to_gateway(&lab, Side::Ct);
    let syns: Vec<Vec<u8>> = (0..5_000_u16)
        .map(|n| {
            let src = SocketAddr::new(Side::Ct.source4((n % 128) as u8), 10_000 + n);
            raw::syn(src, at([198, 51, 100, (n % 250) as u8], 80), n.into())
        })
        .collect();
    let took = raw.send_all(&syns, 5_000);
    assert!(took > Duration::from_millis(950) && took < Duration::from_millis(1_500), "{took:?}");
    assert_eq!(wire.wait_count(5_000, |p| p.is_syn() && !p.outgoing, SOON), 5_000);
    let at_once = raw.send_all(&syns, 0);
    assert!(at_once < Duration::from_secs(1), "{at_once:?}");
    let seen = wire.wait_count(10_000, |p| p.is_syn() && !p.outgoing, SOON);
    assert_eq!(seen, 10_000, "as fast as it goes ({at_once:?})");
}

#[test]
fn five_hundred_connects_at_once() {
    let lab = Lab::new("many");
    let server = Server::tcp(&lab.srv, &everywhere(443));
    lab.server_owns("2001:db8:55::/48");
    let mut dials: Vec<Dial> = (0..250).map(|_| at(SRV4, 443).into()).collect();
    for n in 0..250 {
        let dst: IpAddr = format!("2001:db8:55::{n:x}").parse().expect("address");
        dials.push(Dial { src: Some(SocketAddr::new(Side::Ct.source6(n), 0)), dst: at(dst, 443) });
    }
    let done = connect_many(&lab.ct, &dials, Duration::from_secs(5));
    for one in &done {
        assert!(one.result.is_ok(), "{one:?}");
    }
    eventually("all were served", SOON, || server.served() == 500);
    drop(done);

    let dials = [at(DEAD4, 1).into(), at(SRV4, 443).into(), at(SRV4, 444).into()];
    let kinds: Vec<_> = lab.ct.run(|| connect_many_here(&dials, 1, SHORT));
    let kinds: Vec<_> = kinds.into_iter().map(|d| d.result.err().map(|e| e.kind())).collect();
    assert_eq!(kinds, [Some(ErrorKind::TimedOut), None, Some(ErrorKind::ConnectionRefused)]);

    let times = lab.ct.run(|| {
        let mut times: Vec<Duration> = (0..2_000)
            .map(|_| {
                let (stream, took) = connect_here(None, at(SRV4, 443), SOON).expect("connect");
                abort(stream);
                took
            })
            .collect();
        times.sort();
        times
    });
    assert!(times[1_000] < Duration::from_millis(5), "median connect {:?}", times[1_000]);
}

#[test]
fn addresses_can_be_added() {
    let lab = Lab::new("addr");
    let _server = Server::tcp(&lab.srv, &everywhere(80));
    for (address, dst) in [("172.31.7.9", at(SRV4, 80)), ("fd07:7::9", at(SRV6, 80))] {
        let address: IpAddr = address.parse().expect("address");
        lab.add_address(Side::Ct, address);
        connect_from(&lab.ct, at(address, 0), dst, SOON).expect("from an added address");
    }
    let from = SocketAddr::new(Side::Ct2.source4(127), 0);
    connect_from(&lab.ct2, from, at([203, 0, 113, 250], 80), SOON).expect("any server address");
}

#[test]
fn dnsmasq_resolves_for_the_container() {
    let lab = Lab::new("dns");
    let _internet = upstream(
        &lab,
        [
            zone::host("www.example.test", SRV4),
            zone::host("www.example.test", SRV6),
            zone::cname("alias.example.test", "www.example.test"),
            zone::txt("text.example.test", "1.2.3.4"),
            zone::domain("wild.test", [198, 51, 100, 7]),
        ],
    );
    let log = lab.dir().join("dns.log");
    let resolver = dnsmasq(
        &lab.gw,
        &[GW4.into(), GW6.into()],
        [
            format!("--server={DNS4}"),
            "--log-queries=extra".to_owned(),
            format!("--log-facility={}", log.display()),
        ],
    );
    let ask = |name: &str, kind| dns_query(&lab.ct, GW4.into(), name, kind).expect("answer");
    assert_eq!(ask("www.example.test", qtype::A).addresses(), [IpAddr::from(SRV4)]);
    assert_eq!(ask("www.example.test", qtype::AAAA).addresses(), [IpAddr::from(SRV6)]);
    assert_eq!(
        ask("alias.example.test", qtype::A).answers,
        [Rr::Name("www.example.test".to_owned()), Rr::Address(SRV4.into())]
    );
    assert_eq!(ask("text.example.test", qtype::TXT).answers, [Rr::Text("1.2.3.4".to_owned())]);
    assert_eq!(ask("any.wild.test", qtype::A).addresses(), [IpAddr::from([198, 51, 100, 7])]);
    assert_eq!(ask("nobody.test", qtype::A).rcode, 3);
    let pointer = ask(&reverse_name(SRV4.into()), qtype::PTR).answers;
    assert_eq!(pointer, [Rr::Name("www.example.test".to_owned())]);
    let tcp = dns_ask(&lab.ct, at(CT6, 0), at(GW6, 53), "www.example.test", qtype::A, Over::Tcp);
    assert_eq!(tcp.expect("over TCP").addresses(), [IpAddr::from(SRV4)]);
    let text = std::fs::read_to_string(&log).expect("log");
    assert!(text.contains("reply www.example.test is 203.0.113.10"), "{text}");
    assert_eq!(resolver.stop().status.code(), Some(0));
}

#[test]
fn a_daemon_is_heard_and_ended() {
    let lab = Lab::new("daemon");
    let shell = |script: &str| {
        let mut command = lab.gw.command("sh");
        command.args(["-c", script]);
        Daemon::start(&lab.gw, command)
    };
    let script = "echo '{\"event\":\"ready\"}'; echo stray; echo loud >&2; read line; \
                  echo \"{\\\"line\\\":\\\"$line\\\"}\"; exec sleep 1000";
    let mut one = shell(script);
    one.ready();
    assert_eq!(one.feed().mark(), 1);
    one.take_stdin().expect("stdin").write_all(b"given\n").expect("write");
    one.expect_event("the line", |e| e["line"] == "given", SOON);
    assert!(one.send_signal(Signal::SIGCONT));
    let ended = one.stop();
    assert_eq!(ended.events.len(), 2);
    assert_eq!(
        (ended.strays.as_slice(), ended.stderr.as_str()),
        (&["stray".to_owned()][..], "loud")
    );
    assert!(!ended.status.success());
    assert_eq!(shell("exit 3").wait_end().status.code(), Some(3));
    assert!(shell("exec sleep 1000").kill9().status.code().is_none());
    let real = Daemon::run(&lab.gw, Path::new(env!("CARGO_BIN_EXE_synhold")), ["--no-docker"]);
    assert!(real.pid() > 0);
}

#[test]
fn nothing_is_left() {
    let lab = Lab::new("leave");
    let (prefix, folder) = (lab.prefix().to_owned(), lab.dir().to_owned());
    let mut sleeper = lab.ct.command("sleep");
    sleeper.arg("1000");
    let (_, held) = lab.ct.start(sleeper);
    // A child of a child, as a daemon's own dnsmasq is.
    let mut orphan = lab.gw.command("sh");
    orphan.args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]);
    let orphan = proc::run(orphan, "").trim().to_owned();
    assert!(Path::new(&format!("/proc/{orphan}")).exists());
    let there = proc::run(netns_list(), "");
    assert_eq!(there.matches(&prefix).count(), 4, "{there}");
    drop(lab);
    assert!(!proc::run(netns_list(), "").contains(&prefix));
    assert!(!folder.exists());
    assert!(held.ended().is_some());
    eventually("the orphan is gone", SOON, || !alive(&orphan));

    let name = std::panic::catch_unwind(|| {
        let lab = Lab::new("panic");
        std::panic::resume_unwind(Box::new(lab.prefix().to_owned()));
    });
    let name = *name.expect_err("it panicked").downcast::<String>().expect("prefix");
    assert!(!proc::run(netns_list(), "").contains(&name));
}

#[test]
fn set_up_is_quick() {
    let fastest = (0..5)
        .map(|_| {
            let start = Instant::now();
            let lab = Lab::new("quick");
            let took = start.elapsed();
            drop(lab);
            took
        })
        .min();
    assert!(fastest < Some(Duration::from_millis(150)), "{fastest:?}");
}

fn netns_list() -> Command {
    let mut ip = Command::new("ip");
    ip.args(["netns", "list"]);
    ip
}

/// Running, and not merely waiting to be reaped by init.
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|s| !s.contains(") Z "))
}
