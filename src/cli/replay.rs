//! `synhold replay`: what would have been accepted, held and refused, with which settings.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::table::{Align, Table};
use super::{Answer, say, say_json, words};
use crate::config::settings::{KEYS, pairs};
use crate::daemon::replay::{Change, Column, Difference, Report, Request, replay};
use crate::engine::Wall;
use crate::events::timestamp;

/// Differences shown to a person.
const SHOWN_MAX: usize = 20;

#[derive(Args, Debug)]
pub(super) struct ReplayArgs {
    /// An event log of synhold's, as --events writes it; repeatable, in the order of time
    #[arg(long, value_name = "FILE")]
    events: Vec<PathBuf>,
    /// A log of dnsmasq's whose lines have times; repeatable
    #[arg(long, value_name = "FILE")]
    dns_log: Vec<PathBuf>,
    /// A log of flows: JSON Lines with ts, proto, src, sport, dst and dport, or what `conntrack -E -e NEW -o timestamp`
    /// prints; repeatable
    #[arg(long, value_name = "FILE")]
    flows: Vec<PathBuf>,
    /// The registry as it was before, as `synhold registry export` writes it
    #[arg(long, value_name = "FILE")]
    registry: Option<PathBuf>,
    /// Judge with these settings in place of those the event log tells; commas between several
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Judge a second time with these settings, and tell what that changes; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    compare: Vec<String>,
    /// Exit 1 if a verdict is not the one that was recorded
    #[arg(long)]
    verify: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ReplayArgs) -> Result<Answer> {
    let settings = |flag: &str, text: &String| {
        let what = || format!("{flag} {text} (keys: {})", KEYS.join(", "));
        pairs(text).with_context(what)
    };
    let set: Result<Vec<_>> = args.set.iter().map(|text| settings("--set", text)).collect();
    let compare: Result<Vec<_>> =
        args.compare.iter().map(|text| settings("--compare", text)).collect();
    let request = Request {
        events: args.events.clone(),
        dns_logs: args.dns_log.clone(),
        flows: args.flows.clone(),
        registry: args.registry.clone(),
        set: set?.into_iter().flatten().collect(),
        compare: compare?,
    };
    let report = replay(&request)?;
    match args.json {
        true => say_json(&report)?,
        false => say(&tell(&report))?,
    }
    let differs = report.alike < report.recorded;
    Ok(if args.verify && differs { Answer::No } else { Answer::Fine })
}

fn tell(report: &Report) -> String {
    let (first, last) = report.span_us;
    let span = words::span(last.saturating_sub(first) / 1000);
    let mut lines = vec![format!(
        "Replayed {} first packets of {span} from {} on.",
        report.packets,
        timestamp(Wall(first))
    )];
    lines.extend(report.warnings.iter().map(|warning| format!("Note: {warning}.")));
    for (what, count) in &report.skipped {
        lines.push(format!("Left out: {count} {what}."));
    }
    if report.recorded > 0 {
        lines.push(format!(
            "{} of {} verdicts are those that were recorded.",
            report.alike, report.recorded
        ));
        if report.taken_over > 0 {
            lines.push(format!(
                "{} more are taken over: what decided is in no log.",
                report.taken_over
            ));
        }
        if report.reordered > 0 {
            lines.push(format!(
                "{} packets came within 50 ms of a record, and are put where their own words say.",
                report.reordered
            ));
        }
        lines.extend(report.differences.iter().take(SHOWN_MAX).map(difference));
    }
    lines.push(String::new());
    lines.extend(counts(&report.columns));
    for column in report.columns.iter().skip(1) {
        lines.push(String::new());
        lines.extend(changes(column));
    }
    lines.join("\n")
}

fn difference(difference: &Difference) -> String {
    let Difference { container, flow, then, now } = difference;
    let now = now
        .map_or_else(|| "a copy".to_owned(), |now| format!("{:?} ({})", now.verdict, now.reason));
    format!(
        "  {} {flow}: {:?} ({}) then, {} here",
        words::plain(container),
        then.verdict,
        then.reason,
        now
    )
    .to_lowercase()
}

/// Verdicts by reason, one column for each way to decide.
fn counts(columns: &[Column]) -> Vec<String> {
    let mut rows: Vec<_> =
        columns.iter().flat_map(|c| c.counts.iter().map(|(word, _)| *word)).collect();
    rows.sort_unstable();
    rows.dedup();
    let names: Vec<&str> = columns
        .iter()
        .map(|column| if column.name.is_empty() { "REPLAYED" } else { column.name.as_str() })
        .collect();
    let mut heads = vec![("VERDICT", Align::Left), ("REASON", Align::Left), ("GRADE", Align::Left)];
    heads.extend(names.iter().map(|name| (*name, Align::Right)));
    let mut table = Table::new(&heads);
    for word in rows {
        let mut cells = vec![
            format!("{:?}", word.verdict).to_lowercase(),
            word.reason.to_owned(),
            word.grade.to_owned(),
        ];
        cells.extend(columns.iter().map(|column| {
            let found = column.counts.iter().find(|(other, _)| *other == word);
            found.map_or(0, |(_, count)| *count).to_string()
        }));
        table.row(cells);
    }
    let mut held = vec!["held".to_owned(), "of all".to_owned(), words::dash()];
    held.extend(columns.iter().map(|column| column.held.to_string()));
    table.row(held);
    table.lines()
}

fn changes(column: &Column) -> Vec<String> {
    if column.changes.is_empty() {
        return vec![format!("With {} every packet has the same end.", column.name)];
    }
    let mut table = Table::new(&[
        ("CONTAINER", Align::Cut),
        ("DESTINATION", Align::Left),
        ("NAME", Align::Cut),
        ("REPLAYED", Align::Left),
        ("WITH IT", Align::Left),
        ("PACKETS", Align::Right),
    ]);
    for change in column.changes.iter().take(SHOWN_MAX) {
        table.row(row(change));
    }
    let mut lines = vec![format!("With {} these would have another end:", column.name)];
    lines.extend(table.lines());
    let more = column.changes.len().saturating_sub(SHOWN_MAX) + column.more;
    if more > 0 {
        lines.push(format!("and {more} more; --json has them"));
    }
    lines
}

fn row(change: &Change) -> Vec<String> {
    let at = std::net::SocketAddr::from((change.dst, change.dport));
    let word = |word: crate::daemon::replay::Word| {
        format!("{:?} ({})", word.verdict, word.reason).to_lowercase()
    };
    vec![
        words::plain(&change.container),
        format!("{} {at}", change.proto.as_str()),
        change.name.as_ref().map_or_else(words::dash, ToString::to_string),
        word(change.from),
        word(change.to),
        change.count.to_string(),
    ]
}
