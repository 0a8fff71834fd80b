//! Once a second: are our queues still there, and what do the kernel's counters say about packets lost?

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use super::shared::Shared;
use crate::nfq::counters::{self, Counters};

/// Compares the kernel's counters with those of a second ago.
#[derive(Default)]
pub struct Watch {
    last: HashMap<u16, Counters>,
    registry_full: bool,
}

impl Watch {
    /// Reads the counters of our `queues` queues and reports losses.
    pub fn look(&mut self, shared: &Shared, queues: u16) {
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
        let left_out = shared.engine.registry().left_out() > 0;
        if left_out && !std::mem::replace(&mut self.registry_full, true) {
            let message = if shared.engine.registry().is_full() {
                "the registry is full: what resolves now is left out"
            } else {
                "one asker has used up its share of the registry: what it resolves now is left out"
            };
            shared.report_health("registry", false, message.to_owned());
        }
    }
}

/// A queue that was opened again counts from zero.
fn report(shared: &Shared, before: &Counters, now: &Counters) {
    let grown = |before: u64, now: u64| if now >= before { now - before } else { now };
    let full = grown(before.queue_dropped, now.queue_dropped);
    let unheard = grown(before.user_dropped, now.user_dropped);
    shared.tally.kernel_dropped.fetch_add(full, Relaxed);
    shared.tally.user_dropped.fetch_add(unheard, Relaxed);
    if full > 0 {
        let message =
            format!("queue {}: the kernel found it full {full} times in a second", now.queue);
        shared.report_health("queue", false, message);
    }
    if unheard > 0 {
        let message = format!(
            "queue {}: {unheard} packets did not fit into the receive buffer in a second",
            now.queue
        );
        shared.report_health("queue", false, message);
    }
}
