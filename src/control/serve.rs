//! The thread that answers, everybody in turns.

use std::io;
use std::os::fd::AsFd as _;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connection::{Answerer, Connection, Turn};
use super::listen::Listener;
use super::peer::Peer;
use super::protocol::{Fault, FaultKind, Question};
use super::said::Bell;

/// Clients at once: some people and a few programs that watch.
pub const CONNECTIONS_MAX: usize = 16;
/// Room for those who may change things, however many others ask.
const MASTERS_MIN: usize = 4;
/// How many of them may follow, so that there is always room for a question.
pub const FOLLOWERS_MAX: usize = 8;
/// Of these places, those that only who may change things can have.
const FOLLOWING_MASTERS_MIN: usize = 2;
/// Those beyond that are told so, as long as this many of them listen.
const REFUSED_MAX: usize = 16;
/// Pause where the system gives no descriptor for one more client.
const PAUSE: Duration = Duration::from_millis(100);

/// The running thread. Dropping it ends it and takes the socket away.
#[derive(Debug)]
pub struct Server {
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers what is asked on `listener`. `answerer` rings `bell` for what comes later.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        listener: Listener,
        bell: Bell,
        mut answerer: impl Answerer + Send + 'static,
    ) -> io::Result<Server> {
        let ear = bell.clone();
        let serve = move || serve(&listener, &ear, &mut answerer);
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(serve)?;
        Ok(Server { bell, thread: Some(thread) })
    }

    /// True if it ended although nobody told it to.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.bell.stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that answers questions panicked");
        }
    }
}

fn serve(listener: &Listener, bell: &Bell, answerer: &mut dyn Answerer) {
    let mut clients: Vec<Connection> = Vec::new();
    // A client with more to do is not waited for.
    let mut busy = false;
    loop {
        let mut descriptors = vec![
            PollFd::new(bell.descriptor().as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        descriptors.extend(clients.iter().map(|c| PollFd::new(c.as_fd(), c.waits_for())));
        let nap = if busy { PollTimeout::ZERO } else { nap(&clients) };
        // An interrupted wait is a short wait.
        let _ = poll(&mut descriptors, nap);
        let ready: Vec<bool> =
            descriptors.iter().map(|one| one.any().unwrap_or_default()).collect();
        let now = Instant::now();
        if bell.is_stopped() {
            clients.iter_mut().for_each(|client| client.farewell(now));
            return clients.iter().for_each(|client| answerer.left(client.peer()));
        }
        // Before the clients look for what it was rung for: what is rung meanwhile counts again.
        bell.hush();
        busy = serve_clients(&mut clients, answerer, now);
        if ready.get(1) == Some(&true) {
            accept(listener, &mut clients, now);
        }
    }
}

/// Gives every client its turn, those who may change things first; true if one has more to do at once.
fn serve_clients(clients: &mut Vec<Connection>, answerer: &mut dyn Answerer, now: Instant) -> bool {
    let mut busy = false;
    let mut followers = clients.iter().filter(|client| client.follows()).count();
    clients.sort_by_key(|client| !client.peer().may_change);
    clients.retain_mut(|client| {
        let before = client.follows();
        let kept = if client.peer().may_change { 0 } else { FOLLOWING_MASTERS_MIN };
        let most = FOLLOWERS_MAX - kept;
        let turn = client.turn(
            &mut |peer: &Peer, question: Question| match question.follows() && followers >= most {
                true => Err(too_many_follow(most)),
                false => answerer.answer(peer, question),
            },
            now,
        );
        followers += usize::from(client.follows() && !before);
        let in_time = client.deadline().is_none_or(|deadline| deadline > now);
        if turn != Turn::Over
            && !in_time
            && let Some(told) = client.obituary()
        {
            tracing::warn!("{told}");
        }
        busy |= turn == Turn::More;
        let stays = turn != Turn::Over && in_time;
        if !stays {
            answerer.left(client.peer());
        }
        stays
    });
    busy
}

fn too_many_follow(most: usize) -> Fault {
    let text = format!("{most} others follow already: ask without \"follow\", or try again");
    Fault::new(FaultKind::Busy, text)
}

fn nap(clients: &[Connection]) -> PollTimeout {
    let Some(first) = clients.iter().filter_map(Connection::deadline).min() else {
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
        let peer = Peer::of(&stream);
        let most = if peer.may_change { CONNECTIONS_MAX } else { CONNECTIONS_MAX - MASTERS_MIN };
        clients.push(match clients.len() < most {
            true => Connection::new(stream, peer, now),
            false => Connection::refused(stream, peer, too_many(most), now),
        });
    }
}

fn too_many(most: usize) -> Fault {
    let text = format!("{most} others ask already: try again");
    Fault::new(FaultKind::Busy, text)
}

#[cfg(test)]
#[path = "serve_test.rs"]
mod tests;
