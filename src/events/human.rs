//! The human line: `[TIMESTAMP] LEVEL: EMOJI MESSAGE`, with the vocabulary the ancestor's users know.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::sign::Sign;
use super::{Counts, timestamp};
use crate::engine::event::{
    AskedBody, BlockBody, Body, ContainerBody, Event, LearnBody, Outcome, Ready, RecordBody,
    Reload, Stop, VerdictBody,
};
use crate::engine::inventory::What;
use crate::engine::{Grade, Mode, Reason, Verdict, Wall, text};

/// Appends an event as lines for a person, as far as `most` lets them through; false if none. Lines are parted by
/// newlines, and there is none after the last.
pub fn append_human(line: &mut Vec<u8>, event: &Event, most: LevelFilter) -> bool {
    let (mut said, mut names) = (String::new(), String::new());
    let (level, sign) = kind(&event.body);
    if level <= most {
        begin(&mut said, event.time, level, sign);
        append_text(&mut said, &event.body);
    }
    if Level::DEBUG <= most
        && let Body::Verdict(verdict) = &event.body
        && verdict.names.len() > 1
    {
        begin(&mut names, event.time, Level::DEBUG, Sign::Names);
        append_all_names(&mut names, verdict);
    }
    // Names of containers, comments of lists, what OpenSnitch calls its rules: anybody may have written them.
    line.extend_from_slice(text::plain(&said).as_bytes());
    if !names.is_empty() {
        line.push(b'\n');
        line.extend_from_slice(text::plain(&names).as_bytes());
    }
    !(said.is_empty() && names.is_empty())
}

/// Appends counts as one line for a person, without the newline.
pub(super) fn append_counts(line: &mut Vec<u8>, counts: &Counts) {
    let mut text = String::new();
    begin(&mut text, counts.time, Level::INFO, Sign::Stats);
    let would = if counts.mode == Mode::Enforce { "" } else { "would have been " };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "in the last minute {} accepted, {} {would}refused, {} {would}held of which {} released",
        counts.accepted, counts.refused, counts.held, counts.released,
    );
    line.extend_from_slice(text.as_bytes());
}

/// How loud an event is, and what stands before it. What names traffic that is in order is for whoever asks for it.
fn kind(body: &Body) -> (Level, Sign) {
    match body {
        Body::Ready(_) => (Level::INFO, Sign::Fine),
        Body::Verdict(verdict) => verdict_kind(verdict),
        Body::Block(_) => (Level::WARN, Sign::Blocked),
        Body::Record(_) => (Level::TRACE, Sign::Dns),
        Body::Container(container) if container.faults.is_empty() => (Level::INFO, Sign::Container),
        Body::Container(_) => (Level::WARN, Sign::Container),
        Body::Alert(_) => (Level::WARN, Sign::Review),
        Body::Learn(learn) if learn.would_refuse.is_empty() => (Level::INFO, Sign::Stats),
        Body::Learn(_) => (Level::WARN, Sign::Stats),
        Body::Health(health) if health.healthy => (Level::INFO, Sign::Fine),
        Body::Health(_) => (Level::WARN, Sign::Review),
        Body::Reload(reload) => match reload.asked.as_ref().map(|asked| asked.outcome) {
            Some(Outcome::Failed | Outcome::Unconfirmed) => (Level::WARN, Sign::Review),
            _ => (Level::INFO, Sign::Reload),
        },
        Body::Stop(_) => (Level::INFO, Sign::Info),
    }
}

fn verdict_kind(verdict: &VerdictBody) -> (Level, Sign) {
    match (verdict.verdict, verdict.reason) {
        (Verdict::Accept, Reason::Exempt) => (Level::DEBUG, Sign::Skipped),
        (Verdict::Accept, _) => (Level::DEBUG, Sign::Connection),
        (Verdict::Drop, Reason::NeverResolved) => (Level::WARN, Sign::Hardcoded),
        (Verdict::Drop, Reason::Blocklisted) => (Level::WARN, Sign::Blocked),
        (Verdict::Drop, _) => (Level::WARN, Sign::Review),
    }
}

fn begin(out: &mut String, time: Wall, level: Level, sign: Sign) {
    // Writing to a String cannot fail.
    let _ = write!(out, "[{}] {level}: {sign} ", timestamp(time));
}

fn append_text(out: &mut String, body: &Body) {
    match body {
        Body::Ready(ready) => out.push_str(&ready_text(ready)),
        Body::Verdict(verdict) => append_verdict(out, verdict),
        Body::Record(record) => out.push_str(&record_text(record)),
        Body::Container(container) => out.push_str(&container_text(container)),
        Body::Alert(alert) => out.push_str(&alert.message),
        Body::Learn(learn) => out.push_str(&learn_text(learn)),
        Body::Health(health) => out.push_str(&health.message),
        Body::Reload(reload) => out.push_str(&reload_text(reload)),
        Body::Block(block) => out.push_str(&block_text(block)),
        Body::Stop(stop) => out.push_str(&stop_text(stop)),
    }
}

fn ready_text(ready: &Ready) -> String {
    let what = match ready.mode {
        Mode::Enforce => "enforcing",
        Mode::Learn => "learning, only lists refuse",
        Mode::DryRun => "dry run, nothing is refused",
    };
    format!(
        "ready, {what}: new TCP and UDP flows from {} are judged, held up to {} ms for their DNS record from {} \
         ({} addresses known, queue {} by {}, fail {}, refuse by {})",
        ready.containers.join(", "),
        ready.hold_ms,
        ready.sources.join(", "),
        ready.records,
        ready.queue_num,
        ready.queue_via,
        ready.posture,
        ready.refuse,
    )
}

/// One is written for every packet, so nothing of it is put together elsewhere first.
fn append_verdict(out: &mut String, verdict: &VerdictBody) {
    out.push_str(verdict.proto.map_or("packet", crate::engine::Proto::as_str));
    out.push(' ');
    if let Some(container) = &verdict.container {
        let _ = write!(out, "{container} ");
    }
    append_end(out, verdict.src, verdict.sport);
    out.push_str(" → ");
    append_end(out, verdict.dst, verdict.dport);
    let would = if verdict.enforced { "" } else { "would be " };
    // Writing to a String cannot fail.
    let _ = match (verdict.verdict, verdict.reason) {
        (Verdict::Accept, Reason::ResolvedAfterHold) => {
            write!(out, " {would}released after {}: ", duration(verdict.held_us))
        }
        (Verdict::Accept, Reason::Allowlisted) => write!(out, " {would}accepted (allowlisted): "),
        (Verdict::Accept, Reason::Established) => {
            write!(out, " {would}accepted (it was open when synhold started here first): ")
        }
        (Verdict::Accept, Reason::Unhealthy) => write!(
            out,
            " {would}accepted (unhealthy, the evidence is not to be trusted: {}): ",
            verdict.evidence.why.join("; ")
        ),
        (Verdict::Accept, Reason::Exempt) => write!(out, " accepted (not judged): "),
        (Verdict::Accept, _) => write!(out, " {would}accepted: "),
        (Verdict::Drop, reason) => {
            write!(out, " {would}refused ({}): {}", reason.as_str(), proof(verdict))
        }
    };
    if verdict.verdict == Verdict::Accept {
        append_names(out, verdict);
    }
}

fn append_end(out: &mut String, address: Option<IpAddr>, port: Option<u16>) {
    let _ = match (address, port) {
        (Some(address), Some(port)) => write!(out, "{}", SocketAddr::from((address, port))),
        (Some(address), None) => write!(out, "{address}"),
        (None, _) => out.write_char('?'),
    };
}

fn append_names(out: &mut String, verdict: &VerdictBody) {
    let Some(first) = verdict.names.first() else { return out.push_str("no name known") };
    out.push_str(first.as_str());
    let more = verdict.names.len() - 1 + usize::try_from(verdict.more_names).unwrap_or(0);
    if more > 0 {
        let _ = write!(out, " +{more} more");
    }
}

fn append_all_names(out: &mut String, verdict: &VerdictBody) {
    append_end(out, verdict.dst, None);
    out.push_str(" is ");
    for (n, name) in verdict.names.iter().enumerate() {
        out.push_str(if n > 0 { ", " } else { "" });
        out.push_str(name.as_str());
    }
    if verdict.more_names > 0 {
        // Writing to a String cannot fail.
        let _ = write!(out, ", and {} more", verdict.more_names);
    }
}

fn names(verdict: &VerdictBody) -> String {
    let mut names = String::new();
    append_names(&mut names, verdict);
    names
}

fn proof(verdict: &VerdictBody) -> String {
    let why = match verdict.reason {
        Reason::NeverResolved => "nobody resolved this address".to_owned(),
        Reason::Stale => format!("resolved too long ago, as {}", names(verdict)),
        Reason::OutOfScope if verdict.grade == Grade::Static => {
            format!(
                "only a hosts file or the resolver's configuration names it, as {}",
                names(verdict)
            )
        }
        Reason::OutOfScope => format!("resolved only by others, as {}", names(verdict)),
        Reason::HoldBudget => "too many of its packets wait already".to_owned(),
        Reason::Malformed => {
            verdict.detail.clone().unwrap_or_else(|| "unreadable packet".to_owned())
        }
        Reason::Unhealthy => {
            "not resolved, but the DNS evidence is not reliable now, so this accuses nobody"
                .to_owned()
        }
        Reason::Blocklisted => match &verdict.domain {
            Some(domain) => {
                format!("the block list has {domain}, of which this is {}", names(verdict))
            }
            None => "the block list has it".to_owned(),
        },
        Reason::Shutdown => "synhold stopped or lost its queue while it waited".to_owned(),
        Reason::Resolved
        | Reason::ResolvedAfterHold
        | Reason::Established
        | Reason::Allowlisted
        | Reason::Exempt => names(verdict),
    };
    let evidence = &verdict.evidence;
    let held = if verdict.enforced { "held" } else { "would have been held" };
    let mut text = format!("{why}; {held} {}; evidence ", duration(verdict.held_us));
    // Writing to a String cannot fail.
    let _ = match evidence.healthy {
        true => {
            write!(text, "healthy, {} known", counted(evidence.records, "address", "addresses"))
        }
        false => write!(text, "unreliable: {}", evidence.why.join("; ")),
    };
    text
}

fn container_text(body: &ContainerBody) -> String {
    let ContainerBody { what, container, addresses, networks, gaps, faults, .. } = body;
    let happened = match what {
        What::Up => "runs",
        What::Changed => "is now",
        What::Gone => return format!("container {container} is gone"),
    };
    let mut text = format!("container {container} {happened}");
    // Writing to a String cannot fail.
    if !addresses.is_empty() {
        let at: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let _ = write!(text, " at {}", at.join(", "));
    }
    if !networks.is_empty() {
        let _ = write!(text, " in {}", networks.join(", "));
    }
    let _ = write!(text, ", mode {}", body.mode.as_str());
    for more in gaps.iter().chain(faults) {
        let _ = write!(text, "; {more}");
    }
    text
}

fn block_text(block: &BlockBody) -> String {
    let would = if block.enforced { "" } else { "would be " };
    let mut text = block.container.as_ref().map_or_else(String::new, |name| format!("{name} "));
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{} → {} {would}refused by the kernel, {}: ",
        block.src,
        block.dst,
        counted(block.count, "packet", "packets")
    );
    // Writing to a String cannot fail.
    let _ = match (&block.list, &block.entry) {
        (Some(list), Some(entry)) => write!(text, "list {list} has {entry}"),
        _ if block.set.starts_with("spoofs") => {
            text.write_str("forged source, none that belongs on its bridge")
        }
        _ => write!(text, "set {} has it", block.set),
    };
    if let Some(note) = &block.note {
        let _ = write!(text, " ({note})");
    }
    text
}

/// Who had what changed, and what came of it.
fn asked_text(what: &str, asked: &AskedBody) -> String {
    let AskedBody { uid, pid, command, entries, more, outcome, detail } = asked;
    let mut text = match entries.is_empty() {
        true => what.to_owned(),
        false => format!("{what} {}", entries.join(", ")),
    };
    // Writing to a String cannot fail.
    if *more > 0 {
        let _ = write!(text, " and {more} more");
    }
    let _ = write!(text, ", asked for by uid {uid}");
    let _ = match (pid, command) {
        (Some(pid), Some(command)) => write!(text, " (process {pid}, {command})"),
        (Some(pid), None) => write!(text, " (process {pid})"),
        (None, _) => Ok(()),
    };
    let _ = write!(text, ": {}", outcome.words());
    if let Some(detail) = detail {
        let _ = write!(text, ", {detail}");
    }
    text
}

fn reload_text(reload: &Reload) -> String {
    if let Some(asked) = &reload.asked {
        return asked_text(&reload.what, asked);
    }
    let Some(lists) = reload.lists else {
        return match reload.what.as_str() {
            "alerts" => "read again: [[alert]] sections".to_owned(),
            path => format!("opened again: {path}"),
        };
    };
    format!(
        "lists: {} added to the kernel's sets, {} taken out in {} ms; {} ended",
        counted(lists.added, "element", "elements"),
        lists.removed,
        lists.took_ms,
        counted(lists.ended_flows, "open flow was", "open flows were"),
    )
}

fn learn_text(learn: &LearnBody) -> String {
    let flows = counted(learn.refused, "first packet", "first packets");
    let mut text = match learn.over {
        false => format!("learning: enforcing would have refused {flows} so far"),
        true => format!(
            "the learning period is over, refusals are carried out from now on: {flows} would have been refused"
        ),
    };
    // Writing to a String cannot fail.
    for would in &learn.would_refuse {
        let at = SocketAddr::from((would.dst, would.dport));
        let _ = write!(
            text,
            "; {} → {at} {} times ({})",
            would.container,
            would.count,
            would.reason.as_str()
        );
    }
    text
}

fn record_text(record: &RecordBody) -> String {
    let asker = record.client.map_or_else(|| "somebody".to_owned(), |client| client.to_string());
    format!("{} is {} ({}, asked by {asker})", record.name, record.address, record.kind.as_str())
}

fn stop_text(stop: &Stop) -> String {
    let totals = &stop.totals;
    let dry = match stop.mode {
        Mode::Enforce | Mode::Learn => "",
        Mode::DryRun => " (a dry run: enforcing would have done this)",
    };
    format!(
        "stopped: {} accepted, {} refused, {} held of which {} released, {} malformed{dry}; lost: {} gone, {} by a \
         full queue, {} by a full buffer, {} events not written",
        totals.accepted,
        totals.refused,
        totals.held,
        totals.released,
        totals.malformed,
        totals.gone,
        totals.kernel_dropped,
        totals.user_dropped,
        totals.events_shed,
    )
}

fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// Microseconds for a person: `80 us`, `1.2 ms`, `750 ms`.
fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..10_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{} ms", us / 1_000),
    }
}

#[cfg(test)]
#[path = "human_test.rs"]
mod tests;
