//! The verdict threads together: started before the rules, drained before they go.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::lane::{Lane, Opener};
use super::shared::{Phase, Shared};
use crate::config::Config;
use crate::engine::Mode;
use crate::nfq::{self, KernelLink};
use crate::nftables::{Posture, names::REFUSE_MARK};

/// How long the verdict threads may take to answer what is held at stop; they need microseconds.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// The verdict threads. Dropping them closes the queues.
pub struct Lanes {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    drained: Receiver<()>,
    ended: Receiver<()>,
}

impl Lanes {
    /// Opens the queues and starts a thread for each.
    ///
    /// # Errors
    /// If a queue or a thread cannot be had.
    pub fn start(config: &Config, shared: &Arc<Shared>) -> Result<Lanes> {
        let (tell, drained) = channel();
        let fail_open = config.rules.posture == Posture::Open || config.engine.mode == Mode::DryRun;
        let opened: Vec<Lane<KernelLink>> = (0..config.rules.queues)
            .map(|number| {
                let queue = config.rules.queue_num + number;
                let options = nfq::Options { number: queue, fail_open, refuse_mark: REFUSE_MARK };
                let open: Opener<KernelLink> = Box::new(move || KernelLink::open(options));
                Lane::open(number, open, Arc::clone(shared), tell.clone())
            })
            .collect::<std::io::Result<_>>()?;
        let (alive, ended) = channel::<()>();
        let mut lanes = Lanes { shared: Arc::clone(shared), threads: Vec::new(), drained, ended };
        let mut failed = None;
        for lane in opened {
            let alive = alive.clone();
            let run = move || {
                lane.run();
                drop(alive);
            };
            match std::thread::Builder::new().name("verdict".to_owned()).spawn(run) {
                Ok(thread) => lanes.threads.push(thread),
                Err(error) => failed = Some(error),
            }
        }
        // Before `lanes` can be dropped: it waits until nobody has a sender any more.
        drop(alive);
        failed.map_or(Ok(lanes), Err).context("cannot start a verdict thread")
    }

    /// True if a verdict thread has ended although nobody told it to.
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Answers everything held; new packets are answered at once from here on.
    pub fn drain(&self) {
        self.shared.set_phase(Phase::Drain);
        for _ in &self.threads {
            if self.drained.recv_timeout(DRAIN_PATIENCE).is_err() {
                return tracing::error!(
                    "a verdict thread does not answer; its packets are dropped with its queue"
                );
            }
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.shared.set_phase(Phase::Close);
        if self.ended.recv_timeout(DRAIN_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("a verdict thread does not end; its queue goes with the process");
        }
    }
}
