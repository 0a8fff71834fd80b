//! `synhold status`: whether it works and how one knows, its evidence and every container on one screen.

mod figures;
mod headline;
mod refusals;

use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::lists::Place;
use super::paint::Paint;
use super::table::{Align, Table};
use super::{Answer, say, say_json, words};
use crate::control::{
    CanaryState, Container, Docker, DockerState, Question, Refusal, RegistryState, Status,
};
use crate::daemon::clock;
use crate::daemon::control::Asker;
use crate::daemon::inspect::Queue;
use crate::engine::{Mode, Wall};
use crate::nftables;

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: &StatusArgs) -> Result<Answer> {
    let place = &args.place;
    let state_dir = place.state_dir()?;
    let Some(mut asker) = Asker::find(&state_dir)? else {
        if place.json {
            say_json(&None::<Status>)?;
        } else {
            say(&nobody(&state_dir, queue_left(), Paint::stdout()))?;
        }
        return Ok(Answer::No);
    };
    let status: Status = asker.ask(&Question::Status {})?;
    if place.json {
        say_json(&status)?;
    } else {
        say(&tell(&status, clock::wall(), Paint::stdout()))?;
    }
    Ok(Answer::Fine)
}

pub(super) use figures::rated;
pub(super) use headline::headline;
pub(super) use refusals::{names, reason, to, who};

/// What the rules in the kernel do without us; nothing if there are none, or we may not look.
fn queue_left() -> Option<Queue> {
    nftables::read().ok().flatten().as_ref().and_then(Queue::of)
}

fn nobody(state_dir: &Path, queue: Option<Queue>, paint: Paint) -> String {
    let text = format!(
        "no synhold runs on {}; start it with `synhold run`, or name another with --state-dir",
        state_dir.display()
    );
    let rest = match queue {
        None => return text,
        Some(Queue::Served) => "another synhold serves the rules that are in the kernel".to_owned(),
        Some(Queue::Dropping) => paint.bad(
            "its rules are in the kernel: new container flows are DROPPED until it starts, or `synhold rules remove`",
        ),
        Some(Queue::Passing) => paint.bad(
            "its rules are in the kernel: new container flows PASS UNJUDGED until it starts; its lists still hold",
        ),
    };
    format!("{text}\n{rest}")
}

fn tell(status: &Status, now: Wall, paint: Paint) -> String {
    let mut lines = headline::lines(status, now, paint);
    lines.push(String::new());
    lines.push(daemon(status, now));
    lines.extend(canary(status, paint));
    lines.extend(status.drift.as_ref().map(|news| {
        format!("Rules: {} ({})", words::plain(&news.message), words::ago(news.at, now))
    }));
    lines.extend(figures::queues(&status.queues));
    lines.push(evidence(status, paint));
    lines.push(docker(&status.docker, now, paint));
    lines.push(registry(status, paint));
    lines.extend(figures::rates(status));
    lines.push(totals(status));
    lines.extend(figures::times(status));
    let parts = [
        sources(status, paint),
        containers(&status.containers, now, paint),
        refusals::refusals(status, now),
        refusals::lists(&status.lists, now),
        gaps(status),
    ];
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        lines.push(String::new());
        lines.extend(part);
    }
    lines.join("\n")
}

/// `synhold 0.1.0 runs enforcing, process 26257 for 3 h, fail closed; state in /var/lib/synhold`
fn daemon(status: &Status, now: Wall) -> String {
    let daemon = &status.daemon;
    let mode = match status.mode {
        Mode::Enforce => "enforcing",
        Mode::DryRun => "in a dry run",
        Mode::Learn => "learning",
    };
    let kept = if daemon.memory_only { "nothing is written to" } else { "state in" };
    format!(
        "synhold {} runs {mode}, process {} for {}, fail {}; {kept} {}",
        daemon.version,
        daemon.pid,
        words::span(now.0.saturating_sub(daemon.since.0) / 1000),
        status.posture,
        daemon.state_dir.display()
    )
}

fn canary(status: &Status, paint: Paint) -> Option<String> {
    let of = |is: fn(CanaryState, CanaryState) -> bool| {
        let all = status.canary.families.iter();
        all.filter(move |found| is(found.state, status.canary.state))
    };
    let same: Vec<&str> = of(|state, all| state == all).map(|found| &*found.family).collect();
    let same = if same.len() > 1 { format!(" ({})", same.join(" and ")) } else { String::new() };
    let off = of(|state, _| state == CanaryState::Off);
    let off = off.map(|found| format!("; {}: {}", found.family, words::plain(&found.message)));
    let (message, off) = (words::plain(&status.canary.message), off.collect::<String>());
    let text = format!("Canary: {message}{same}{off}");
    match status.canary.state {
        _ if status.canary.message.is_empty() => None,
        CanaryState::Failing => Some(paint.bad(&text)),
        CanaryState::Off | CanaryState::Waiting | CanaryState::Passing => Some(text),
    }
}

fn registry(status: &Status, paint: Paint) -> String {
    let RegistryState { addresses, limit, full } = &status.registry;
    let text = format!("Registry: {addresses} addresses of at most {limit}");
    match (&status.disk, full) {
        (Some(why), _) => {
            let why = words::plain(why);
            paint.bad(&format!("{text}; REGISTRY NOT ON DISK: {why}"))
        }
        (None, true) => paint.bad(&format!("{text}; IT IS FULL")),
        (None, false) => text,
    }
}

fn evidence(status: &Status, paint: Paint) -> String {
    let evidence = &status.evidence;
    let state = match evidence.healthy {
        true => "healthy".to_owned(),
        false => {
            let why = words::plain(&evidence.why.join("; "));
            paint.bad(&format!("NOT HEALTHY: {why}"))
        }
    };
    let last = evidence.last_line_ms.map_or_else(
        || "none read yet".to_owned(),
        |ms| format!("the last one {} ago", words::span(ms)),
    );
    format!("DNS evidence: {state}; {} lines read, {last}", evidence.lines)
}

/// One line a source, and how long a packet waits for the slowest.
fn sources(status: &Status, paint: Paint) -> Vec<String> {
    if status.sources.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(&[
        ("DNS SOURCE", Align::Cut),
        ("STATE", Align::Left),
        ("LINES", Align::Right),
        ("LOST", Align::Right),
        ("LAST", Align::Right),
        ("LAG", Align::Right),
        ("DELAY P99.9", Align::Right),
        ("HOLD", Align::Right),
    ]);
    for source in &status.sources {
        let state = match (source.up, &source.doubt) {
            (false, _) => "DOWN",
            (true, _) if source.is_silent() => "SILENT",
            (true, Some(_)) => "DOUBTED",
            (true, None) => "up",
        };
        let delay = source.delay.map_or_else(words::dash, |delay| words::micros(delay.p999_us));
        table.row(vec![
            words::plain(&source.label),
            state.to_owned(),
            source.lines.to_string(),
            source.lost.to_string(),
            source.last_line_ms.map_or_else(words::dash, words::span),
            words::micros(source.lag_us),
            delay,
            words::micros(source.bound_us),
        ]);
    }
    let mut lines = table.lines();
    for (line, source) in lines.iter_mut().skip(1).zip(&status.sources) {
        // Rather a long line than half of what one looks for. A source that is down says all by that.
        match source.doubt.as_deref() {
            Some(why) if source.up => *line = paint.bad(&format!("{line}  {}", words::plain(why))),
            Some(_) => *line = paint.bad(line),
            None if source.is_silent() => *line = paint.bad(line),
            None => {}
        }
    }
    lines.push(format!("A packet is held for {} at most.", words::micros(status.hold_us)));
    lines
}

fn docker(docker: &Docker, now: Wall, paint: Paint) -> String {
    match docker.state {
        DockerState::Off => "Docker: not asked; containers have no names".to_owned(),
        DockerState::Unheard => "Docker: not heard yet".to_owned(),
        DockerState::Up => {
            format!(
                "Docker: {} (since {})",
                words::plain(&docker.what),
                words::ago(docker.since, now)
            )
        }
        DockerState::Down => {
            let since = words::ago(docker.since, now);
            paint.bad(&format!("Docker: DOWN since {since}: {}", words::plain(&docker.what)))
        }
    }
}

fn totals(status: &Status) -> String {
    let totals = &status.totals;
    let would = if status.mode == Mode::Enforce { "" } else { "would be " };
    let mut text = format!(
        "Packets: {} accepted, {} {would}refused, {} {would}held of which {} released; {} wait now",
        totals.accepted, totals.refused, totals.held, totals.released, status.held_now
    );
    for (count, what) in [
        (totals.malformed, "malformed"),
        (totals.kernel_dropped + totals.user_dropped, "lost on a full queue"),
        (totals.panics, "panics"),
        (totals.events_shed, "events not written"),
    ] {
        if count > 0 {
            text += &format!("; {count} {what}");
        }
    }
    text
}

fn containers(containers: &[Container], now: Wall, paint: Paint) -> Vec<String> {
    if containers.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(&[
        ("CONTAINER", Align::Cut),
        ("MODE", Align::Left),
        ("ADDRESSES", Align::Left),
        ("ACCEPTED", Align::Right),
        ("HELD", Align::Right),
        ("REFUSED", Align::Right),
        // The last column is what one looks for: rather a long line than half of it.
        ("LAST REFUSAL", Align::Left),
    ]);
    for container in containers {
        let mode = container.treatment();
        let addresses: Vec<String> = container.addresses.iter().map(ToString::to_string).collect();
        let addresses = if addresses.is_empty() { words::dash() } else { addresses.join(" ") };
        let mut cells = vec![words::plain(&container.name), mode.to_owned(), addresses];
        let counts = [container.accepted, container.held, container.refused];
        cells.extend(counts.map(|count| count.to_string()));
        let last = container.last_refusal.as_ref();
        cells.push(last.map_or_else(words::dash, |last| refusal(last, now)));
        table.row(cells);
    }
    let mut lines = table.lines();
    for (line, container) in lines.iter_mut().skip(1).zip(containers) {
        if container.quarantined {
            *line = paint.bad(line);
        }
    }
    lines
}

/// `3 s ago never-resolved 203.0.113.9 tcp/443`
fn refusal(refusal: &Refusal, now: Wall) -> String {
    let Refusal { at, dst, port, proto, reason } = refusal;
    let to = match (proto, port) {
        (Some(proto), Some(port)) => format!(" {}/{port}", proto.as_str()),
        _ => String::new(),
    };
    format!("{} {} {dst}{to}", words::ago(*at, now), reason.as_str())
}

/// What is not judged, or not as somebody asked for.
fn gaps(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    for container in &status.containers {
        let name = words::plain(&container.name);
        let all = container.gaps.iter().chain(&container.policy.faults);
        lines.extend(all.map(|gap| format!("  {name}: {}", words::plain(gap))));
    }
    if status.left_out > 0 {
        lines.push(format!("  {} containers beyond those that are known", status.left_out));
    }
    if !lines.is_empty() {
        lines.insert(0, "Not covered, or not as asked for:".to_owned());
    }
    lines
}

#[cfg(test)]
#[path = "status_test.rs"]
mod tests;
