//! The human line: `[TIMESTAMP] LEVEL: EMOJI MESSAGE`, with the vocabulary the ancestor's users know.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::timestamp;
use crate::engine::event::{
    BlockBody, Body, ContainerBody, Event, LearnBody, Ready, RecordBody, Reload, Stop, VerdictBody,
};
use crate::engine::inventory::What;
use crate::engine::{Grade, Mode, Reason, Verdict};

/// Appends an event as one line for a person, without the newline.
pub fn append_human(line: &mut Vec<u8>, event: &Event) {
    let mut text = String::new();
    append_text(&mut text, event);
    line.extend_from_slice(text.as_bytes());
}

fn append_text(out: &mut String, event: &Event) {
    let (level, emoji) = match &event.body {
        Body::Ready(_) => ("INFO", "✅"),
        Body::Verdict(verdict) if verdict.verdict == Verdict::Accept => ("INFO", "✅"),
        Body::Verdict(_) => ("WARN", "🚨"),
        Body::Block(_) => ("WARN", "⛔"),
        Body::Record(_) => ("TRACE", "🍯"),
        Body::Container(container) if container.faults.is_empty() => ("INFO", "📦"),
        Body::Container(_) => ("WARN", "📦"),
        Body::Alert(_) => ("WARN", "🚩"),
        Body::Learn(_) => ("INFO", "🎓"),
        Body::Health(health) if health.healthy => ("INFO", "✅"),
        Body::Health(_) => ("WARN", "⚠️"),
        Body::Reload(_) => ("INFO", "🔄"),
        Body::Stop(_) => ("INFO", "📋"),
    };
    // Writing to a String cannot fail.
    let _ = write!(out, "[{}] {level}: {emoji} ", timestamp(event.time));
    match &event.body {
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

fn reload_text(reload: &Reload) -> String {
    let Some(lists) = reload.lists else { return format!("opened again: {}", reload.what) };
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
mod tests {
    use super::super::tests::verdict;
    use super::*;

    fn line(event: &Event) -> String {
        let mut line = Vec::new();
        append_human(&mut line, event);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn an_accepted_flow_names_its_destination() {
        assert_eq!(
            line(&verdict(
                Verdict::Accept,
                Reason::Resolved,
                Mode::Enforce,
                &["a.example", "b.example"]
            )),
            "[2026-01-02T03:04:05.678901Z] INFO: ✅ tcp 172.25.0.2:40112 → 203.0.113.9:443 accepted: a.example +1 more"
        );
    }

    #[test]
    fn a_refusal_carries_its_proof() {
        assert_eq!(
            line(&verdict(Verdict::Drop, Reason::NeverResolved, Mode::Enforce, &[])),
            "[2026-01-02T03:04:05.678901Z] WARN: 🚨 tcp 172.25.0.2:40112 → 203.0.113.9:443 refused (never-resolved): \
             nobody resolved this address; held 750 ms; evidence healthy, 1234 addresses known"
        );
    }

    #[test]
    fn a_dry_run_speaks_of_what_would_be() {
        let line = line(&verdict(Verdict::Drop, Reason::NeverResolved, Mode::DryRun, &[]));
        assert!(line.contains("443 would be refused (never-resolved)"), "{line}");
    }

    #[test]
    fn a_set_hit_names_list_entry_and_comment() {
        let block = BlockBody {
            mode: Mode::Enforce,
            enforced: true,
            set: "block4".to_owned(),
            container: None,
            container_id: None,
            src: "172.25.0.2".parse().unwrap(),
            dst: "203.0.113.9".parse().unwrap(),
            count: 3,
            list: Some("drop".to_owned()),
            entry: Some("203.0.113.0/24".to_owned()),
            note: Some("SBL1".to_owned()),
            names: Vec::new(),
        };
        let text = |block: &BlockBody| {
            line(&Event { time: crate::engine::Wall(0), body: Body::Block(block.clone()) })
        };
        let told = text(&block);
        assert!(told.ends_with(
            "WARN: ⛔ 172.25.0.2 → 203.0.113.9 refused by the kernel, 3 packets: list drop has 203.0.113.0/24 (SBL1)"
        ), "{told}");
        let forged =
            BlockBody { set: "spoofs4".to_owned(), list: None, note: None, ..block.clone() };
        let told = text(&forged);
        assert!(
            told.ends_with("3 packets: forged source, none that belongs on its bridge"),
            "{told}"
        );
        let told = text(&BlockBody { list: None, note: None, enforced: false, count: 1, ..block });
        assert!(
            told.ends_with("would be refused by the kernel, 1 packet: set block4 has it"),
            "{told}"
        );
    }

    #[test]
    fn durations_read_well() {
        assert_eq!([80, 1_290, 750_113].map(duration), ["80 us", "1.2 ms", "750 ms"]);
    }
}
