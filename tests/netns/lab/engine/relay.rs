//! A way to the engine that can be held up: what it says then comes late, as from an engine under load.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use super::Engine;

/// A socket that passes everything on to the engine's; ends when dropped.
#[derive(Debug)]
pub struct Relay {
    path: PathBuf,
    listener: UnixListener,
    gate: Arc<Gate>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    over: bool,
}

impl Engine {
    /// Another way to this engine, open.
    ///
    /// # Panics
    /// When there is one already.
    pub fn relay(&self) -> Relay {
        let path = self.dir.join("relay.sock");
        let listener = UnixListener::bind(&path).expect("one relay for an engine");
        let (gate, engine) = (Arc::new(Gate::default()), self.socket());
        let at_gate = Arc::clone(&gate);
        let incoming = listener.try_clone().expect("clone");
        let thread = std::thread::spawn(move || accept(&incoming, &engine, &at_gate));
        Relay { path, listener, gate, thread: Some(thread) }
    }
}

impl Relay {
    /// Where it listens, as `DOCKER_HOST` says it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Keeps what the engine says from now on until [`Relay::release`].
    pub fn hold(&self) {
        self.gate.change(|state| state.held = true);
    }

    /// Lets go what was kept, and all that follows.
    pub fn release(&self) {
        self.gate.change(|state| state.held = false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.gate.change(|state| state.over = true);
        // Wakes who waits for the next connection, also where the socket's file is gone already.
        let _ =
            nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Gate {
    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until it is open; false when all is over.
    fn pass(&self) -> bool {
        let state = self.state.lock().unwrap();
        !self.changed.wait_while(state, |state| state.held && !state.over).unwrap().over
    }
}

fn accept(listener: &UnixListener, engine: &Path, gate: &Arc<Gate>) {
    let mut streams = Vec::new();
    for client in listener.incoming().map_while(Result::ok) {
        if gate.state.lock().unwrap().over {
            break;
        }
        let Ok(server) = UnixStream::connect(engine) else { continue };
        let clone = |stream: &UnixStream| stream.try_clone().expect("clone");
        streams.extend([clone(&client), clone(&server)]);
        copy(clone(&client), clone(&server), || true);
        let gate = Arc::clone(gate);
        copy(server, client, move || gate.pass());
    }
    for stream in streams {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Copies until either side ends, asking before each piece whether it may pass.
fn copy(mut from: UnixStream, mut to: UnixStream, may: impl Fn() -> bool + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16_384];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            if !may() || to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}
