//! An engine for tests: a socket with containers that have logs, and with a will of its own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::stamp::Stamp;

/// A connection looks up at least this often, so that a test that fails leaves no thread behind.
const TICK: Duration = Duration::from_millis(20);

#[derive(Clone, Default)]
pub struct Fake {
    pub id: String,
    pub started: u32,
    pub running: bool,
    pub terminal: bool,
    /// What the engine says instead of giving a log.
    pub refuses: Option<&'static str>,
    log: Vec<(Stamp, Vec<u8>)>,
}

#[derive(Default)]
struct World {
    containers: BTreeMap<String, Fake>,
    /// What every request is answered with, byte by byte, instead.
    instead: Option<Vec<u8>>,
    /// Grows when all connections are cut.
    cuts: u64,
    follows: u64,
}

type Place = Arc<(Mutex<World>, Condvar)>;

pub struct Engine {
    folder: tempfile::TempDir,
    world: Place,
    listening: Arc<AtomicBool>,
}

pub fn frame(stream: u8, text: &[u8]) -> Vec<u8> {
    let mut frame = vec![stream, 0, 0, 0];
    frame.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(text);
    frame
}

impl Engine {
    pub fn start() -> Engine {
        let engine = Engine {
            folder: tempfile::tempdir().unwrap(),
            world: Arc::default(),
            listening: Arc::default(),
        };
        engine.come_back();
        engine
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    /// Listens, until it goes away.
    pub fn come_back(&self) {
        let listener = UnixListener::bind(self.path()).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.listening.store(true, Ordering::SeqCst);
        let (world, listening) = (Arc::clone(&self.world), Arc::clone(&self.listening));
        std::thread::spawn(move || {
            while listening.load(Ordering::SeqCst) {
                let Ok((connection, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                connection.set_nonblocking(false).unwrap();
                let world = Arc::clone(&world);
                std::thread::spawn(move || serve(connection, &world));
            }
        });
    }

    pub fn go_away(&self) {
        self.listening.store(false, Ordering::SeqCst);
        std::fs::remove_file(self.path()).unwrap();
        self.cut();
    }

    fn change<R>(&self, change: impl FnOnce(&mut World) -> R) -> R {
        let result = change(&mut self.world.0.lock().unwrap());
        self.world.1.notify_all();
        result
    }

    /// Cuts every connection, in the middle of whatever is on its way.
    pub fn cut(&self) {
        self.change(|world| world.cuts += 1);
    }

    /// Logs asked for to be followed so far.
    pub fn follows(&self) -> u64 {
        self.change(|world| world.follows)
    }

    pub fn answer_with(&self, bytes: Option<&[u8]>) {
        self.change(|world| world.instead = bytes.map(<[u8]>::to_vec));
    }

    /// Runs a container with an empty log.
    pub fn run(&self, name: &str, id: &str) {
        let fake = Fake { id: id.to_owned(), running: true, ..Fake::default() };
        self.change(|world| world.containers.insert(name.to_owned(), fake));
    }

    pub fn remove(&self, name: &str) {
        self.change(|world| world.containers.remove(name));
    }

    pub fn change_name(&self, name: &str, to: &str) {
        self.change(|world| {
            let fake = world.containers.remove(name).unwrap();
            world.containers.insert(to.to_owned(), fake);
        });
    }

    pub fn set(&self, name: &str, change: impl FnOnce(&mut Fake)) {
        self.change(|world| change(world.containers.get_mut(name).unwrap()));
    }

    /// A line of a container, at a time in nanoseconds.
    pub fn write(&self, name: &str, stream: u8, at: u64, text: &str) {
        let time = std::time::UNIX_EPOCH + Duration::from_nanos(at);
        let stamped = format!("{} {text}", humantime::format_rfc3339_nanos(time));
        self.set(name, |fake| {
            let bytes = match fake.terminal {
                true => format!("{stamped}\r\n").into_bytes(),
                false => frame(stream, format!("{stamped}\n").as_bytes()),
            };
            fake.log.push((Stamp(at), bytes));
        });
    }

    /// Bytes of a log as they are.
    pub fn write_raw(&self, name: &str, at: u64, bytes: &[u8]) {
        self.set(name, |fake| fake.log.push((Stamp(at), bytes.to_vec())));
    }

    /// Takes the last of a log back.
    pub fn unwrite(&self, name: &str) {
        self.set(name, |fake| drop(fake.log.pop()));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.listening.store(false, Ordering::SeqCst);
        self.cut();
    }
}

fn serve(mut to: UnixStream, world: &Place) {
    let mut reader = BufReader::new(to.try_clone().unwrap());
    let cuts = world.0.lock().unwrap().cuts;
    loop {
        let mut target = String::new();
        if reader.read_line(&mut target).unwrap_or(0) == 0 {
            return;
        }
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
        }
        let instead = world.0.lock().unwrap().instead.clone();
        if let Some(bytes) = instead {
            let _ = to.write_all(&bytes);
            return;
        }
        let target = target.split(' ').nth(1).unwrap().to_owned();
        if answer(&mut to, &target, world, cuts).is_none() {
            return;
        }
    }
}

fn whole(to: &mut UnixStream, status: &str, body: &str) -> Option<()> {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    to.write_all(text.as_bytes()).ok()
}

fn answer(to: &mut UnixStream, target: &str, world: &Place, cuts: u64) -> Option<()> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path.ends_with("/version") {
        return whole(to, "200 OK", r#"{"ApiVersion":"1.41","Version":"20.10.24"}"#);
    }
    let asked: Vec<&str> = path.split('/').collect();
    assert_eq!(asked.get(1..3), Some(&["v1.41", "containers"][..]), "{target}");
    let (name, what) = (asked[3], asked[4]);
    let fake = {
        let world = world.0.lock().unwrap();
        let by_id = || world.containers.values().find(|fake| fake.id == name);
        world.containers.get(name).or_else(by_id).cloned()
    };
    let Some(fake) = fake else {
        return whole(to, "404 Not Found", r#"{"message":"No such container: x"}"#);
    };
    if what == "json" {
        let body = format!(
            r#"{{"Id":"{}","State":{{"Running":{},"StartedAt":"{}","Status":"new word"}},"Config":{{"Tty":{}}},"New":null}}"#,
            fake.id, fake.running, fake.started, fake.terminal
        );
        return whole(to, "200 OK", &body);
    }
    if let Some(words) = fake.refuses {
        return whole(to, "501 Not Implemented", &format!(r#"{{"message":"{words}"}}"#));
    }
    let of = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key));
    for wanted in ["stdout=1", "stderr=1", "timestamps=1"] {
        assert!(query.contains(wanted), "{query}");
    }
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    to.write_all(head.as_bytes()).ok()?;
    if of("follow=").is_none() {
        assert_eq!(of("tail="), Some("1"));
        let last = fake.log.last().map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        return chunk(to, &last).and_then(|()| to.write_all(b"0\r\n\r\n").ok());
    }
    let since = of("since=").map_or(0, |since| since.parse().unwrap());
    let tail: usize = of("tail=").unwrap().parse().unwrap();
    follow(to, &fake, (tail, since), world, cuts)
}

fn chunk(to: &mut UnixStream, bytes: &[u8]) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    let head = format!("{:x}\r\n", bytes.len());
    to.write_all(&[head.as_bytes(), bytes, b"\r\n"].concat()).ok()
}

/// Sends what is there and what comes, until the container stops.
fn follow(
    to: &mut UnixStream,
    fake: &Fake,
    (tail, since): (usize, u64),
    world: &Place,
    cuts: u64,
) -> Option<()> {
    let mut sent = fake.log.len().saturating_sub(tail);
    world.0.lock().unwrap().follows += 1;
    loop {
        let mut state = world.0.lock().unwrap();
        if state.cuts != cuts {
            return None;
        }
        let now = state.containers.values().find(|now| now.id == fake.id).cloned();
        let log = now.as_ref().map_or(&[][..], |now| &now.log);
        let due: Vec<Vec<u8>> = log
            .iter()
            .skip(sent)
            .filter(|(at, _)| at.0 / 1_000_000_000 >= since)
            .map(|(_, bytes)| bytes.clone())
            .collect();
        sent = sent.max(log.len());
        if due.is_empty() {
            let ended = now.is_none_or(|now| !now.running || now.started != fake.started);
            if ended {
                drop(state);
                return to.write_all(b"0\r\n\r\n").ok();
            }
            state = world.1.wait_timeout(state, TICK).unwrap().0;
            drop(state);
            continue;
        }
        drop(state);
        chunk(to, &due.concat())?;
    }
}
