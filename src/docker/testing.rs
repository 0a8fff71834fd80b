//! An engine for tests: a small HTTP server on a Unix socket in a folder of its own, told what to answer and when.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Address;

/// No test waits longer for what it expects.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What the engine knows, and what it was asked.
#[derive(Default)]
pub(super) struct State {
    /// Containers as its lists show them, by id.
    pub(super) containers: HashMap<String, Value>,
    /// Networks as it shows them one by one, by id.
    pub(super) networks: HashMap<String, Value>,
    /// Events that a new subscriber is sent, as if they were from after its `since`.
    pub(super) backlog: Vec<String>,
    /// Answers held back: requests whose path begins so wait until it is taken out.
    pub(super) held: Vec<String>,
    /// Answers that are not as they should be, by the beginning of the path: status and body.
    pub(super) instead: HashMap<String, (u16, String)>,
    /// Paths asked for, without the version, in order.
    pub(super) asked: Vec<String>,
    subscribers: Vec<UnixStream>,
    closed: bool,
}

/// The engine.
pub(super) struct Engine {
    folder: tempfile::TempDir,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Engine {
    /// One that does not listen yet.
    pub(super) fn new() -> Engine {
        Engine { folder: tempfile::tempdir().unwrap(), shared: Arc::default() }
    }

    /// One that listens.
    pub(super) fn listening() -> Engine {
        let engine = Engine::new();
        engine.listen();
        engine
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    pub(super) fn address(&self) -> Address {
        Address::Unix(self.path())
    }

    pub(super) fn listen(&self) {
        let listener = UnixListener::bind(self.path()).unwrap();
        self.state().closed = false;
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.0.lock().unwrap().closed {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || serve(connection.unwrap(), &shared));
            }
        });
    }

    /// Stops listening, and cuts every stream of events.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for subscriber in state.subscribers.drain(..) {
            let _ = subscriber.shutdown(std::net::Shutdown::Both);
        }
        drop(state);
        // Wakes the listener, which ends.
        let _ = UnixStream::connect(self.path());
        std::fs::remove_file(self.path()).unwrap();
    }

    /// Cuts every stream of events.
    pub(super) fn cut(&self) {
        for subscriber in self.state().subscribers.drain(..) {
            let _ = subscriber.shutdown(std::net::Shutdown::Both);
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    /// Changes what the engine knows, and wakes who waits for it.
    pub(super) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.shared.1.notify_all();
    }

    /// Sends lines to everyone who is subscribed.
    pub(super) fn tell(&self, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        for subscriber in &mut self.state().subscribers {
            let _ = chunk(subscriber, &text);
        }
    }

    /// Waits until the engine was asked for something whose path begins so.
    pub(super) fn wait_asked(&self, path: &str) {
        self.wait(|state| state.asked.iter().any(|asked| asked.starts_with(path)));
    }

    /// Waits until somebody is subscribed.
    pub(super) fn wait_subscribed(&self) {
        self.wait(|state| !state.subscribers.is_empty());
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        let (end, mut state) = (Instant::now() + PATIENCE, self.state());
        while !until(&state) {
            assert!(Instant::now() < end, "asked in vain: {:?}", state.asked);
            state = self.shared.1.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
    }
}

fn serve(mut connection: UnixStream, shared: &(Mutex<State>, Condvar)) {
    let Some(path) = request(&connection) else { return };
    let mut state = shared.0.lock().unwrap();
    state.asked.push(path.clone());
    shared.1.notify_all();
    while state.held.iter().any(|held| path.starts_with(held)) {
        state = shared.1.wait(state).unwrap();
    }
    let instead = state.instead.iter().find(|(held, _)| path.starts_with(*held));
    if let Some((_, (status, body))) = instead {
        let _ = answer(&mut connection, *status, body);
        return;
    }
    if path.starts_with("/events") {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = connection.write_all(head.as_bytes());
        let backlog: String = state.backlog.iter().map(|line| format!("{line}\n")).collect();
        if !backlog.is_empty() {
            let _ = chunk(&mut connection, &backlog);
        }
        state.subscribers.push(connection);
        shared.1.notify_all();
        return;
    }
    let (status, body) = state.answer(&path);
    drop(state);
    let _ = answer(&mut connection, status, &body);
}

impl State {
    /// Container `a1` runs.
    pub(super) fn run_a1(&mut self) {
        self.containers.insert("a1".into(), container("a1", "one", "10.1.0.5"));
    }

    /// Container `a1` runs, and network `net` shows nobody but it.
    pub(super) fn attach_a1(&mut self) {
        self.run_a1();
        self.networks.insert("net1".into(), network(&[("a1", "10.1.0.5")]));
    }

    fn answer(&self, path: &str) -> (u16, String) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match path {
            "/version" => {
                let version = json!({ "Version": "99.1", "ApiVersion": "1.52",
                    "Components": [{ "Name": "Engine", "Version": "99.1" }] });
                (200, version.to_string())
            }
            "/_ping" => (200, "OK".to_owned()),
            "/containers/json" => {
                let all = query == "all=1";
                let chosen = self.containers.iter().filter(|(id, _)| all || query.contains(*id));
                let chosen: Vec<&Value> = chosen.map(|(_, container)| container).collect();
                (200, json!(chosen).to_string())
            }
            "/networks" => (200, json!(self.networks.values().collect::<Vec<_>>()).to_string()),
            _ => match path.strip_prefix("/networks/").and_then(|id| self.networks.get(id)) {
                Some(network) => (200, network.to_string()),
                None => (404, json!({ "message": "no such thing" }).to_string()),
            },
        }
    }
}

/// Reads a request, and returns its path without the version.
fn request(connection: &UnixStream) -> Option<String> {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    let first = lines.next()?;
    // No request has a body.
    lines.find(String::is_empty)?;
    let path = first.split(' ').nth(1)?;
    let version = path.strip_prefix("/v1.").and_then(|rest| rest.find('/'));
    Some(version.map_or(path, |digits| &path[4 + digits..]).to_owned())
}

fn answer(connection: &mut UnixStream, status: u16, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(connection, "HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn chunk(connection: &mut UnixStream, text: &str) -> std::io::Result<()> {
    connection.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

/// A running container as a list shows it, attached to network `net`.
pub(super) fn container(id: &str, name: &str, address: &str) -> Value {
    json!({
        "Id": id, "Names": [format!("/{name}")], "Image": "img", "State": "running",
        "Labels": { "synhold.mode": "off", "other": "x" },
        "HostConfig": { "NetworkMode": "net" },
        "NetworkSettings": { "Networks": { "net": {
            "NetworkID": "net1", "EndpointID": "e", "IPAddress": address, "GlobalIPv6Address": "" } } },
    })
}

/// Network `net`, with these containers attached.
pub(super) fn network(attached: &[(&str, &str)]) -> Value {
    let containers: HashMap<&str, Value> = attached
        .iter()
        .map(|(id, address)| (*id, json!({ "IPv4Address": format!("{address}/24") })))
        .collect();
    json!({
        "Id": "net1", "Name": "net", "Driver": "bridge", "Options": {},
        "IPAM": { "Config": [{ "Subnet": "10.1.0.0/24" }] }, "Containers": containers,
    })
}

/// An event of a container.
pub(super) fn event(action: &str, id: &str, at: u64) -> String {
    json!({ "Type": "container", "Action": action, "timeNano": at * 1_000,
        "Actor": { "ID": id, "Attributes": { "name": "renamed" } } })
    .to_string()
}

/// A container's being attached to network `net`, or detached.
pub(super) fn link(action: &str, id: &str, at: u64) -> String {
    json!({ "Type": "network", "Action": action, "timeNano": at * 1_000,
        "Actor": { "ID": "net1", "Attributes": { "container": id, "name": "net" } } })
    .to_string()
}
