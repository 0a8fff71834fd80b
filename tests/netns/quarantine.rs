//! A container in quarantine is cut from this host too, and loses what it had open; so does who is led to a blocked address.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use serde_json::Value;

use super::lab::daemon::Daemon;
use super::lab::dns::{dns_query, dnsmasq, qtype, question, zone};
use super::lab::net::{Udp, connect, connect_from, udp_ask_here, udp_socket};
use super::lab::ns::Ns;
use super::lab::serve::{Server, everywhere};
use super::lab::wire::{Seen, Wire};
use super::lab::{CT2_4, CT2_6, DEAD4, DEAD6, GW2_4, GW2_6, GW4, GW6, Lab, SRV4, SRV6, Side, at};
use super::stand::{Cast, PORT, SOON, Stand, add, casts, hits, installed};

const NAME: &str = "web.example";
const TRANSLATED: &str = "table inet lead { chain in { type nat hook prerouting priority dstnat;";

/// A container, its neighbour, and this host as each of them sees it.
struct Near {
    cast: Cast,
    gate: IpAddr,
    neighbour: IpAddr,
    neighbours_gate: IpAddr,
}

fn nears() -> [Near; 2] {
    let gates: [[IpAddr; 3]; 2] =
        [[GW4.into(), CT2_4.into(), GW2_4.into()], [GW6.into(), CT2_6.into(), GW2_6.into()]];
    let [v4, v6] = casts();
    [(v4, gates[0]), (v6, gates[1])].map(|(cast, [gate, neighbour, neighbours_gate])| Near {
        cast,
        gate,
        neighbour,
        neighbours_gate,
    })
}

/// This host's resolver, and a service of its own.
struct Host {
    _dns: Daemon,
    _service: Server,
}

impl Host {
    fn of(lab: &Lab) -> Host {
        let listen = nears().map(|near| [near.gate, near.neighbours_gate]).concat();
        let names = [zone::host(NAME, SRV4), zone::host(NAME, SRV6)];
        Host {
            _dns: dnsmasq(&lab.gw, &listen, names),
            _service: Server::tcp(&lab.gw, &everywhere(PORT)),
        }
    }
}

/// Whether a question to this host is answered; if not, it is refused at once.
#[track_caller]
fn hears(ns: &Ns, gate: IpAddr) -> bool {
    let reply = dns_query(ns, gate, NAME, qtype::A);
    if let Err(error) = &reply {
        assert_ne!(error.kind(), ErrorKind::TimedOut, "{gate}: {error}");
    }
    reply.is_ok()
}

fn put(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping")?;
    stream.read_exact(&mut [0; 4])
}

#[track_caller]
fn assert_reset(stream: &mut TcpStream) {
    let error = put(stream).expect_err("ended");
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error}");
}

#[test]
fn a_quarantined_container_is_cut_from_the_host_and_nobody_else_is() {
    let lab = installed("hostcut", &[]);
    let _host = Host::of(&lab);
    for Near { cast, gate, neighbours_gate, .. } in nears() {
        let (container, service) = (cast.container, at(gate, PORT));
        assert!(hears(&lab.ct, gate), "the control");
        connect(&lab.ct, service, SOON).expect("the control");
        assert_eq!(hits(&lab, container, gate), None);

        add(&lab, "quarantine", container);
        assert!(!hears(&lab.ct, gate));
        assert_eq!(hits(&lab, container, gate), Some(1));
        let error = connect(&lab.ct, service, SOON).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(hits(&lab, container, gate), Some(2));

        assert!(hears(&lab.ct2, neighbours_gate), "the neighbour is served");
        connect(&lab.ct2, at(neighbours_gate, PORT), SOON).expect("the neighbour is served");
    }
}

#[test]
fn loopback_goes_on_whoever_is_in_quarantine() {
    let lab = installed("hostlo", &[]);
    let _host = Host::of(&lab);
    for (gate, loopback) in [(IpAddr::from(GW4), "127.0.0.1"), (GW6.into(), "::1")] {
        let loopback: IpAddr = loopback.parse().unwrap();
        for own in [gate, loopback] {
            add(&lab, "quarantine", own);
            connect_from(&lab.gw, at(own, 0), at(own, PORT), SOON).expect("the host to itself");
        }
        assert!(hears(&lab.gw, gate));
        assert_eq!(hits(&lab, gate, gate), None);
    }
}

#[test]
fn a_dry_run_notes_what_the_host_would_be_spared() {
    let lab = installed("hostdry", &["--dry-run"]);
    let _host = Host::of(&lab);
    for Near { cast, gate, .. } in nears() {
        add(&lab, "quarantine", cast.container);
        assert!(hears(&lab.ct, gate));
        connect(&lab.ct, at(gate, PORT), SOON).expect("a dry run");
        assert_eq!(hits(&lab, cast.container, gate), Some(2));
    }
}

/// A question on a socket that asked before: the same source port, and so the same flow.
fn asks(socket: &UdpSocket) -> Udp {
    udp_ask_here(socket, &question(7, NAME, qtype::A), SOON)
}

#[test]
fn what_a_container_had_open_with_the_host_ends_with_its_quarantine() {
    let stand = Stand::new("hostopen", &[]);
    let lab = &stand.lab;
    let _host = Host::of(lab);
    for Near { cast, gate, neighbour, neighbours_gate } in nears() {
        let container = cast.container;
        let open = |ns: &Ns, from: IpAddr, to: IpAddr| {
            let socket = ns.run(|| udp_socket(Some(at(from, 5_353)), at(to, 53)));
            let (mut stream, _) = connect_from(ns, at(from, 0), at(to, PORT), SOON).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            put(&mut stream).expect("served");
            assert!(asks(&socket).answered() && asks(&socket).answered());
            (socket, stream)
        };
        let (socket, mut stream) = open(&lab.ct, container, gate);
        let (others_socket, mut others_stream) = open(&lab.ct2, neighbour, neighbours_gate);

        let reload = stand.list("quarantine.txt", &format!("{container} # case 12\n"));
        assert_eq!(reload["ended_flows"], 2, "{reload}");
        let asked = asks(&socket);
        assert!(asked.refused(), "{asked:?}");
        assert_reset(&mut stream);
        put(&mut others_stream).expect("the neighbour's goes on");
        assert!(asks(&others_socket).answered());
        assert!(hears(&lab.ct2, neighbours_gate));

        let is = |e: &Value| e["event"] == "block" && e["dst"] == gate.to_string().as_str();
        let told = stand.daemon.expect_event("block", is, SOON);
        let set = if gate.is_ipv4() { "quarantine4" } else { "quarantine6" };
        let wanted = (&set.into(), &container.to_string().into());
        assert_eq!((&told["set"], &told["entry"]), wanted, "{told}");
    }
}

/// A connection into the container, both ends in hand.
fn visit(listener: &TcpListener, visitor: &Ns, from: IpAddr) -> (TcpStream, TcpStream) {
    let to = listener.local_addr().unwrap();
    let (outer, _) = connect_from(visitor, at(from, 0), to, SOON).expect("a visitor");
    let (inner, _) = listener.accept().unwrap();
    for (mut writer, mut reader) in [(&outer, &inner), (&inner, &outer)] {
        reader.set_read_timeout(Some(SOON)).unwrap();
        writer.write_all(b"ping").unwrap();
        reader.read_exact(&mut [0; 4]).expect("heard");
    }
    (outer, inner)
}

#[test]
fn a_connection_into_a_container_ends_with_its_quarantine() {
    let stand = Stand::new("visits", &[]);
    let (lab, port) = (&stand.lab, 8_080);
    for Near { cast, neighbour, .. } in nears() {
        let to = at(cast.container, port);
        let listener = lab.ct.run(|| TcpListener::bind(to)).unwrap();
        let (mut outer, mut inner) = visit(&listener, &lab.srv, cast.server.ip());
        let (mut beside, _inner) = visit(&listener, &lab.ct2, neighbour);
        let inside = Wire::watch(&lab.ct, "eth0");

        let reload = stand.list("quarantine.txt", &format!("{}\n", cast.container));
        assert_eq!(reload["ended_flows"], 2, "{reload}");
        let from_it = |p: &Seen| !p.outgoing && p.src == to;
        assert!(stand.far.count_settled(lab, Side::Srv, from_it) > 0, "the control");
        stand.far.clear();
        assert_reset(&mut beside);
        let visitor = outer.local_addr().unwrap();
        outer.write_all(b"ping").unwrap();
        let came = |p: &Seen| !p.outgoing && p.src == visitor && p.dst == to;
        assert_eq!(inside.count_settled(lab, Side::Ct, came), 0, "it is not heard");
        assert_reset(&mut inner);
        assert_eq!(stand.far.count_settled(lab, Side::Srv, from_it), 0, "nor is what it says");
    }
}

#[test]
fn a_flow_that_is_led_to_a_blocked_address_ends() {
    let mut stand = Stand::new("led", &[]);
    stand.lab.gw.nft(&format!(
        "{TRANSLATED} ip daddr {DEAD4} dnat ip to {SRV4}; ip6 daddr {DEAD6} dnat ip6 to {SRV6}; }}; }}\n"
    ));
    for Cast { container, server, dead } in casts() {
        stand.resolve(container, NAME, server.ip());
        let lab = &stand.lab;
        let (mut led, _) = connect_from(&lab.ct, at(container, 0), dead, SOON).expect("led there");
        led.set_read_timeout(Some(SOON)).unwrap();
        put(&mut led).expect("served");
        let socket = lab.ct.run(|| udp_socket(Some(at(container, 0)), dead));
        assert!(udp_ask_here(&socket, b"ping", SOON).answered());

        let reload = stand.list("block.txt", &format!("{}\n", server.ip()));
        assert_eq!(reload["ended_flows"], 2, "{reload}");
        assert_reset(&mut led);
        let asked = udp_ask_here(&socket, b"ping", SOON);
        assert!(asked.refused(), "{asked:?}");
        assert!(hits(lab, container, server.ip()).is_some());
    }
}
