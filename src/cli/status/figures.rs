//! The figures of a status: queues, rates and times.

use crate::cli::words;
use crate::control::{QueueState, Rate, Status, Timing};
use crate::engine::Mode;

/// Queues shown one by one; with more of them only those with something to tell.
const QUEUES_SHOWN: usize = 4;

/// `Queue 0: 0 wait; 0 dropped full, 0 unread`
pub fn queues(queues: &[QueueState]) -> Vec<String> {
    let is_telling = |queue: &&QueueState| {
        queues.len() <= QUEUES_SHOWN
            || !queue.served
            || queue.waiting + queue.dropped_full + queue.dropped_unread > 0
    };
    let shown: Vec<String> = queues.iter().filter(is_telling).map(queue).collect();
    let rest = queues.len() - shown.len();
    let mut parts = shown;
    if rest > 0 {
        parts.push(format!("{rest} more with nothing waiting and nothing dropped"));
    }
    if parts.is_empty() { Vec::new() } else { vec![format!("Queues: {}", parts.join("; "))] }
}

fn queue(queue: &QueueState) -> String {
    let QueueState { number, served, waiting, dropped_full, dropped_unread } = queue;
    match (served, dropped_full + dropped_unread) {
        (false, _) => format!("{number} NOT SERVED"),
        (true, 0) => format!("{number} has {waiting} waiting, nothing dropped"),
        (true, _) => format!(
            "{number} has {waiting} waiting, DROPPED {dropped_full} full and {dropped_unread} unread"
        ),
    }
}

/// `Last 10 s: 12.4 verdicts/s, 3 refused/min, 0.1 held/s`, and the same over a longer time.
pub fn rates(status: &Status) -> Vec<String> {
    let of = |rate: &Rate| format!("Last {}: {}", words::span(rate.over_ms), rated(status, rate));
    let (short, long) = (&status.rates.short, &status.rates.long);
    match long.over_ms {
        0 => vec!["Rates: nothing measured yet".to_owned()],
        over if over == short.over_ms => vec![of(short)],
        _ => vec![of(short), of(long)],
    }
}

/// `12.4 verdicts/s, 3 refused/min, 0.1 held/s`, or what would be where nothing is carried out.
pub fn rated(status: &Status, rate: &Rate) -> String {
    let refused = per(rate.refused, 60_000, rate.over_ms);
    let held = per(rate.held, 1_000, rate.over_ms);
    let verdicts = per(rate.verdicts, 1_000, rate.over_ms);
    match status.mode {
        Mode::Enforce => format!("{verdicts} verdicts/s, {refused} refused/min, {held} held/s"),
        Mode::DryRun | Mode::Learn => {
            format!("{verdicts} verdicts/s, would be refused {refused}/min and held {held}/s")
        }
    }
}

/// How many in a unit of `unit_ms`, with a digit behind the point where that says something.
pub fn per(count: u64, unit_ms: u64, over_ms: u64) -> String {
    let tenths = count.saturating_mul(unit_ms).saturating_mul(10) / over_ms.max(1);
    match tenths {
        100.. => (tenths / 10).to_string(),
        _ if tenths.is_multiple_of(10) => (tenths / 10).to_string(),
        _ => format!("{}.{}", tenths / 10, tenths % 10),
    }
}

/// `Verdicts took below 50 us (half of them), below 250 us (99 %)`, and the same of what was held.
pub fn times(status: &Status) -> Vec<String> {
    let latency = timing(&status.latency).map(|text| format!("Verdicts took {text}"));
    let hold = timing(&status.hold).map(|text| match status.mode {
        Mode::Enforce => format!("Held packets waited {text}"),
        Mode::DryRun | Mode::Learn => format!("Held packets would have waited {text}"),
    });
    latency.into_iter().chain(hold).collect()
}

fn timing(timing: &Timing) -> Option<String> {
    if timing.count == 0 {
        return None;
    }
    let below = |bound: Option<u64>| match bound {
        Some(us) => format!("below {}", words::micros(us)),
        None => "longer than is measured".to_owned(),
    };
    Some(format!("{} (half of them), {} (99 %)", below(timing.p50_us), below(timing.p99_us)))
}
