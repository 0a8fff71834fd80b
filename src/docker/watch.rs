//! The watching thread: one conversation after another until it is stopped.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::connect::Address;
use super::session::{self, Lost};
use super::voice::{Listener, Voice};

/// First pause after a conversation ended, and the longest. Short, since the engine is on this host: a restarted one
/// starts containers as soon as it listens.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// Said when there is no socket.
const NOBODY: &str = "no engine listens there (no such socket)";

/// An engine being watched. Ends when it is stopped or dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Option<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Ends the watching thread and waits for it; the listener is told nothing from then on.
    pub fn stop(mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended as well.
            let _ = thread.join();
        }
    }
}

/// Watches the engine at `address` from a thread of its own, and tells `listener` until stopped.
///
/// It need not be there: it is waited for, as it is when it goes away.
///
/// # Errors
/// If the process can have no more threads or file descriptors.
pub fn watch(address: Address, mut listener: impl Listener + 'static) -> std::io::Result<Watch> {
    let (stop, stopped) = watch::channel(false);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("docker".to_owned()).spawn(move || {
        follow(&address, &mut Voice::new(&mut listener), &runtime, stopped);
    })?;
    Ok(Watch { stop: Some(stop), thread: Some(thread) })
}

fn follow(
    address: &Address,
    voice: &mut Voice<'_>,
    runtime: &Runtime,
    mut stopped: watch::Receiver<bool>,
) {
    let mut pause = PAUSES.0;
    loop {
        // A panic in what reads the engine's answers must not leave us blind for good.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                tokio::select! {
                    // The sender is dropped: there is never a value.
                    _ = stopped.changed() => None,
                    ended = session::run(address, voice) => Some(ended),
                }
            })
        }));
        let why = match ended {
            Ok(None) => return,
            Ok(Some(Ok(()))) => None,
            Ok(Some(Err(lost))) => Some(reason(address, &lost)),
            Err(panic) => Some(format!("a fault of ours in reading {address}: {}", said(&*panic))),
        };
        if voice.take_heard() {
            pause = PAUSES.0;
        }
        let Some(why) = why else { continue };
        voice.down(&why);
        let stop = runtime
            .block_on(async { tokio::time::timeout(pause, stopped.changed()).await.is_ok() });
        if stop {
            return;
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Why the engine is not heard, in the words of whatever failed first.
fn reason(address: &Address, lost: &Lost) -> String {
    use bollard::errors::Error as Engine;

    use super::raw::AskError;
    let why = match lost {
        Lost::Ask(AskError::Engine(Engine::SocketNotFoundError(_))) => NOBODY.to_owned(),
        Lost::Ask(AskError::Engine(Engine::DockerResponseServerError { status_code, message })) => {
            format!("the engine answered {status_code}: {}", message.trim())
        }
        Lost::Ask(AskError::Engine(Engine::RequestTimeoutError)) => {
            "the engine does not answer".to_owned()
        }
        lost => {
            let mut cause: &dyn Error = lost;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            // The socket went away between two questions.
            match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
                Some(std::io::ErrorKind::NotFound) => NOBODY.to_owned(),
                _ => cause.to_string(),
            }
        }
    };
    format!("{address}: {why}")
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

#[cfg(test)]
#[path = "watch_test.rs"]
mod tests;
