//! Flows that stand, ended one by one in the real table.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use etherparse::PacketBuilder;
use synhold::conntrack::{Channel, Ended, Flow};

use super::lab::net::{connect_from, udp_ask_here, udp_socket};
use super::lab::raw::{self, Raw};
use super::lab::serve::{Server, everywhere};
use super::lab::{CT4, CT6, DEAD4, DEAD6, Lab, SRV4, SRV6, Side, at, eventually};
use super::stand::{PORT, SOON, add, installed};

const OTHER4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x11);
const MASQUERADE: &str = "table inet nat { chain out { type nat hook postrouting priority srcnat; \
                          oifname \"srv\" masquerade; }; }\n";
const ZONE: &str = "table inet zones { chain in { type filter hook prerouting priority raw; \
                    ct zone set 7; }; }\n";
const UDP: u8 = 17;

/// The lab behind installed rules, with what `nft` adds to them.
fn fresh(name: &str, nft: &str) -> Lab {
    let lab = installed(name, &[]);
    lab.gw.nft(nft);
    lab
}

fn end_flows(lab: &Lab, keep_if: impl Fn(&Flow) -> bool + Send) -> Ended {
    lab.gw.run(|| Channel::open().unwrap().end_flows(keep_if).unwrap())
}

fn count(lab: &Lab) -> usize {
    end_flows(lab, |_| true).seen
}

/// Both a connection and a socket that datagrams went through, to one server.
pub struct Pair {
    tcp: TcpStream,
    udp: UdpSocket,
}

impl Pair {
    pub fn open(lab: &Lab, src: IpAddr, dst: SocketAddr) -> Pair {
        let (tcp, _) = connect_from(&lab.ct, at(src, 0), dst, SOON).expect("a connection");
        tcp.set_read_timeout(Some(SOON)).unwrap();
        let udp = lab.ct.run(|| udp_socket(Some(at(src, 0)), dst));
        let mut pair = Pair { tcp, udp };
        pair.assert_alive();
        pair
    }

    #[track_caller]
    pub fn assert_alive(&mut self) {
        self.tcp.write_all(b"ping").expect("written");
        let mut answer = [0; 4];
        self.tcp.read_exact(&mut answer).expect("answered");
        let asked = udp_ask_here(&self.udp, b"ping", SOON);
        assert!(asked.answered(), "{asked:?}");
    }

    /// The next packet is a first one, and refused.
    #[track_caller]
    pub fn assert_ended(&mut self) {
        // An acknowledgement still owed may have been refused already.
        let asked = self.tcp.write_all(b"ping").and_then(|()| self.tcp.read(&mut [0; 4]));
        let error = asked.expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        let asked = udp_ask_here(&self.udp, b"ping", SOON);
        assert!(asked.refused(), "{asked:?}");
    }
}

#[test]
fn exactly_the_chosen_flows_end() {
    for (name, nft) in [("plain", ""), ("masq", MASQUERADE), ("zone", ZONE)] {
        let lab = fresh(&format!("ct{name}"), nft);
        let at_all = everywhere(PORT);
        let _servers = (Server::tcp(&lab.srv, &at_all), Server::udp(&lab.srv, &at_all));
        for (src, dst, other) in [
            (IpAddr::from(CT4), IpAddr::from(SRV4), IpAddr::from(OTHER4)),
            (CT6.into(), SRV6.into(), OTHER6.into()),
        ] {
            let mut chosen = Pair::open(&lab, src, at(dst, PORT));
            let mut others = Pair::open(&lab, src, at(other, PORT));
            add(&lab, "block", dst);
            // Rules see first packets only: what stands goes on.
            chosen.assert_alive();
            let before = count(&lab);
            let done = end_flows(&lab, |flow| flow.dst != dst);
            assert_eq!(done, Ended { seen: before, ended: 2 }, "{name} {dst}");
            assert_eq!(count(&lab), before - 2);
            chosen.assert_ended();
            others.assert_alive();
            let again = end_flows(&lab, |flow| flow.dst != dst);
            assert_eq!(again.ended, 0, "what was refused left no entry");
        }
    }
}

#[test]
fn a_flow_is_told_as_it_was_opened_and_who_answers_it() {
    let lab = fresh(
        "ctwho",
        &format!(
            "table inet nat {{ chain in {{ type nat hook prerouting priority dstnat; \
             ip daddr {DEAD4} dnat ip to {SRV4}; }}; }}\n{MASQUERADE}"
        )
        .replacen("table inet nat", "table inet nat_in", 1),
    );
    let _server = Server::udp(&lab.srv, &everywhere(PORT));
    let udp = lab.ct.run(|| udp_socket(Some(at(CT4, 4_040)), at(DEAD4, PORT)));
    assert!(udp_ask_here(&udp, b"ping", SOON).answered());
    let (src, dst, peer) = (CT4.into(), DEAD4.into(), SRV4.into());
    let wanted = Flow { proto: UDP, src, dst, sport: 4_040, dport: PORT, peer };
    let done = end_flows(&lab, |flow| *flow != wanted);
    assert_eq!(done.ended, 1);
}

#[test]
fn a_large_table_is_walked_and_half_of_it_ended() {
    const FLOWS: u16 = 10_000;
    let lab = fresh("ctmany", "");
    let raw = Raw::to_gateway(&lab, Side::Ct);
    for port in 1..=FLOWS {
        raw.send(&raw::udp(at(CT4, port), at(DEAD4, 999), b"x"));
        raw.send(&raw::udp(at(CT6, port), at(DEAD6, 999), b"x"));
    }
    let all = 2 * usize::from(FLOWS);
    eventually("every flow stands", SOON, || count(&lab) == all);
    let done = end_flows(&lab, |flow| flow.sport % 2 == 0);
    assert_eq!(done, Ended { seen: all, ended: all / 2 });
    assert_eq!(end_flows(&lab, |flow| flow.sport % 2 == 0), Ended { seen: all / 2, ended: 0 });
    // The same channel serves again and again.
    let left = lab.gw.run(|| {
        let mut channel = Channel::open().unwrap();
        let first = channel.end_flows(|flow| flow.src.is_ipv4()).unwrap();
        (first, channel.end_flows(|_| false).unwrap())
    });
    assert_eq!(left.0.ended, all / 4);
    assert_eq!(left.1, Ended { seen: all / 4, ended: all / 4 });
}

#[test]
fn an_echo_flow_of_a_protocol_without_ports_is_one_too() {
    let lab = fresh("cticmp", "");
    let mut packet = Vec::new();
    PacketBuilder::ipv4(CT4.octets(), SRV4.octets(), 64)
        .icmpv4_echo_request(7, 1)
        .write(&mut packet, b"ping")
        .unwrap();
    Raw::to_gateway(&lab, Side::Ct).send(&packet);
    eventually("the flow stands", SOON, || count(&lab) == 1);
    let is_echo = |flow: &Flow| (flow.proto, flow.sport, flow.dport) == (1, 0, 0);
    assert_eq!(end_flows(&lab, |flow| !is_echo(flow)).ended, 1);
}
