//! All lists together, as the engine takes them, and a report about each.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Kind;
use super::entry::Entry;
use super::hold::{Guard, Protected, Standing};
use super::item::{Item, Line};
use super::source::Source;
use super::text::excerpt;
use crate::engine::confined::Confined;
use crate::engine::lists::{Lists, Side, Timed};
use crate::engine::net::Family;
use crate::engine::ranges::RangeSet;
use crate::engine::{Name, Wall};

/// Messages kept for one list, of bad lines and of refused entries each. All are counted.
pub const MESSAGES_MAX: usize = 20;

/// What compiling brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// For the engine.
    pub lists: Lists,
    /// About each list, in the order they were given.
    pub per_list: Vec<ListReport>,
    /// When the first entry with a time ends; compile again then.
    pub next_expiry: Option<Wall>,
}

/// What was in one list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ListReport {
    /// The list.
    pub name: String,
    /// What its entries mean.
    pub kind: Kind,
    /// Entries that hold, domains among them.
    pub entries: u64,
    /// Those that are domains.
    pub domains: u64,
    /// Lines that were not understood.
    pub bad: u64,
    /// Entries that are too dangerous to hold.
    pub refused: u64,
    /// Entries whose time is over.
    pub expired: u64,
    /// The first bad lines, as `file:line: why`.
    pub bad_lines: Vec<String>,
    /// The first refused entries, each with how to force it.
    pub refused_entries: Vec<String>,
    /// Why the list could not be read to its end.
    pub error: Option<String>,
}

/// Reads and compiles every list. Cannot fail: what is wrong with a list is in its report, and the others hold.
pub fn compile(sources: &[Source], protected: &[Protected], now: Wall) -> Compiled {
    let guard = Guard::new(protected, now);
    let mut gathered = Gathered::default();
    let per_list = sources.iter().map(|source| gathered.take(source, &guard)).collect();
    let Gathered { allow, block, mut quarantine, mut confined, mut pairs, next_expiry } = gathered;
    latest_of_each(&mut quarantine);
    latest_of_each(&mut confined);
    latest_of_each(&mut pairs);
    let (allow, block) = (allow.compile(), block.compile());
    let lists = Lists { allow, block, quarantine, confined: Confined::new(confined), pairs };
    Compiled { lists, per_list, next_expiry }
}

/// What a time is over for, and when.
type Until<K> = Vec<(K, Option<Wall>)>;

#[derive(Default)]
struct Gathered {
    allow: Heap,
    block: Heap,
    quarantine: Until<IpAddr>,
    confined: Until<Name>,
    pairs: Until<(IpAddr, IpAddr)>,
    next_expiry: Option<Wall>,
}

/// One side, unsorted and as small as can be: a million IPv4 entries are 8 MB.
#[derive(Default)]
struct Heap {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
    timed: Vec<Timed>,
    names: Vec<Name>,
}

impl Gathered {
    fn take(&mut self, source: &Source, guard: &Guard<'_>) -> ListReport {
        let mut report = ListReport::new(&source.name, source.kind);
        let read = source.read(&mut |line| match line {
            Line::Bad { line, why } => report.bad_line(source, line, &why.to_string()),
            Line::Item(item) => match guard.judge(source, &item) {
                Standing::Holds => {
                    report.entries += 1;
                    report.domains += u64::from(matches!(item.entry, Entry::Domain(_)));
                    self.keep(source.kind, &item);
                }
                Standing::Expired => report.expired += 1,
                Standing::Misplaced(why) => report.bad_line(source, item.line, why),
                Standing::Refused(why) => report.refuse(source, &item, &why),
            },
        });
        report.error = read.err().map(|error| excerpt(&error.to_string()));
        report
    }

    fn keep(&mut self, kind: Kind, item: &Item<'_>) {
        self.next_expiry = [self.next_expiry, item.until].into_iter().flatten().min();
        if let (Kind::Quarantine, Entry::Container(name)) = (kind, item.entry) {
            self.confined.extend(Name::new(name).map(|name| (name, item.until)));
            return;
        }
        match (kind, item.entry.single(), item.from) {
            (Kind::Allow, ..) => self.allow.keep(item),
            (Kind::Block, _, None) => self.block.keep(item),
            (Kind::Block, Some(to), Some(from)) => self.pairs.push(((from, to), item.until)),
            (Kind::Quarantine, Some(container), _) => self.quarantine.push((container, item.until)),
            // A pair has a single destination, and a container one address: others never get here.
            (Kind::Block | Kind::Quarantine, None, _) => {}
        }
    }
}

impl Heap {
    fn keep(&mut self, item: &Item<'_>) {
        match (item.entry, item.until) {
            // Its time is looked after by the next compilation.
            (Entry::Domain(name), _) => self.names.extend(Name::new(name)),
            // Those belong elsewhere, and never get here.
            (Entry::Container(_), _) => {}
            (Entry::Addresses(family, span), Some(until)) => {
                self.timed.push(Timed { family, span, until })
            }
            (Entry::Addresses(Family::V4, span), None) => {
                let low = |number: u128| u32::try_from(number).unwrap_or(u32::MAX);
                self.v4.push((low(span.first()), low(span.last())))
            }
            (Entry::Addresses(Family::V6, span), None) => self.v6.push((span.first(), span.last())),
        }
    }

    fn compile(self) -> Side {
        Side::around(RangeSet::from_ends(self.v4, self.v6), self.timed, self.names)
    }
}

/// Sorts, and keeps the latest time of each; for good beats any time.
fn latest_of_each<K: Ord + Clone>(all: &mut Until<K>) {
    all.sort_unstable_by(|(one, a), (other, b)| {
        (one, a.is_none(), a).cmp(&(other, b.is_none(), b))
    });
    all.dedup_by(|later, before| {
        let same = later.0 == before.0;
        if same {
            before.1 = later.1;
        }
        same
    });
}

impl ListReport {
    /// Of a list with nothing in it.
    pub(super) fn new(name: &str, kind: Kind) -> ListReport {
        ListReport {
            name: name.to_owned(),
            kind,
            entries: 0,
            domains: 0,
            bad: 0,
            refused: 0,
            expired: 0,
            bad_lines: Vec::new(),
            refused_entries: Vec::new(),
            error: None,
        }
    }

    fn bad_line(&mut self, source: &Source, line: u32, why: &str) {
        self.bad += 1;
        if self.bad_lines.len() < MESSAGES_MAX {
            self.bad_lines.push(format!("{}:{line}: {why}", source.label()));
        }
    }

    fn refuse(&mut self, source: &Source, item: &Item<'_>, why: &str) {
        self.refused += 1;
        if self.refused_entries.len() < MESSAGES_MAX {
            let label = source.label();
            let (line, text) = (item.line, excerpt(item.text));
            let advice = match source.own {
                true => format!("to block it all the same, write `{text} force`"),
                false => format!("to block it all the same, set `force = true` for {label}"),
            };
            self.refused_entries
                .push(format!("{label}:{line}: {text} is refused: {why}; {advice}"));
        }
    }
}

#[cfg(test)]
#[path = "compile_test.rs"]
mod tests;
