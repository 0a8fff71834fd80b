//! Alerts: read along with the events, told to each sink once and counted then, and never waited for.
//!
//! One thread makes alerts of events and of what it looks at every second; each sink has a gate, a short queue, and a thread
//! that waits for it. Whatever hangs, hangs there alone. Sinks come and go with the configuration; the others do not notice.

mod outlet;
mod sluice;
mod state;
mod teller;
mod translate;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use super::shared::Shared;
use crate::alert::Sink;
use crate::config::Config;
use crate::engine::event::{Body, Reload};
use teller::{FLUSH_PATIENCE, LAST_PATIENCE, NAP, Teller};
pub use translate::test_notice;

/// The sinks that are configured, if there are any. Dropping it sends what waits, unless that takes too long.
pub struct Notices {
    shared: Arc<Shared>,
    running: Option<Running>,
}

/// The thread that tells them.
struct Running {
    stop: Arc<AtomicBool>,
    orders: Sender<Vec<Sink>>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// Starts what the configuration asks for. Judging does not depend on it.
pub fn start(config: &Config, shared: &Arc<Shared>) -> Notices {
    let asked = !config.alerts.is_empty();
    // What was wrong before anybody could be told is news too.
    let running = asked.then(|| Running::start(&config.alerts, shared, true)).flatten();
    Notices { shared: Arc::clone(shared), running }
}

impl Notices {
    /// These sinks from now on. One that is as it was keeps what waits for it, what it was told and how it does; one that is
    /// gone, or is another now, still gets what waits for it, for a short while.
    pub fn set(&mut self, sinks: &[Sink]) {
        if let Some(running) = &self.running
            && running.orders.send(sinks.to_vec()).is_ok()
        {
            return;
        }
        if !sinks.is_empty() {
            // What happened before somebody wanted to know is in the log.
            self.running = Running::start(sinks, &self.shared, false);
            tell(&self.shared);
        }
    }
}

/// That sinks are as the file says by now.
fn tell(shared: &Shared) {
    shared.event(Body::Reload(Reload { what: "alerts".to_owned(), lists: None, asked: None }));
}

impl Running {
    fn start(sinks: &[Sink], shared: &Arc<Shared>, with_recent: bool) -> Option<Running> {
        let ((orders, changes), stop) = (channel(), Arc::new(AtomicBool::new(false)));
        let mut teller = Teller::new(shared, changes, Arc::clone(&stop), with_recent);
        teller.set(sinks);
        let (alive, ended) = channel();
        let run = move || {
            teller.run();
            drop(alive);
        };
        let thread = std::thread::Builder::new().name("alerts".to_owned()).spawn(run);
        let thread = thread
            .inspect_err(|error| {
                let message = format!("nobody is told of anything: {error}");
                shared.report_health("alerts", false, message);
            })
            .ok()?;
        Some(Running { stop, orders, ended, thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let patience = FLUSH_PATIENCE + LAST_PATIENCE + NAP * 2;
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("alerts that wait are not sent");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the alerts panicked");
        }
    }
}

#[cfg(test)]
#[path = "notices_test.rs"]
mod tests;
