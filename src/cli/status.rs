//! `synhold status`: the daemon, its evidence and every container on one screen.

use anyhow::Result;
use clap::Args;

use super::lists::Place;
use super::paint::Paint;
use super::table::{Align, Table};
use super::{Answer, say, say_json, words};
use crate::control::{Container, Docker, DockerState, LearningState, Question, Refusal, Status};
use crate::daemon::clock;
use crate::daemon::control::Asker;
use crate::engine::{Mode, Wall};

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
            say(&format!(
                "no synhold runs on {}; start it with `synhold run`, or name another with --state-dir",
                state_dir.display()
            ))?;
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

fn tell(status: &Status, now: Wall, paint: Paint) -> String {
    let mut lines = vec![daemon(status, now), evidence(status, paint), docker(&status.docker, now)];
    lines.extend(status.disk.as_ref().map(|why| {
        let why = words::plain(why);
        paint.bad(&format!("REGISTRY NOT ON DISK: {why}"))
    }));
    lines.push(totals(status));
    if !status.sources.is_empty() {
        lines.push(String::new());
        lines.extend(sources(status, paint));
    }
    if !status.containers.is_empty() {
        lines.push(String::new());
        lines.extend(containers(&status.containers, now));
    }
    let gaps = gaps(status);
    if !gaps.is_empty() {
        lines.push(String::new());
        lines.extend(gaps);
    }
    lines.join("\n")
}

fn daemon(status: &Status, now: Wall) -> String {
    let daemon = &status.daemon;
    let mode = match status.mode {
        Mode::Enforce => "enforcing".to_owned(),
        Mode::DryRun => "in a dry run".to_owned(),
        Mode::Learn => status.learning.as_ref().map_or_else(|| "learning".to_owned(), learning),
    };
    let rules = match status.rules.as_deref() {
        Some("absent") => "NO RULES IN THE KERNEL".to_owned(),
        Some("dormant") => "ITS RULES ARE DORMANT".to_owned(),
        Some("enforcing" | "dry-run") => "rules in the kernel".to_owned(),
        _ => "the kernel does not tell its rules".to_owned(),
    };
    format!(
        "synhold {} runs {mode}, process {} for {}, fail {}; {rules}",
        daemon.version,
        daemon.pid,
        words::span(now.0.saturating_sub(daemon.since.0) / 1000),
        status.posture
    )
}

/// `learning for another 23 h (enforcing would have refused 12 first packets so far)`
fn learning(learning: &LearningState) -> String {
    let left = learning.until.0.saturating_sub(clock::wall().0) / 1000;
    let refused = learning.refused;
    format!(
        "learning for another {} (enforcing would have refused {refused} first packets so far)",
        words::span(left)
    )
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
    format!(
        "DNS evidence: {state}; {} addresses known, {} lines read, {last}",
        evidence.records, evidence.lines
    )
}

/// One line a source, and how long a packet waits for the slowest.
fn sources(status: &Status, paint: Paint) -> Vec<String> {
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
            None => {}
        }
    }
    lines.push(format!("A packet is held for {} at most.", words::micros(status.hold_us)));
    lines
}

fn docker(docker: &Docker, now: Wall) -> String {
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
            format!("Docker: DOWN since {since}: {}", words::plain(&docker.what))
        }
    }
}

fn totals(status: &Status) -> String {
    let totals = &status.totals;
    let mut text = format!(
        "Packets: {} accepted, {} refused, {} held of which {} released; {} wait now",
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

fn containers(containers: &[Container], now: Wall) -> Vec<String> {
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
        let mode = match container.quarantined {
            true => "quarantine",
            false => container.policy.mode.as_str(),
        };
        let addresses: Vec<String> = container.addresses.iter().map(ToString::to_string).collect();
        let addresses = if addresses.is_empty() { words::dash() } else { addresses.join(" ") };
        let mut cells = vec![words::plain(&container.name), mode.to_owned(), addresses];
        let counts = [container.accepted, container.held, container.refused];
        cells.extend(counts.map(|count| count.to_string()));
        let last = container.last_refusal.as_ref();
        cells.push(last.map_or_else(words::dash, |last| refusal(last, now)));
        table.row(cells);
    }
    table.lines()
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
