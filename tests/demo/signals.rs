//! An interrupt is noted, not obeyed at once: the lab has to be taken down first. For the demo and the benchmark.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// True once somebody wants the demo to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(SeqCst)
}

/// Notes the first signal that comes. By handlers, not by a mask: what the lab starts would inherit that.
pub fn watch_signals() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.expect("a runtime for signals");
    let [mut interrupt, mut terminate, mut hangup] = {
        let _inside = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(|kind| signal(kind).expect("listen for signals"))
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        INTERRUPTED.store(true, SeqCst);
        // The runtime, and with it the handlers, stay: a second signal must not cut the cleaning up short.
        loop {
            std::thread::park();
        }
    });
}
