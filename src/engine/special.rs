//! Addresses that are no public host's, for whoever lets them be, judges them, or finds them in an answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks by first address and prefix length.
pub type Nets4 = [(Ipv4Addr, u8)];
/// See [`Nets4`].
pub type Nets6 = [(Ipv6Addr, u8)];

/// IPv4 networks that lead to nobody else.
pub const NOWHERE4: &Nets4 = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),          // this network (RFC 1122)
    (Ipv4Addr::new(127, 0, 0, 0), 8),        // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),     // link-local (RFC 3927)
    (Ipv4Addr::new(224, 0, 0, 0), 4),        // multicast
    (Ipv4Addr::new(255, 255, 255, 255), 32), // broadcast
];

/// IPv4 networks that are somebody's own.
pub const PRIVATE4: &Nets4 = &[
    (Ipv4Addr::new(10, 0, 0, 0), 8),     // private (RFC 1918)
    (Ipv4Addr::new(100, 64, 0, 0), 10),  // carrier NAT (RFC 6598)
    (Ipv4Addr::new(172, 16, 0, 0), 12),  // private
    (Ipv4Addr::new(192, 168, 0, 0), 16), // private
];

/// IPv6 networks that lead to nobody else.
pub const NOWHERE6: &Nets6 = &[
    (Ipv6Addr::UNSPECIFIED, 128),
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), // link-local
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),  // multicast
];

/// IPv6 networks that are somebody's own.
pub const PRIVATE6: &Nets6 = &[(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)]; // unique local (RFC 4193)

/// Cloud metadata services, which hand out the machine's credentials.
pub const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba Cloud; 100.64.0.0/10 is local otherwise
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether an address is in one of these networks.
pub fn is_in(address: IpAddr, v4: &Nets4, v6: &Nets6) -> bool {
    match address {
        IpAddr::V4(address) => v4.iter().any(|(net, prefix)| {
            let differs = address.to_bits() ^ net.to_bits();
            differs.checked_shr(32 - u32::from(*prefix)).unwrap_or(0) == 0
        }),
        IpAddr::V6(address) => v6.iter().any(|(net, prefix)| {
            let differs = address.to_bits() ^ net.to_bits();
            differs.checked_shr(128 - u32::from(*prefix)).unwrap_or(0) == 0
        }),
    }
}

/// The IPv4 address an IPv6 address leads to, where it stands for one: mapped, or behind a translator (RFC 6052).
pub fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else { return address.to_canonical() };
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = v6.segments() else { return IpAddr::V6(v6) };
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    IpAddr::from([a, b, c, d])
}
