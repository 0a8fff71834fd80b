//! `synhold sets`: every set and every list, a line each.

use anyhow::Result;

use super::answer;
use crate::cli::lists::Place;
use crate::cli::table::{Align, Table};
use crate::cli::{Answer, say, say_json, words};
use crate::control::Question;
use crate::daemon::clock;
use crate::daemon::inspect::{self, ListLine, Overview, RulesState, SetLine};
use crate::engine::Wall;
use crate::lists::Kind;

/// Bad lines and refused entries shown for each list.
const MESSAGES_SHOWN: usize = 3;

pub(super) fn run(place: &Place) -> Result<Answer> {
    let overview: Overview = answer(place, &Question::Sets {}, inspect::overview)?;
    if place.json {
        say_json(&overview)?;
    } else {
        say(&tell(&overview, clock::wall()))?;
    }
    Ok(if overview.is_fine() { Answer::Fine } else { Answer::No })
}

fn tell(overview: &Overview, now: Wall) -> String {
    let mut lines = sets(&overview.sets, now);
    lines.push(String::new());
    lines.extend(lists(&overview.lists, now));
    let remarks = remarks(overview);
    if !remarks.is_empty() {
        lines.push(String::new());
        lines.extend(remarks);
    }
    lines.join("\n")
}

fn sets(sets: &[SetLine], now: Wall) -> Vec<String> {
    let mut table = Table::new(&[
        ("SET", Align::Left),
        ("WANTED", Align::Right),
        ("KERNEL", Align::Right),
        ("DRIFT", Align::Left),
        ("MEMORY", Align::Right),
        ("HITS", Align::Right),
        ("LOADED", Align::Right),
        ("TOOK", Align::Right),
    ]);
    for set in sets {
        let kernel = match (set.present, set.kernel) {
            (false, _) => "absent".to_owned(),
            (true, None) => "?".to_owned(),
            (true, Some(count)) => count.to_string(),
        };
        table.row(vec![
            set.name.clone(),
            words::count(set.wanted),
            kernel,
            drift(set),
            memory(set.memory_bytes),
            words::count(set.hits),
            set.loaded.map_or_else(words::dash, |loaded| words::ago(loaded, now)),
            set.took_ms.map_or_else(words::dash, words::span),
        ]);
    }
    table.lines()
}

fn memory(bytes: Option<u64>) -> String {
    match bytes {
        None => words::dash(),
        Some(0) => words::bytes(0),
        Some(bytes) => format!("~{}", words::bytes(bytes)),
    }
}

fn drift(set: &SetLine) -> String {
    let parts = [(set.missing, "missing"), (set.extra, "extra")];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    match (set.drift, set.wanted) {
        (_, None) => words::dash(),
        (Some(false), _) => "no".to_owned(),
        (Some(true), _) => parts.join(", "),
        (None, _) if parts.is_empty() => "?".to_owned(),
        (None, _) => format!("{}?", parts.join(", ")),
    }
}

fn lists(lists: &[ListLine], now: Wall) -> Vec<String> {
    let mut table = Table::new(&[
        ("LIST", Align::Left),
        ("KIND", Align::Left),
        ("ENTRIES", Align::Right),
        ("DOMAINS", Align::Right),
        ("BAD", Align::Right),
        ("REFUSED", Align::Right),
        ("EXPIRED", Align::Right),
        ("FETCHED", Align::Right),
        ("ERROR", Align::Cut),
    ]);
    for list in lists {
        let kind = match list.kind {
            Kind::Allow => "allow",
            Kind::Block => "block",
            Kind::Quarantine => "quarantine",
        };
        let counts = [list.entries, list.domains, list.bad, list.refused, list.expired];
        let mut cells = vec![list.name.clone(), kind.to_owned()];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(list.fetched.map_or_else(words::dash, |fetched| words::ago(fetched, now)));
        cells.push(list.error.clone().unwrap_or_default());
        table.row(cells);
    }
    table.lines()
}

/// What is wrong, and what to do about it.
fn remarks(overview: &Overview) -> Vec<String> {
    let mut remarks = Vec::new();
    for list in &overview.lists {
        remarks.extend(list.error.iter().map(|error| format!("list {}: {error}", list.name)));
        remarks.extend(list.messages.iter().take(MESSAGES_SHOWN).cloned());
        let told = list.messages.len().min(MESSAGES_SHOWN) as u64;
        if let more @ 1.. = (list.bad + list.refused).saturating_sub(told) {
            remarks.push(format!("list {}: {more} more lines that do not hold", list.name));
        }
    }
    remarks.extend(match overview.rules {
        RulesState::Enforcing => None,
        RulesState::DryRun => Some("the rules are those of a dry run: they count, and refuse nothing"),
        RulesState::Dormant => Some("our table is dormant, so nothing is refused: `synhold run` wakes it"),
        RulesState::Absent if overview.daemon.is_some() => Some(
            "no rules of ours are in the kernel, so nothing is refused: `synhold rules install` puts them in",
        ),
        RulesState::Absent => Some(
            "no rules of ours are in the kernel, so nothing is refused: `synhold run` puts them in",
        ),
    }.map(str::to_owned));
    remarks.extend(overview.misread.clone());
    if overview.drift && overview.rules != RulesState::Absent {
        remarks.push(match overview.daemon {
            Some(_) if overview.misread.is_some() => "whether the kernel holds what its lists say is not told by this: name its file with --config".to_owned(),
            Some(pid) => format!(
                "the kernel does not hold what the lists say: the running synhold (process {pid}) is to mend \
                 it within a minute, and its events say why if it cannot"
            ),
            None => "the kernel does not hold what the lists say: `synhold run` loads them".to_owned(),
        });
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, wanted: Option<u64>, kernel: Option<u64>) -> SetLine {
        SetLine {
            name: name.to_owned(),
            present: true,
            wanted,
            kernel,
            drift: wanted.map(|wanted| Some(wanted) != kernel),
            missing: 0,
            extra: 0,
            memory_bytes: kernel.map(|count| count * 140),
            hits: Some(3),
            loaded: Some(Wall(1_000_000)),
            took_ms: Some(412),
        }
    }

    #[test]
    fn a_million_fits_a_hundred_columns() {
        let million = SetLine {
            missing: 1_000_000,
            extra: 1_000_000,
            drift: Some(true),
            ..set("blockhosts6", Some(1_000_000), Some(1_000_000))
        };
        let lines = sets(&[million, set("local4", None, None)], Wall(100_000_000));
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
        assert!(lines[1].contains("1000000 missing, 1000000 extra  ~140 MB"), "{lines:#?}");
        assert!(lines[1].ends_with("99 s ago  412 ms"), "{lines:#?}");
        assert_eq!(lines[2].split_whitespace().nth(1), Some("-"), "{lines:#?}");
    }

    #[test]
    fn drift_says_as_much_as_is_known() {
        let with = |differs, missing, extra| {
            drift(&SetLine { drift: differs, missing, extra, ..set("block4", Some(5), Some(5)) })
        };
        assert_eq!(with(Some(false), 0, 0), "no");
        assert_eq!(with(Some(true), 2, 0), "2 missing");
        assert_eq!(with(None, 0, 0), "?");
        assert_eq!(with(None, 0, 3), "3 extra?");
    }
}
