//! The books of the learning period, and who may wait for them.

use super::*;
use crate::daemon::replay::World;
use crate::engine::{Flow, Proto, Settings};

fn learning(folder: &Path) -> Learning {
    let books = Mutex::new(Books { learned: Learned::default(), over: false, saved: Mono(0) });
    Learning {
        file: file(folder, true),
        period: Duration::from_secs(60),
        passed: Duration::from_secs(10),
        started: Mono(0),
        books,
        writing: Mutex::default(),
    }
}

fn decision() -> Decision {
    let world = World::new(Settings::default(), Wall(1));
    let dst = ("203.0.113.9".parse().unwrap(), 443);
    let flow = Flow::new(Proto::Tcp, ("172.17.0.2".parse().unwrap(), 1), dst);
    let forecast = world.engine().forecast(flow, world.now());
    Decision { mode: Mode::Learn, verdict: Verdict::Drop, ..forecast }
}

#[test]
fn a_disk_that_hangs_keeps_no_verdict_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let learning = std::sync::Arc::new(learning(folder.path()));
    // Whoever writes is stuck at it.
    let _writing = learning.writing.lock().unwrap();
    let (done, told) = std::sync::mpsc::channel();
    let counts = std::sync::Arc::clone(&learning);
    let thread = std::thread::spawn(move || {
        counts.count(&decision());
        let _ = done.send(());
    });
    told.recv_timeout(Duration::from_secs(20)).expect("the verdict thread waits for the disk");
    thread.join().unwrap();
    assert_eq!(learning.books().learned.total(), 1);
}

#[test]
fn the_period_is_time_that_synhold_ran_whatever_the_clock_says() {
    let folder = tempfile::tempdir().unwrap();
    let learning = learning(folder.path());
    let second = |second: u64| Mono(second * 1_000_000_000);
    assert_eq!(learning.passed(second(49)), Duration::from_secs(59));
    // A clock that was set changes when it ends, and not whether it lasts.
    let now = Now { mono: second(20), wall: Wall(5_000_000) };
    assert_eq!(learning.until(now), Wall(35_000_000));
    learning.stop(second(20));
    let saved = read(&file(folder.path(), true)).unwrap().unwrap();
    assert_eq!((saved.passed_s, saved.over), (30, false));
}

#[test]
fn a_file_that_is_not_understood_is_an_error_and_no_new_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path(), true);
    assert!(read(&file).unwrap().is_none());
    for text in
        ["", "{}", r#"{"version":2,"passed_s":1,"over":true,"refused":0,"would_refuse":[]}"#]
    {
        std::fs::write(file.path(), text).unwrap();
        assert!(read(&file).is_err(), "{text}");
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text, "it is not set aside");
    }
}
