//! The keyboard, read on a thread of its own, and whether the terminal is still there.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::crossterm::event::{self, Event};

/// Keys that wait to be seen to; who types faster waits.
const EVENTS_MAX: usize = 64;

/// Keys and changes of the terminal's size.
///
/// crossterm reads from a terminal that is gone for ever, without a pause, and never returns. Nobody waits for the
/// thread that does: it ends with the process.
pub(super) struct Keyboard(Receiver<io::Result<Event>>);

impl Keyboard {
    /// Starts to read.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub(super) fn start() -> Result<Keyboard> {
        let (tell, events) = sync_channel(EVENTS_MAX);
        let read = move || {
            loop {
                let event = event::read();
                let failed = event.is_err();
                if tell.send(event).is_err() || failed {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("keyboard".to_owned())
            .spawn(read)
            .context("cannot start to read the keyboard")?;
        Ok(Keyboard(events))
    }

    /// The next key, if one comes within `patience`.
    ///
    /// # Errors
    /// If the keyboard cannot be read.
    pub(super) fn next(&self, patience: Duration) -> Result<Option<Event>> {
        match self.0.recv_timeout(patience) {
            Ok(event) => event.map(Some).context("cannot read the keyboard"),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the keyboard is not read any more"),
        }
    }
}

/// True once nobody is at the other end of the terminal.
pub(super) fn is_hung_up() -> bool {
    let stdin = io::stdin();
    let mut terminal = PollFd::new(stdin.as_fd(), PollFlags::empty());
    let polled = poll(std::slice::from_mut(&mut terminal), PollTimeout::ZERO);
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    polled.is_ok() && terminal.revents().is_some_and(|events| events.intersects(gone))
}
