//! Which entries of which lists speak about an address or a name: one walk through the files, no index in memory.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Kind;
use super::entry::Entry;
use super::hold::{Guard, Protected, Standing};
use super::item::{Item, Line};
use super::source::Source;
use super::text::excerpt;
use crate::engine::intervals::Span;
use crate::engine::limits::NAME_BYTES_MAX;
use crate::engine::name::normalise;
use crate::engine::net::{Family, number};
use crate::engine::{Name, Wall};

/// Entries found for one query. More than a screenful explains nothing.
pub const FOUND_PER_QUERY_MAX: usize = 16;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// Entries that hold an address.
    Address(IpAddr),
    /// Entries that share an address with a range, such as an element of a set.
    Range(Family, Span),
    /// Domains that stand for a name.
    Name(Name),
    /// Entries for a container.
    Container(Name),
}

impl From<&Entry> for Query {
    /// What else is said about the same: after an entry was removed, whether a wider one or a feed still holds.
    fn from(entry: &Entry) -> Query {
        match entry {
            Entry::Addresses(family, span) => Query::Range(*family, *span),
            Entry::Domain(name) => Query::Name(name.clone()),
            Entry::Container(name) => Query::Container(name.clone()),
        }
    }
}

/// An entry that was found, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Found {
    /// Place of the query it answers.
    #[serde(skip)]
    pub query: usize,
    /// The list.
    pub list: String,
    /// What its entries mean.
    pub kind: Kind,
    /// Line of the list, from 1.
    pub line: u32,
    /// The entry as it is written.
    pub entry: String,
    /// The comment, or the number of the case.
    pub note: Option<String>,
    /// When it ends.
    #[serde(with = "super::text::serde_time")]
    pub until: Option<Wall>,
    /// The only source address it holds for.
    pub from: Option<IpAddr>,
}

/// What was found, and what could not be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// By query, then in the order of the lists.
    pub found: Vec<Found>,
    /// Lists that could not be read to their end, and why.
    pub errors: Vec<String>,
}

/// Finds the entries that hold (not expired, not refused) for each query, at most [`FOUND_PER_QUERY_MAX`] each.
pub fn find(sources: &[Source], wanted: &[Query], protected: &[Protected], now: Wall) -> Findings {
    let guard = Guard::new(protected, now);
    let mut search = Search::new(wanted);
    let mut errors = Vec::new();
    for source in sources {
        let read = source.read(&mut |line| {
            if let Line::Item(item) = line {
                search.look(source, &item, &guard);
            }
        });
        if let Err(error) = read {
            errors.push(format!("{}: {}", source.label(), excerpt(&error.to_string())));
        }
    }
    search.found.sort_by_key(|found| found.query);
    Findings { found: search.found, errors }
}

struct Search {
    /// Ranges asked for, of each family.
    ranges: [Ranges; 2],
    /// Every name asked for and all its parents.
    suffixes: HashMap<String, Vec<usize>>,
    /// Containers asked for, few.
    containers: Vec<(Name, usize)>,
    /// Entries found for each query.
    taken: Vec<usize>,
    found: Vec<Found>,
}

impl Search {
    fn new(wanted: &[Query]) -> Search {
        let mut spans = Vec::new();
        let mut suffixes: HashMap<String, Vec<usize>> = HashMap::new();
        let mut containers = Vec::new();
        for (place, query) in wanted.iter().enumerate() {
            match query {
                Query::Address(address) => {
                    let at = number(*address);
                    spans.push((Family::of(*address), Span::new(at, at), place));
                }
                Query::Range(family, span) => spans.push((*family, *span, place)),
                Query::Container(name) => containers.push((name.clone(), place)),
                Query::Name(name) => {
                    for suffix in parents(name.as_str()) {
                        suffixes.entry(suffix.to_owned()).or_default().push(place);
                    }
                }
            }
        }
        let (taken, found) = (vec![0; wanted.len()], Vec::new());
        let ranges = Family::BOTH.map(|of| Ranges::new(of, &spans));
        Search { ranges, suffixes, containers, taken, found }
    }

    fn look(&mut self, source: &Source, item: &Item<'_>, guard: &Guard<'_>) {
        let places = match item.entry {
            Entry::Addresses(family, span) => {
                let of = self.ranges.iter().find(|ranges| ranges.family == family);
                of.map(|ranges| ranges.sharing(span)).unwrap_or_default()
            }
            Entry::Domain(text) if !self.suffixes.is_empty() => self.asked_name(text),
            Entry::Container(text) => self.asked_container(text),
            Entry::Domain(_) => return,
        };
        if places.is_empty() || !matches!(guard.judge(source, item), Standing::Holds) {
            return;
        }
        for place in places {
            if let Some(taken) = self.taken.get_mut(place).filter(|t| **t < FOUND_PER_QUERY_MAX) {
                *taken += 1;
                self.found.push(found(place, source, item));
            }
        }
    }

    fn asked_container(&self, text: &str) -> Vec<usize> {
        let asked =
            self.containers.iter().filter(|(name, _)| name.as_str().eq_ignore_ascii_case(text));
        asked.map(|(_, place)| *place).collect()
    }

    fn asked_name(&self, text: &str) -> Vec<usize> {
        let mut buffer = [0; NAME_BYTES_MAX];
        let name = normalise(text, &mut buffer).ok();
        name.and_then(|name| self.suffixes.get(name)).cloned().unwrap_or_default()
    }
}

/// Ranges asked for, in order: a list may have a million lines, and each is looked up by halving.
struct Ranges {
    family: Family,
    all: Vec<Asked>,
}

struct Asked {
    span: Span,
    /// The highest address of this one and all before, since they may lie within each other.
    reach: u128,
    /// Place of the query.
    place: usize,
}

impl Ranges {
    fn new(family: Family, spans: &[(Family, Span, usize)]) -> Ranges {
        let ours = spans.iter().filter(|(of, ..)| *of == family);
        let mut ours: Vec<(Span, usize)> = ours.map(|(_, span, place)| (*span, *place)).collect();
        ours.sort_unstable();
        let mut reach = 0;
        let asked = ours.into_iter().map(|(span, place)| {
            reach = span.last().max(reach);
            Asked { span, reach, place }
        });
        Ranges { family, all: asked.collect() }
    }

    /// Places of those that share an address with `span`.
    fn sharing(&self, span: Span) -> Vec<usize> {
        let near = self.near(span).iter();
        let shares = near.filter(|asked| asked.span.last() >= span.first());
        shares.map(|asked| asked.place).collect()
    }

    /// All that may share one.
    fn near(&self, span: Span) -> &[Asked] {
        let from = self.all.partition_point(|asked| asked.reach < span.first());
        let to = self.all.partition_point(|asked| asked.span.first() <= span.last());
        self.all.get(from..to).unwrap_or_default()
    }
}

/// A name and everything it lies under.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
}

fn found(query: usize, source: &Source, item: &Item<'_>) -> Found {
    Found {
        query,
        list: source.name.clone(),
        kind: source.kind,
        line: item.line,
        entry: excerpt(item.text),
        note: item.note.map(excerpt),
        until: item.until,
        from: item.from,
    }
}

#[cfg(test)]
#[path = "find_test.rs"]
mod tests;
