//! The formats of lists, one line at a time.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;

use super::csv::Table;
use super::entry::Entry;
use super::item::{Item, Line, LineError, split_note};
use super::read::{Dialect, ReadError};

/// How a list is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Ours: `ENTRY [until=TIME] [from=ADDRESS] [force] [# comment]`.
    Plain,
    /// FireHOL: addresses and networks under a `#` header.
    Netset,
    /// Spamhaus DROP: `NETWORK ; CASE`.
    Spamhaus,
    /// Spamhaus DROP as JSON lines.
    SpamhausJson,
    /// A hosts file that sends domains nowhere.
    Hosts,
    /// One column of comma separated values, as abuse.ch has them.
    Csv(Column),
    /// `ADDRESS:PORT`, one a line; the port is not looked at.
    HostPort,
}

/// The column of a CSV file that holds the entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// By place, from 1.
    Number(usize),
    /// By its name in the header line, which may be a comment.
    Name(String),
}

/// Names a hosts file has for the machine itself.
const OWN_NAMES: [&str; 4] = ["localhost", "localhost.localdomain", "local", "broadcasthost"];

/// One list being read.
pub(super) struct Parser<'a> {
    dialect: Dialect<'a>,
    table: Option<Table<'a>>,
}

type Each<'e> = &'e mut dyn FnMut(Line<'_>);

impl<'a> Parser<'a> {
    pub(super) fn new(dialect: Dialect<'a>) -> Parser<'a> {
        let table = match dialect.format {
            Format::Csv(column) => Some(Table::new(column)),
            _ => None,
        };
        Parser { dialect, table }
    }

    /// Gives what a line holds to `each`.
    pub(super) fn line(&mut self, line: u32, text: &str, each: Each<'_>) {
        let found = match (self.dialect.format, &mut self.table) {
            (Format::Hosts, _) => return hosts(line, text, each),
            (Format::Csv(_), Some(table)) => table.line(line, text),
            // A table is there for every CSV.
            (Format::Csv(_), None) => Ok(None),
            (Format::Plain, _) => Item::plain(line, text, self.dialect.own),
            (Format::Netset, _) => netset(line, text),
            (Format::Spamhaus, _) => spamhaus(line, text),
            (Format::SpamhausJson, _) => return spamhaus_json(line, text, each),
            (Format::HostPort, _) => host_port(line, text),
        };
        give(line, found, each);
    }

    /// Ends the list.
    pub(super) fn end(self) -> Result<(), ReadError> {
        self.table.map_or(Ok(()), Table::end)
    }
}

fn give(line: u32, found: Result<Option<Item<'_>>, LineError>, each: Each<'_>) {
    match found {
        Ok(Some(item)) => each(Line::Item(item)),
        Ok(None) => {}
        Err(why) => each(Line::Bad { line, why }),
    }
}

fn netset(line: u32, text: &str) -> Result<Option<Item<'_>>, LineError> {
    let (body, note) = split_note(text, '#');
    match body.trim() {
        "" => Ok(None),
        body => addresses_only(Item::bare(line, body, note)?).map(Some),
    }
}

fn spamhaus(line: u32, text: &str) -> Result<Option<Item<'_>>, LineError> {
    let (body, note) = split_note(text, ';');
    match body.trim() {
        "" => Ok(None),
        body => addresses_only(Item::bare(line, body, note)?).map(Some),
    }
}

fn addresses_only(item: Item<'_>) -> Result<Item<'_>, LineError> {
    match item.entry {
        Entry::Addresses(..) => Ok(item),
        Entry::Domain(_) | Entry::Container(_) => {
            Err(LineError::Format("this format holds addresses and networks only"))
        }
    }
}

/// What is used of one line of Spamhaus DROP; the last line has neither.
#[derive(Deserialize)]
struct Drop<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    cidr: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sblid: Option<Cow<'a, str>>,
}

fn spamhaus_json(line: u32, text: &str, each: Each<'_>) {
    if text.trim().is_empty() {
        return;
    }
    let wrong = LineError::Format("not a JSON object with a `cidr`");
    let Ok(drop) = serde_json::from_str::<Drop<'_>>(text) else {
        return each(Line::Bad { line, why: wrong });
    };
    let found = match (&drop.cidr, &drop.kind) {
        (Some(cidr), _) => Item::bare(line, cidr, drop.sblid.as_deref()).and_then(addresses_only),
        (None, Some(kind)) if kind == "metadata" => return,
        (None, _) => Err(wrong),
    };
    give(line, found.map(Some), each);
}

/// `ADDRESS NAME [NAME...] [# comment]` where the address leads nowhere; every name is an entry.
fn hosts(line: u32, text: &str, each: Each<'_>) {
    let (body, note) = split_note(text, '#');
    let mut words = body.split_ascii_whitespace();
    let Some(address) = words.next() else { return };
    // `fe80::1%lo0` is how some systems write their own.
    let bare = address.split_once('%').map_or(address, |(bare, _)| bare);
    let bad = |why| Line::Bad { line, why: LineError::Format(why) };
    let Ok(address) = bare.parse::<IpAddr>() else {
        return each(bad("a line of a hosts file starts with an address"));
    };
    for name in words.filter(|name| !is_own_name(name)) {
        if !leads_nowhere(address) {
            return each(bad(
                "maps to a real address instead of 0.0.0.0: nothing is blocked by it",
            ));
        }
        if !name.contains('.') {
            each(bad("a name without a dot would stand for a whole top-level domain"));
            continue;
        }
        give(line, Item::bare(line, name, note).and_then(domains_only).map(Some), each);
    }
}

fn leads_nowhere(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_loopback()
}

fn is_own_name(name: &str) -> bool {
    let own = OWN_NAMES.iter().any(|own| name.eq_ignore_ascii_case(own));
    // Many lists begin with a line that sends 0.0.0.0 to itself; Debian has ip6-localhost and friends.
    own || name == "0.0.0.0" || name.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("ip6-"))
}

fn domains_only(item: Item<'_>) -> Result<Item<'_>, LineError> {
    match item.entry {
        Entry::Domain(_) | Entry::Container(_) => Ok(item),
        Entry::Addresses(..) => Err(LineError::Format("a hosts file sends names, not addresses")),
    }
}

fn host_port(line: u32, text: &str) -> Result<Option<Item<'_>>, LineError> {
    let (body, note) = split_note(text, '#');
    match body.trim() {
        "" => Ok(None),
        body => Item::bare(line, without_port(body), note).map(Some),
    }
}

/// `ADDRESS:PORT`, `[ADDRESS]:PORT`, `NAME:PORT` or any of them without a port.
pub(super) fn without_port(text: &str) -> &str {
    if let Some((inner, after)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = after.strip_prefix(':').is_some_and(is_port);
        return if after.is_empty() || port { inner } else { text };
    }
    match text.split_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => text,
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
#[path = "format_test.rs"]
mod tests;
