//! One line of dnsmasq's query log, read without allocating; the grammar is strict because names are the attacker's.

use std::net::IpAddr;

use crate::engine::Kind;
use crate::engine::health::Skip;
use crate::engine::limits::LINE_BYTES_MAX;

/// A log line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The query's serial number (`log-queries=extra`).
    pub serial: Option<u64>,
    /// The client's address and port (`log-queries=extra`).
    pub client: Option<(IpAddr, u16)>,
    /// The process that wrote the line; dnsmasq forks for TCP.
    pub pid: Option<u32>,
    /// What the line says.
    pub message: Message<'a>,
    /// The line less its prefix, as a person would quote it.
    pub text: &'a str,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A client asked.
    Query {
        /// The record type asked for.
        qtype: Qtype,
        /// The name asked for, as it was sent.
        name: &'a str,
        /// Who asked.
        client: IpAddr,
    },
    /// One record of an answer.
    Answer {
        /// Where dnsmasq took it from.
        kind: Kind,
        /// The name that owns the record, which need not be the name asked.
        name: &'a str,
        /// The record's value.
        value: Value,
    },
    /// The answer logged just before went to one more client, the one of this line.
    Duplicate,
    /// dnsmasq could not write so many lines.
    Lost(u64),
    /// dnsmasq has just started: its serial numbers begin again.
    Started,
    /// Understood to be no evidence.
    Other,
}

/// The type a query asked for, as far as it decides what its answer may be taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qtype {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Logged as `<TYPE>` whatever the record holds.
    Opaque,
    /// Logged as text that the owner of the zone chooses (TXT), or not known to be opaque.
    Text,
}

/// The value of an answer record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Shaped like an address. Only the query tells whether it is one.
    Address(IpAddr),
    /// The name is an alias.
    Cname,
    /// Anything else: NODATA, NXDOMAIN, `<TYPE>`, text.
    Other,
}

/// Types that dnsmasq logs by their name alone (checked in its `cache.c` and `rfc1035.c`); so are all it has no name for.
const OPAQUE: [&str; 13] = [
    "HTTPS", "MX", "SRV", "SOA", "NS", "SVCB", "CNAME", "CAA", "DS", "DNSKEY", "NAPTR", "TLSA",
    "SSHFP",
];
/// What dnsmasq prints for a name that holds a byte that is not printable.
const UNPRINTABLE: &str = "<name unprintable>";
/// What `log-queries=extra` puts after a validated record.
const SIGNED: &str = " (DNSSEC signed)";

/// Takes one line apart. The line comes without its newline.
///
/// # Errors
/// [`Skip`] when the line should have been evidence but cannot be read safely.
pub fn parse(bytes: &[u8]) -> Result<Line<'_>, Skip> {
    if bytes.len() > LINE_BYTES_MAX {
        return Err(Skip::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Skip::NotUtf8)?;
    // A message without any prefix is recognised first, so that a tag inside a name is never taken for one.
    if let Some(line) = message(text, None)? {
        return Ok(line);
    }
    let (pid, text) = match prefixed(text) {
        Some(Tagged::Dns(pid, text)) => (pid, text),
        Some(Tagged::Foreign(text)) => return Ok(other(None, text)),
        None => return Ok(other(None, text)),
    };
    Ok(message(text, pid)?.unwrap_or(other(pid, text)))
}

/// The serial number of a line that [`parse`] makes nothing of.
pub fn numbered(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = match prefixed(text) {
        Some(Tagged::Dns(_, text)) => text,
        Some(Tagged::Foreign(_)) | None => text,
    };
    extra(text).0
}

fn other(pid: Option<u32>, text: &str) -> Line<'_> {
    Line { serial: None, client: None, pid, message: Message::Other, text }
}

enum Tagged<'a> {
    Dns(Option<u32>, &'a str),
    /// dnsmasq's DHCP, TFTP or script part, or another program.
    Foreign(&'a str),
}

/// Strips `<priority>`, up to two time stamps (docker adds one of its own), a host name, and the program's tag.
fn prefixed(text: &str) -> Option<Tagged<'_>> {
    let mut rest = priority(text).unwrap_or(text);
    let mut stamped = false;
    for _ in 0..2 {
        if let Some(after) = rfc3339(rest).or_else(|| syslog_time(rest)) {
            (rest, stamped) = (after, true);
        }
    }
    if let Some(tagged) = tag(rest) {
        return Some(tagged);
    }
    let (host, after) = rest.split_once(' ').filter(|_| stamped)?;
    // `host:` would be another program's tag, and what follows its text.
    if host.is_empty() || host.ends_with(':') { None } else { tag(after) }
}

fn priority(text: &str) -> Option<&str> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    (number.len() <= 3 && digits(number).is_some()).then_some(rest)
}

/// `2026-01-02T03:04:05...` and a blank.
fn rfc3339(text: &str) -> Option<&str> {
    let (stamp, rest) = text.split_once(' ')?;
    let at = |i: usize| stamp.as_bytes().get(i).copied();
    let shape = at(4) == Some(b'-') && at(7) == Some(b'-') && at(10) == Some(b'T');
    (shape && at(0).is_some_and(|c| c.is_ascii_digit())).then_some(rest)
}

/// `Nov  1 22:12:01` (ctime's fifteen characters), perhaps with a fraction, and a blank.
fn syslog_time(text: &str) -> Option<&str> {
    let stamp = text.get(..15)?.as_bytes();
    let at = |i: usize| stamp.get(i).copied();
    let blanks = at(3) == Some(b' ') && at(6) == Some(b' ');
    if !blanks || at(9) != Some(b':') || at(12) != Some(b':') {
        return None;
    }
    let rest = text.get(15..)?;
    rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit()).strip_prefix(' ')
}

/// `dnsmasq: ` or `dnsmasq[123]: `.
fn tag(text: &str) -> Option<Tagged<'_>> {
    let rest = text.strip_prefix("dnsmasq")?;
    if let Some(body) = rest.strip_prefix(": ") {
        return Some(Tagged::Dns(None, body));
    }
    let Some(rest) = rest.strip_prefix('[') else {
        return rest.starts_with('-').then_some(Tagged::Foreign(text));
    };
    let (pid, body) = rest.split_once("]: ")?;
    Some(Tagged::Dns(Some(u32::try_from(digits(pid)?).ok()?), body))
}

/// Reads a message that starts at column 0; `None` when it starts with nothing we know.
fn message(text: &str, pid: Option<u32>) -> Result<Option<Line<'_>>, Skip> {
    let (serial, client, body) = extra(text);
    let message = match body.as_bytes().first() {
        Some(b'q' | b'a') => query(body)?,
        Some(b'r' | b'c' | b'D' | b'/') => answer(body, serial.is_some())?,
        Some(b'o') => lost(body),
        Some(b's') => body.starts_with("started, version ").then_some(Message::Started),
        _ => None,
    };
    let known = message.or(serial.and(client).map(|_| Message::Other));
    Ok(known.map(|message| Line { serial, client, pid, message, text }))
}

/// Strips `SERIAL CLIENT/PORT ` or `SERIAL ` (dnsmasq's own queries); newer versions may put `UDP ` or `TCP ` before it.
fn extra(text: &str) -> (Option<u64>, Option<(IpAddr, u16)>, &str) {
    let start = text.strip_prefix("UDP ").or_else(|| text.strip_prefix("TCP ")).unwrap_or(text);
    let Some((first, rest)) = start.split_once(' ') else { return (None, None, text) };
    let Some(serial) = digits(first) else { return (None, None, text) };
    match rest.split_once(' ').and_then(|(peer, body)| Some((endpoint(peer)?, body))) {
        Some((client, body)) => (Some(serial), Some(client), body),
        None => (Some(serial), None, rest),
    }
}

fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (host, port) = text.rsplit_once('/')?;
    Some((address(host)?, u16::try_from(digits(port)?).ok()?))
}

/// `query[TYPE] NAME from CLIENT`, and `auth[TYPE]` for a zone dnsmasq is authoritative for.
fn query(body: &str) -> Result<Option<Message<'_>>, Skip> {
    let Some(rest) = body.strip_prefix("query[").or_else(|| body.strip_prefix("auth[")) else {
        return Ok(None);
    };
    let (qtype, rest) = rest.split_once("] ").ok_or(Skip::Malformed)?;
    if rest.starts_with(UNPRINTABLE) {
        return Ok(Some(Message::Other));
    }
    let mut tokens = rest.split(' ');
    let (name, from, client) = (tokens.next(), tokens.next(), tokens.next());
    match (name, from, client.and_then(address), tokens.next()) {
        (Some(name), Some("from"), Some(client), None) if !name.is_empty() => {
            Ok(Some(Message::Query { qtype: Qtype::of(qtype), name, client }))
        }
        _ => Err(Skip::Malformed),
    }
}

/// `SOURCE NAME is VALUE`. A blank in the name (or in a hosts file's path) shifts `is` away, and the line is skipped.
fn answer(body: &str, extra: bool) -> Result<Option<Message<'_>>, Skip> {
    let Some((source, rest)) = body.split_once(' ') else { return Ok(None) };
    let kind = match source {
        "reply" => Kind::Reply,
        "cached" | "cached-stale" => Kind::Cached,
        "config" => Kind::Config,
        "DHCP" => Kind::Hosts,
        path if path.starts_with('/') => Kind::Hosts,
        _ => return Ok(None),
    };
    // `reply is truncated` has no name at all.
    if rest.starts_with(UNPRINTABLE) || rest.starts_with("is ") {
        return Ok(Some(Message::Other));
    }
    let (name, rest) = rest.split_once(' ').ok_or(Skip::Malformed)?;
    let value = rest.strip_prefix("is ").filter(|_| !name.is_empty()).ok_or(Skip::Malformed)?;
    if (source, name, value) == ("reply", "query", "duplicate") {
        return Ok(Some(Message::Duplicate));
    }
    let value = if extra { value.strip_suffix(SIGNED).unwrap_or(value) } else { value };
    Ok(Some(Message::Answer { kind, name, value: Value::of(value) }))
}

fn lost(body: &str) -> Option<Message<'_>> {
    let count = body.strip_prefix("overflow: ")?.strip_suffix(" log entries lost")?;
    digits(count).map(Message::Lost)
}

impl Qtype {
    fn of(text: &str) -> Qtype {
        match text {
            "A" => Qtype::A,
            "AAAA" => Qtype::Aaaa,
            text if text.starts_with("type=") || OPAQUE.contains(&text) => Qtype::Opaque,
            _ => Qtype::Text,
        }
    }

    /// True if `address` is of the family this type asks for.
    pub fn gives(self, address: IpAddr) -> bool {
        match self {
            Qtype::A => address.is_ipv4(),
            Qtype::Aaaa => address.is_ipv6(),
            Qtype::Opaque | Qtype::Text => false,
        }
    }
}

impl Value {
    fn of(text: &str) -> Value {
        match text.as_bytes().first() {
            Some(b'<') if text == "<CNAME>" => Value::Cname,
            Some(b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b':') => {
                text.parse().map_or(Value::Other, Value::Address)
            }
            _ => Value::Other,
        }
    }
}

/// An address as dnsmasq prints a peer's: a link-local one carries its interface.
fn address(text: &str) -> Option<IpAddr> {
    text.split_once('%').map_or(text, |(bare, _)| bare).parse().ok()
}

/// A decimal number without sign or blank.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
