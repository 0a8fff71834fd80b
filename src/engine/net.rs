//! A network as users write it, and address ranges as the kernel keeps them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::intervals::Span;

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The highest address, as a number.
    pub fn highest(self) -> u128 {
        match self {
            Family::V4 => u128::from(u32::MAX),
            Family::V6 => u128::MAX,
        }
    }

    /// The address of a number; bits beyond the family's are not looked at.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Family::V4 => {
                let [.., a, b, c, d] = number.to_be_bytes();
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }

    /// The bits below a prefix length.
    fn host_mask(self, prefix: u8) -> u128 {
        let host_bits = u32::from(self.bits().saturating_sub(prefix));
        1_u128.checked_shl(host_bits).map_or(u128::MAX, |bit| bit - 1)
    }
}

/// An address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// A network: an address whose host bits are zero, and a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The part before the slash is no address.
    #[error("`{0}` is not an IP address: write a network as 172.17.0.0/16 or fd00::/64")]
    Address(String),
    /// The part after the slash is no prefix length of that family.
    #[error("`{given}` is not a prefix length: write a number from 0 to {max}")]
    Prefix {
        /// What was given.
        given: String,
        /// The longest prefix of the family.
        max: u8,
    },
    /// Address bits below the prefix are set.
    #[error("{given} has host bits set: write {meant} for the network, or the address alone")]
    HostBits {
        /// What was given.
        given: String,
        /// The network it lies in.
        meant: Net,
    },
}

impl Net {
    /// Builds a network, if the prefix fits and the host bits are zero.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Net, NetError> {
        let family = Family::of(address);
        if prefix > family.bits() {
            return Err(NetError::Prefix { given: prefix.to_string(), max: family.bits() });
        }
        let base = number(address) & !family.host_mask(prefix);
        let meant = Net { address: family.address(base), prefix };
        if meant.address != address {
            return Err(NetError::HostBits { given: format!("{address}/{prefix}"), meant });
        }
        Ok(meant)
    }

    /// The network `address` lies in, as an interface has it; a prefix beyond the family's is the whole address.
    pub fn around(address: IpAddr, prefix: u8) -> Net {
        let family = Family::of(address);
        let prefix = prefix.min(family.bits());
        Net { address: family.address(number(address) & !family.host_mask(prefix)), prefix }
    }

    /// First address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Prefix length.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Address family.
    pub fn family(self) -> Family {
        Family::of(self.address)
    }

    /// First to last address.
    pub fn span(self) -> Span {
        let first = number(self.address);
        Span::new(first, first | self.family().host_mask(self.prefix))
    }

    /// Whether the address lies in this network.
    pub fn contains(self, address: IpAddr) -> bool {
        self.family() == Family::of(address) && self.span().contains(number(address))
    }
}

impl From<IpAddr> for Net {
    fn from(address: IpAddr) -> Net {
        Net { address, prefix: Family::of(address).bits() }
    }
}

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Net, NetError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetError::Address(address.to_owned()))?;
        let Some(prefix) = prefix else { return Ok(Net::from(address)) };
        let max = Family::of(address).bits();
        // u8's own parser takes a plus sign; nobody means one here.
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        match prefix.parse() {
            Ok(length) if digits => Net::new(address, length),
            _ => Err(NetError::Prefix { given: prefix.to_owned(), max }),
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A range as nft writes it: an address, a network, or first and last address.
pub fn show_span(span: Span, family: Family) -> String {
    let (first, last) = (family.address(span.first()), family.address(span.last()));
    let prefix =
        (0..=family.bits()).find(|prefix| span.first() ^ span.last() == family.host_mask(*prefix));
    match prefix.filter(|prefix| span.first() & family.host_mask(*prefix) == 0) {
        Some(prefix) if prefix == family.bits() => first.to_string(),
        Some(prefix) => format!("{first}/{prefix}"),
        None => format!("{first}-{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        text.parse::<Net>().unwrap_err().to_string()
    }

    #[test]
    fn reads_networks_and_bare_addresses() {
        for text in ["172.17.0.0/16", "0.0.0.0/0", "fd00::/64", "::/0", "10.0.0.1/32"] {
            assert_eq!(text.parse::<Net>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.1".parse::<Net>().unwrap().to_string(), "10.0.0.1/32");
        assert_eq!("::1".parse::<Net>().unwrap().to_string(), "::1/128");
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(
            error("172.17.0.1/16"),
            "172.17.0.1/16 has host bits set: write 172.17.0.0/16 for the network, or the address alone"
        );
        assert!(error("docker0").starts_with("`docker0` is not an IP address"));
        assert_eq!(
            error("10.0.0.0/33"),
            "`33` is not a prefix length: write a number from 0 to 32".to_owned()
        );
        assert!(error("10.0.0.0/").contains("prefix length"));
        assert!(error("10.0.0.0/+8").contains("prefix length"));
        assert!(error("fd00::/129").contains("0 to 128"));
    }

    #[test]
    fn contains_only_its_own_family() {
        let net: Net = "0.0.0.0/0".parse().unwrap();
        assert!(net.contains("255.255.255.255".parse().unwrap()));
        assert!(!net.contains("::".parse().unwrap()));
    }

    #[test]
    fn shows_spans_as_nft_does() {
        let check = |first: &str, last: &str, text: &str| {
            let (first, last): (IpAddr, IpAddr) = (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!(show_span(Span::new(number(first), number(last)), Family::of(first)), text);
        };
        check("10.0.0.0", "10.255.255.255", "10.0.0.0/8");
        check("10.0.0.1", "10.0.0.1", "10.0.0.1");
        check("10.0.0.1", "10.0.0.2", "10.0.0.1-10.0.0.2");
        check("0.0.0.0", "255.255.255.255", "0.0.0.0/0");
        check("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0");
        check("10.0.0.1", "10.0.1.0", "10.0.0.1-10.0.1.0");
    }

    proptest! {
        #[test]
        fn display_and_parse_agree(bits: u128, v4: bool, prefix in 0_u8..=128) {
            let family = if v4 { Family::V4 } else { Family::V6 };
            let prefix = prefix.min(family.bits());
            let base = bits & family.highest() & !family.host_mask(prefix);
            let net = Net::new(family.address(base), prefix).unwrap();
            prop_assert_eq!(net.to_string().parse::<Net>().unwrap(), net);
            let shown = show_span(net.span(), family);
            prop_assert_eq!(shown.parse::<Net>().unwrap(), net);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = text.parse::<Net>();
        }
    }
}
