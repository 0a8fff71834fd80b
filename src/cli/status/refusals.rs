//! The last refusals and the lists of a status, as tables.

use crate::cli::table::{Align, Table};
use crate::cli::words;
use crate::control::{ListState, Refused, Status};
use crate::engine::Wall;

/// Pairs of container and destination shown.
const REFUSALS_SHOWN: usize = 10;

/// Who was refused what of late.
pub fn refusals(status: &Status, now: Wall) -> Vec<String> {
    if status.refusals.is_empty() {
        return vec!["Nothing was refused of late.".to_owned()];
    }
    let last = match status.refusals.iter().take(REFUSALS_SHOWN).any(|one| one.enforced) {
        true => "LAST REFUSED",
        false => "WOULD BE REFUSED",
    };
    let mut table = Table::new(&[
        (last, Align::Right),
        ("CONTAINER", Align::Cut),
        ("DESTINATION", Align::Left),
        ("TIMES", Align::Right),
        ("REASON", Align::Left),
        ("NAMES", Align::Cut),
    ]);
    for one in status.refusals.iter().take(REFUSALS_SHOWN) {
        table.row(vec![
            words::ago(one.last, now),
            who(one),
            to(one),
            one.count.to_string(),
            reason(one),
            names(one),
        ]);
    }
    let mut lines = table.lines();
    let more = status.refusals.len().saturating_sub(REFUSALS_SHOWN);
    if more > 0 {
        lines.push(format!("and {more} more: `synhold top` and --json have them"));
    }
    if status.refusals.iter().take(REFUSALS_SHOWN).any(|one| !one.enforced) {
        lines.push("In brackets: told, not done.".to_owned());
    }
    if status.refusals_missed > 0 {
        let missed = status.refusals_missed;
        lines.push(format!("{missed} refusals came too fast to be counted here"));
    }
    lines
}

/// The container, or its address where nobody knows it.
pub fn who(one: &Refused) -> String {
    let address = || one.src.map_or_else(words::dash, |src| src.to_string());
    one.container.as_deref().map_or_else(address, words::plain)
}

/// `203.0.113.9 tcp/443`
pub fn to(one: &Refused) -> String {
    let Some(dst) = one.dst else { return words::dash() };
    match (one.proto, one.port) {
        (Some(proto), Some(port)) => format!("{dst} {}/{port}", proto.as_str()),
        _ => dst.to_string(),
    }
}

/// Why; in brackets what was only told.
pub fn reason(one: &Refused) -> String {
    let word = one.reason.as_str();
    if one.enforced { word.to_owned() } else { format!("({word})") }
}

pub fn names(one: &Refused) -> String {
    let names: Vec<&str> = one.names.iter().map(|name| name.as_str()).collect();
    if names.is_empty() { words::dash() } else { words::plain(&names.join(" ")) }
}

/// Lists with something in them, and every feed.
pub fn lists(lists: &[ListState], now: Wall) -> Vec<String> {
    let is_shown =
        |list: &&ListState| list.feed || list.entries + list.bad > 0 || list.error.is_some();
    let shown: Vec<&ListState> = lists.iter().filter(is_shown).collect();
    if shown.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(&[
        ("LIST", Align::Cut),
        ("KIND", Align::Left),
        ("ENTRIES", Align::Right),
        ("FETCHED", Align::Right),
        ("ERROR", Align::Cut),
    ]);
    for list in shown {
        let fetched = list.fetched.map_or_else(words::dash, |at| words::ago(at, now));
        let bad = || match list.bad {
            0 => String::new(),
            1 => "1 line does not count".to_owned(),
            bad => format!("{bad} lines do not count"),
        };
        table.row(vec![
            words::plain(&list.name),
            list.kind.clone(),
            list.entries.to_string(),
            fetched,
            list.error.as_deref().map_or_else(bad, words::plain),
        ]);
    }
    table.lines()
}
