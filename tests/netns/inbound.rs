//! Flows that were ended and that their far end would go on with; and connections to containers, which are no egress.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use synhold::conntrack::Channel;

use super::lab::net::{connect, connect_from, udp_ask_here, udp_socket};
use super::lab::raw::{self, Raw};
use super::lab::serve::{Server, everywhere};
use super::lab::wire::{Seen, Wire};
use super::lab::{Lab, Side, at};
use super::stand::{Cast, PORT, SOON, add, casts, installed};

/// A connection and a pair of UDP sockets between container and server, both ends in hand.
struct Flows {
    near: TcpStream,
    far: TcpStream,
    udp_near: UdpSocket,
    udp_far: UdpSocket,
}

impl Flows {
    fn open(lab: &Lab, cast: Cast) -> Flows {
        let Cast { container, server, .. } = cast;
        let listener = lab.srv.run(|| TcpListener::bind(server)).unwrap();
        let (near, _) = connect_from(&lab.ct, at(container, 0), server, SOON).expect("connected");
        let (far, _) = listener.accept().unwrap();
        near.set_read_timeout(Some(SOON)).unwrap();
        let udp_near = lab.ct.run(|| udp_socket(Some(at(container, 0)), server));
        let udp_far = lab.srv.run(|| UdpSocket::bind(server)).unwrap();
        udp_near.set_read_timeout(Some(SOON)).unwrap();
        let mut flows = Flows { near, far, udp_near, udp_far };
        flows.udp_near.send(b"open").unwrap();
        let (_, from) = flows.udp_far.recv_from(&mut [0; 9]).unwrap();
        flows.udp_far.connect(from).unwrap();
        assert!(flows.push(b"early"));
        flows
    }

    /// The server speaks without having been asked; whether the container hears both.
    fn push(&mut self, text: &[u8]) -> bool {
        let _ = self.far.write_all(text);
        let _ = self.udp_far.send(text);
        let (mut tcp, mut udp) = (vec![0; text.len()], vec![0; text.len()]);
        let heard = self.near.read_exact(&mut tcp).is_ok() && self.udp_near.recv(&mut udp).is_ok();
        assert!(!heard || (tcp == text && udp == text));
        heard
    }
}

fn end_all(lab: &Lab) -> usize {
    lab.gw.run(|| Channel::open().unwrap().end_flows(|_| false).unwrap()).ended
}

/// Packets from that address that came in at the container, now that everything sent has.
fn came_in(lab: &Lab, inside: &Wire, from: SocketAddr) -> usize {
    inside.count_settled(lab, Side::Ct, |p: &Seen| !p.outgoing && p.src == from)
}

#[test]
fn the_far_end_does_not_open_anew_what_was_ended() {
    for set in ["block", "blockhosts"] {
        for cast in casts() {
            let lab = installed("pickup", &[]);
            let (server, inside) = (cast.server, Wire::watch(&lab.ct, "eth0"));
            let mut flows = Flows::open(&lab, cast);
            // Conntrack picks such a flow up, in either direction: the rules alone can tell.
            assert!(end_all(&lab) >= 2);
            assert!(flows.push(b"picked up"), "the control");

            add(&lab, set, server.ip());
            assert!(end_all(&lab) >= 2);
            came_in(&lab, &inside, server);
            inside.clear();
            flows.far.write_all(b"late").unwrap();
            flows.udp_far.send(b"late").unwrap();
            let raw = Raw::to_gateway(&lab, Side::Srv);
            let (near, udp) =
                (flows.near.local_addr().unwrap(), flows.udp_near.local_addr().unwrap());
            raw.send(&raw::ack(server, near, 77, 77));
            raw.send(&raw::tcp(server, near, b"", |header| {
                (header.syn, header.ack) = (true, true)
            }));
            raw.send(&raw::udp(server, udp, b"late too"));
            assert_eq!(came_in(&lab, &inside, server), 0, "{set} {cast:?}");
            // Nor was anything opened by it: what the container says now is no reply, and refused.
            let error = flows.near.write_all(b"x").and_then(|()| flows.near.read(&mut [0; 9]));
            assert_eq!(error.expect_err("reset").kind(), ErrorKind::ConnectionReset);
            let asked = udp_ask_here(&flows.udp_near, b"x", SOON);
            assert!(asked.refused(), "{asked:?}");
        }
    }
}

#[test]
fn an_allowed_or_merely_watched_far_end_goes_on() {
    for (name, args) in [("pickallow", &[][..]), ("pickdry", &["--dry-run"])] {
        for cast in casts() {
            let lab = installed(name, args);
            let mut flows = Flows::open(&lab, cast);
            for set in ["block", "blockhosts"] {
                add(&lab, set, cast.server.ip());
            }
            if args.is_empty() {
                add(&lab, "allow", cast.server.ip());
            } else {
                add(&lab, "quarantine", cast.container);
            }
            assert!(end_all(&lab) >= 2);
            assert!(flows.push(b"and on"), "{name} {cast:?}");
            if !args.is_empty() {
                let ruleset = lab.gw.ruleset();
                let family = if cast.server.is_ipv4() { "IPv4" } else { "IPv6" };
                for comment in
                    ["from a blocked address", "from a blocked host", "to a quarantined container"]
                {
                    let counted = ruleset.lines().any(|line| {
                        line.contains(&format!("\"{comment}, {family}\""))
                            && line.contains("counter packets 2 ")
                    });
                    assert!(counted, "{comment} in {ruleset}");
                }
            }
        }
    }
}

#[test]
fn what_containers_may_reach_unjudged_they_may_hear_from_though_it_is_listed() {
    let lab = installed("inlocal", &[]);
    let locals: [IpAddr; 2] = [[10, 9, 9, 9].into(), "fd99::9".parse().unwrap()];
    for (Cast { container, server, .. }, local) in casts().into_iter().zip(locals) {
        lab.server_owns(&format!("{local}/{}", if local.is_ipv4() { 32 } else { 128 }));
        for set in ["block", "blockhosts"] {
            add(&lab, set, local);
            add(&lab, set, server.ip());
        }
        let (inside, raw) = (Wire::watch(&lab.ct, "eth0"), Raw::to_gateway(&lab, Side::Srv));
        raw.send(&raw::udp(server, at(container, 4_044), b"blocked"));
        raw.send(&raw::udp(at(local, PORT), at(container, 4_044), b"listed, but local"));
        assert_eq!(came_in(&lab, &inside, at(local, PORT)), 1, "{local}");
        assert_eq!(came_in(&lab, &inside, server), 0, "{server}");
    }
}

#[test]
fn a_connection_to_a_container_is_no_egress_whoever_opens_it() {
    let lab = installed("published", &[]);
    let _listener = Server::tcp(&lab.ct, &everywhere(PORT));
    for Cast { container, server, .. } in casts() {
        for set in ["block", "blockhosts"] {
            add(&lab, set, server.ip());
        }
        let from: IpAddr = server.ip();
        let (mut stream, _) =
            connect_from(&lab.srv, at(from, 0), at(container, PORT), SOON).expect("a visitor");
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut [0; 4]).expect("and it is answered");
        connect(&lab.ct, server, SOON).expect_err("but not called back");
    }
}
