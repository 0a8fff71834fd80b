//! Verdicts, their times, and what was lost on the way to them.

use super::{label, micros, real, whole};
use crate::daemon::measures;
use crate::daemon::shared::Shared;
use crate::engine::Reason::{self, *};
use crate::engine::Verdict;
use crate::metrics::{Family, Labels, Spread, Unit};
use crate::nfq::counters;

/// Reasons that each verdict can have, so that every series is there before the first packet.
const ACCEPTS: [Reason; 7] =
    [Resolved, ResolvedAfterHold, Allowlisted, Exempt, Established, Unhealthy, Shutdown];
const DROPS: [Reason; 8] =
    [Blocklisted, NeverResolved, Stale, OutOfScope, HoldBudget, Malformed, Unhealthy, Shutdown];

pub fn families(shared: &Shared, queues: u16) -> Vec<Family> {
    let measures = &shared.measures;
    let mut all = vec![
        Family::counters(
            "verdicts",
            "Packets judged; outside of mode enforce a drop is what would have been",
            verdicts(measures),
        ),
        Family::histogram(
            "verdict_duration",
            "From a packet read to its verdict sent, for packets that did not wait",
            spread(&measures.latency.spread()),
        )
        .in_unit(Unit::Seconds),
        Family::histogram(
            "hold_duration",
            "How long packets waited for their record, or would have",
            spread(&measures.hold.spread()),
        )
        .in_unit(Unit::Seconds),
        Family::gauge("held", "Packets that wait for their record", whole(shared.held())),
    ];
    all.extend(totals(shared));
    all.extend(kernel(shared, queues));
    all
}

fn verdicts(measures: &measures::Measures) -> Vec<(Labels, u64)> {
    let can_be = |verdict: Verdict, reason: Reason| match verdict {
        Verdict::Accept => ACCEPTS.contains(&reason),
        Verdict::Drop => DROPS.contains(&reason),
    };
    let of = |(verdict, reason, count): (Verdict, Reason, u64)| {
        let word = match verdict {
            Verdict::Accept => "accept",
            Verdict::Drop => "drop",
        };
        let labels = vec![("verdict", word.into()), ("reason", reason.as_str().into())];
        (count > 0 || can_be(verdict, reason)).then_some((labels, count))
    };
    measures.by_reason().filter_map(of).collect()
}

fn spread(spread: &measures::Spread) -> Spread {
    let buckets = spread.buckets.iter().map(|(bound, count)| (micros(*bound), *count));
    let buckets = buckets.chain([(f64::INFINITY, spread.beyond)]).collect();
    Spread { buckets, sum: micros(spread.sum) }
}

fn totals(shared: &Shared) -> Vec<Family> {
    let totals = shared.totals();
    let counters = [
        ("held_packets", "Packets that were held", totals.held),
        ("released_packets", "Held packets that a record released", totals.released),
        ("malformed_packets", "Packets that could not be read", totals.malformed),
        ("copies", "Copies of held packets, which got no answer of their own", totals.copies),
        ("gone_packets", "Packets that were gone when their verdict came", totals.gone),
        ("queue_overruns", "Times a queue's receive buffer overflowed", totals.overruns),
        ("queue_reopened", "Times a queue had to be opened again", totals.reopened),
        ("panics", "Panics caught on the packet path", totals.panics),
        ("unrefused_packets", "Refused packets that no rule refused", totals.unrefused),
        (
            "events_shed",
            "Events not written, since the writer could not keep up",
            totals.events_shed,
        ),
    ];
    counters.into_iter().map(|(name, help, value)| Family::counter(name, help, value)).collect()
}

/// What the kernel says about our queues.
fn kernel(shared: &Shared, queues: u16) -> [Family; 2] {
    let ours = shared.queue_num..=shared.queue_num.saturating_add(queues.saturating_sub(1));
    let found = counters::read().unwrap_or_default();
    let ours: Vec<_> = found.into_iter().filter(|queue| ours.contains(&queue.queue)).collect();
    let waiting =
        ours.iter().map(|queue| (label("queue", queue.queue.to_string()), real(queue.waiting)));
    let dropped = ours.iter().flat_map(|queue| {
        let causes = [("full", queue.queue_dropped), ("unread", queue.user_dropped)];
        causes.map(|(cause, count)| {
            (vec![("queue", queue.queue.to_string().into()), ("cause", cause.into())], count)
        })
    });
    [
        Family::gauges(
            "queue_packets",
            "Packets waiting in the kernel's queue, held ones among them",
            waiting,
        ),
        Family::counters(
            "queue_dropped",
            "Packets the kernel dropped, by cause: the queue was full, or we did not read them",
            dropped,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::measures::Measures;

    #[test]
    fn every_pair_that_can_be_is_there_from_the_start_and_none_is_lost() {
        let measures = Measures::default();
        assert_eq!(verdicts(&measures).len(), ACCEPTS.len() + DROPS.len());
        for reason in Reason::ALL {
            measures.count_reason(Verdict::Drop, reason);
        }
        let all = verdicts(&measures);
        assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>(), Reason::ALL.len() as u64);
    }
}
