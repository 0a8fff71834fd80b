//! The writer with outputs that stall, fail or end: what is written, and what is counted as lost.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::TrySendError;
use std::time::Instant;

use super::*;
use crate::engine::Wall;
use crate::engine::event::{Body, Health, Stop};

fn stop() -> Event {
    Event { time: Wall(0), body: Body::Stop(Stop::default()) }
}

#[track_caller]
fn wait_until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A FIFO holds some 64 KiB, and this one is read by nobody who reads.
#[test]
fn whoever_reads_along_does_not_wait_for_an_output_that_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let outputs = Outputs { stdout: None, level: LevelFilter::OFF, file: Some(path) };
    let writer = EventWriter::start(outputs).unwrap();
    let sender = writer.sender();
    let tapped = sender.tap(16, Box::new(|_| true));
    for _ in 0..2000 {
        sender.send(stop());
        assert!(tapped.events().recv_timeout(Duration::from_secs(20)).is_ok());
    }
    wait_until("it is said that it stalls", || sender.stalled() == ["the event file"]);
    assert_eq!(sender.shed(), 0, "so few still wait");
    drop(reader);
}

/// What lines are written on: it waits while it is stuck, and takes nothing while it is broken.
#[derive(Debug, Default)]
struct Desk {
    written: Mutex<Vec<u8>>,
    stuck: AtomicBool,
    broken: AtomicBool,
}

impl Desk {
    fn lines(&self) -> usize {
        self.written.lock().unwrap().iter().filter(|byte| **byte == b'\n').count()
    }
}

/// The writing end of a desk, where an error is the end, or is not.
struct Pen<const ENDS: bool>(Arc<Desk>);

impl<const ENDS: bool> Write for Pen<ENDS> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        wait_until("somebody lets it go on", || !self.0.stuck.load(Relaxed));
        if self.0.broken.load(Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<const ENDS: bool> Target for Pen<ENDS> {
    const ENDS_WITH_ERROR: bool = ENDS;
}

fn start(stdout: Option<&Arc<Desk>>, file: Option<&Arc<Desk>>) -> EventWriter {
    let stdout = stdout.map(|desk| (LogFormat::Json, Pen::<true>(Arc::clone(desk))));
    let file = file.map(|desk| Pen::<false>(Arc::clone(desk)));
    EventWriter::start_on(stdout, file, LevelFilter::OFF).unwrap()
}

/// Sends events one after the other, each when the one before it is with its output.
fn send_each(writer: &EventWriter, events: impl IntoIterator<Item = Event>) {
    let sender = writer.sender();
    let tapped = sender.tap(1, Box::new(|_| true));
    for event in events {
        sender.send(event);
        assert!(tapped.events().recv_timeout(Duration::from_secs(20)).is_ok());
    }
}

fn stops(count: usize) -> impl Iterator<Item = Event> {
    (0..count).map(|_| stop())
}

#[test]
fn a_reader_that_is_gone_costs_nothing_while_the_file_has_every_event() {
    let (stdout, file) = (Arc::new(Desk::default()), Arc::new(Desk::default()));
    stdout.broken.store(true, Relaxed);
    let writer = start(Some(&stdout), Some(&file));
    let sender = writer.sender();
    send_each(&writer, stops(50));
    drop(writer);
    assert_eq!((file.lines(), sender.shed()), (50, 0));
}

#[test]
fn a_reader_that_is_gone_costs_every_event_where_there_is_no_file() {
    let stdout = Arc::new(Desk::default());
    stdout.broken.store(true, Relaxed);
    let writer = start(Some(&stdout), None);
    let sender = writer.sender();
    send_each(&writer, stops(50));
    drop(writer);
    assert_eq!(sender.shed(), 50);
}

#[test]
fn what_a_full_disk_does_not_take_is_counted_and_what_comes_later_is_written() {
    let file = Arc::new(Desk::default());
    file.broken.store(true, Relaxed);
    let writer = start(None, Some(&file));
    let sender = writer.sender();
    send_each(&writer, stops(20));
    wait_until("all are counted", || sender.shed() == 20);
    file.broken.store(false, Relaxed);
    send_each(&writer, stops(5));
    drop(writer);
    // The first end of a line ends what may have been torn.
    assert_eq!((file.lines(), sender.shed()), (6, 20));
}

#[test]
fn what_an_output_had_no_time_for_is_written_without_another_event() {
    let file = Arc::new(Desk::default());
    file.stuck.store(true, Relaxed);
    let writer = start(None, Some(&file));
    send_each(&writer, stops(50));
    file.stuck.store(false, Relaxed);
    wait_until("all are written", || file.lines() == 50);
    assert_eq!(writer.sender().shed(), 0);
}

#[test]
fn at_the_end_all_is_written_however_little_it_is() {
    let file = Arc::new(Desk::default());
    file.stuck.store(true, Relaxed);
    let writer = start(None, Some(&file));
    let sender = writer.sender();
    send_each(&writer, stops(50));
    let dropped = std::thread::spawn(move || drop(writer));
    let is_over =
        || matches!(sender.queue.try_send(Message::Finish), Err(TrySendError::Disconnected(_)));
    wait_until("the writer handed over what it had", is_over);
    file.stuck.store(false, Relaxed);
    dropped.join().unwrap();
    assert_eq!(file.lines(), 50);
}

#[test]
fn what_a_stuck_output_has_no_room_for_is_counted() {
    let file = Arc::new(Desk::default());
    file.stuck.store(true, Relaxed);
    let writer = start(None, Some(&file));
    let sender = writer.sender();
    // A batch each, and more of them than may wait.
    let large = || {
        let (what, message) = ("large".to_owned(), "x".repeat(1 << 16));
        Event { time: Wall(0), body: Body::Health(Health { what, healthy: true, message }) }
    };
    send_each(&writer, (0..300).map(|_| large()));
    file.stuck.store(false, Relaxed);
    drop(writer);
    let shed = usize::try_from(sender.shed()).unwrap();
    assert!(shed > 0, "16 MiB are not without a bound");
    assert_eq!(file.lines() + shed, 300);
}

#[test]
fn a_file_that_was_renamed_away_is_followed_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("events"), dir.path().join("events.1"));
    let file = Some(path.clone());
    let writer =
        EventWriter::start(Outputs { stdout: None, level: LevelFilter::OFF, file }).unwrap();
    send_each(&writer, stops(1));
    std::fs::rename(&path, &away).unwrap();
    writer.reopen();
    send_each(&writer, stops(2));
    drop(writer);
    let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((lines(&away), lines(&path)), (1, 2));
}
