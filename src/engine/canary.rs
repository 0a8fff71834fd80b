//! Where the canary lives: a small place of addresses that nobody else has, and whether a packet may be its own.

pub mod probe;

use std::net::{IpAddr, Ipv4Addr};

use super::net::Net;

/// 198.18.0.0/15, set aside for tests of networks (RFC 2544): no public host has such an address.
const TESTS: u32 = 0xC612_0000;
const TESTS_BITS: u32 = 15;
/// A place is half of a /24.
const PLACE_BITS: u8 = 25;
/// This host's end of the link, within the place.
const HOST: u32 = 1;
/// The end of the link that packets are sent from.
const SENDER: u32 = 2;
/// The link's own network is the first four addresses.
const LINK_BITS: u8 = 30;
/// Destinations are the second half of the place.
const DESTINATIONS: u32 = 64;
const DESTINATIONS_BITS: u8 = 26;
/// Destinations that are used: neither the first nor the last address of that half. One comes again after half an hour,
/// when nothing in the kernel remembers it.
const DESTINATIONS_COUNT: u32 = 62;

/// 128 addresses: a link to the sender, and destinations that lead back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    base: u32,
}

impl Place {
    /// The first place from above that none of `taken` overlaps; programs that use these addresses begin from below.
    pub fn free(taken: &[Net]) -> Option<Place> {
        let size = 1 << (32 - u32::from(PLACE_BITS));
        let count = 1 << (u32::from(PLACE_BITS) - TESTS_BITS);
        let places = (0..count).rev().map(|nth| Place { base: TESTS + nth * size });
        let overlaps = |place: &Place, net: &Net| {
            place.whole().contains(net.address()) || net.contains(place.whole().address())
        };
        places.into_iter().find(|place| !taken.iter().any(|net| overlaps(place, net)))
    }

    /// The place a sender's address belongs to, if it is a sender's.
    pub fn of_sender(address: IpAddr) -> Option<Place> {
        let IpAddr::V4(v4) = address else { return None };
        let size = 1 << (32 - u32::from(PLACE_BITS));
        let is_sender = is_near(address) && v4.to_bits() % size == SENDER;
        is_sender.then(|| Place { base: v4.to_bits() - SENDER })
    }

    /// All of it.
    pub fn whole(self) -> Net {
        Net::around(self.at(0).into(), PLACE_BITS)
    }

    /// This host's end of the link.
    pub fn host(self) -> Ipv4Addr {
        self.at(HOST)
    }

    /// Where packets come from.
    pub fn sender(self) -> Ipv4Addr {
        self.at(SENDER)
    }

    /// The sender alone, which is what is judged.
    pub fn judged(self) -> Net {
        Net::from(IpAddr::V4(self.sender()))
    }

    /// Network bits of the link.
    pub fn link_bits(self) -> u8 {
        LINK_BITS
    }

    /// Where packets go to.
    pub fn destinations(self) -> Net {
        Net::around(self.at(DESTINATIONS).into(), DESTINATIONS_BITS)
    }

    /// One of them, each in turn.
    pub fn destination(self, turn: u32) -> Ipv4Addr {
        self.at(DESTINATIONS + 1 + turn % DESTINATIONS_COUNT)
    }

    fn at(self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base + place)
    }
}

/// Whether an address is one for tests of networks. One comparison: it is made for every packet.
#[inline]
pub fn is_near(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.to_bits() >> (32 - TESTS_BITS) == TESTS >> (32 - TESTS_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_is_where_nobody_else_is() {
        let place = |taken: &[&str]| {
            let taken: Vec<Net> = taken.iter().map(|text| net(text)).collect();
            Place::free(&taken).map(|place| place.whole().to_string())
        };
        assert_eq!(place(&[]).as_deref(), Some("198.19.255.128/25"));
        assert_eq!(place(&["198.19.255.200"]).as_deref(), Some("198.19.255.0/25"));
        assert_eq!(place(&["198.19.0.0/16", "10.0.0.0/8"]).as_deref(), Some("198.18.255.128/25"));
        assert_eq!(place(&["198.18.0.0/15"]), None);
        assert_eq!(place(&["192.0.0.0/4"]), None);
    }

    #[test]
    fn its_parts_do_not_overlap_and_its_sender_tells_it() {
        let place = Place::free(&[]).unwrap();
        let (host, sender) = (IpAddr::from(place.host()), IpAddr::from(place.sender()));
        assert_eq!(
            (host.to_string(), sender.to_string()),
            ("198.19.255.129".into(), "198.19.255.130".into())
        );
        assert_eq!(place.destinations(), net("198.19.255.192/26"));
        for turn in 0..200 {
            let to = IpAddr::from(place.destination(turn));
            assert!(place.destinations().contains(to) && is_near(to), "{to}");
            assert_ne!(place.destination(turn), place.destination(turn + 1));
        }
        assert!(!place.destinations().contains(sender));
        assert_eq!(Place::of_sender(sender), Some(place));
        for other in [
            host,
            place.destination(0).into(),
            "198.20.0.2".parse().unwrap(),
            "::2".parse().unwrap(),
        ] {
            assert_eq!(Place::of_sender(other), None, "{other}");
        }
    }

    #[test]
    fn only_addresses_for_tests_are_near() {
        for (text, near) in [
            ("198.18.0.0", true),
            ("198.19.255.255", true),
            ("198.17.255.255", false),
            ("198.20.0.0", false),
            ("0.0.0.0", false),
            ("::ffff:198.18.0.1", false),
        ] {
            assert_eq!(is_near(text.parse().unwrap()), near, "{text}");
        }
    }
}
