//! The first lines of a status: whether it enforces and how one knows, and everything that is wrong.

use crate::cli::paint::Paint;
use crate::cli::words;
use crate::control::{CanaryState, LearningState, Status};
use crate::engine::{Mode, Wall};

/// Faults shown; a host with more of them than that has the rest counted.
const FAULTS_SHOWN: usize = 8;

/// One line, and a line for every fault.
pub fn lines(status: &Status, now: Wall, paint: Paint) -> Vec<String> {
    let (fine, text) = headline(status, now);
    let first = if fine { paint.good(&text) } else { paint.bad(&text) };
    let mut lines = vec![first];
    let shown = status.faults.iter().take(FAULTS_SHOWN);
    lines.extend(shown.map(|fault| paint.bad(&format!("  ! {}", words::plain(fault)))));
    let more = status.faults.len().saturating_sub(FAULTS_SHOWN);
    if more > 0 {
        lines.push(paint.bad(&format!("  ! and {more} more: --json has them all")));
    }
    lines
}

/// The first line, and whether it is good news.
pub fn headline(status: &Status, now: Wall) -> (bool, String) {
    let proof = proof(status, now);
    let faults = status.faults.len();
    let but = match faults {
        0 => String::new(),
        1 => ", BUT SOMETHING IS WRONG".to_owned(),
        _ => format!(", BUT {faults} THINGS ARE WRONG"),
    };
    let word = match status.mode {
        Mode::Enforce if status.enforcing => "ENFORCING",
        Mode::Enforce => return (false, format!("NOT ENFORCING: {proof}")),
        Mode::DryRun => "DRY RUN, nothing is refused",
        Mode::Learn => {
            let learning = status.learning.as_ref().map(|state| learning(state, now));
            return (faults == 0, format!("{}{but}", learning.unwrap_or("LEARNING".to_owned())));
        }
    };
    (faults == 0, format!("{word}{but}: {proof}"))
}

/// How one knows.
fn proof(status: &Status, now: Wall) -> String {
    let rules = match status.rules.as_deref() {
        Some("absent") => "NO RULES IN THE KERNEL",
        Some("dormant") => "ITS RULES ARE DORMANT",
        Some("enforcing") => "rules in the kernel",
        Some("dry-run") => "rules of a dry run in the kernel",
        _ => "the kernel does not tell its rules",
    };
    let served = status.queues.iter().filter(|queue| queue.served).count();
    let queues = match (served, status.queues.len()) {
        (_, 0) => "queues unknown".to_owned(),
        (1, 1) => "queue served".to_owned(),
        (served, all) if served == all => format!("all {all} queues served"),
        (served, all) => format!("{served} OF {all} QUEUES SERVED"),
    };
    let ago =
        || status.canary.at.map_or_else(String::new, |at| format!(" {}", words::ago(at, now)));
    let canary = match status.canary.state {
        CanaryState::Off => "no canary".to_owned(),
        CanaryState::Waiting => {
            format!("canary proves nothing: {}", words::plain(&status.canary.message))
        }
        CanaryState::Passing => format!("canary passed{}", ago()),
        CanaryState::Failing => format!("CANARY FAILS{}", ago()),
    };
    let drift = status.drift.as_ref().map_or_else(
        || "unchanged by others".to_owned(),
        |news| format!("changed by others {}", words::ago(news.at, now)),
    );
    [rules.to_owned(), queues, canary, drift].join(", ")
}

/// `LEARNING for another 23 h: enforcing would have refused 12 first packets so far`
fn learning(learning: &LearningState, now: Wall) -> String {
    let left = learning.until.0.saturating_sub(now.0) / 1000;
    let refused = learning.refused;
    format!(
        "LEARNING for another {}, only lists refuse: enforcing would have refused {refused} first packets so far",
        words::span(left)
    )
}
