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
/// How long a flush may take; whoever asks for one has others waiting behind.
const FLUSH_PATIENCE: Duration = Duration::from_secs(3);

/// What the thread is told.
#[derive(Debug)]
enum Note {
    /// Put what changed into the files, and say whether they have it.
    Flush(Sender<bool>),
    /// Save once more, and end.
    Stop,
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct Notes(Sender<Note>);

impl Notes {
    /// Has everything that changed put into the files, for whoever reads them then. False if they do not get it.
    pub fn flush(&self) -> bool {
        let (done, flushed) = channel();
        self.0.send(Note::Flush(done)).is_ok()
            && flushed.recv_timeout(FLUSH_PATIENCE).unwrap_or(false)
    }
}

/// Saving a large registry takes a while, so it has a thread of its own; dropped, it saves once more.
pub struct Saver {
    notes: Notes,
    ended: Receiver<()>,
}

impl Saver {
    /// Starts it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(mut keeper: Keeper, marks: Arc<Marks>, shared: Arc<Shared>) -> Result<Saver> {
        let (notes, told) = channel();
        let notes = Notes(notes);
        // There is one saver, so nothing is there yet.
        let _ = shared.saver.set(notes.clone());
        let (alive, ended) = channel();
        std::thread::Builder::new()
            .name("save".to_owned())
            .spawn(move || {
                loop {
                    match told.recv_timeout(keeper.pause()) {
                        // Whoever asked may have gone.
                        Ok(Note::Flush(done)) => {
                            let _ = done.send(keeper.flush(&marks, &shared));
                        }
                        Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                        Err(RecvTimeoutError::Timeout) => {}
                    }
                    keeper.tick(&marks, &shared);
                }
                keeper.close(&marks, &shared);
                drop(alive);
            })
            .context("cannot start the thread that saves the registry")?;
        Ok(Saver { notes, ended })
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // It has ended if it does not listen.
        let _ = self.notes.0.send(Note::Stop);
        if self.ended.recv_timeout(SAVE_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the disk does not take the registry; what is new in it is lost");
        }
    }
}
