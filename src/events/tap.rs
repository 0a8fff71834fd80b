//! Who reads along: bounded queues of the events somebody wants, and the events of late, filled by the writer thread,
//! which waits for nobody.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::EventFd;

use super::recent::{Recent, is_kept};
use crate::engine::event::{Body, Event};

/// What somebody wants to read.
pub type Wants = Box<dyn Fn(&Body) -> bool + Send>;

/// Everybody who reads along. Asked once an event, so an atomic says whether there is anybody.
#[derive(Debug, Default)]
pub(super) struct Taps {
    any: AtomicBool,
    along: Mutex<Along>,
}

/// One lock for both, so that whoever begins to read misses nothing between what was and what comes.
#[derive(Debug, Default)]
struct Along {
    taps: Vec<Tap>,
    recent: Recent,
}

struct Tap {
    wants: Wants,
    queue: SyncSender<Arc<Event>>,
    state: Arc<State>,
    bell: Option<Arc<EventFd>>,
}

/// What both ends of a tap know.
#[derive(Debug, Default)]
struct State {
    missed: AtomicU64,
    /// The bell was rung since the reader looked last.
    rung: AtomicBool,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("state", &self.state).finish_non_exhaustive()
    }
}

/// The reading end. Dropping it ends it.
#[derive(Debug)]
pub struct Tapped {
    queue: Receiver<Arc<Event>>,
    state: Arc<State>,
}

impl Taps {
    /// A new reader with room for so many events that it has not read yet. Whoever waits for descriptors has a bell rung.
    /// Beside it what was kept until this moment.
    pub(super) fn add(
        &self,
        room: usize,
        wants: Wants,
        bell: Option<Arc<EventFd>>,
    ) -> (Vec<Arc<Event>>, Tapped) {
        let (queue, events) = sync_channel(room);
        let state = Arc::new(State::default());
        let tap = Tap { wants, queue, state: Arc::clone(&state), bell };
        let mut along = self.along();
        // Those that left and want what hardly ever comes would be found by no event.
        along.taps.retain(|tap| Arc::strong_count(&tap.state) > 1);
        along.taps.push(tap);
        self.any.store(true, Relaxed);
        (along.recent.all(), Tapped { queue: events, state })
    }

    /// What was kept of late, the oldest first.
    pub(super) fn recent(&self) -> Vec<Arc<Event>> {
        self.along().recent.all()
    }

    /// Hands an event to everybody who wants it and has room.
    pub(super) fn offer(&self, event: Event) {
        let is_kept = is_kept(&event.body);
        if !is_kept && !self.any.load(Relaxed) {
            return;
        }
        let mut along = self.along();
        // Most events are of flows in order, which nobody wants most of the time.
        if !is_kept && !along.taps.iter().any(|tap| (tap.wants)(&event.body)) {
            return;
        }
        let event = Arc::new(event);
        along.taps.retain(|tap| tap.take(&event));
        self.any.store(!along.taps.is_empty(), Relaxed);
        if is_kept {
            along.recent.push(event);
        }
    }

    fn along(&self) -> MutexGuard<'_, Along> {
        self.along.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    /// False if the reader is gone.
    fn take(&self, event: &Arc<Event>) -> bool {
        if !(self.wants)(&event.body) {
            return true;
        }
        match self.queue.try_send(Arc::clone(event)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.state.missed.fetch_add(1, Relaxed);
            }
            Err(TrySendError::Disconnected(_)) => return false,
        }
        if let Some(bell) = &self.bell
            && !self.state.rung.swap(true, Relaxed)
        {
            // Fails only when the counter is full, and then the reader is awake anyway.
            let _ = bell.write(1);
        }
        true
    }
}

impl Tapped {
    /// The events, as they come.
    pub fn events(&self) -> &Receiver<Arc<Event>> {
        &self.queue
    }

    /// Has the bell rung for the next event again. To be said before events are taken.
    pub fn listen(&self) {
        self.state.rung.store(false, Relaxed);
    }

    /// Events that did not fit since this was asked last.
    pub fn missed(&self) -> u64 {
        self.state.missed.swap(0, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::{Health, RecordBody, Stop};
    use crate::engine::{Kind, Name, Wall};

    fn health(what: &str) -> Event {
        let (what, message) = (what.to_owned(), String::new());
        Event { time: Wall(0), body: Body::Health(Health { what, healthy: true, message }) }
    }

    fn tap(taps: &Taps, room: usize, wants: Wants) -> Tapped {
        taps.add(room, wants, None).1
    }

    #[test]
    fn a_reader_gets_what_it_wants_and_is_told_what_did_not_fit() {
        let taps = Taps::default();
        taps.offer(health("nobody listens"));
        let tapped = tap(&taps, 2, Box::new(|body| matches!(body, Body::Health(_))));
        taps.offer(Event { time: Wall(0), body: Body::Stop(Stop::default()) });
        for what in ["one", "two", "three"] {
            taps.offer(health(what));
        }
        let got: Vec<Arc<Event>> = tapped.events().try_iter().collect();
        assert_eq!(
            got.iter().map(|event| (**event).clone()).collect::<Vec<_>>(),
            [health("one"), health("two")]
        );
        assert_eq!((tapped.missed(), tapped.missed()), (1, 0));
    }

    #[test]
    fn what_is_not_kept_reaches_all_who_want_it_and_nobody_else() {
        let taps = Taps::default();
        let record = || {
            let name = Name::try_from("a.example".to_owned()).unwrap();
            let (address, kind) = ([203, 0, 113, 9].into(), Kind::Reply);
            let record = RecordBody { address, name, client: None, kind, chain: vec![] };
            Event { time: Wall(0), body: Body::Record(record) }
        };
        let idle = tap(&taps, 1, Box::new(|body| matches!(body, Body::Stop(_))));
        let wants: [Tapped; 2] = std::array::from_fn(|_| {
            tap(&taps, 1, Box::new(|body| matches!(body, Body::Record(_))))
        });
        taps.offer(record());
        assert!(wants.iter().all(|tapped| tapped.events().try_iter().count() == 1));
        assert_eq!(idle.events().try_iter().count(), 0);
        assert!(taps.recent().is_empty(), "there are too many of them");
    }

    #[test]
    fn whoever_is_gone_is_forgotten() {
        let taps = Taps::default();
        drop(tap(&taps, 1, Box::new(|_| true)));
        taps.offer(health("one"));
        assert!(!taps.any.load(Relaxed));
    }

    #[test]
    fn whoever_left_before_anything_it_wanted_came_takes_no_room() {
        let taps = Taps::default();
        let stays = tap(&taps, 1, Box::new(|body| matches!(body, Body::Health(_))));
        for _ in 0..100 {
            drop(tap(&taps, 1, Box::new(|body| matches!(body, Body::Learn(_)))));
            taps.offer(health("one"));
        }
        let _last = tap(&taps, 1, Box::new(|_| true));
        assert_eq!(taps.along().taps.len(), 2);
        assert_eq!(stays.events().try_iter().count(), 1);
    }

    #[test]
    fn a_reader_begins_with_what_was_and_a_bell_rings_once_until_it_looks() {
        let taps = Taps::default();
        taps.offer(health("before"));
        let bell = Arc::new(EventFd::new().unwrap());
        let (before, tapped) = taps.add(9, Box::new(|_| true), Some(Arc::clone(&bell)));
        assert_eq!(*before[0], health("before"));
        taps.offer(health("one"));
        taps.offer(health("two"));
        assert_eq!(bell.read().unwrap(), 1, "one wake-up for both");
        tapped.listen();
        assert_eq!(tapped.events().try_iter().count(), 2);
        taps.offer(health("three"));
        assert_eq!(bell.read().unwrap(), 1);
        assert_eq!(taps.recent().len(), 4);
    }
}
