//! A DNS record as evidence: which address answered which asked name, for whom, and how we know.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::name::Name;
use super::time::Wall;

/// Where dnsmasq took an answer from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An upstream server's reply.
    Reply,
    /// dnsmasq's cache.
    Cached,
    /// A hosts file (or a DHCP lease, which dnsmasq treats alike).
    Hosts,
    /// dnsmasq's own configuration.
    Config,
}

impl Kind {
    /// The word used in events and in the registry file.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Reply => "reply",
            Kind::Cached => "cached",
            Kind::Hosts => "hosts",
            Kind::Config => "config",
        }
    }

    /// True for answers nobody outside this host gave.
    pub fn is_static(self) -> bool {
        match self {
            Kind::Hosts | Kind::Config => true,
            Kind::Reply | Kind::Cached => false,
        }
    }
}

/// One A or AAAA answer, credited to the name that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The address in the answer.
    pub address: IpAddr,
    /// The name asked, whatever CNAMEs led to the address.
    pub name: Name,
    /// Who asked, where the log says so (`log-queries=extra`, or the query line before).
    pub client: Option<IpAddr>,
    /// Where the answer came from.
    pub kind: Kind,
    /// CNAME targets between the name asked and the address, in order, the last one owning the address.
    pub chain: Vec<Name>,
    /// When the line was logged, where its source tells; else when it was read.
    pub time: Wall,
}
