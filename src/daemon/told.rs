//! What is known about the lists right now, for those in this process who wait until something is in force.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::lists::Status;

/// The same that the status file has; there too where nothing is written.
#[derive(Debug, Default)]
pub struct Told {
    status: Mutex<Option<Arc<Status>>>,
    changed: Condvar,
}

impl Told {
    /// Replaces it.
    pub fn put(&self, status: &Status) {
        let status = Some(Arc::new(status.clone()));
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        self.changed.notify_all();
    }

    /// As it is now; nothing before the lists were read.
    pub fn now(&self) -> Option<Arc<Status>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first that fits, now or within `patience`.
    pub fn wait_for(
        &self,
        patience: Duration,
        fits: impl Fn(&Status) -> bool,
    ) -> Option<Arc<Status>> {
        let deadline = Instant::now() + patience;
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(there) = status.as_ref().filter(|there| fits(there)) {
                return Some(Arc::clone(there));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.changed.wait_timeout(status, left);
            status = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_woken_by_what_fits_and_by_nothing_else() {
        let told = Arc::new(Told::default());
        assert!(told.now().is_none());
        assert!(told.wait_for(Duration::ZERO, |_| true).is_none());
        let teller = Arc::clone(&told);
        let thread = std::thread::spawn(move || {
            for loads in 1..=3 {
                teller.put(&Status { loads, ..Status::default() });
            }
        });
        let found = told.wait_for(Duration::from_secs(20), |status| status.loads == 3);
        assert_eq!(found.map(|status| status.loads), Some(3));
        thread.join().unwrap();
    }
}
