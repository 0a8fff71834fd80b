//! Open flows end with a block or a quarantine: those it names and no others, and nobody opens them again from outside.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr};

use serde_json::Value;

use super::conntrack::Pair;
use super::lab::net::connect_from;
use super::lab::serve::Server;
use super::lab::{CT2_4, CT4, CT6, SRV6, at};
use super::lists::{server, soon};
use super::stand::{PORT, SOON, Stand};

const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x11);

fn ended(event: &Value) -> u64 {
    event["ended_flows"].as_u64().expect("ended_flows")
}

fn stand(name: &str, args: &[&str]) -> Stand {
    let mut stand = Stand::new(name, &[&["--hold-ms", "50"], args].concat());
    for (n, address) in [server(20), server(24), SRV6.into(), OTHER6.into()].iter().enumerate() {
        stand.resolve(CT4.into(), &format!("n{n}.example"), *address);
    }
    stand
}

#[test]
fn a_block_ends_the_flows_to_its_address_and_no_others() {
    let stand = stand("revoke", &[]);
    for (src, dst, other) in
        [(IpAddr::from(CT4), server(20), server(24)), (CT6.into(), SRV6.into(), OTHER6.into())]
    {
        let mut blocked = Pair::open(&stand.lab, src, at(dst, PORT));
        let mut others = Pair::open(&stand.lab, src, at(other, PORT));
        let event = stand.list("block.txt", &format!("{dst}\n"));
        assert_eq!(ended(&event), 2, "{event}");
        blocked.assert_ended();
        others.assert_alive();
        let event = stand.list("block.txt", &format!("{dst}\n198.51.100.1\n"));
        assert_eq!(ended(&event), 0, "what is refused leaves no flow: {event}");
        others.assert_alive();
    }
}

#[test]
fn nothing_the_far_end_sends_opens_an_ended_flow_again() {
    let stand = stand("noreopen", &[]);
    let (tcp, _) = connect_from(&stand.lab.ct, at(CT4, 0), at(server(20), PORT), SOON).unwrap();
    let udp = stand
        .lab
        .ct
        .run(|| super::lab::net::udp_socket(Some(at(CT4, 4_044)), at(server(20), PORT)));
    assert!(super::lab::net::udp_ask_here(&udp, b"ping", SOON).answered());
    let near = super::lab::wire::Wire::watch(&stand.lab.ct, "eth0");
    assert_eq!(ended(&stand.list("block.txt", "203.0.113.20\n")), 2);
    let (from, raw) =
        (at(server(20), PORT), super::lab::raw::Raw::to_gateway(&stand.lab, super::lab::Side::Srv));
    for _ in 0..3 {
        raw.send(&super::lab::raw::udp(from, at(CT4, 4_044), b"still there?"));
        raw.send(&super::lab::raw::ack(from, tcp.local_addr().unwrap(), 1, 1));
    }
    // The control: what is no answer to anything blocked still comes in.
    raw.send(&super::lab::raw::udp(at(server(24), PORT), at(CT4, 4_044), b"hello"));
    assert!(near.wait_for(|p| p.src == at(server(24), PORT), SOON).is_some());
    assert_eq!(near.count(|p| p.src == from), 0);
    let asked = super::lab::net::udp_ask_here(&udp, b"ping", SOON);
    assert!(asked.refused(), "{asked:?}");
}

#[test]
fn an_expired_allow_and_a_removed_one_end_what_they_let_through() {
    let stand = stand("lapse", &[]);
    stand.list("allow.txt", "203.0.113.0/24\n");
    stand.list("block.txt", "203.0.113.20\n");
    let mut flow = Pair::open(&stand.lab, CT4.into(), at(server(20), PORT));
    let until = soon(std::time::Duration::from_millis(1_500));
    let event = stand.list("allow.txt", &format!("203.0.113.20 until={until}\n"));
    assert_eq!(ended(&event), 0);
    let mark = stand.daemon.feed().mark();
    flow.assert_alive();
    assert_eq!(ended(&stand.reloaded_since(mark)), 2);
    flow.assert_ended();
}

#[test]
fn quarantine_ends_whatever_a_container_has_open_whoever_opened_it() {
    let stand = stand("ward2", &[]);
    let inside = Server::tcp(&stand.lab.ct, &[at(CT4, 8_080)]);
    let mut out = Pair::open(&stand.lab, CT4.into(), at(server(20), PORT));
    let mut alive = Vec::new();
    // A neighbour's flow to it, and one from outside: both are ways for it to talk.
    for ns in [&stand.lab.ct2, &stand.lab.srv] {
        let stream = super::lab::net::connect_from(ns, any(), at(CT4, 8_080), SOON).unwrap().0;
        stream.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        alive.push(stream);
    }
    for stream in &mut alive {
        assert!(answers(stream), "the control");
    }
    let (mut neighbour, _) =
        connect_from(&stand.lab.ct2, at(CT2_4, 0), at(server(24), PORT), SOON).unwrap();
    let event = stand.list("quarantine.txt", "172.31.7.2\n");
    assert_eq!(ended(&event), 4, "{event}");
    out.assert_ended();
    for stream in &mut alive {
        assert!(!answers(stream), "{stream:?} goes on");
    }
    assert!(answers(&mut neighbour), "the neighbour's own go on");
    drop(inside);
}

fn any() -> std::net::SocketAddr {
    at([0, 0, 0, 0], 0)
}

fn answers(stream: &mut std::net::TcpStream) -> bool {
    let asked = stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut [0; 4]));
    asked.is_ok()
}

#[test]
fn a_dry_run_ends_nothing() {
    let stand = stand("dryrevoke", &["--dry-run"]);
    let mut flow = Pair::open(&stand.lab, CT4.into(), at(server(20), PORT));
    assert_eq!(ended(&stand.list("block.txt", "203.0.113.20\n")), 0);
    assert_eq!(ended(&stand.list("quarantine.txt", "172.31.7.2\n")), 0);
    flow.assert_alive();
}
