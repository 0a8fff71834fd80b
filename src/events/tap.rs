//! Who reads along: a bounded queue of the events somebody wants, filled by the writer thread, which waits for nobody.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::event::{Body, Event};

/// What somebody wants to read.
pub type Wants = Box<dyn Fn(&Body) -> bool + Send>;

/// Everybody who reads along. Asked once an event, so an atomic says whether there is anybody.
#[derive(Debug, Default)]
pub(super) struct Taps {
    any: AtomicBool,
    all: Mutex<Vec<Tap>>,
}

struct Tap {
    wants: Wants,
    queue: SyncSender<Arc<Event>>,
    missed: Arc<AtomicU64>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("missed", &self.missed).finish_non_exhaustive()
    }
}

/// The reading end. Dropping it ends it.
#[derive(Debug)]
pub struct Tapped {
    queue: Receiver<Arc<Event>>,
    missed: Arc<AtomicU64>,
}

impl Taps {
    /// A new reader with room for so many events that it has not read yet.
    pub(super) fn add(&self, room: usize, wants: Wants) -> Tapped {
        let (queue, events) = sync_channel(room);
        let missed = Arc::new(AtomicU64::new(0));
        let tap = Tap { wants, queue, missed: Arc::clone(&missed) };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(tap);
        self.any.store(true, Relaxed);
        Tapped { queue: events, missed }
    }

    /// Hands an event to everybody who wants it and has room.
    pub(super) fn offer(&self, event: &Event) {
        if !self.any.load(Relaxed) {
            return;
        }
        let mut shared: Option<Arc<Event>> = None;
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|tap| {
            if !(tap.wants)(&event.body) {
                return true;
            }
            let copy = shared.get_or_insert_with(|| Arc::new(event.clone()));
            match tap.queue.try_send(Arc::clone(copy)) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    tap.missed.fetch_add(1, Relaxed);
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        });
        self.any.store(!all.is_empty(), Relaxed);
    }
}

impl Tapped {
    /// The events, as they come.
    pub fn events(&self) -> &Receiver<Arc<Event>> {
        &self.queue
    }

    /// Events that did not fit since this was asked last.
    pub fn missed(&self) -> u64 {
        self.missed.swap(0, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Wall;
    use crate::engine::event::{Health, Stop};

    fn health(what: &str) -> Event {
        let (what, message) = (what.to_owned(), String::new());
        Event { time: Wall(0), body: Body::Health(Health { what, healthy: true, message }) }
    }

    #[test]
    fn a_reader_gets_what_it_wants_and_is_told_what_did_not_fit() {
        let taps = Taps::default();
        taps.offer(&health("nobody listens"));
        let tapped = taps.add(2, Box::new(|body| matches!(body, Body::Health(_))));
        taps.offer(&Event { time: Wall(0), body: Body::Stop(Stop::default()) });
        for what in ["one", "two", "three"] {
            taps.offer(&health(what));
        }
        let got: Vec<Arc<Event>> = tapped.events().try_iter().collect();
        assert_eq!(
            got.iter().map(|event| (**event).clone()).collect::<Vec<_>>(),
            [health("one"), health("two")]
        );
        assert_eq!((tapped.missed(), tapped.missed()), (1, 0));
    }

    #[test]
    fn whoever_is_gone_is_forgotten() {
        let taps = Taps::default();
        drop(taps.add(1, Box::new(|_| true)));
        taps.offer(&health("one"));
        assert!(!taps.any.load(Relaxed));
    }
}
