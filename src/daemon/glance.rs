//! Whether the firewall works, and how one knows: what a status says first.

use crate::control::{
    Canary, CanaryState, DockerState, ListState, QueueState, RegistryState, Status, Timing,
};
use crate::engine::{Mode, Wall};
use crate::lists::{FeedReport, Kind, ListStatus};
use crate::nfq::counters;

use super::canary;
use super::measures::Histogram;
use super::shared::Shared;

/// A canary that passed this many pauses ago hangs: a look takes some seconds.
const LOOKS_MISSED: u32 = 3;

/// The queues that are ours, as the kernel counts them; nothing if it does not tell.
pub fn queues(shared: &Shared) -> Vec<QueueState> {
    let Ok(all) = counters::read() else { return Vec::new() };
    let ours = (shared.queue_num..).zip(&shared.mailboxes).map(|(number, _)| number);
    let state = |number: u16| match all.iter().find(|queue| queue.queue == number) {
        Some(queue) => QueueState {
            number,
            served: true,
            waiting: queue.waiting,
            dropped_full: queue.queue_dropped,
            dropped_unread: queue.user_dropped,
        },
        None => QueueState { number, ..QueueState::default() },
    };
    ours.map(state).collect()
}

/// What a histogram says in short.
pub fn timing<const N: usize>(histogram: &Histogram<N>) -> Timing {
    let spread = histogram.spread();
    Timing { count: spread.count(), p50_us: spread.quantile(0.5), p99_us: spread.quantile(0.99) }
}

/// How much the registry has.
pub fn registry(shared: &Shared) -> RegistryState {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let registry = shared.engine.registry();
    let stats = registry.stats();
    let (addresses, limit) = (count(stats.addresses), count(stats.limits.addresses));
    RegistryState { addresses, limit, full: registry.is_full() }
}

/// Lists and feeds as a status has them. A feed without a copy is among them too.
pub fn lists(lists: &[ListStatus], feeds: &[FeedReport]) -> Vec<ListState> {
    let known = lists.iter().map(|list| ListState {
        name: list.report.name.clone(),
        kind: word(list.report.kind).to_owned(),
        feed: feeds.iter().any(|feed| feed.name == list.report.name),
        entries: list.report.entries,
        bad: list.report.bad + list.report.refused,
        first_bad: list.report.bad_lines.iter().chain(&list.report.refused_entries).next().cloned(),
        fetched: list.fetched,
        error: list.last_error.clone(),
    });
    let waiting = feeds.iter().filter(|feed| lists.iter().all(|l| l.report.name != feed.name));
    let waiting = waiting.map(|feed| ListState {
        name: feed.name.clone(),
        kind: word(feed.kind).to_owned(),
        feed: true,
        entries: 0,
        bad: 0,
        first_bad: None,
        fetched: None,
        error: Some(feed.last_error.clone().unwrap_or("not fetched yet".to_owned())),
    });
    known.chain(waiting).collect()
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Allow => "allow",
        Kind::Block => "block",
        Kind::Quarantine => "quarantine",
    }
}

/// What refusing stands on. `status`, metrics and `/readyz` all go by this.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// Whether refusals are carried out.
    pub mode: Mode,
    /// What the rules in the kernel do, in a word; nothing if it does not tell.
    pub rules: Option<&'a str>,
    /// The queues that are ours.
    pub queues: &'a [QueueState],
    /// What a packet of our own found.
    pub canary: &'a Canary,
}

impl<'a> Ground<'a> {
    /// What a status says of it.
    pub fn of(status: &'a Status) -> Ground<'a> {
        let Status { mode, rules, queues, canary, .. } = status;
        Ground { mode: *mode, rules: rules.as_deref(), queues, canary }
    }

    /// Whether what is to be refused is refused, as far as can be told.
    pub fn is_enforcing(self) -> bool {
        self.mode == Mode::Enforce && self.faults().is_empty()
    }

    /// Why nothing is judged, or not as wanted.
    pub fn faults(self) -> Vec<String> {
        let Ground { mode, rules, queues, canary } = self;
        let mut faults = Vec::new();
        let mut fault = |is: bool, what: String| faults.extend(is.then_some(what));
        let wanted = if mode == Mode::DryRun { "dry-run" } else { "enforcing" };
        match rules {
            Some("absent") => {
                fault(true, "there are NO RULES IN THE KERNEL: nothing is judged".into())
            }
            Some("dormant") => {
                fault(true, "the rules in the kernel are DORMANT: nothing is judged".into())
            }
            None => fault(true, "the kernel does not tell its rules".into()),
            Some(other) => {
                fault(other != wanted, format!("the rules in the kernel are those of `{other}`"))
            }
        }
        fault(queues.is_empty(), "the kernel does not tell its queues".into());
        for queue in queues {
            let number = queue.number;
            fault(!queue.served, format!("nobody serves queue {number}"));
        }
        fault(canary.state == CanaryState::Failing, format!("canary: {}", canary.message));
        faults
    }
}

/// `list block: 2 lines do not count, first block.txt:3: `x` is neither ...: ...`
fn bad_lines(list: &ListState, what: &str) -> Option<String> {
    let count = match list.bad {
        0 => return None,
        1 => "1 line does not count".to_owned(),
        bad => format!("{bad} lines do not count"),
    };
    let first = list.first_bad.as_ref().map_or(String::new(), |first| format!(", first {first}"));
    let todo = match list.feed {
        true => "tell who keeps it; `synhold sets` shows more",
        false => "mend or remove it; `synhold sets` shows more",
    };
    Some(format!("{what} {}: {count}{first}; {todo}", list.name))
}

/// Everything that is wrong, the worst first.
pub fn faults(status: &Status, now: Wall) -> Vec<String> {
    let mut faults = Ground::of(status).faults();
    let mut fault = |is: bool, what: String| faults.extend(is.then_some(what));
    let canary = canary_fault(&status.canary, status.mode, now);
    fault(canary.is_some(), canary.unwrap_or_default());
    let changed = status.drift.as_ref().filter(|news| !news.healthy);
    fault(changed.is_some(), changed.map(|news| news.message.clone()).unwrap_or_default());
    for why in &status.evidence.why {
        fault(true, format!("DNS evidence: {why}"));
    }
    for source in status.sources.iter().filter(|_| status.evidence.healthy) {
        let doubt = source.doubt.as_deref();
        fault(
            doubt.is_some(),
            format!("DNS source {} {}", source.label, doubt.unwrap_or_default()),
        );
    }
    for source in status.sources.iter().filter(|source| source.is_silent()) {
        let (label, questions) = (&source.label, source.unanswered.unwrap_or_default());
        let what = format!("DNS source {label} does not answer ({questions} questions in a row)");
        fault(true, format!("{what}: containers resolve nothing"));
    }
    let docker = &status.docker;
    fault(docker.state == DockerState::Down, format!("Docker is DOWN: {}", docker.what));
    fault(status.registry.full, "the registry is full: what resolves now is left out".into());
    fault(
        status.disk.is_some(),
        format!("registry not on disk: {}", status.disk.as_deref().unwrap_or_default()),
    );
    let totals = &status.totals;
    let lost = totals.kernel_dropped + totals.user_dropped;
    fault(lost > 0, format!("{lost} packets lost on a full queue since the start"));
    fault(totals.panics > 0, format!("{} panics caught since the start", totals.panics));
    fault(totals.events_shed > 0, format!("{} events not written", totals.events_shed));
    for output in &status.stalled {
        fault(true, format!("{output} takes nothing: what waits for it will not be written"));
    }
    for sink in status.alerts.iter().filter(|sink| !sink.ok) {
        fault(true, format!("alerts to {} fail: {}", sink.name, sink.message));
    }
    for list in &status.lists {
        let (name, error) = (&list.name, list.error.as_deref());
        let what = if list.feed { "feed" } else { "list" };
        fault(error.is_some(), format!("{what} {name}: {}", error.unwrap_or_default()));
        let bad = bad_lines(list, what);
        fault(bad.is_some(), bad.unwrap_or_default());
    }
    fault(
        status.left_out > 0,
        format!("{} containers beyond those that are known", status.left_out),
    );
    faults
}

/// Why the canary is no proof, where it is to be one.
fn canary_fault(canary: &Canary, mode: Mode, now: Wall) -> Option<String> {
    let message = &canary.message;
    let age = canary.at.map_or(0, |at| now.0.saturating_sub(at.0));
    match canary.state {
        CanaryState::Off if canary.unable && mode == Mode::Enforce => {
            Some(format!("there is no canary: {message}"))
        }
        CanaryState::Waiting if canary.passed && mode == Mode::Enforce => {
            Some(format!("the canary proves nothing any more: {message}"))
        }
        CanaryState::Passing if u128::from(age) > (LOOKS_MISSED * canary::EVERY).as_micros() => {
            Some(format!("the canary has not been heard of for {} s", age / 1_000_000))
        }
        // Failing is of the ground.
        CanaryState::Failing | CanaryState::Off | CanaryState::Waiting | CanaryState::Passing => {
            None
        }
    }
}

#[cfg(test)]
#[path = "glance_test.rs"]
mod tests;
