//! A bounded shared list that can be waited on: captured packets, events, log lines.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What came in so far, oldest first; the oldest are shed (and counted) when it is full.
#[derive(Debug)]
pub struct Feed<T> {
    kept: Mutex<Kept<T>>,
    changed: Condvar,
    room: usize,
}

#[derive(Debug)]
struct Kept<T> {
    items: VecDeque<T>,
    /// How many came before the first item kept: a mark is an absolute number.
    before: u64,
    shed: u64,
    closed: bool,
}

impl<T: Clone> Feed<T> {
    /// A list that keeps at most `room` items.
    pub fn new(room: usize) -> Feed<T> {
        let kept = Kept { items: VecDeque::new(), before: 0, shed: 0, closed: false };
        Feed { kept: Mutex::new(kept), changed: Condvar::new(), room }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap()
    }

    /// Adds an item and wakes who waits.
    pub fn push(&self, item: T) {
        let mut kept = self.lock();
        if kept.items.len() == self.room {
            kept.items.pop_front();
            kept.before += 1;
            kept.shed += 1;
        }
        kept.items.push_back(item);
        drop(kept);
        self.changed.notify_all();
    }

    /// Says that nothing more will come; waits end at once.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// A point in time to look or wait from.
    pub fn mark(&self) -> u64 {
        let kept = self.lock();
        kept.before + kept.items.len() as u64
    }

    /// Forgets everything so far.
    pub fn clear(&self) {
        let mut kept = self.lock();
        kept.before += kept.items.len() as u64;
        kept.items.clear();
        kept.shed = 0;
    }

    /// Everything kept.
    pub fn all(&self) -> Vec<T> {
        self.lock().items.iter().cloned().collect()
    }

    /// Everything kept that came after a mark.
    pub fn since(&self, mark: u64) -> Vec<T> {
        let kept = self.lock();
        kept.items.iter().skip(mark.saturating_sub(kept.before) as usize).cloned().collect()
    }

    /// How many were shed since the start or the last [`Feed::clear`].
    pub fn shed(&self) -> u64 {
        self.lock().shed
    }

    /// How many kept items match.
    ///
    /// # Panics
    /// When items were shed: the number would prove nothing.
    pub fn count(&self, matches: impl Fn(&T) -> bool) -> usize {
        let kept = self.lock();
        assert_eq!(kept.shed, 0, "more came in than was kept ({}): no count", self.room);
        kept.items.iter().filter(|i| matches(i)).count()
    }

    /// The first match, of those kept or still to come.
    pub fn wait_for(&self, matches: impl Fn(&T) -> bool, timeout: Duration) -> Option<T> {
        self.wait_after(0, matches, timeout)
    }

    /// The first match after a mark.
    pub fn wait_after(
        &self,
        mark: u64,
        matches: impl Fn(&T) -> bool,
        timeout: Duration,
    ) -> Option<T> {
        self.fold_after(mark, timeout, |item| matches(item).then(|| item.clone()))
    }

    /// Waits until `wanted` items match in all; how many did when it returned.
    pub fn wait_count(
        &self,
        wanted: usize,
        matches: impl Fn(&T) -> bool,
        timeout: Duration,
    ) -> usize {
        let mut have = 0;
        self.fold_after(0, timeout, |item| {
            have += usize::from(matches(item));
            (have >= wanted).then_some(())
        });
        have
    }

    /// Shows each item after a mark once, as they come, until `step` is content or the time is up.
    pub fn fold_after<R>(
        &self,
        mark: u64,
        timeout: Duration,
        mut step: impl FnMut(&T) -> Option<R>,
    ) -> Option<R> {
        let end = Instant::now() + timeout;
        let mut next = mark;
        let mut kept = self.lock();
        loop {
            let skip = next.saturating_sub(kept.before) as usize;
            if let Some(found) = kept.items.iter().skip(skip).find_map(&mut step) {
                return Some(found);
            }
            next = next.max(kept.before + kept.items.len() as u64);
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || kept.closed {
                return None;
            }
            kept = self.changed.wait_timeout(kept, left).unwrap().0;
        }
    }
}
