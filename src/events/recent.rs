//! The events of late, for whoever asks after they happened: what a person looks back for, within bounds.

use std::collections::VecDeque;
use std::sync::Arc;

use super::append_json;
use crate::engine::event::{Body, Event};
use crate::engine::{Name, Verdict};

/// Events kept: an evening of a host under attack, days of a quiet one.
pub const RECENT_MAX: usize = 1000;
/// Bytes of them: a kilobyte each, and room for no more where some are long.
pub const RECENT_BYTES_MAX: usize = 1 << 20;

/// Bytes of a refusal beside its names.
const VERDICT_BYTES: usize = 768;

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
}

impl Recent {
    /// Keeps an event; the oldest go.
    pub fn push(&mut self, event: Arc<Event>) {
        let bytes = weight(&event);
        self.bytes += bytes;
        self.events.push_back((event, bytes));
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

/// About how much room an event takes. Refusals may come by the thousand and are not written out for it.
fn weight(event: &Event) -> usize {
    let names = |names: &[Name]| names.iter().map(|name| name.as_str().len()).sum::<usize>();
    match &event.body {
        Body::Verdict(told) => {
            let why: usize = told.evidence.why.iter().map(String::len).sum();
            VERDICT_BYTES + names(&told.names) + why
        }
        Body::Block(told) => VERDICT_BYTES + names(&told.names),
        _ => {
            let mut line = Vec::new();
            append_json(&mut line, event);
            line.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::verdict;
    use super::*;
    use crate::engine::event::Health;
    use crate::engine::{Mode, Reason, Wall};

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
        let refusal = verdict(Verdict::Drop, Reason::NeverResolved, Mode::Enforce, &["a.example"]);
        for _ in 0..2 * RECENT_MAX {
            recent.push(Arc::new(refusal.clone()));
        }
        assert_eq!(recent.all().len(), RECENT_MAX);
    }
}
