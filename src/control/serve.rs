//! The thread that answers, everybody in turns.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::Value;

use super::connection::{Answerer, Connection, Turn};
use super::listen::Listener;
use super::protocol::{Fault, FaultKind, Question};

/// Clients at once: some people and a few programs that watch.
pub const CONNECTIONS_MAX: usize = 16;
/// Those beyond that are told so, as long as this many of them listen.
const REFUSED_MAX: usize = 16;
/// Pause where the system gives no descriptor for one more client.
const PAUSE: Duration = Duration::from_millis(100);

/// The running thread. Dropping it ends it and takes the socket away.
#[derive(Debug)]
pub struct Server {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers what is asked on `listener`. `answerer` is never asked twice at once.
    ///
    /// # Errors
    /// If the system gives no thread or descriptor.
    pub fn start(
        listener: Listener,
        mut answerer: impl FnMut(Question) -> Result<Value, Fault> + Send + 'static,
    ) -> io::Result<Server> {
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let ear = Arc::clone(&stop);
        let serve = move || serve(&listener, &ear, &mut answerer);
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(serve)?;
        Ok(Server { stop, thread: Some(thread) })
    }

    /// True if it ended although nobody told it to.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when the counter is full, and then the thread is awake anyway.
        let _ = self.stop.write(1);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that answers questions panicked");
        }
    }
}

fn serve(listener: &Listener, stop: &EventFd, answerer: &mut Answerer<'_>) {
    let mut clients: Vec<Connection> = Vec::new();
    // A client with more to do is not waited for.
    let mut busy = false;
    loop {
        let mut descriptors = vec![
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        descriptors.extend(clients.iter().map(|c| PollFd::new(c.as_fd(), c.waits_for())));
        let nap = if busy { PollTimeout::ZERO } else { nap(&clients) };
        // An interrupted wait is a short wait.
        let _ = poll(&mut descriptors, nap);
        let ready: Vec<bool> =
            descriptors.iter().map(|one| one.any().unwrap_or_default()).collect();
        if ready.first() == Some(&true) {
            return;
        }
        busy = false;
        let now = Instant::now();
        clients.retain_mut(|client| match client.turn(answerer, now) {
            Turn::Over => false,
            Turn::Wait => client.deadline() > now,
            Turn::More => {
                busy = true;
                client.deadline() > now
            }
        });
        if ready.get(1) == Some(&true) {
            accept(listener, &mut clients, now);
        }
    }
}

fn nap(clients: &[Connection]) -> PollTimeout {
    let Some(first) = clients.iter().map(Connection::deadline).min() else {
        return PollTimeout::NONE;
    };
    let left = first.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

fn accept(listener: &Listener, clients: &mut Vec<Connection>, now: Instant) {
    while clients.len() < CONNECTIONS_MAX + REFUSED_MAX {
        let stream = match listener.accept() {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!("cannot accept a client: {error}");
                std::thread::sleep(PAUSE);
                return;
            }
        };
        clients.push(match admission(&stream, clients.len()) {
            Ok(()) => Connection::new(stream, now),
            Err(fault) => Connection::refused(stream, fault, now),
        });
    }
}

fn admission(stream: &UnixStream, clients: usize) -> Result<(), Fault> {
    let uid = getsockopt(stream, PeerCredentials).map(|peer| peer.uid());
    if !uid.is_ok_and(|uid| is_welcome(uid, nix::unistd::geteuid().as_raw())) {
        let text = "only root and the daemon's own user may ask";
        return Err(Fault::new(FaultKind::NotAllowed, text));
    }
    if clients >= CONNECTIONS_MAX {
        let text = format!("{CONNECTIONS_MAX} others ask already: try again");
        return Err(Fault::new(FaultKind::Busy, text));
    }
    Ok(())
}

fn is_welcome(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

#[cfg(test)]
#[path = "serve_test.rs"]
mod tests;
