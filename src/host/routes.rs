//! Where this host sends what is not local, and whom it asks for names: addresses no block list should take away.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::engine::net::{Family, Net};

/// Routes and resolvers read, at most; a router with a full table has its default route among the first lines.
const LINES_MAX: usize = 65_536;
/// RTF_UP | RTF_GATEWAY of linux/route.h.
const UP_BY_GATEWAY: u32 = 0x3;

/// Gateways of the default routes, in this network namespace. What cannot be read is none.
pub fn gateways() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = read("/proc/self/net/route");
    let v6 = read("/proc/self/net/ipv6_route");
    let v4 = v4.lines().take(LINES_MAX).filter_map(gateway4).map(IpAddr::V4);
    v4.chain(v6.lines().take(LINES_MAX).filter_map(gateway6).map(IpAddr::V6)).collect()
}

/// Where packets are led to but by default, and by which interface, in this network namespace. What cannot be read is
/// nothing.
pub fn destinations() -> Vec<(String, Net)> {
    let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
    let (v4, v6) = (read("route").unwrap_or_default(), read("ipv6_route").unwrap_or_default());
    let v4 = v4.lines().take(LINES_MAX).filter_map(destination4);
    let v6 = v6.lines().take(LINES_MAX).filter_map(destination6);
    v4.chain(v6).filter(|(_, net)| !is_default(*net)).collect()
}

/// 2000::/3 is all there is of public IPv6, and what some write for the default.
fn is_default(net: Net) -> bool {
    net.prefix() == 0 || (net.prefix() <= 3 && net.address().is_ipv6())
}

/// Whether an interface that is made in this network namespace has IPv6: the kernel knows it, and nobody has switched it off.
pub fn has_ipv6() -> bool {
    let read = |of| std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6"));
    ["all", "default"].iter().all(|of| read(of).is_ok_and(|text| text.trim() == "0"))
}

/// Whether this host forwards packets of a family, in this network namespace.
///
/// # Errors
/// If the kernel does not tell.
pub fn forwards(family: Family) -> io::Result<bool> {
    let file = match family {
        Family::V4 => "ipv4/ip_forward",
        Family::V6 => "ipv6/conf/all/forwarding",
    };
    Ok(std::fs::read_to_string(format!("/proc/sys/net/{file}"))?.trim() != "0")
}

/// Name servers of `/etc/resolv.conf`. What cannot be read is none.
pub fn resolvers() -> Vec<IpAddr> {
    nameservers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn nameservers(text: &str) -> Vec<IpAddr> {
    fn server(line: &str) -> Option<&str> {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())
    }
    let servers = text.lines().take(LINES_MAX).filter_map(server);
    // A link-local server is written with its interface.
    servers.filter_map(|server| server.split('%').next()?.parse().ok()).collect()
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`, numbers in the host's byte order.
fn gateway4(line: &str) -> Option<Ipv4Addr> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |place: usize| u32::from_str_radix(words.get(place)?, 16).ok();
    let (destination, gateway, flags, mask) = (number(1)?, number(2)?, number(3)?, number(7)?);
    let is_default = destination == 0 && mask == 0 && flags & UP_BY_GATEWAY == UP_BY_GATEWAY;
    is_default.then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
}

fn destination4(line: &str) -> Option<(String, Net)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |place: usize| u32::from_str_radix(words.get(place)?, 16).ok();
    let (destination, mask) = (number(1)?, u32::from_be_bytes(number(7)?.to_ne_bytes()));
    let bits = u8::try_from(mask.leading_ones()).ok()?;
    let net = Net::around(Ipv4Addr::from(destination.to_ne_bytes()).into(), bits);
    Some(((*words.first()?).to_owned(), net))
}

fn destination6(line: &str) -> Option<(String, Net)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = u128::from_str_radix(words.first()?, 16).ok()?;
    let bits = u8::from_str_radix(words.get(1)?, 16).ok()?;
    Some(((*words.get(9)?).to_owned(), Net::new(Ipv6Addr::from(address).into(), bits).ok()?))
}

/// `destination length source length gateway metric refcnt use flags iface`, addresses as 32 digits.
fn gateway6(line: &str) -> Option<Ipv6Addr> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = |place: usize| u128::from_str_radix(words.get(place)?, 16).ok();
    let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
    let is_default = address(0)? == 0 && *words.get(1)? == "00";
    (is_default && flags & UP_BY_GATEWAY == UP_BY_GATEWAY)
        .then(|| address(4).map(Ipv6Addr::from))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_gateways_are_found_and_nothing_else() {
        // As a little-endian kernel writes 192.0.2.1.
        let gateway = format!("{:08X}", u32::from_ne_bytes([192, 0, 2, 1]));
        let line = |destination: &str, flags: &str| {
            format!("eth0\t{destination}\t{gateway}\t{flags}\t0\t0\t0\t00000000\t0\t0\t0")
        };
        assert_eq!(gateway4(&line("00000000", "0003")), Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(gateway4(&line("00000000", "0001")), None, "no gateway");
        assert_eq!(gateway4(&line("0000000A", "0003")), None, "not the default");
        assert_eq!(gateway4("Iface\tDestination\tGateway"), None);
        let zeros = "0".repeat(32);
        let line = |length: &str, flags: &str| {
            format!(
                "{zeros} {length} {zeros} 00 20010db8000000000000000000000001 00000400 1 0 {flags} eth0"
            )
        };
        assert_eq!(gateway6(&line("00", "00000003")), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(gateway6(&line("40", "00000003")), None);
        assert_eq!(gateway6(&line("00", "00200200")), None, "the kernel's own blackhole");
    }

    #[test]
    fn destinations_are_networks_with_their_interface_and_the_default_is_none() {
        let line = |destination: &str, bits: &str| {
            let zeros = "0".repeat(32);
            format!("{destination} {bits} {zeros} 00 {zeros} 00000400 1 0 00000001     eth0")
        };
        let found = destination6(&line("20010002000000000000000000000000", "30"));
        assert_eq!(found, Some(("eth0".to_owned(), "2001:2::/48".parse().unwrap())));
        assert_eq!(destination6("20010002000000000000000000000000 30"), None);
        for (net, default) in [
            ("0.0.0.0/0", true),
            ("0.0.0.0/1", false),
            ("::/0", true),
            ("2000::/3", true),
            ("2001::/16", false),
        ] {
            assert_eq!(is_default(net.parse().unwrap()), default, "{net}");
        }
    }

    #[test]
    fn name_servers_are_read_as_the_c_library_reads_them() {
        let text = "# comment\nnameserver 192.0.2.53\n nameserver fe80::1%eth0\noptions x\nnameserver no\n";
        let wanted: [IpAddr; 2] = ["192.0.2.53".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(nameservers(text), wanted);
    }
}
