//! This host's own interfaces: its addresses, and the bridges containers are on.

mod link;
mod namespace;
mod routes;

use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

pub use namespace::{LINK as CANARY_LINK, Namespace, NamespaceError};
pub use routes::{destinations, forwards, gateways, has_ipv6, resolvers};

/// One address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Interface name.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Network bits.
    pub prefix: u8,
}

/// Interface names of container bridges, as patterns with a trailing `*`: Docker's default bridge and its
/// user-defined ones, Podman's, and CNI's.
pub const BRIDGE_PATTERNS: [&str; 4] = ["docker0", "br-*", "podman*", "cni*"];
/// Hexadecimal digits of the network id in the name of a user-defined Docker bridge; `br-lan` is something else.
const DOCKER_ID_DIGITS: usize = 12;

impl InterfaceAddress {
    /// True if the interface is named like a container bridge.
    pub fn is_on_bridge(&self) -> bool {
        match self.interface.strip_prefix("br-") {
            Some(id) => id.len() == DOCKER_ID_DIGITS && id.bytes().all(|c| c.is_ascii_hexdigit()),
            None => BRIDGE_PATTERNS.iter().any(|pattern| self.fits(pattern)),
        }
    }

    /// True if the interface's name fits `pattern`, which may end in `*`.
    pub fn fits(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some(prefix) => self.interface.starts_with(prefix),
            None => self.interface == pattern,
        }
    }
}

/// Every address of every interface in the calling thread's network namespace, but for the link of our own packets, which
/// comes and goes and is nobody's business.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn addresses() -> io::Result<Vec<InterfaceAddress>> {
    let others = getifaddrs()?.filter(|interface| interface.interface_name != CANARY_LINK);
    let list = others.filter_map(|interface| {
        let address = ip(interface.address.as_ref()?)?;
        let prefix = interface.netmask.as_ref().and_then(ip).map_or(0, ones);
        Some(InterfaceAddress { interface: interface.interface_name, address, prefix })
    });
    Ok(list.collect())
}

fn ip(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn ones(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    u8::try_from(ones).unwrap_or(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(interface: &str) -> InterfaceAddress {
        InterfaceAddress {
            interface: interface.to_owned(),
            address: IpAddr::from([10, 0, 0, 1]),
            prefix: 24,
        }
    }

    #[test]
    fn bridges_are_known_by_name() {
        assert!(
            ["docker0", "br-1a2b3c4d5e6f", "podman0", "cni0", "cni-podman1"]
                .iter()
                .all(|name| on(name).is_on_bridge())
        );
        assert!(
            !["eth0", "docker00", "br0", "br-lan", "lo"].iter().any(|name| on(name).is_on_bridge())
        );
    }

    #[test]
    fn loopback_is_found_with_its_prefix() {
        let lo = addresses()
            .unwrap()
            .into_iter()
            .find(|found| found.address == IpAddr::from([127, 0, 0, 1]));
        assert_eq!(lo.map(|lo| lo.prefix), Some(8));
    }
}
