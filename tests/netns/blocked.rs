//! What the lists refuse and let through before any packet reaches userspace, seen on the wire.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use super::lab::dns::{dns_query, qtype, upstream, zone};
use super::lab::net::{connect, connect_from, udp_ask};
use super::lab::raw::{self, Raw};
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Wire;
use super::lab::{CT2_4, CT2_6, CT4, DNS4, DNS6, Lab, Side, at};
use super::stand::{Cast, PORT, SOON, add, casts, hits, installed};

/// A connection and a datagram from the container to the server: refused, or answered.
#[track_caller]
fn assert_refused(lab: &Lab, dst: SocketAddr) {
    let error = connect(&lab.ct, dst, SOON).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{dst}: {error}");
    let asked = udp_ask(&lab.ct, None, dst, b"ping", SOON);
    assert!(asked.refused(), "{dst}: {asked:?}");
}

#[track_caller]
fn assert_passes(lab: &Lab, dst: SocketAddr) {
    connect(&lab.ct, dst, SOON).expect("a connection");
    let asked = udp_ask(&lab.ct, None, dst, b"ping", SOON);
    assert!(asked.answered(), "{dst}: {asked:?}");
}

/// Servers on the far side, and what arrives there.
struct Far {
    _servers: [Server; 2],
    wire: Wire,
}

impl Far {
    fn of(lab: &Lab) -> Far {
        let at_all = everywhere(PORT);
        let servers = [Server::tcp(&lab.srv, &at_all), Server::udp(&lab.srv, &at_all)];
        Far { _servers: servers, wire: Wire::watch(&lab.srv, "eth0") }
    }

    /// First packets to that address that arrived since the last look.
    fn arrived(&self, lab: &Lab, dst: SocketAddr) -> usize {
        let count =
            self.wire.count_settled(lab, Side::Srv, |p| p.is_syn_to(dst) || p.is_udp_to(dst));
        self.wire.clear();
        count
    }
}

#[test]
fn a_blocked_destination_is_refused_at_once_and_noted() {
    for set in ["block", "blockhosts"] {
        let lab = installed("blockset", &[]);
        let far = Far::of(&lab);
        for Cast { container, server, .. } in casts() {
            assert_passes(&lab, server);
            assert_eq!(far.arrived(&lab, server), 2, "the control");

            add(&lab, set, server.ip());
            assert_eq!(hits(&lab, container, server.ip()), None);
            assert_refused(&lab, server);
            assert_eq!(hits(&lab, container, server.ip()), Some(2), "{set} {server}");
            connect(&lab.ct, server, SOON).expect_err("and again");
            assert_eq!(hits(&lab, container, server.ip()), Some(3), "{set} {server}");
            assert_eq!(far.arrived(&lab, server), 0, "nothing of it left");

            let other = at(neighbour_of(server.ip()), server.port());
            assert_passes(&lab, other);
            assert_eq!(hits(&lab, container, other.ip()), None, "others are as before");
            let neighbour = if server.is_ipv4() { CT2_4.into() } else { IpAddr::from(CT2_6) };
            connect(&lab.ct2, server, SOON).expect_err("every container is refused it");
            assert_eq!(hits(&lab, neighbour, server.ip()), Some(1), "{set} {server}");
        }
    }
}

/// The next address of the server's network.
fn neighbour_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + 1).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) + 1).into()),
    }
}

#[test]
fn allow_beats_block_whatever_a_listener_would_say() {
    // Nobody listens and the posture is closed, so that only the list lets anything pass.
    let lab = installed("allowset", &["--fail", "closed"]);
    let far = Far::of(&lab);
    for Cast { container, server, .. } in casts() {
        add(&lab, "block", server.ip());
        add(&lab, "blockhosts", server.ip());
        assert_refused(&lab, server);
        let noted = hits(&lab, container, server.ip());
        assert_eq!((noted, far.arrived(&lab, server)), (Some(2), 0));
        add(&lab, "allow", server.ip());
        assert_passes(&lab, server);
        assert_eq!((hits(&lab, container, server.ip()), far.arrived(&lab, server)), (noted, 2));
    }
}

#[test]
fn a_dry_run_notes_what_it_lets_pass() {
    for set in ["block", "blockhosts", "quarantine"] {
        let lab = installed("drynote", &["--dry-run"]);
        let far = Far::of(&lab);
        for Cast { container, server, .. } in casts() {
            add(&lab, set, if set == "quarantine" { container } else { server.ip() });
            assert_passes(&lab, server);
            assert_eq!(hits(&lab, container, server.ip()), Some(2), "{set} {server}");
            assert_eq!(far.arrived(&lab, server), 2);
        }
    }
}

#[test]
fn a_full_note_book_lets_nothing_pass() {
    let lab = installed("hitsfull", &[]);
    let raw = Raw::to_gateway(&lab, Side::Ct);
    let far = Wire::watch(&lab.srv, "eth0");
    lab.gw.nft("add element inet synhold block4 { 203.0.113.0/24 }\n");
    // 16 x 256 pairs fill it; what comes behind has no room.
    let targets = |source: u8| {
        (0..=255).map(move |n| {
            raw::syn(at(Side::Ct.source4(source), 1_000), at([203, 0, 113, n], PORT), 1)
        })
    };
    for packet in (0..20).flat_map(targets) {
        raw.send(&packet);
    }
    let refused = connect_from(&lab.ct, at(CT4, 0), at([203, 0, 113, 10], PORT), SOON);
    assert_eq!(refused.expect_err("still refused").kind(), ErrorKind::ConnectionRefused);
    assert_eq!(hits(&lab, CT4.into(), [203, 0, 113, 10].into()), None, "there was no room");
    assert_eq!(far.count_settled(&lab, Side::Srv, |p| p.is_syn() && !p.outgoing), 0);
    assert!(lab.gw.nft("list set inet synhold hits4\n").matches(" . ").count() > 4_000);
}

#[test]
fn a_quarantined_container_reaches_nobody_not_even_dns() {
    let lab = installed("quarantine", &[]);
    let at_all = everywhere(PORT);
    let _far = (Server::tcp(&lab.srv, &at_all), Server::udp(&lab.srv, &at_all));
    let _near = (Server::tcp(&lab.ct2, &at_all), Server::udp(&lab.ct2, &at_all));
    let _listener = Server::tcp(&lab.ct, &at_all);
    let _dns = upstream(&lab, [zone::host("web.example", casts()[0].server.ip())]);
    let near: [IpAddr; 2] = [CT2_4.into(), CT2_6.into()];
    let dns: [IpAddr; 2] = [DNS4.into(), DNS6.into()];
    for ((Cast { container, server, .. }, near), dns) in casts().into_iter().zip(near).zip(dns) {
        let asks = || dns_query(&lab.ct, dns, "web.example", qtype::A);
        let all = [server, at(near, PORT)];
        all.into_iter().for_each(|dst| assert_passes(&lab, dst));
        asks().expect("an answer");

        add(&lab, "quarantine", container);
        // Even what is allowed.
        add(&lab, "allow", server.ip());
        all.into_iter().for_each(|dst| assert_refused(&lab, dst));
        let error: Error = asks().expect_err("DNS too");
        assert_ne!(error.kind(), ErrorKind::TimedOut, "it is told: {error}");
        assert_eq!(hits(&lab, container, server.ip()), Some(2));
        assert_eq!(hits(&lab, container, dns), Some(1));

        // Its neighbour goes on, but not to it.
        connect(&lab.ct2, server, SOON).expect("the neighbour is free");
        let dst = at(container, PORT);
        let error = connect(&lab.ct2, dst, SOON).expect_err("it gets no visitors");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(hits(&lab, near, container), Some(1));
        let raw = Raw::to_gateway(&lab, Side::Srv);
        let inside = Wire::watch(&lab.ct, "eth0");
        raw.send(&raw::syn(server, dst, 1));
        raw.send(&raw::udp(server, dst, b"hello"));
        let arrived = |p: &super::lab::wire::Seen| !p.outgoing && p.src == server;
        assert_eq!(inside.count_settled(&lab, Side::Ct, arrived), 0, "nor from outside");
    }
}
