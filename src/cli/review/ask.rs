//! The questions of a review, one destination at a time, over any pair of streams.

use std::io::{BufRead, Read, Write};

use anyhow::Result;

use super::{proposal, words};
use crate::daemon::findings::{KnownName, Proposal};
use crate::daemon::review::Item;
use crate::engine::Wall;

/// Bytes of an answer that are read; it is one letter.
const ANSWER_BYTES_MAX: u64 = 256;
const HELP: &str = "y  allow this address to every container from now on: the refusal was a mistake\n\
    n  keep it refused, and do not ask again\n\
    s  leave it for later\n\
    a  allow all that is proposed to be, from here on, and leave the rest for later\n\
    e  tell all that is known about it\n\
    q  stop asking";

/// What was decided.
#[derive(Debug, Default)]
pub(super) struct Asked<'i> {
    pub accepted: Vec<&'i Item>,
    pub kept: Vec<&'i Item>,
}

/// Asks about each. The end of the input is a `q`.
pub(super) fn ask<'i>(
    items: &'i [Item],
    now: Wall,
    input: &mut impl BufRead,
    out: &mut impl Write,
) -> Result<Asked<'i>> {
    let mut asked = Asked::default();
    for (place, item) in items.iter().enumerate() {
        writeln!(out, "\n({}/{}) {}", place + 1, items.len(), line(item, now))?;
        loop {
            write!(out, "Allow {} to every container? [y,n,s,a,e,q,?] ", item.group.key.dst)?;
            out.flush()?;
            match answer(input)?.as_deref() {
                Some("y") => asked.accepted.push(item),
                Some("n") => asked.kept.push(item),
                Some("s") => {}
                Some("a") => {
                    let rest = items.iter().skip(place);
                    let proposed = |item: &&Item| item.proposed.proposal == Proposal::Accept;
                    asked.accepted.extend(rest.filter(proposed));
                    return Ok(asked);
                }
                Some("e") => {
                    writeln!(out, "{}", explain(item, now))?;
                    continue;
                }
                Some("q") | None => return Ok(asked),
                Some(_) => {
                    writeln!(out, "{HELP}")?;
                    continue;
                }
            }
            break;
        }
    }
    Ok(asked)
}

/// One line in small letters; none at the end of the input.
fn answer(input: &mut impl BufRead) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut line = Read::take(&mut *input, ANSWER_BYTES_MAX);
    let read = line.read_until(b'\n', &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_lowercase();
    Ok((read > 0).then_some(text))
}

fn line(item: &Item, now: Wall) -> String {
    let group = &item.group;
    let times = match group.count() {
        0 => "listed in auto.txt".to_owned(),
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    let last =
        group.last.map_or_else(String::new, |last| format!(", last {}", words::ago(last, now)));
    format!(
        "{} → {}: {}, {times}{last}\n  proposed: {}, {}",
        words::plain(&group.key.container),
        group.destination(),
        group.reason(),
        proposal(item),
        words::plain(&item.proposed.because)
    )
}

/// All that is known.
fn explain(item: &Item, now: Wall) -> String {
    let Item { group, known, blocked, opensnitch, .. } = item;
    let mut lines = Vec::new();
    let sources: Vec<String> = group.sources.iter().map(ToString::to_string).collect();
    if !sources.is_empty() {
        lines.push(format!("from {}", sources.join(", ")));
    }
    let mut counts = Vec::new();
    for (count, what) in [
        (group.refused, "refused"),
        (group.would_refuse, "would have been refused"),
        (group.retries, "retries refused by the kernel"),
        (group.unhealthy, "while the evidence was not to be trusted"),
    ] {
        if count > 0 {
            counts.push(format!("{count} {what}"));
        }
    }
    let reasons: Vec<String> =
        group.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    lines.push(format!("{} ({})", counts.join(", "), reasons.join(", ")));
    if let (Some(first), Some(last)) = (group.first, group.last) {
        lines.push(format!("first {}, last {}", words::ago(first, now), words::ago(last, now)));
    }
    if group.held_us > 0 {
        lines.push(format!("held for its record {} at most", words::micros(group.held_us)));
    }
    let then: Vec<&str> = group.names.iter().map(|name| name.as_str()).collect();
    let then = if then.is_empty() { "none".to_owned() } else { then.join(", ") };
    let grade = group.grade.map_or("not told", crate::engine::Grade::as_str);
    lines.push(format!("names known then: {then}; grade {grade}"));
    if known.is_empty() {
        lines.push("names known now: none".to_owned());
    }
    for KnownName { name, kind, first, last } in known {
        lines.push(format!(
            "name known now: {name} ({}), first {}, last {}",
            kind.as_str(),
            words::ago(*first, now),
            words::ago(*last, now)
        ));
    }
    if group.auto {
        lines.push("auto.txt has it: allowing takes it out".to_owned());
    }
    lines.extend(blocked.as_ref().or(group.list.as_ref()).map(|text| words::plain(text)));
    lines.push(format!(
        "OpenSnitch: {}: {}",
        opensnitch.view.as_str(),
        words::plain(&opensnitch.why)
    ));
    let container = words::plain(&group.key.container);
    let dst = group.key.dst;
    lines.push(format!("what would happen now: synhold explain {dst} --container {container}"));
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
