//! Entries as the kernel sends them, and bytes that are none.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::netlink::{genmsg, messages, put};

fn tuple(kind: u16, src: IpAddr, dst: IpAddr, ports: Option<(u16, u16)>) -> Attr {
    let bytes = |address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let [from, to] = match src {
        IpAddr::V4(_) => [CTA_IP_V4_SRC, CTA_IP_V4_DST],
        IpAddr::V6(_) => [CTA_IP_V6_SRC, CTA_IP_V6_DST],
    };
    let ip = vec![Attr::Value(from, bytes(src)), Attr::Value(to, bytes(dst))];
    let mut proto = vec![Attr::Value(CTA_PROTO_NUM, vec![if ports.is_some() { 17 } else { 1 }])];
    if let Some((source, destination)) = ports {
        proto.push(Attr::be16(CTA_PROTO_SRC_PORT, source));
        proto.push(Attr::be16(CTA_PROTO_DST_PORT, destination));
    }
    Attr::Nest(kind, vec![Attr::Nest(CTA_TUPLE_IP, ip), Attr::Nest(CTA_TUPLE_PROTO, proto)])
}

fn message(attrs: &[Attr]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, 0x100, 0, 1, genmsg(libc::AF_INET, 0), attrs);
    bytes
}

fn read(bytes: &[u8]) -> Result<Entry, Garbled> {
    Entry::read(&messages(bytes)?[0])
}

fn whole() -> Vec<Attr> {
    let [client, asked, peer] =
        ["172.17.0.2", "203.0.113.9", "10.0.0.53"].map(|text| text.parse().unwrap());
    vec![
        tuple(CTA_TUPLE_ORIG, client, asked, Some((40_000, 53))),
        tuple(CTA_TUPLE_REPLY, peer, client, Some((53, 40_000))),
        Attr::be32(CTA_ID, 77),
        Attr::be32(CTA_STATUS, IPS_ASSURED | 2),
        Attr::be16(CTA_ZONE, 5),
    ]
}

#[test]
fn a_flow_is_read_and_named_again_by_the_same_bytes() {
    let entry = read(&message(&whole())).unwrap();
    let [src, dst, peer] =
        ["172.17.0.2", "203.0.113.9", "10.0.0.53"].map(|text| text.parse().unwrap());
    assert_eq!(entry.flow, Flow { proto: 17, src, dst, sport: 40_000, dport: 53, peer });
    assert!(entry.open);
    let (header, attrs) = entry.name();
    assert_eq!(header, genmsg(libc::AF_INET, 0));
    let kinds = |attrs: &[Attr]| {
        let mut bytes = Vec::new();
        put(&mut bytes, 0x102, 0, 1, header, attrs);
        let messages = messages(&bytes).unwrap();
        let attrs = messages[0].attrs().unwrap();
        attrs.iter().map(|(kind, value)| (kind, value.to_vec())).collect::<Vec<_>>()
    };
    let mut wanted = whole();
    // What says how it stands names nothing.
    wanted.remove(3);
    wanted.remove(1);
    assert_eq!(kinds(&attrs), kinds(&wanted));
}

#[test]
fn a_flow_that_is_being_opened_or_closed_is_not_open() {
    for (status, state_of, open) in [
        (6, Some(3), true),
        (6, Some(7), false),
        (2, Some(3), false),
        (6, None, true),
        (2, None, false),
    ] {
        let state = |state: u8| {
            let state = Attr::Value(CTA_PROTOINFO_TCP_STATE, vec![state]);
            Attr::Nest(CTA_PROTOINFO, vec![Attr::Nest(CTA_PROTOINFO_TCP, vec![state])])
        };
        let mut attrs: Vec<Attr> = whole().drain(..3).collect();
        attrs.push(Attr::be32(CTA_STATUS, status));
        attrs.extend(state_of.map(state));
        assert_eq!(read(&message(&attrs)).unwrap().open, open, "{status} {state_of:?}");
    }
}

#[test]
fn a_protocol_without_ports_has_port_zero() {
    let [a, b] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
    let attrs = [
        tuple(CTA_TUPLE_ORIG, a, b, None),
        tuple(CTA_TUPLE_REPLY, b, a, None),
        Attr::be32(CTA_ID, 1),
    ];
    let flow = read(&message(&attrs)).unwrap().flow;
    assert_eq!((flow.proto, flow.sport, flow.dport, flow.peer), (1, 0, 0, b));
}

/// A deletion that named no flow would be one of all flows.
#[test]
fn what_names_no_flow_is_no_entry() {
    for missing in 0..3 {
        let mut attrs = whole();
        attrs.remove(missing);
        assert!(read(&message(&attrs)).is_err(), "{missing}");
    }
    let mut attrs = whole();
    attrs[0] = Attr::Nest(CTA_TUPLE_ORIG, Vec::new());
    assert!(read(&message(&attrs)).is_err());
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(hits in vec(any::<(u16, u8)>(), 0..6), end: u16) {
        let mut bytes = message(&whole());
        for (place, value) in hits {
            let place = usize::from(place) % bytes.len();
            bytes[place] = value;
        }
        bytes.truncate(usize::from(end) % (bytes.len() + 1));
        if let Ok(messages) = messages(&bytes) {
            for message in messages {
                let _ = Entry::read(&message);
            }
        }
    }
}
