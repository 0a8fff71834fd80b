//! Elements of sets: what is written, and what is found with its times and counts.

use std::fmt;
use std::net::IpAddr;

use rustables::sys;

use super::interface::Interface;
use super::ruleset;
use super::wire::{Attr, Attrs, Garbled};
use crate::engine::intervals::Span;
use crate::engine::net::{Family, number, show_span};
use crate::netlink::stream::Stream;

/// What an element holds. The set decides which of these it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A range, in a set with `flags interval`; a single address there is a range of one.
    Span(Family, Span),
    /// An address, in a set of addresses without that flag.
    Address(IpAddr),
    /// Source and destination, in a set of pairs. Both of one family.
    Pair(IpAddr, IpAddr),
    /// Source and destinations of its family, in a set of pairs with `flags interval`.
    Reach(IpAddr, Span),
    /// An interface.
    Interface(Interface),
    /// Interface and sources on it, in a set with `flags interval`.
    Home(Interface, Family, Span),
}

/// An element to be added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Element {
    /// What it holds.
    pub key: Key,
    /// Milliseconds it is to live; `None` is the set's default, which is for ever unless the set says so.
    /// Only sets with `flags timeout` take one. Plays no part in a removal.
    pub timeout_ms: Option<u64>,
}

/// Packets and bytes seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP header included.
    pub bytes: u64,
}

/// An element as the kernel has it. Its timeout is what it was given, `None` also where that is the set's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The element.
    pub element: Element,
    /// Milliseconds it still has to live; `None` is for ever.
    pub expires_ms: Option<u64>,
    /// What it matched, in a set whose elements count.
    pub count: Option<Count>,
}

impl Element {
    /// An element that lives as long as the set lets it.
    pub fn new(key: Key) -> Element {
        Element { key, timeout_ms: None }
    }
}

/// Ranges in the order the kernel takes them fastest: the highest first, then the others, which have to come
/// lowest first. Without one above each new one it looks for the highest each time anew, a tenth of all it does.
pub fn highest_first(
    mut elements: impl DoubleEndedIterator<Item = Element> + Clone,
) -> impl Iterator<Item = Element> + Clone {
    let last = elements.next_back();
    // A range without an end has to stay behind all others for the kernel to see what it overlaps.
    let (open, ended): (Option<Element>, Option<Element>) = match last {
        Some(element) if element.key.is_open() => (Some(element), elements.next_back()),
        ended => (None, ended),
    };
    ended.into_iter().chain(elements).chain(open)
}

impl Key {
    /// Whether it is a range up to the highest address, which has no end in the kernel.
    pub fn is_open(self) -> bool {
        matches!(self, Key::Span(family, span) if span.last() >= family.highest())
    }

    /// The family of its addresses, if it has any.
    pub fn family(self) -> Option<Family> {
        match self {
            Key::Span(family, _) | Key::Home(_, family, _) => Some(family),
            Key::Address(address) | Key::Pair(address, _) | Key::Reach(address, _) => {
                Some(Family::of(address))
            }
            Key::Interface(_) => None,
        }
    }

    /// One address in a set with `flags interval`.
    pub fn point(address: IpAddr) -> Key {
        let number = number(address);
        Key::Span(Family::of(address), Span::new(number, number))
    }

    /// The type of set that takes it, and whether that is one of ranges.
    pub(super) fn set(self) -> (ruleset::Key, bool) {
        match self {
            Key::Span(family, _) => (ruleset::Key::Address(family), true),
            Key::Address(address) => (ruleset::Key::Address(Family::of(address)), false),
            Key::Pair(source, _) => (ruleset::Key::Pair(Family::of(source)), false),
            Key::Reach(source, _) => (ruleset::Key::Pair(Family::of(source)), true),
            Key::Interface(_) => (ruleset::Key::Interface, false),
            Key::Home(_, family, _) => (ruleset::Key::Home(family), true),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Span(family, span) => f.write_str(&show_span(*span, *family)),
            Key::Address(address) => address.fmt(f),
            Key::Pair(source, destination) => write!(f, "{source} . {destination}"),
            Key::Reach(source, span) => {
                write!(f, "{source} . {}", show_span(*span, Family::of(*source)))
            }
            Key::Interface(interface) => interface.fmt(f),
            Key::Home(interface, family, span) => {
                write!(f, "{interface} . {}", show_span(*span, *family))
            }
        }
    }
}

/// Most bytes [`put`] writes for one element: two ends of a range, or a pair, in IPv6 with a timeout.
pub const ELEMENT_BYTES_MAX: usize = 128;

/// Appends an element to an open list of them; a range is two, with none behind the highest address.
pub fn put(stream: &mut Stream, element: &Element) {
    match element.key {
        Key::Span(family, span) => {
            put_one(stream, &[family.address(span.first())], element.timeout_ms, 0);
            if !element.key.is_open() {
                let behind = family.address(span.last() + 1);
                put_one(stream, &[behind], None, sys::NFT_SET_ELEM_INTERVAL_END);
            }
        }
        Key::Address(address) => put_one(stream, &[address], element.timeout_ms, 0),
        Key::Pair(source, destination) => {
            put_one(stream, &[source, destination], element.timeout_ms, 0);
        }
        // Few, and each a place of its own in the kernel.
        Key::Reach(..) | Key::Interface(_) | Key::Home(..) => {
            let (first, last) = ends(element.key);
            let one = stream.open(sys::NFTA_LIST_ELEM);
            put_value(stream, sys::NFTA_SET_ELEM_KEY, &first);
            if let Some(last) = last {
                put_value(stream, sys::NFTA_SET_ELEM_KEY_END, &last);
            }
            if let Some(ms) = element.timeout_ms {
                stream.attr(sys::NFTA_SET_ELEM_TIMEOUT, &ms.to_be_bytes());
            }
            stream.close(one);
        }
    }
}

fn put_value(stream: &mut Stream, kind: u16, bytes: &[u8]) {
    let value = stream.open(kind);
    stream.attr(sys::NFTA_DATA_VALUE, bytes);
    stream.close(value);
}

/// Lowest and highest value of an element; the latter only where the kernel takes both in one.
fn ends(key: Key) -> (Vec<u8>, Option<Vec<u8>>) {
    let on = |interface: Interface, address| [interface.bytes(), &*joined(&[address])].concat();
    match key {
        Key::Span(family, span) => (joined(&[family.address(span.first())]), None),
        Key::Address(address) => (joined(&[address]), None),
        Key::Pair(source, destination) => (joined(&[source, destination]), None),
        Key::Interface(interface) => (interface.bytes().to_vec(), None),
        Key::Reach(source, span) => {
            let of = |end| joined(&[source, Family::of(source).address(end)]);
            (of(span.first()), Some(of(span.last())))
        }
        Key::Home(interface, family, span) => {
            let of = |end| on(interface, family.address(end));
            (of(span.first()), Some(of(span.last())))
        }
    }
}

/// An element as attributes; a range is two of them, with no end behind the highest address.
pub fn attrs(key: Key) -> Vec<Attr> {
    let value = |kind, bytes| Attr::Nest(kind, vec![Attr::Value(sys::NFTA_DATA_VALUE, bytes)]);
    let (first, last) = ends(key);
    let first = value(sys::NFTA_SET_ELEM_KEY, first);
    let last = last.map(|last| value(sys::NFTA_SET_ELEM_KEY_END, last));
    let begin = Attr::Nest(sys::NFTA_LIST_ELEM, std::iter::once(first).chain(last).collect());
    let end = match key {
        Key::Span(family, span) if !key.is_open() => {
            let behind = joined(&[family.address(span.last() + 1)]);
            let flags = Attr::be32(sys::NFTA_SET_ELEM_FLAGS, sys::NFT_SET_ELEM_INTERVAL_END);
            let parts = vec![value(sys::NFTA_SET_ELEM_KEY, behind), flags];
            Some(Attr::Nest(sys::NFTA_LIST_ELEM, parts))
        }
        _ => None,
    };
    std::iter::once(begin).chain(end).collect()
}

/// Asks for an element; of a range for its beginning, or its end, by an address in it.
pub fn question(key: Key, end: bool) -> Attr {
    let value = Attr::Value(sys::NFTA_DATA_VALUE, ends(key).0);
    let mut attrs = vec![Attr::Nest(sys::NFTA_SET_ELEM_KEY, vec![value])];
    if end {
        attrs.push(Attr::be32(sys::NFTA_SET_ELEM_FLAGS, sys::NFT_SET_ELEM_INTERVAL_END));
    }
    Attr::Nest(sys::NFTA_LIST_ELEM, attrs)
}

fn put_one(stream: &mut Stream, addresses: &[IpAddr], timeout_ms: Option<u64>, flags: u32) {
    let element = stream.open(sys::NFTA_LIST_ELEM);
    let key = stream.open(sys::NFTA_SET_ELEM_KEY);
    match addresses {
        [IpAddr::V4(v4)] => stream.attr(sys::NFTA_DATA_VALUE, &v4.octets()),
        [IpAddr::V6(v6)] => stream.attr(sys::NFTA_DATA_VALUE, &v6.octets()),
        _ => stream.attr(sys::NFTA_DATA_VALUE, &joined(addresses)),
    }
    stream.close(key);
    if let Some(ms) = timeout_ms {
        stream.attr(sys::NFTA_SET_ELEM_TIMEOUT, &ms.to_be_bytes());
    }
    if flags != 0 {
        stream.attr(sys::NFTA_SET_ELEM_FLAGS, &flags.to_be_bytes());
    }
    stream.close(element);
}

/// A concatenation; addresses fill whole registers, so there is no padding.
fn joined(addresses: &[IpAddr]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in addresses {
        match address {
            IpAddr::V4(v4) => bytes.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes.extend_from_slice(&v6.octets()),
        }
    }
    bytes
}

/// One element of a message from the kernel; a range is two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The element; of a range only its beginning, as a range of one.
    pub found: Found,
    /// Ends a range: its key is the address behind the last.
    pub is_end: bool,
}

/// Reads an element of a set of this type; `None` for `*`, and for sets that hold no addresses.
pub fn read(bytes: &[u8], kind: ruleset::Key, ranges: bool) -> Result<Option<Piece>, Garbled> {
    let attrs = Attrs::parse(bytes)?;
    let flags = attrs.be32(sys::NFTA_SET_ELEM_FLAGS, "element flags")?.unwrap_or(0);
    if flags & sys::NFT_SET_ELEM_CATCHALL != 0 {
        return Ok(None);
    }
    let key = attrs.nest(sys::NFTA_SET_ELEM_KEY)?;
    let first = key.need(sys::NFTA_DATA_VALUE, "element key")?;
    let last = attrs.nest(sys::NFTA_SET_ELEM_KEY_END)?;
    let last = last.get(sys::NFTA_DATA_VALUE).unwrap_or(first);
    let Some(key) = read_key((first, last), kind, ranges)? else { return Ok(None) };
    let timeout_ms = attrs.be64(sys::NFTA_SET_ELEM_TIMEOUT, "element timeout")?;
    let expires_ms = attrs.be64(sys::NFTA_SET_ELEM_EXPIRATION, "element expiry")?;
    let element = Element { key, timeout_ms: timeout_ms.filter(|ms| *ms != 0) };
    let found = Found { element, expires_ms, count: count_of(&attrs)? };
    Ok(Some(Piece { found, is_end: flags & sys::NFT_SET_ELEM_INTERVAL_END != 0 }))
}

/// Reads an element of a set whose type is not known: each has keys of a length of its own.
pub fn read_any(bytes: &[u8]) -> Option<Piece> {
    let ended = Attrs::parse(bytes).ok()?.get(sys::NFTA_SET_ELEM_KEY_END).is_some();
    let kinds = [(ruleset::Key::Address as fn(Family) -> _, true), (ruleset::Key::Pair, ended)];
    let mut types =
        kinds.iter().flat_map(|(kind, ranges)| Family::BOTH.map(|family| (kind(family), *ranges)));
    types.find_map(|(kind, ranges)| read(bytes, kind, ranges).ok().flatten())
}

fn read_key(
    (first, last): (&[u8], &[u8]),
    kind: ruleset::Key,
    ranges: bool,
) -> Result<Option<Key>, Garbled> {
    const WRONG: Garbled = Garbled("element key");
    let address = |bytes: &[u8], family| read_address(bytes, family).ok_or(WRONG);
    let halves = |bytes: &[u8], family: Family| {
        let (source, rest) = bytes.split_at_checked(usize::from(family.bits() / 8)).ok_or(WRONG)?;
        Ok((address(source, family)?, address(rest, family)?))
    };
    let on_interface = |bytes: &[u8], family| {
        let (name, rest) = bytes.split_first_chunk().ok_or(WRONG)?;
        Ok((Interface::from_bytes(*name), address(rest, family)?))
    };
    let span = |first, last| Span::new(number(first), number(last));
    Ok(Some(match kind {
        ruleset::Key::Address(family) if ranges => Key::point(address(first, family)?),
        ruleset::Key::Address(family) => Key::Address(address(first, family)?),
        ruleset::Key::Pair(family) => {
            let ((source, begin), (_, end)) = (halves(first, family)?, halves(last, family)?);
            if ranges { Key::Reach(source, span(begin, end)) } else { Key::Pair(source, begin) }
        }
        ruleset::Key::Interface => {
            Key::Interface(Interface::from_bytes(first.try_into().map_err(|_| WRONG)?))
        }
        ruleset::Key::Home(family) => {
            let (interface, begin) = on_interface(first, family)?;
            let (_, end) = on_interface(last, family)?;
            Key::Home(interface, family, span(begin, end))
        }
        ruleset::Key::Other { .. } => return Ok(None),
    }))
}

fn read_address(bytes: &[u8], family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        Family::V6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// The counter among an element's expressions: one alone, or a list.
fn count_of(attrs: &Attrs<'_>) -> Result<Option<Count>, Garbled> {
    if let Some(expr) = attrs.get(sys::NFTA_SET_ELEM_EXPR) {
        return read_counter(expr);
    }
    for (_, expr) in attrs.nest(sys::NFTA_SET_ELEM_EXPRESSIONS)?.iter() {
        if let Some(count) = read_counter(expr)? {
            return Ok(Some(count));
        }
    }
    Ok(None)
}

/// What an expression counted; `None` for one that is no counter.
pub fn read_counter(expr: &[u8]) -> Result<Option<Count>, Garbled> {
    let attrs = Attrs::parse(expr)?;
    if attrs.text(sys::NFTA_EXPR_NAME, "expression name")? != "counter" {
        return Ok(None);
    }
    let data = attrs.nest(sys::NFTA_EXPR_DATA)?;
    let packets = data.be64(sys::NFTA_COUNTER_PACKETS, "packets")?.unwrap_or(0);
    let bytes = data.be64(sys::NFTA_COUNTER_BYTES, "bytes")?.unwrap_or(0);
    Ok(Some(Count { packets, bytes }))
}

/// Joins the two ends of ranges, in whatever order the kernel gave them, and sorts the result. `cut` says that
/// more would have come: what then lacks its other end is left out. Without that, no end means to the highest.
pub fn join(pieces: Vec<Piece>, cut: bool) -> Vec<Found> {
    let key = |piece: &Piece| piece.found.element.key;
    let downwards = pieces.first().map(key) > pieces.last().map(key);
    let mut pieces = pieces;
    // An end sorts before a beginning at the same address: that is where two ranges touch.
    pieces.sort_unstable_by_key(|piece| (piece.found.element.key, !piece.is_end));
    let mut joined = Vec::with_capacity(pieces.len() / 2);
    let mut open: Option<Found> = None;
    for piece in pieces {
        let key = piece.found.element.key;
        let Key::Span(_, here) = key else {
            joined.push(piece.found);
            continue;
        };
        joined.extend(open.take().map(|begun| up_to(begun, here.first().saturating_sub(1))));
        open = (!piece.is_end).then_some(piece.found);
    }
    if downwards || !cut {
        joined.extend(open.map(|begun| up_to(begun, u128::MAX)));
    }
    joined
}

/// A range that begins as `begun` says and ends at `last`, or where its family does.
pub fn up_to(begun: Found, last: u128) -> Found {
    let Key::Span(family, span) = begun.element.key else { return begun };
    let last = last.min(family.highest()).max(span.first());
    let key = Key::Span(family, Span::new(span.first(), last));
    Found { element: Element { key, ..begun.element }, ..begun }
}
