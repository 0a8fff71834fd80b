//! Once a second: are our queues still there, and what do the kernel's counters say about packets lost? And the sums of a minute.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::shared::Shared;
use super::{alerts, clock};
use crate::engine::Mono;
use crate::engine::event::Totals;
use crate::events::Counts;
use crate::nfq::counters::{self, Counters};

/// What became of packets is summed up so often.
const MINUTE: Duration = Duration::from_secs(60);

/// Compares the kernel's counters with those of a second ago.
#[derive(Default)]
pub struct Watch {
    last: HashMap<u16, Counters>,
    registry_full: bool,
    minute: Minute,
}

/// The counts as they were when they were summed up last.
#[derive(Default)]
struct Minute {
    began: Option<Mono>,
    totals: Totals,
}

impl Watch {
    /// Reads the counters of our `queues` queues and reports losses.
    pub fn look(&mut self, shared: &Shared, queues: u16) {
        alerts::tell_waiting(shared);
        let now = clock::mono();
        shared.pulse.tick(now);
        shared.desk.tick(shared.totals(), now);
        self.minute.look(shared, now);
        let ours = shared.queue_num..=shared.queue_num.saturating_add(queues - 1);
        let now = match counters::read() {
            Ok(now) => now,
            Err(error) => return tracing::debug!("cannot read the queue counters: {error}"),
        };
        for (number, mailbox) in ours.clone().zip(&shared.mailboxes) {
            if !now.iter().any(|queue| queue.queue == number) {
                mailbox.report_queue_lost();
            }
        }
        for queue in now.into_iter().filter(|queue| ours.contains(&queue.queue)) {
            let before = self.last.insert(queue.queue, queue).unwrap_or_default();
            report(shared, &before, &queue);
        }
        let full = shared.engine.registry().is_full();
        if full != std::mem::replace(&mut self.registry_full, full) {
            let message =
                if full { "is full: what resolves now is left out" } else { "has room again" };
            shared.report_health("registry", !full, format!("the registry {message}"));
        }
    }
}

impl Minute {
    /// Tells the sums.
    fn look(&mut self, shared: &Shared, now: Mono) {
        if let Some([accepted, refused, held, released]) = self.sums(|| shared.totals(), now) {
            let (time, mode) = (clock::wall(), shared.present_mode());
            shared.events.sum_up(Counts { time, mode, accepted, refused, held, released });
        }
    }

    /// What was accepted, refused, held and released; nothing unless a minute is over and something happened in it.
    fn sums(&mut self, totals: impl FnOnce() -> Totals, now: Mono) -> Option<[u64; 4]> {
        if now.since(*self.began.get_or_insert(now)) < MINUTE {
            return None;
        }
        self.began = Some(now);
        let totals = totals();
        let before = std::mem::replace(&mut self.totals, totals);
        let sums = [
            (before.accepted, totals.accepted),
            (before.refused, totals.refused),
            (before.held, totals.held),
            (before.released, totals.released),
        ]
        .map(|(before, now)| now.saturating_sub(before));
        (sums != [0; 4]).then_some(sums)
    }
}

fn report(shared: &Shared, before: &Counters, now: &Counters) {
    let (full, unheard) = losses(before, now);
    shared.tally.kernel_dropped.fetch_add(full, Relaxed);
    shared.tally.user_dropped.fetch_add(unheard, Relaxed);
    let queue = now.queue;
    if full > 0 {
        let message = format!("queue {queue}: the kernel found it full {full} times in a second");
        shared.report_health("queue", false, message);
    }
    if unheard > 0 {
        let message =
            format!("queue {queue}: {unheard} packets did not fit its receive buffer in a second");
        shared.report_health("queue", false, message);
    }
}

/// Packets lost since the last look, to a full queue and to a full receive buffer. A queue that was opened again
/// counts from zero.
fn losses(before: &Counters, now: &Counters) -> (u64, u64) {
    let grown = |before: u64, now: u64| if now >= before { now - before } else { now };
    (grown(before.queue_dropped, now.queue_dropped), grown(before.user_dropped, now.user_dropped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_in_which_something_happened_is_summed_up() {
        let mut minute = Minute::default();
        let at = |seconds| Mono(0) + Duration::from_secs(seconds);
        let totals = |accepted, refused| Totals { accepted, refused, ..Totals::default() };
        assert_eq!(minute.sums(|| totals(0, 0), at(7)), None);
        assert_eq!(minute.sums(|| totals(5, 1), at(66)), None, "not over yet");
        assert_eq!(minute.sums(|| totals(6, 1), at(67)), Some([6, 1, 0, 0]));
        assert_eq!(minute.sums(|| totals(6, 1), at(127)), None, "nothing happened");
        assert_eq!(minute.sums(|| totals(6, 3), at(188)), Some([0, 2, 0, 0]));
    }

    #[test]
    fn losses_are_told_apart_and_a_new_socket_starts_over() {
        let counters = |queue_dropped, user_dropped| Counters {
            queue_dropped,
            user_dropped,
            ..Counters::default()
        };
        assert_eq!(losses(&counters(5, 7), &counters(8, 7)), (3, 0));
        assert_eq!(losses(&counters(5, 7), &counters(5, 9)), (0, 2));
        assert_eq!(losses(&counters(5, 7), &counters(1, 2)), (1, 2));
    }
}
