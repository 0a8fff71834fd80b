//! Public names that answer with addresses no public service has: DNS rebinding, which turns a browser or a container
//! against its own network.

use std::net::IpAddr;

use super::lists::DomainSet;
use super::name::Name;
use super::record::{Kind, Record};
use super::special::{METADATA, NOWHERE4, NOWHERE6, PRIVATE4, PRIVATE6, is_in};

/// Endings that are nobody's on the public Internet. `example` is not among them: it stands for public names in texts and
/// tests, and no name server is to treat it apart (RFC 6761 section 6.5).
const PRIVATE_ENDINGS: [&str; 21] = [
    // RFC 6761, 6762, 7686, 9476, and what ICANN has set aside.
    "test",
    "localhost",
    "invalid",
    "local",
    "onion",
    "alt",
    "internal",
    // What routers, installers and RFC 6762 appendix G's networks use all the same.
    "localdomain",
    "lan",
    "home",
    "intranet",
    "private",
    "corp",
    "mail",
    "router",
    // Of container and cluster networks, and of overlay networks that answer with their own addresses.
    "docker",
    "podman",
    "lxd",
    "incus",
    "cluster",
    "consul",
];
/// The same where it takes two labels (RFC 8375) or a well-known public domain is meant for it.
const PRIVATE_DOMAINS: [&str; 3] = ["home.arpa", "fritz.box", "ts.net"];

/// Labels of a DNS blocklist's question before its own name: an address backwards (RFC 5782 section 2).
const LISTED_LABELS: (usize, usize) = (4, 32);

/// Which addresses and names are this host's own business.
#[derive(Clone, Debug, Default)]
pub struct Rebinding {
    /// This host's own addresses.
    pub own: Vec<IpAddr>,
    /// Domains that may answer with private addresses.
    pub local_domains: DomainSet,
}

/// What sort of address a public name answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inside {
    /// RFC 1918, RFC 4193 or RFC 6598.
    Private,
    /// 127.0.0.0/8 or ::1.
    Loopback,
    /// RFC 3927 or fe80::/10.
    LinkLocal,
    /// Where clouds tell their machines who they are.
    Metadata,
    /// One of this host's own.
    Own,
    /// Multicast, broadcast, or within 0.0.0.0/8.
    Nowhere,
    /// 0.0.0.0 or ::, which is how resolvers that block advertisements say no. Nobody is accused of that.
    Blocked,
    /// The code a DNS blocklist answers with, which is within 127.0.0.0/8 and no address. Nor of that.
    Listed,
}

impl Inside {
    /// Every sort, for tests and documentation.
    pub const ALL: [Inside; 8] = [
        Inside::Private,
        Inside::Loopback,
        Inside::LinkLocal,
        Inside::Metadata,
        Inside::Own,
        Inside::Nowhere,
        Inside::Blocked,
        Inside::Listed,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Inside::Private => "private",
            Inside::Loopback => "loopback",
            Inside::LinkLocal => "link-local",
            Inside::Metadata => "metadata",
            Inside::Own => "own",
            Inside::Nowhere => "nowhere",
            Inside::Blocked => "blocked",
            Inside::Listed => "listed",
        }
    }

    /// What such an address is, within a sentence.
    pub fn phrase(self) -> &'static str {
        match self {
            Inside::Private => "an address of a private network",
            Inside::Loopback => "a loopback address",
            Inside::LinkLocal => "a link-local address",
            Inside::Metadata => "the address of a cloud metadata service",
            Inside::Own => "an address of this host",
            Inside::Nowhere => "an address that is no host's",
            Inside::Blocked => "the address that says it is blocked",
            Inside::Listed => "the code of a DNS blocklist",
        }
    }

    /// Whether a person is to be told. What is left is an ordinary answer that happens to be no evidence.
    pub fn is_alarming(self) -> bool {
        !matches!(self, Inside::Blocked | Inside::Listed)
    }
}

impl Rebinding {
    /// Some if the record is a rebinding, so that it must not count as evidence. What a hosts file or a configuration of
    /// this host says is meant.
    pub fn check(&self, record: &Record) -> Option<Inside> {
        self.refuses(record.address, &record.name, record.kind)
    }

    /// The same of an address, the name that has it, and how that is known.
    pub fn refuses(&self, address: IpAddr, name: &Name, kind: Kind) -> Option<Inside> {
        if kind.is_static() {
            return None;
        }
        let inside = self.sort(address)?;
        if !is_public(name) || self.local_domains.find(name).is_some() {
            return None;
        }
        Some(match inside {
            Inside::Loopback if asks_a_blocklist(name) => Inside::Listed,
            inside => inside,
        })
    }

    /// True if no public name has such an address.
    pub fn is_inside(&self, address: IpAddr) -> bool {
        self.sort(address).is_some()
    }

    fn sort(&self, address: IpAddr) -> Option<Inside> {
        let own = self.own.contains(&address);
        // Where it leads, whatever it is written as.
        let address = super::special::embedded(address);
        if address.is_unspecified() {
            return Some(Inside::Blocked);
        }
        if METADATA.contains(&address) {
            return Some(Inside::Metadata);
        }
        if own || self.own.contains(&address) {
            return Some(Inside::Own);
        }
        if address.is_loopback() {
            return Some(Inside::Loopback);
        }
        let is_link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if is_link_local {
            return Some(Inside::LinkLocal);
        }
        if is_in(address, PRIVATE4, PRIVATE6) {
            return Some(Inside::Private);
        }
        is_in(address, NOWHERE4, NOWHERE6).then_some(Inside::Nowhere)
    }
}

/// Whether a name is one that the public name system answers for.
fn is_public(name: &Name) -> bool {
    let name = name.as_str();
    let Some((_, ending)) = name.rsplit_once('.') else { return false };
    let is_under = |domain: &&str| {
        name.strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !PRIVATE_ENDINGS.contains(&ending) && !PRIVATE_DOMAINS.iter().any(is_under)
}

/// Whether a name begins with an address backwards, octet by octet or nibble by nibble, and goes on.
fn asks_a_blocklist(name: &Name) -> bool {
    let labels: Vec<&str> = name.as_str().split('.').collect();
    let (octets, nibbles) = LISTED_LABELS;
    let begins = |count: usize, is_part: fn(&str) -> bool| {
        labels.len() > count + 1 && labels.iter().take(count).all(|label| is_part(label))
    };
    begins(octets, |label| label.parse::<u8>().is_ok())
        || begins(nibbles, |label| label.len() == 1 && u8::from_str_radix(label, 16).is_ok())
}

#[cfg(test)]
#[path = "rebind_test.rs"]
mod tests;
