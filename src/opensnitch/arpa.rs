//! Names of reverse look-ups, back to the addresses they are about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const OCTETS: usize = 4;
const NIBBLES: usize = 32;

/// The address that a name under in-addr.arpa or ip6.arpa is about; none if it is about a part of one, or is no such name.
pub fn reversed(name: &str) -> Option<IpAddr> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match name.strip_suffix(".in-addr.arpa") {
        Some(labels) => v4(labels),
        None => v6(name.strip_suffix(".ip6.arpa")?),
    }
}

fn v4(labels: &str) -> Option<IpAddr> {
    let mut octets = Vec::with_capacity(OCTETS);
    for label in labels.split('.') {
        let is_plain = label.bytes().all(|byte| byte.is_ascii_digit())
            && (label == "0" || !label.starts_with('0'));
        octets.push(label.parse::<u8>().ok().filter(|_| is_plain)?);
    }
    octets.reverse();
    Some(Ipv4Addr::from(<[u8; OCTETS]>::try_from(octets).ok()?).into())
}

fn v6(labels: &str) -> Option<IpAddr> {
    let mut bits = 0_u128;
    let mut count = 0;
    for (place, label) in labels.split('.').enumerate().take(NIBBLES + 1) {
        let digit = label.chars().next().filter(|_| label.len() == 1)?.to_digit(16)?;
        bits |= u128::from(digit).checked_shl(4 * u32::try_from(place).ok()?)?;
        count += 1;
    }
    (count == NIBBLES).then(|| Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_addresses_are_read_and_nothing_else() {
        assert_eq!(reversed("9.113.0.203.in-addr.arpa"), Some([203, 0, 113, 9].into()));
        assert_eq!(reversed("9.113.0.203.IN-ADDR.ARPA."), Some([203, 0, 113, 9].into()));
        for junk in [
            "",
            "in-addr.arpa",
            "113.0.203.in-addr.arpa",
            "1.9.113.0.203.in-addr.arpa",
            "256.0.0.1.in-addr.arpa",
            "+9.113.0.203.in-addr.arpa",
            "09.113.0.203.in-addr.arpa",
            "9.113.0.203.in-addr.arpa.evil.example",
            "b.ip6.arpa",
            "\u{661}.113.0.203.in-addr.arpa",
        ] {
            assert_eq!(reversed(junk), None, "{junk}");
        }
    }

    proptest! {
        #[test]
        fn what_is_reversed_comes_back(bits in any::<u128>(), four in any::<[u8; 4]>()) {
            let nibbles: Vec<String> = (0..32).map(|n| format!("{:x}", (bits >> (4 * n)) & 15)).collect();
            let name = format!("{}.ip6.arpa", nibbles.join("."));
            prop_assert_eq!(reversed(&name), Some(Ipv6Addr::from_bits(bits).into()));
            let [a, b, c, d] = four;
            prop_assert_eq!(reversed(&format!("{d}.{c}.{b}.{a}.in-addr.arpa")), Some(four.into()));
        }

        #[test]
        fn no_name_panics(name in ".{0,90}", tail in "(\\.in-addr\\.arpa|\\.ip6\\.arpa)?") {
            let _ = reversed(&(name + &tail));
        }
    }
}
