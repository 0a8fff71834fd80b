//! The thread that saves the registry.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};

use super::marks::Marks;
use super::persist::Keeper;
use super::shared::Shared;

/// How long the last save may take at stop; a disk that hangs must not keep us.
const SAVE_PATIENCE: Duration = Duration::from_secs(20);

/// Saving a large registry takes a while, so it has a thread of its own; dropped, it saves once more.
pub struct Saver {
    stop: Option<Sender<()>>,
    ended: Receiver<()>,
}

impl Saver {
    /// Starts it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(mut keeper: Keeper, marks: Arc<Marks>, shared: Arc<Shared>) -> Result<Saver> {
        let (stop, stopped) = channel::<()>();
        let (alive, ended) = channel();
        std::thread::Builder::new()
            .name("save".to_owned())
            .spawn(move || {
                let save = |keeper: &mut Keeper| {
                    // In this order: a mark that is on disk without its records would hide them for good.
                    let reached = marks.reached();
                    if keeper.save(&shared) {
                        marks.save(&reached);
                    }
                };
                while stopped.recv_timeout(keeper.pause()) == Err(RecvTimeoutError::Timeout) {
                    save(&mut keeper);
                }
                save(&mut keeper);
                drop(alive);
            })
            .context("cannot start the thread that saves the registry")?;
        Ok(Saver { stop: Some(stop), ended })
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.stop = None;
        if self.ended.recv_timeout(SAVE_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the disk does not take the registry; what is new in it is lost");
        }
    }
}
