//! One entry of a list: addresses, a domain and everything under it, or a container.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::text::excerpt;
use crate::engine::intervals::Span;
use crate::engine::limits::NAME_BYTES_MAX;
use crate::engine::net::{Family, NetError, number, show_span};
use crate::engine::{Name, Net};

/// What stands before the name of a container.
const CONTAINER_PREFIX: &str = "container:";
/// Characters of one label of a host name (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// What an entry stands for. Readers lend a domain's text; whoever keeps an entry keeps a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry<D = Name> {
    /// An address, a network or a range.
    Addresses(Family, Span),
    /// A domain and everything under it.
    Domain(D),
    /// A container by its name, whatever address it has. Capital letters and small ones are the same.
    Container(D),
}

/// Why a text is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// There is no text.
    #[error("no address, network, range or domain")]
    Empty,
    /// Written as a network, but none.
    #[error(transparent)]
    Net(#[from] NetError),
    /// One end of a range is no address.
    #[error("`{0}` is not an IP address: write a range as 10.0.0.1-10.0.0.9")]
    RangeEnd(String),
    /// IPv4 on one side of a range, IPv6 on the other.
    #[error("{0} and {1} are not of one family")]
    Families(IpAddr, IpAddr),
    /// The end of a range comes before its start.
    #[error("the range ends before it starts: write {1}-{0}")]
    Backwards(IpAddr, IpAddr),
    /// An IPv4 address written as IPv6; no packet ever carries it.
    #[error("{0} is an IPv4 address written as IPv6: write the IPv4 address")]
    Mapped(IpAddr),
    /// `container:` without a name.
    #[error("`{0}` is no name of a container: write container:NAME")]
    Container(String),
    /// Neither an address nor a host name.
    #[error("`{text}` is neither an address nor a domain: {why}")]
    Domain {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl<'a> Entry<&'a str> {
    /// Reads an address, a network, a range `first-last`, or a domain with or without a leading `*.` or `.`.
    ///
    /// # Errors
    /// [`EntryError`], with advice where there is any.
    pub fn parse(text: &'a str) -> Result<Entry<&'a str>, EntryError> {
        // Most names have a letter that no address has: not even trying saves half of the time a long list takes.
        let may_be_address = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'.' || b == b':');
        if may_be_address && let Ok(address) = text.parse::<IpAddr>() {
            return addresses(address, Span::new(number(address), number(address)));
        }
        if let Some(name) = text.strip_prefix(CONTAINER_PREFIX) {
            return container(name).map(Entry::Container);
        }
        if text.contains('/') {
            let net: Net = text.parse().map_err(shortened)?;
            return addresses(net.address(), net.span());
        }
        if let Some((first, last)) = text.split_once('-')
            && let Ok(first) = first.parse::<IpAddr>()
        {
            return range(first, last);
        }
        domain(text).map(Entry::Domain)
    }

    /// The entry with a name of its own; nothing if the text of its domain is none.
    pub fn kept(self) -> Option<Entry> {
        match self {
            Entry::Addresses(family, span) => Some(Entry::Addresses(family, span)),
            Entry::Domain(text) => Name::new(text).ok().map(Entry::Domain),
            Entry::Container(text) => Name::new(text).ok().map(Entry::Container),
        }
    }
}

impl<D> Entry<D> {
    /// The address, if the entry is a single one.
    pub fn single(&self) -> Option<IpAddr> {
        match self {
            Entry::Addresses(family, span) if span.first() == span.last() => {
                Some(family.address(span.first()))
            }
            Entry::Addresses(..) | Entry::Domain(_) | Entry::Container(_) => None,
        }
    }
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Entry, EntryError> {
        let lent = Entry::parse(text)?;
        lent.kept().ok_or_else(|| not_a_domain(text, "it is no host name"))
    }
}

impl From<IpAddr> for Entry {
    fn from(address: IpAddr) -> Entry {
        Entry::Addresses(Family::of(address), Span::new(number(address), number(address)))
    }
}

impl From<Net> for Entry {
    fn from(net: Net) -> Entry {
        Entry::Addresses(net.family(), net.span())
    }
}

impl<D: fmt::Display> fmt::Display for Entry<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Addresses(family, span) => f.write_str(&show_span(*span, *family)),
            Entry::Domain(name) => name.fmt(f),
            Entry::Container(name) => write!(f, "{CONTAINER_PREFIX}{name}"),
        }
    }
}

fn addresses<'a>(first: IpAddr, span: Span) -> Result<Entry<&'a str>, EntryError> {
    match first {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(EntryError::Mapped(first)),
        _ => Ok(Entry::Addresses(Family::of(first), span)),
    }
}

/// A name as engines give it.
fn container(name: &str) -> Result<&str, EntryError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_name = name.bytes().all(fits)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= NAME_BYTES_MAX;
    if is_name { Ok(name) } else { Err(EntryError::Container(excerpt(name))) }
}

fn range<'a>(first: IpAddr, last: &str) -> Result<Entry<&'a str>, EntryError> {
    let last: IpAddr = last.parse().map_err(|_| EntryError::RangeEnd(excerpt(last)))?;
    if Family::of(first) != Family::of(last) {
        return Err(EntryError::Families(first, last));
    }
    if number(first) > number(last) {
        return Err(EntryError::Backwards(first, last));
    }
    addresses(first, Span::new(number(first), number(last)))
}

/// The bare name, as it is written. A last label of digits alone is a mistyped address.
fn domain(text: &str) -> Result<&str, EntryError> {
    let bare = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    let wrong = |why| Err(not_a_domain(text, why));
    if text.is_empty() {
        return Err(EntryError::Empty);
    }
    if bare.is_empty() {
        return wrong("the root of all names cannot be listed");
    }
    if bare.len() > NAME_BYTES_MAX {
        return wrong("it is longer than a name can be");
    }
    if !bare.is_ascii() {
        return wrong("write an international name in its xn-- form");
    }
    let (mut label, mut digits) = (0, true);
    for byte in bare.bytes() {
        match byte {
            b'.' if label == 0 => return wrong("it has an empty label"),
            b'.' => (label, digits) = (0, true),
            b'0'..=b'9' => label += 1,
            b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => (label, digits) = (label + 1, false),
            _ => return wrong("a host name has letters, digits, hyphens and dots"),
        }
        if label > LABEL_BYTES_MAX {
            return wrong("it has a label longer than 63 characters");
        }
    }
    match (label, digits) {
        (0, _) => wrong("it has an empty label"),
        (_, true) => wrong("its last label is a number"),
        (_, false) => Ok(bare),
    }
}

fn not_a_domain(text: &str, why: &'static str) -> EntryError {
    EntryError::Domain { text: excerpt(text), why }
}

/// The engine repeats what it was given; a line can be long.
fn shortened(error: NetError) -> EntryError {
    EntryError::Net(match error {
        NetError::Address(given) => NetError::Address(excerpt(&given)),
        NetError::Prefix { given, max } => NetError::Prefix { given: excerpt(&given), max },
        NetError::HostBits { given, meant } => NetError::HostBits { given: excerpt(&given), meant },
    })
}

#[cfg(test)]
#[path = "entry_test.rs"]
mod tests;
