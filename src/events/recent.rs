//! The events of late, for whoever asks after they happened: what a person looks back for, within bounds.

use std::collections::VecDeque;
use std::sync::Arc;

use super::append_json;
use crate::engine::Verdict;
use crate::engine::event::{Body, Event};

/// Events kept: an evening of a host under attack, days of a quiet one.
pub const RECENT_MAX: usize = 1000;
/// Bytes of them, as lines: as much again as a usual event is small.
pub const RECENT_BYTES_MAX: usize = 1 << 20;

/// Whether an event is kept: neither records nor accepted flows, of which there are too many.
pub fn is_kept(body: &Body) -> bool {
    match body {
        Body::Verdict(verdict) => verdict.verdict == Verdict::Drop,
        Body::Record(_) => false,
        Body::Ready(_)
        | Body::Block(_)
        | Body::Container(_)
        | Body::Alert(_)
        | Body::Learn(_)
        | Body::Health(_)
        | Body::Reload(_)
        | Body::Stop(_) => true,
    }
}

/// What is kept, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: VecDeque<(Arc<Event>, usize)>,
    bytes: usize,
    line: Vec<u8>,
}

impl Recent {
    /// Keeps an event; the oldest go.
    pub fn push(&mut self, event: Arc<Event>) {
        append_json(&mut self.line, &event);
        let bytes = self.line.len();
        self.bytes += bytes;
        self.events.push_back((event, bytes));
        // One long line is not to hold its room for ever.
        self.line.clear();
        self.line.shrink_to(LINE_BYTES);
        while self.events.len() > RECENT_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some((_, bytes)) = self.events.pop_front() else { return };
            self.bytes -= bytes;
        }
    }

    /// Everything kept.
    pub fn all(&self) -> Vec<Arc<Event>> {
        self.events.iter().map(|(event, _)| Arc::clone(event)).collect()
    }
}

/// Bytes of a usual line.
const LINE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Wall;
    use crate::engine::event::Health;

    fn health(message: String) -> Arc<Event> {
        let body = Body::Health(Health { what: String::new(), healthy: true, message });
        Arc::new(Event { time: Wall(0), body })
    }

    #[test]
    fn neither_many_nor_long_events_take_more_than_their_room() {
        let mut recent = Recent::default();
        for n in 0..RECENT_MAX + 5 {
            recent.push(health(n.to_string()));
        }
        let all = recent.all();
        assert_eq!((all.len(), &all[0]), (RECENT_MAX, &health("5".to_owned())));
        for _ in 0..20 {
            recent.push(health("x".repeat(RECENT_BYTES_MAX / 10)));
        }
        assert!(recent.bytes <= RECENT_BYTES_MAX && recent.all().len() == 9);
        recent.push(health("x".repeat(RECENT_BYTES_MAX + 1)));
        assert!(recent.all().is_empty() && recent.bytes == 0);
        assert!(recent.line.capacity() <= 2 * LINE_BYTES, "{}", recent.line.capacity());
    }
}
