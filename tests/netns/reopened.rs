//! Flows that a domain or a block for one container ended: no set has their far end, and it does not open them again.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use super::lab::net::{connect_from, udp_ask_here, udp_socket};
use super::lab::raw::{self, Raw};
use super::lab::wire::Wire;
use super::lab::{CT2_4, CT4, CT6, SRV6, Side, at};
use super::lists::server;
use super::stand::{PORT, SOON, Stand, add, casts, installed};

/// A connection and a UDP socket that the far end has answered.
struct Open {
    tcp: TcpStream,
    udp: UdpSocket,
    far: SocketAddr,
}

impl Open {
    fn to(stand: &Stand, container: IpAddr, far: SocketAddr) -> Open {
        let (tcp, _) = connect_from(&stand.lab.ct, at(container, 0), far, SOON).expect("connected");
        let udp = stand.lab.ct.run(|| udp_socket(Some(at(container, 0)), far));
        assert!(udp_ask_here(&udp, b"ping", SOON).answered());
        Open { tcp, udp, far }
    }

    /// The far end goes on with both; how many packets of it come in at the container.
    fn goes_on(&self, stand: &Stand, inside: &Wire) -> usize {
        let raw = Raw::to_gateway(&stand.lab, Side::Srv);
        inside.count_settled(&stand.lab, Side::Ct, |_| false);
        inside.clear();
        let [tcp, udp] = [self.tcp.local_addr().unwrap(), self.udp.local_addr().unwrap()];
        raw.send(&raw::udp(self.far, udp, b"still there?"));
        raw.send(&raw::ack(self.far, tcp, 77, 77));
        inside.count_settled(&stand.lab, Side::Ct, |p| !p.outgoing && p.src == self.far)
    }
}

/// Blocks by that line, which names the first of two servers in each family for the container.
fn assert_stays_shut(name: &str, line: impl Fn(IpAddr, IpAddr) -> String) {
    let mut stand = Stand::new(name, &["--hold-ms", "50"]);
    let other6: IpAddr = "2001:db8:113::11".parse().unwrap();
    let families = [(CT4.into(), server(20), server(24)), (CT6.into(), SRV6.into(), other6)];
    let inside = Wire::watch(&stand.lab.ct, "eth0");
    let (mut shut, mut others) = (Vec::new(), Vec::new());
    for (container, blocked, other) in families {
        stand.resolve(container, "cdn.evil.example", blocked);
        stand.resolve(container, "fine.example", other);
        shut.push(Open::to(&stand, container, at(blocked, PORT)));
        others.push(Open::to(&stand, container, at(other, PORT)));
    }
    for open in shut.iter().chain(&others) {
        assert_eq!(open.goes_on(&stand, &inside), 2, "the control");
    }
    let text: String = families.map(|(container, far, _)| line(container, far)).concat();
    let event = stand.list("block.txt", &text);
    assert_eq!(event["ended_flows"], 4, "{event}");
    // The set has them before the flows are ended, so there is nothing to wait for.
    for (set, (container, far, _)) in ["denied4", "denied6"].into_iter().zip(families) {
        assert!(stand.members(set).contains(&format!("{container} . {far}")), "{set}");
    }
    for open in &shut {
        assert_eq!(open.goes_on(&stand, &inside), 0, "{}", open.far);
        let asked = udp_ask_here(&open.udp, b"ping", SOON);
        assert!(asked.refused(), "{asked:?}");
        assert_eq!(open.goes_on(&stand, &inside), 0, "{}", open.far);
    }
    for open in &others {
        assert_eq!(open.goes_on(&stand, &inside), 2, "{}", open.far);
    }
    // What no list says any more holds nobody back.
    stand.list("block.txt", "# nothing\n");
    for set in ["denied4", "denied6"] {
        stand.wait_members(set, &[]);
    }
    for open in &shut {
        assert!(udp_ask_here(&open.udp, b"ping", SOON).answered(), "{}", open.far);
    }
}

#[test]
fn the_far_end_of_a_flow_ended_by_a_domain_does_not_go_on() {
    assert_stays_shut("reopenname", |_, _| "evil.example\n".to_owned());
}

#[test]
fn the_far_end_of_a_flow_ended_for_one_container_does_not_go_on() {
    assert_stays_shut("reopenpair", |container, far| format!("{far} from={container}\n"));
}

#[test]
fn a_denied_pair_shuts_out_its_own_far_end_and_still_lets_it_connect() {
    for (name, args) in [("reopenrule", &[][..]), ("reopendry", &["--dry-run"])] {
        let lab = installed(name, args);
        let (inside, raw) = (Wire::watch(&lab.ct, "eth0"), Raw::to_gateway(&lab, Side::Srv));
        for cast in casts() {
            let (near, far) = (at(cast.container, 4_044), cast.server);
            let family = if near.is_ipv4() { 4 } else { 6 };
            let pair = format!("{} . {}", near.ip(), far.ip());
            lab.gw.nft(&format!("add element inet synhold denied{family} {{ {pair} }}\n"));
            let came_in = |packet: Vec<u8>, from: SocketAddr| {
                raw.send(&packet);
                inside.count_settled(&lab, Side::Ct, |p| !p.outgoing && p.src == from)
            };
            let (udp, ack, syn) = (at(far.ip(), 5_001), at(far.ip(), 5_002), at(far.ip(), 5_003));
            let passes = usize::from(!args.is_empty());
            assert_eq!(came_in(raw::udp(udp, near, b"x"), udp), passes, "{name} {far}");
            assert_eq!(came_in(raw::ack(ack, near, 7, 7), ack), passes, "{name} {far}");
            assert_eq!(came_in(raw::syn(syn, near, 7), syn), 1, "{name} {far}");
            let ruleset = lab.gw.ruleset();
            let is = |line: &str| {
                line.contains(&format!("may not go, IPv{family}\""))
                    && line.contains("counter packets 2 ")
            };
            assert!(ruleset.lines().any(is), "{ruleset}");
        }
    }
}

#[test]
fn an_allowed_far_end_of_a_denied_pair_goes_on_and_so_do_other_pairs() {
    let lab = installed("reopenallow", &[]);
    let (inside, raw) = (Wire::watch(&lab.ct, "eth0"), Raw::to_gateway(&lab, Side::Srv));
    lab.gw.nft(&format!("add element inet synhold denied4 {{ {CT4} . {} }}\n", server(20)));
    lab.gw.nft(&format!("add element inet synhold denied4 {{ {CT4} . {} }}\n", server(21)));
    lab.gw.nft(&format!("add element inet synhold denied4 {{ {CT2_4} . {} }}\n", server(22)));
    add(&lab, "allow", server(20));
    for (far, heard) in [(server(20), 1), (server(21), 0), (server(22), 1)] {
        raw.send(&raw::udp(at(far, PORT), at(CT4, 4_044), b"x"));
        let came = inside.count_settled(&lab, Side::Ct, |p| p.src == at(far, PORT));
        assert_eq!(came, heard, "{far}");
    }
}
