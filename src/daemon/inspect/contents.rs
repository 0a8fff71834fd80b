//! What a set of the kernel holds, joined with the entries and names it stands for. A large set is never read whole.

use std::collections::HashSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::known::Known;
use crate::daemon::books::Books;
use crate::daemon::wants::{Want, time_left};
use crate::engine::intervals::Span;
use crate::engine::net::{Family, number};
use crate::engine::{Name, Wall};
use crate::lists::{Entry, Found, Kind, Query};
use crate::nftables::names::{self, Pair};
use crate::nftables::{self, Channel, Found as InKernel, Key};

/// Elements of a set that is read whole to find those that match. The kernel takes time by the square of that; the
/// pairs of `denied`, of which there are no more, take some 0.4 s.
const WHOLE_MAX: u64 = 65_536;

/// Elements of each set that a daemon shows at once; some megabytes, and a second with a million lines of lists. With all
/// that may be found of each it takes 100 MB for a moment.
pub const SHOWN_MAX: usize = 2_000;
/// Characters of a name that a fault repeats.
const NAME_SHOWN: usize = 40;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// A set, or a name without its 4 or 6 for both families.
    pub name: String,
    /// Elements shown of each set, at most.
    pub limit: usize,
    /// Only elements that share an address with this.
    pub within: Option<(Family, Span)>,
}

impl Asked {
    /// As a person writes it: `within` is an address, a network or a range.
    ///
    /// # Errors
    /// In one line, if it is none.
    pub fn new(name: &str, limit: usize, within: Option<&str>) -> Result<Asked> {
        let within = within.map(range).transpose()?;
        Ok(Asked { name: name.to_owned(), limit, within })
    }
}

fn range(text: &str) -> Result<(Family, Span)> {
    let text: String = text.chars().take(2 * NAME_SHOWN).collect();
    match text.parse().with_context(|| format!("--match {text}"))? {
        Entry::Addresses(family, span) => Ok((family, span)),
        Entry::Domain(_) | Entry::Container(_) => {
            bail!("--match {text}: sets hold addresses, so give an address, network or range")
        }
    }
}

/// The answer of `sets show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Each set asked for.
    pub sets: Vec<SetContents>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// One set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetContents {
    /// Its name.
    pub name: String,
    /// True if the kernel has it.
    pub present: bool,
    /// Elements in the kernel; nothing if it does not say.
    pub count: Option<u64>,
    /// Some or all of them, sorted.
    pub elements: Vec<ElementLine>,
    /// True if there are more than are shown.
    pub more: bool,
    /// Elements that the lists come to and that the kernel does not have, where the lists were asked.
    pub missing: u64,
}

/// One element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementLine {
    /// An address, a network, a range, or source and destination.
    pub element: String,
    /// Milliseconds it still has to live; nothing is for ever.
    pub expires_ms: Option<u64>,
    /// Packets it matched; nothing in sets whose elements do not count.
    pub hits: Option<u64>,
    /// Entries of the lists that it comes from.
    pub entries: Vec<Found>,
    /// Names the address answered to, latest first: as the daemon knows them, or as the registry was saved last.
    pub names: Vec<String>,
    /// The container that has the source address now, where a daemon knows it.
    pub container: Option<String>,
}

/// Asks the kernel, then the lists and the registry about what it said.
///
/// # Errors
/// In one line: no set of that name, or the kernel does not answer.
pub fn contents(books: &Books, asked: &Asked) -> Result<Contents> {
    let mut reader = Reader { books, asked, channel: Channel::open()?, wants: None };
    let mut raw = Vec::new();
    for (pair, family) in sets_of(&asked.name)? {
        let other = asked.within.is_some_and(|(within, _)| within != family);
        if !other {
            raw.push(reader.read(pair, family)?);
        }
    }
    Ok(explain(books, raw))
}

/// A set as the kernel gave it.
struct Raw {
    pair: Pair,
    set: &'static str,
    present: bool,
    count: Option<u64>,
    elements: Vec<InKernel>,
    more: bool,
    missing: u64,
}

fn sets_of(name: &str) -> Result<Vec<(Pair, Family)>> {
    let is = |pair: &Pair, family: Family| {
        let full = pair.of(family);
        full == name || full.strip_suffix(['4', '6']) == Some(name)
    };
    let found: Vec<(Pair, Family)> =
        names::all().filter(|(pair, family)| is(pair, *family)).collect();
    if found.is_empty() {
        let known: Vec<&str> =
            names::PAIRS.iter().map(|pair| pair.v4.trim_end_matches('4')).collect();
        bail!(
            "there is no set {:?}: there are {}, each with 4 or 6 behind it, and {}",
            name.chars().take(NAME_SHOWN).collect::<String>(),
            known.join(", "),
            names::BRIDGES.v4
        );
    }
    Ok(found)
}

struct Reader<'a> {
    books: &'a Books,
    asked: &'a Asked,
    channel: Channel,
    /// What the lists come to, once somebody had to know.
    wants: Option<Vec<Want>>,
}

impl Reader<'_> {
    fn read(&mut self, pair: Pair, family: Family) -> Result<Raw> {
        let set = pair.of(family);
        let info = self.channel.set_info(set)?;
        let mut raw = Raw {
            pair,
            set,
            present: info.is_some(),
            count: info.as_ref().and_then(|info| info.count),
            elements: Vec::new(),
            more: false,
            missing: 0,
        };
        let small = raw.count.is_some_and(|count| count <= WHOLE_MAX);
        match self.asked.within {
            _ if !raw.present => {}
            None => (raw.elements, raw.more) = nftables::dump(set, self.asked.limit)?,
            Some((_, span)) if small || !is_listed(pair) => self.filter(&mut raw, span)?,
            Some((_, span)) => self.ask_for_listed(&mut raw, span)?,
        }
        Ok(raw)
    }

    /// Reads the whole set and keeps what matches.
    fn filter(&self, raw: &mut Raw, span: Span) -> Result<()> {
        let most = usize::try_from(WHOLE_MAX).unwrap_or(usize::MAX);
        let (elements, cut) = nftables::dump(raw.set, most)?;
        let matching = elements.into_iter().filter(|found| overlaps(found.element.key, span));
        raw.elements = matching.collect();
        raw.more = cut || raw.elements.len() > self.asked.limit;
        raw.elements.truncate(self.asked.limit);
        Ok(())
    }

    /// Asks the kernel for each matching element that the lists come to.
    fn ask_for_listed(&mut self, raw: &mut Raw, span: Span) -> Result<()> {
        let books = self.books;
        let wants =
            self.wants.get_or_insert_with(|| Want::all(&books.compile().lists, books.named()));
        let Some(want) = wants.iter().find(|want| want.set == raw.set) else { return Ok(()) };
        let elements = want.elements(books.now);
        let mut matching = elements.filter(|element| overlaps(element.key, span));
        for wanted in matching.by_ref().take(self.asked.limit) {
            match self.channel.get(raw.set, wanted.key)? {
                Some(found) => raw.elements.push(found),
                None => raw.missing += 1,
            }
        }
        raw.more = matching.next().is_some();
        Ok(())
    }
}

/// Sets that hold what the lists say.
fn is_listed(pair: Pair) -> bool {
    [names::QUARANTINE, names::ALLOW, names::BLOCK, names::BLOCKHOSTS].contains(&pair)
}

fn overlaps(key: Key, span: Span) -> bool {
    let holds = |address: IpAddr| span.contains(number(address));
    let shares = |found: Span| found.first() <= span.last() && span.first() <= found.last();
    match key {
        Key::Span(_, found) => shares(found),
        Key::Address(address) => holds(address),
        Key::Pair(source, destination) => holds(source) || holds(destination),
        Key::Reach(source, to) => holds(source) || shares(to),
        Key::Home(_, _, found) => shares(found),
        Key::Interface(_) => false,
    }
}

/// Looks up where all elements come from by one reading of the lists, and their names by one of the registry.
fn explain(books: &Books, sets: Vec<Raw>) -> Contents {
    let elements =
        || sets.iter().flat_map(|raw| raw.elements.iter().map(move |found| (raw, found)));
    let single = elements().filter_map(|(_, found)| destination(found.element.key));
    let known = Known::read(books, &single.collect::<HashSet<IpAddr>>());
    let containers = books.containers();
    let (mut queries, mut places) = (Vec::new(), Vec::new());
    for (raw, found) in elements() {
        let from = queries.len();
        queries.extend(queries_for(raw.pair, found.element.key, &known));
        if raw.pair == names::QUARANTINE {
            let name = source(raw.pair, found.element.key).and_then(|ip| containers.get(&ip));
            queries.extend(name.and_then(|name| Name::new(name).ok()).map(Query::Container));
        }
        places.push(from..queries.len());
    }
    let findings = books.find(&queries);
    let mut by_query: Vec<Vec<Found>> = vec![Vec::new(); queries.len()];
    for found in findings.found {
        if let Some(of) = by_query.get_mut(found.query) {
            of.push(found);
        }
    }
    let mut places = places.into_iter();
    let lines = |raw: &Raw| {
        let line = |found: &InKernel| {
            let place = places.next().unwrap_or_default();
            let entries = by_query.get(place).unwrap_or_default().concat();
            let container = source(raw.pair, found.element.key).and_then(|ip| containers.get(&ip));
            let line = line_of(raw.pair, found, entries, &known, books.now);
            ElementLine { container: container.cloned(), ..line }
        };
        raw.elements.iter().map(line).collect::<Vec<ElementLine>>()
    };
    let elements: Vec<Vec<ElementLine>> = sets.iter().map(lines).collect();
    let with = |(raw, elements): (Raw, Vec<ElementLine>)| SetContents {
        name: raw.set.to_owned(),
        present: raw.present,
        count: raw.count,
        elements,
        more: raw.more,
        missing: raw.missing,
    };
    let notes =
        known.note.into_iter().chain(findings.errors).chain(books.misread.clone()).collect();
    Contents { sets: sets.into_iter().zip(elements).map(with).collect(), notes }
}

/// The address whose names say something about an element.
fn destination(key: Key) -> Option<IpAddr> {
    match key {
        Key::Span(family, span) if span.first() == span.last() => {
            Some(family.address(span.first()))
        }
        Key::Span(..) | Key::Reach(..) | Key::Interface(_) | Key::Home(..) => None,
        Key::Address(address) | Key::Pair(_, address) => Some(address),
    }
}

/// The address in an element that is a container's.
fn source(pair: Pair, key: Key) -> Option<IpAddr> {
    match key {
        Key::Pair(source, _) | Key::Reach(source, _) => Some(source),
        Key::Address(address) if of_containers(pair) => Some(address),
        Key::Span(..) if of_containers(pair) => destination(key),
        _ => None,
    }
}

/// Sets of single containers.
fn of_containers(pair: Pair) -> bool {
    [names::QUARANTINE, names::EXEMPT, names::DRYRUN, names::OTHERWAY].contains(&pair)
}

fn queries_for(pair: Pair, key: Key, known: &Known) -> Vec<Query> {
    // What no list says.
    let unlisted = [names::EXEMPT, names::PERMITS, names::DRYRUN, names::OTHERWAY, names::SPOOFS];
    if names::is_managed(pair.v4) || unlisted.contains(&pair) {
        return Vec::new();
    }
    let mut queries = match key {
        Key::Span(family, span) => vec![Query::Range(family, span)],
        Key::Address(address) => vec![Query::Address(address)],
        // Either end of a pair may be what was refused.
        Key::Pair(source, destination) => vec![Query::Address(source), Query::Address(destination)],
        Key::Reach(..) | Key::Interface(_) | Key::Home(..) => Vec::new(),
    };
    if pair == names::ALLOW {
        let seen =
            destination(key).map(|address| known.registry.names(address)).unwrap_or_default();
        queries.extend(seen.into_iter().map(|seen| Query::Name(seen.name)));
    }
    queries
}

fn line_of(
    pair: Pair,
    found: &InKernel,
    entries: Vec<Found>,
    known: &Known,
    now: Wall,
) -> ElementLine {
    let key = found.element.key;
    let speaks = |entry: &Found| match (pair, key) {
        (names::QUARANTINE, _) => entry.kind == Kind::Quarantine,
        (names::ALLOW, _) => entry.kind == Kind::Allow,
        // A moment ago the daemon refused it, for these or for no reason in the lists.
        (names::DENIED, Key::Pair(source, _)) => {
            entry.kind == Kind::Block && entry.from.is_none_or(|from| from == source)
        }
        (names::HITS, _) => entry.kind != Kind::Allow && entry.from.is_none(),
        _ => entry.kind == Kind::Block && entry.from.is_none(),
    };
    ElementLine {
        element: key.to_string(),
        expires_ms: time_left(found.expires_ms, now),
        hits: found.count.map(|count| count.packets),
        entries: entries.into_iter().filter(speaks).collect(),
        names: destination(key).map(|address| known.names(address)).unwrap_or_default(),
        container: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_its_family_is_both() {
        let names = |name: &str| -> Vec<&str> {
            sets_of(name).unwrap().iter().map(|(pair, family)| pair.of(*family)).collect()
        };
        assert_eq!(names("block"), ["block4", "block6"]);
        assert_eq!(names("block6"), ["block6"]);
        assert_eq!(names("blockhosts"), ["blockhosts4", "blockhosts6"]);
        let error = sets_of("blok").unwrap_err().to_string();
        assert!(error.contains("quarantine, local, allow, block, blockhosts"), "{error}");
        assert!(sets_of("").is_err());
    }

    #[test]
    fn elements_match_by_any_address_they_share() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let span = |first: &str, last: &str| Span::new(number(ip(first)), number(ip(last)));
        let net = Key::Span(Family::V4, span("10.0.0.0", "10.0.0.255"));
        assert!(overlaps(net, span("10.0.0.255", "10.0.1.0")));
        assert!(!overlaps(net, span("10.0.1.0", "10.0.1.0")));
        let pair = Key::Pair(ip("172.17.0.2"), ip("192.0.2.1"));
        assert!(overlaps(pair, span("172.17.0.0", "172.17.255.255")));
        assert!(overlaps(pair, span("192.0.2.1", "192.0.2.1")));
        assert!(!overlaps(pair, span("192.0.2.2", "192.0.2.2")));
    }
}
