//! A container's log against an engine that goes away, comes back, cuts, lies and says no.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::fake::{Engine, frame};
use super::*;

/// A passing test never waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const SECOND: u64 = 1_000_000_000;
/// When the tests take place.
const T: u64 = 1_795_322_277 * SECOND;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    History,
    Line(String),
    Skip(Skip),
    Up,
    Down(String),
}

struct Teller(Sender<Heard>);

impl Listener for Teller {
    fn history(&mut self, _: Wall, _: Wall) {
        let _ = self.0.send(Heard::History);
    }
    fn behind(&mut self) {}
    fn line(&mut self, _: Wall, line: Result<&[u8], Skip>) {
        let heard = line.map(|line| Heard::Line(String::from_utf8_lossy(line).into_owned()));
        let _ = self.0.send(heard.unwrap_or_else(Heard::Skip));
    }
    fn caught_up(&mut self) {}
    fn up(&mut self) {
        let _ = self.0.send(Heard::Up);
    }
    fn down(&mut self, why: &str) {
        let _ = self.0.send(Heard::Down(why.to_owned()));
    }
}

struct Following {
    stop: Arc<EventFd>,
    heard: Receiver<Heard>,
    thread: Option<JoinHandle<()>>,
}

impl Following {
    fn start(engine: &Engine) -> Following {
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
        let (teller, heard) = channel();
        let (raised, address) = (Arc::clone(&stop), Address::Unix(engine.path()));
        let since = Wall((T - 3_600 * SECOND) / 1_000);
        let thread = std::thread::spawn(move || {
            follow(&address, "dns", since, raised.as_fd(), &mut Teller(teller));
        });
        Following { stop, heard, thread: Some(thread) }
    }

    /// Waits for what `wanted` picks, and gives all that came before it too.
    fn until(&self, wanted: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let mut all = Vec::new();
        while !all.last().is_some_and(&wanted) {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(heard) => all.push(heard),
                Err(error) => panic!("{error} after {all:?}"),
            }
        }
        all
    }

    fn up(&self) -> Vec<Heard> {
        self.until(|heard| *heard == Heard::Up)
    }

    fn down(&self, part: &str) {
        self.until(|heard| matches!(heard, Heard::Down(why) if why.contains(part)));
    }

    /// Waits for these lines, and no other, whatever comes between them.
    fn lines(&self, texts: &[&str]) {
        for text in texts {
            let got = self.until(|heard| matches!(heard, Heard::Line(_)));
            assert_eq!(got.last(), Some(&Heard::Line((*text).to_owned())), "{got:?}");
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let begun = Instant::now();
        self.stop.write(1).unwrap();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
        assert!(std::thread::panicking() || begun.elapsed() < Duration::from_secs(1));
    }
}

fn up(lines: &[&str]) -> (Engine, Following) {
    let engine = Engine::start();
    engine.run("dns", "a1");
    for (n, text) in (0..).zip(lines) {
        engine.write("dns", 2, T + n, text);
    }
    let following = Following::start(&engine);
    let heard = following.up();
    let lines = lines.iter().map(|text| Heard::Line((*text).to_owned()));
    let wanted: Vec<Heard> = [Heard::History].into_iter().chain(lines).chain([Heard::Up]).collect();
    assert_eq!(heard, wanted);
    (engine, following)
}

#[test]
fn history_comes_first_and_both_streams_follow() {
    let (engine, following) = up(&["one", "two"]);
    engine.write("dns", 1, T + 10, "three");
    engine.write("dns", 2, T + 9, "four");
    following.lines(&["three", "four"]);
}

#[test]
fn a_cut_is_followed_by_neither_gap_nor_repetition() {
    let (engine, following) = up(&["a", "b"]);
    // All of one time, as an engine that tells seconds would have it.
    for round in 0..5 {
        let names: Vec<String> = (0..7).map(|n| format!("{round}.{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in &names[..4] {
            engine.write("dns", 1, T + 5, name);
        }
        following.lines(&names[..4]);
        // In the middle of a line, which then comes whole.
        let follows = engine.follows();
        engine.write_raw("dns", T + 5, &frame(1, b"2026-11-22T04:37:57Z 0.")[..20]);
        engine.cut();
        engine.unwrite("dns");
        for name in &names[4..] {
            engine.write("dns", 1, T + 5, name);
        }
        following.lines(&names[4..]);
        assert!(engine.follows() > follows);
    }
}

#[test]
fn a_line_stamped_before_the_last_one_seen_is_not_lost_in_a_cut() {
    let (engine, following) = up(&["a"]);
    engine.write("dns", 1, T + 9, "b");
    following.lines(&["b"]);
    engine.cut();
    engine.write("dns", 2, T + 8, "c");
    following.lines(&["c"]);
}

#[test]
fn an_engine_that_goes_away_is_found_again() {
    let (engine, following) = up(&["a"]);
    engine.go_away();
    following.down("no engine at");
    engine.write("dns", 1, T + 5, "meanwhile");
    engine.come_back();
    let heard = following.up();
    let lines: Vec<_> = heard.iter().filter(|heard| matches!(heard, Heard::Line(_))).collect();
    assert_eq!(lines, [&Heard::Line("meanwhile".to_owned())]);
}

#[test]
fn a_container_that_is_not_there_is_waited_for() {
    let engine = Engine::start();
    let following = Following::start(&engine);
    following.down("there is no container dns");
    engine.run("dns", "a1");
    assert_eq!(following.up().last_chunk(), Some(&[Heard::History, Heard::Up]));
    engine.write("dns", 1, T, "line");
    following.lines(&["line"]);
}

#[test]
fn a_container_that_stops_is_down_until_it_starts_again() {
    let (engine, following) = up(&["a"]);
    engine.write("dns", 1, T + 1, "last");
    engine.set("dns", |fake| fake.running = false);
    following.lines(&["last"]);
    following.down("container dns does not run");
    let follows = engine.follows();
    following.down("container dns does not run");
    assert_eq!(engine.follows(), follows, "its log is read out");
    engine.write("dns", 1, T + 2, "first");
    engine.set("dns", |fake| (fake.started, fake.running) = (1, true));
    following.lines(&["first"]);
    following.up();
}

#[test]
fn what_a_stopped_container_logged_is_read_and_it_is_not_up() {
    let engine = Engine::start();
    engine.run("dns", "a1");
    engine.write("dns", 1, T, "old");
    engine.set("dns", |fake| fake.running = false);
    let following = Following::start(&engine);
    let heard = following.until(|heard| matches!(heard, Heard::Down(_)));
    let down = Heard::Down("container dns does not run".to_owned());
    assert_eq!(heard, [Heard::History, Heard::Line("old".to_owned()), down]);
}

#[test]
fn a_container_made_again_goes_on_under_its_name() {
    let (engine, following) = up(&["a"]);
    engine.write("dns", 1, T + SECOND, "b");
    following.lines(&["b"]);
    engine.remove("dns");
    following.down("there is no container dns");
    engine.run("dns", "b2");
    // Not before what was seen last.
    engine.write("dns", 1, T + SECOND, "seen");
    engine.write("dns", 1, T + 2 * SECOND, "c");
    following.lines(&["c"]);
}

#[test]
fn a_name_that_moves_to_another_container_is_followed() {
    let (engine, following) = up(&["a"]);
    // The old one runs on under another name, and so does its log.
    engine.change_name("dns", "old");
    engine.run("dns", "b2");
    following.down("was started anew");
    engine.write("old", 1, T + 2 * SECOND, "not ours");
    engine.write("dns", 1, T + 3 * SECOND, "ours");
    following.lines(&["ours"]);
}

#[test]
fn a_terminal_is_read_too() {
    let engine = Engine::start();
    engine.run("dns", "a1");
    engine.set("dns", |fake| fake.terminal = true);
    engine.write("dns", 1, T, "one");
    let following = Following::start(&engine);
    following.lines(&["one"]);
    following.up();
    engine.write_raw("dns", T + 1, &vec![b'x'; 1 << 20]);
    engine.write("dns", 1, T + 2, "end of the long line");
    engine.write("dns", 1, T + 3, "two");
    let heard = following.until(|heard| matches!(heard, Heard::Line(_)));
    assert_eq!(heard, [Heard::Skip(Skip::Malformed), Heard::Line("two".to_owned())]);
    engine.cut();
    engine.write("dns", 1, T + 4, "three");
    following.lines(&["three"]);
}

#[test]
fn a_log_that_cannot_be_read_says_why() {
    let engine = Engine::start();
    engine.run("dns", "a1");
    let words = "configured logging driver does not support reading";
    engine.set("dns", |fake| fake.refuses = Some(words));
    let following = Following::start(&engine);
    following.down(words);
    engine.set("dns", |fake| fake.refuses = None);
    following.up();
    engine.write_raw("dns", T, &frame(3, b"Error grabbing logs: disk on fire\n"));
    following.down("Error grabbing logs: disk on fire");
}

#[test]
fn garbage_is_down_and_nothing_worse() {
    let (engine, following) = up(&["a"]);
    for (bytes, says) in [
        (&b"SMTP 220 hello\r\n\r\n"[..], ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"Id\":", ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", ""),
        (b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", ""),
        (b"", ""),
    ] {
        engine.answer_with(Some(bytes));
        engine.cut();
        following.down(says);
    }
    engine.answer_with(None);
    following.up();
    for bytes in [&b"no frame at all"[..], &[9; 100]] {
        engine.write_raw("dns", T + 1, bytes);
        following.down("is no log");
        engine.unwrite("dns");
        following.up();
    }
    engine.write("dns", 1, T + 2, "b");
    following.lines(&["b"]);
}

#[test]
fn a_clock_that_was_set_back_hides_nothing() {
    let (engine, following) = up(&[]);
    engine.write("dns", 1, T + 600 * SECOND, "before");
    following.lines(&["before"]);
    engine.write("dns", 1, T, "after");
    following.lines(&["after"]);
    engine.cut();
    engine.write("dns", 1, T + 1, "later");
    following.until(|heard| *heard == Heard::Line("later".to_owned()));
}

#[test]
fn a_long_log_is_read_from_where_it_was_left_whole_and_once() {
    let engine = Engine::start();
    engine.run("dns", "a1");
    // Too old to be wanted.
    engine.write("dns", 1, T - 7_200 * SECOND, "old");
    let mut written = 0;
    let mut write = |count: u64| {
        for n in written..written + count {
            engine.write("dns", 1, T + n * SECOND, &n.to_string());
        }
        let names: Vec<String> = (written..written + count).map(|n| n.to_string()).collect();
        written += count;
        names
    };
    let names = write(5_000);
    let following = Following::start(&engine);
    let expect = |names: &[String]| {
        following.lines(&names.iter().map(String::as_str).collect::<Vec<_>>());
    };
    expect(&names);
    for missed in [10, 1_999, 2_000, 2_001, 3_000] {
        engine.go_away();
        following.down("no engine at");
        let names = write(missed);
        engine.come_back();
        expect(&names);
    }
}
