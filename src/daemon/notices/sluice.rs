//! What the writer of events asks before it hands one over: whether it may be an alert, and whether its source has had enough.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::translate::topic;
use crate::daemon::clock;
use crate::engine::Mono;
use crate::engine::alert::Topic;
use crate::engine::event::Body;

/// Events of one source and kind in a second, so that none hides what is worse. A scan has thousands, nearly all of which no sink would be told of; handed over they
/// would take the room of everybody else's, and a processor.
const EVENTS_A_SECOND: u32 = 50;
/// Sources and kinds counted; more at once is a flood of forged ones, which pays together.
const SOURCES_MAX: usize = 4096;
const SECOND: Duration = Duration::from_secs(1);

/// Whose room an event takes: a source's for one kind, or for one kind that of all who are too many.
type Payer = (Option<IpAddr>, Topic);

/// Asked for every event by one thread, so its lock is never waited for.
#[derive(Debug, Default)]
pub struct Sluice {
    window: Mutex<(Mono, HashMap<Payer, u32>)>,
    shut: Arc<AtomicU64>,
}

impl Sluice {
    /// A new one, and the count of events that it keeps back.
    pub fn new() -> (Sluice, Arc<AtomicU64>) {
        let sluice = Sluice::default();
        let shut = Arc::clone(&sluice.shut);
        (sluice, shut)
    }

    /// Whether an event is to be handed over.
    pub fn passes(&self, body: &Body) -> bool {
        topic(body).is_some_and(|topic| self.has_room(source(body), topic, clock::mono()))
    }

    fn has_room(&self, source: Option<IpAddr>, topic: Topic, now: Mono) -> bool {
        // What synhold says of itself is little.
        if source.is_none() {
            return true;
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(window.0) >= SECOND {
            window.0 = now;
            window.1.clear();
        }
        let full = window.1.len() >= SOURCES_MAX && !window.1.contains_key(&(source, topic));
        let count = window.1.entry((source.filter(|_| !full), topic)).or_default();
        *count += 1;
        let passes = *count <= EVENTS_A_SECOND;
        if !passes {
            self.shut.fetch_add(1, Relaxed);
        }
        passes
    }
}

/// Who caused it, if it was a container.
fn source(body: &Body) -> Option<IpAddr> {
    match body {
        Body::Verdict(verdict) => verdict.src,
        Body::Block(block) => Some(block.src),
        Body::Alert(alert) => alert.client,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Topic::{Blocklisted, NeverResolved};

    #[test]
    fn a_scan_takes_nobody_elses_room_and_hides_nothing_of_another_kind() {
        let (sluice, shut) = Sluice::new();
        let (loud, other) = (Some([172, 17, 0, 2].into()), Some([172, 17, 0, 3].into()));
        let at = |ms: u64| Mono(0) + Duration::from_millis(5_000 + ms);
        let passed = (0..999).filter(|ms| sluice.has_room(loud, NeverResolved, at(*ms))).count();
        assert_eq!((passed, shut.load(Relaxed)), (50, 949));
        assert!(sluice.has_room(loud, Blocklisted, at(999)), "what is worse");
        assert!(sluice.has_room(other, NeverResolved, at(999)));
        assert!(sluice.has_room(None, Topic::Drift, at(999)));
        assert!(sluice.has_room(loud, NeverResolved, at(1_000)), "the next second");
    }

    #[test]
    fn forged_sources_share_what_is_left() {
        let (sluice, _) = Sluice::new();
        let now = Mono(0) + SECOND * 9;
        let from = |n: u32| Some(IpAddr::V4(n.into()));
        let passed = (0..100_000).filter(|n| sluice.has_room(from(*n), NeverResolved, now)).count();
        assert_eq!(passed, SOURCES_MAX + 50);
        assert!(sluice.window.lock().unwrap().1.len() <= SOURCES_MAX + 1);
    }
}
