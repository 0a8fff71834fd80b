//! Where the canary lives: a small place of addresses that nobody else has, and whether a packet may be its own.

pub mod probe;

use std::net::IpAddr;

use super::net::{Family, Net, number};

/// 198.18.0.0/15, set aside for tests of networks (RFC 2544): no public host has such an address.
const TESTS4: u32 = 0xC612_0000;
const TESTS4_BITS: u32 = 15;
/// 2001:2::/48, set aside for the same (RFC 5180).
const TESTS6: u128 = 0x2001_0002 << 96;
const TESTS6_BITS: u32 = 48;
/// Addresses of a place.
const PLACE: u128 = 128;
/// Places looked at; of IPv4 there are no more.
const PLACES: u128 = 1024;
/// This host's end of the link, within the place.
const HOST: u128 = 1;
/// The end of the link that packets are sent from.
const SENDER: u128 = 2;
/// The link's own network is the first four addresses.
const LINK: u128 = 4;
/// Destinations are the second half of the place.
const DESTINATIONS: u128 = PLACE / 2;
/// Destinations that are used: neither the first nor the last address of that half. One comes again after half an hour,
/// when nothing in the kernel remembers it.
const DESTINATIONS_COUNT: u32 = 62;

/// 128 addresses of one family: a link to the sender, and destinations that lead back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    family: Family,
    base: u128,
}

impl Place {
    /// The first place from above that none of `taken` overlaps; programs that use these addresses begin from below.
    pub fn free(family: Family, taken: &[Net]) -> Option<Place> {
        let end = tests(family).span().last() + 1;
        let places = (1..=PLACES).map(|nth| Place { family, base: end - nth * PLACE });
        let overlaps = |place: &Place, net: &Net| {
            place.whole().contains(net.address()) || net.contains(place.whole().address())
        };
        places.into_iter().find(|place| !taken.iter().any(|net| overlaps(place, net)))
    }

    /// The place a sender's address belongs to, if it is a sender's.
    pub fn of_sender(address: IpAddr) -> Option<Place> {
        let (family, bits) = (Family::of(address), number(address));
        let is_sender = is_near(address) && bits % PLACE == SENDER;
        is_sender.then(|| Place { family, base: bits - SENDER })
    }

    /// Of which family all of it is.
    pub fn family(self) -> Family {
        self.family
    }

    /// All of it.
    pub fn whole(self) -> Net {
        self.network(0, PLACE)
    }

    /// This host's end of the link.
    pub fn host(self) -> IpAddr {
        self.at(HOST)
    }

    /// Where packets come from.
    pub fn sender(self) -> IpAddr {
        self.at(SENDER)
    }

    /// The sender alone, which is what is judged.
    pub fn judged(self) -> Net {
        Net::from(self.sender())
    }

    /// The link's own network.
    pub fn link(self) -> Net {
        self.network(0, LINK)
    }

    /// Where packets go to.
    pub fn destinations(self) -> Net {
        self.network(DESTINATIONS, PLACE - DESTINATIONS)
    }

    /// One of them, each in turn.
    pub fn destination(self, turn: u32) -> IpAddr {
        self.at(DESTINATIONS + 1 + u128::from(turn % DESTINATIONS_COUNT))
    }

    fn network(self, from: u128, size: u128) -> Net {
        let host_bits = u8::try_from(size.ilog2()).unwrap_or_default();
        Net::around(self.at(from), self.family.bits() - host_bits)
    }

    fn at(self, place: u128) -> IpAddr {
        self.family.address(self.base + place)
    }
}

/// The addresses for tests of networks among which places are.
pub fn tests(family: Family) -> Net {
    let bits = |bits: u32| u8::try_from(bits).unwrap_or_default();
    match family {
        Family::V4 => Net::around(family.address(TESTS4.into()), bits(TESTS4_BITS)),
        Family::V6 => Net::around(family.address(TESTS6), bits(TESTS6_BITS)),
    }
}

/// Whether an address is one for tests of networks. One comparison: it is made for every packet.
#[inline]
pub fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.to_bits() >> (32 - TESTS4_BITS) == TESTS4 >> (32 - TESTS4_BITS),
        IpAddr::V6(v6) => v6.to_bits() >> (128 - TESTS6_BITS) == TESTS6 >> (128 - TESTS6_BITS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_is_where_nobody_else_is() {
        let place = |family, taken: &[&str]| {
            let taken: Vec<Net> = taken.iter().map(|text| net(text)).collect();
            Place::free(family, &taken).map(|place| place.whole().to_string())
        };
        let v4 = |taken: &[&str]| place(Family::V4, taken);
        assert_eq!(v4(&[]).as_deref(), Some("198.19.255.128/25"));
        assert_eq!(v4(&["198.19.255.200"]).as_deref(), Some("198.19.255.0/25"));
        assert_eq!(v4(&["198.19.0.0/16", "10.0.0.0/8"]).as_deref(), Some("198.18.255.128/25"));
        assert_eq!(
            v4(&["198.19.0.0/16", "198.18.0.128/25", "198.18.1.0/24"]),
            v4(&["198.19.0.0/16"])
        );
        assert_eq!(v4(&["198.18.0.0/15"]), None);
        assert_eq!(v4(&["192.0.0.0/4"]), None);
        let v6 = |taken: &[&str]| place(Family::V6, taken);
        let last = "2001:2:0:ffff:ffff:ffff:ffff:ff80/121";
        assert_eq!(v6(&["198.18.0.0/15", "2001:db8::/32"]).as_deref(), Some(last));
        let next = "2001:2:0:ffff:ffff:ffff:ffff:ff00/121";
        assert_eq!(v6(&["2001:2:0:ffff:ffff:ffff:ffff:ff81"]).as_deref(), Some(next));
        assert_eq!(v6(&["2001:2::/48"]), None);
    }

    #[test]
    fn its_parts_do_not_overlap_and_its_sender_tells_it() {
        for (family, host, sender, link, destinations) in [
            (
                Family::V4,
                "198.19.255.129",
                "198.19.255.130",
                "198.19.255.128/30",
                "198.19.255.192/26",
            ),
            (
                Family::V6,
                "2001:2:0:ffff:ffff:ffff:ffff:ff81",
                "2001:2:0:ffff:ffff:ffff:ffff:ff82",
                "2001:2:0:ffff:ffff:ffff:ffff:ff80/126",
                "2001:2:0:ffff:ffff:ffff:ffff:ffc0/122",
            ),
        ] {
            let place = Place::free(family, &[]).unwrap();
            assert_eq!(
                (place.host().to_string(), place.sender().to_string()),
                (host.into(), sender.into())
            );
            assert_eq!((place.link(), place.destinations()), (net(link), net(destinations)));
            for turn in 0..200 {
                let to = place.destination(turn);
                assert!(place.destinations().contains(to) && is_near(to), "{to}");
                assert_ne!(place.destination(turn), place.destination(turn + 1));
            }
            assert!(!place.destinations().contains(place.sender()));
            assert_eq!(Place::of_sender(place.sender()), Some(place));
            assert_eq!(Place::of_sender(place.host()), None);
            assert_eq!(Place::of_sender(place.destination(0)), None);
        }
        for other in ["198.20.0.2", "::2", "2001:3::2", "2001:2:1::2"] {
            assert_eq!(Place::of_sender(other.parse().unwrap()), None, "{other}");
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
            ("2001:2::", true),
            ("2001:2:0:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:2:1::", false),
            ("2001:1:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("2001:db8::1", false),
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(is_near(address), near, "{text}");
            assert_eq!(super::tests(Family::of(address)).contains(address), near, "{text}");
        }
    }
}
