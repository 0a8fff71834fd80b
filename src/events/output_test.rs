//! Outputs that fail, stall or end.

use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{RecvTimeoutError, channel};

use super::*;

/// Takes a number of bytes, then fails for a while, then takes bytes again.
struct Disk {
    written: Vec<u8>,
    room: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let count = bytes.len().min(self.room);
        self.room -= count;
        self.written.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Disk {
    const ENDS_WITH_ERROR: bool = false;
}

#[test]
fn what_a_full_disk_tore_is_healed() {
    let mut far = Far { target: Disk { written: vec![], room: 10 }, torn: false };
    assert!(far.write(b"first\n").is_ok());
    assert!(far.write(b"second\nthird\n").is_err());
    far.target.room = 100;
    assert!(far.write(b"fourth\n").is_ok());
    assert_eq!(String::from_utf8(far.target.written).unwrap(), "first\nseco\nfourth\n");
}

/// Takes a write each time it is let, and tells what it took; an error once nobody lets it any more.
struct Gate {
    let_in: Receiver<()>,
    took: Sender<String>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.let_in.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
        let _ = self.took.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Gate {
    const ENDS_WITH_ERROR: bool = true;

    fn reopen(&mut self) {
        let _ = self.took.send("(again)".to_owned());
    }
}

struct Bench {
    output: Option<Output>,
    let_in: Option<Sender<()>>,
    took: Receiver<String>,
    ended: Receiver<()>,
    lost: Arc<AtomicU64>,
}

fn bench() -> Bench {
    let ((let_in, gate), (took, taken), (alive, ended)) = (channel(), channel(), channel());
    let target = Gate { let_in: gate, took };
    let lost = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&lost);
    let lose = move |lines| {
        count.fetch_add(lines, Relaxed);
    };
    let output = Output::start(target, &Arc::default(), alive, lose).unwrap();
    Bench { output: Some(output), let_in: Some(let_in), took: taken, ended, lost }
}

impl Bench {
    fn output(&mut self) -> &mut Output {
        self.output.as_mut().unwrap()
    }

    fn put(&mut self, line: &str) {
        self.output().line().extend_from_slice(line.as_bytes());
        self.output().end_line();
    }

    /// Ends it, and waits for its thread.
    fn end(&mut self) {
        self.output = None;
        assert_eq!(
            self.ended.recv_timeout(Duration::from_secs(20)),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}

#[test]
fn an_output_that_takes_nothing_is_not_waited_for_and_what_does_not_fit_is_counted() {
    let mut bench = bench();
    let line = "x".repeat(BATCH_BYTES / 2 - 1);
    let batches = BATCHES_MAX + 10;
    let mut refused = 0;
    for _ in 0..2 * batches {
        bench.put(&line);
        let lost = bench.output().hand_over();
        assert!(lost == 0 || lost == 2, "whole batches: {lost}");
        refused += lost;
    }
    bench.put("the last one");
    assert_eq!(bench.output().hand_over(), 0);
    assert!(bench.output().is_behind(), "a little waits for more, or for the end");
    // The queue is full, and one more may be with the thread.
    assert!((2 * 9..=2 * 10 + 2).contains(&refused), "{refused}");
    for _ in 0..=2 * batches {
        bench.let_in.as_ref().unwrap().send(()).unwrap();
    }
    let mut written = 0;
    while written + refused < 2 * u64::try_from(batches).unwrap() {
        let took = bench.took.recv_timeout(Duration::from_secs(20)).unwrap();
        written += took.lines().count() as u64;
    }
    // Once the thread has caught up, a little is enough again.
    let end = Instant::now() + Duration::from_secs(20);
    while bench.output().is_behind() && Instant::now() < end {
        assert_eq!(bench.output().hand_over(), 0);
        std::thread::yield_now();
    }
    assert_eq!(bench.took.recv_timeout(Duration::from_secs(20)).unwrap(), "the last one\n");
    bench.end();
    assert_eq!(bench.lost.load(Relaxed), 0);
}

#[test]
fn a_reader_that_is_gone_is_noticed_and_costs_what_it_was_to_read() {
    let mut bench = bench();
    bench.put("one");
    assert_eq!(bench.output().hand_over_all(), 0);
    bench.put("two");
    bench.put("three");
    assert_eq!(bench.output().hand_over_all(), 0);
    bench.let_in = None;
    let condition = Arc::clone(&bench.output().condition);
    bench.end();
    assert!(condition.gone.load(Relaxed));
    assert_eq!(bench.lost.load(Relaxed), 3);
}

#[test]
fn lines_from_before_are_in_the_file_from_before() {
    let mut bench = bench();
    bench.put("before");
    assert_eq!(bench.output().reopen(), 0);
    bench.put("after");
    assert_eq!(bench.output().hand_over_all(), 0);
    let let_in = bench.let_in.take().unwrap();
    let_in.send(()).unwrap();
    let_in.send(()).unwrap();
    bench.end();
    let took: Vec<String> = bench.took.try_iter().collect();
    assert_eq!(took, ["before\n", "(again)", "after\n"]);
}

#[test]
fn a_file_is_opened_again_though_the_line_before_it_did_not_fit() {
    let mut bench = bench();
    let line = "x".repeat(BATCH_BYTES);
    let mut fitted = 0;
    bench.put(&line);
    while bench.output().hand_over() == 0 {
        fitted += 1;
        bench.put(&line);
    }
    assert_eq!(bench.output().reopen(), 0);
    bench.put("for the new file, and there is no room");
    assert_eq!(bench.output().hand_over_all(), 1);
    for _ in 0..=fitted {
        bench.let_in.as_ref().unwrap().send(()).unwrap();
    }
    for _ in 0..fitted {
        assert_ne!(bench.took.recv_timeout(Duration::from_secs(20)).unwrap(), "(again)");
    }
    bench.put("for the new file");
    assert_eq!(bench.output().hand_over_all(), 0);
    bench.end();
    assert_eq!(bench.took.try_iter().collect::<Vec<_>>(), ["(again)", "for the new file\n"]);
}

#[test]
fn a_new_file_does_not_begin_with_the_end_of_a_torn_line() {
    let ((let_in, gate), (took, taken), (way, batches)) =
        (channel(), channel(), sync_channel::<Batch>(1));
    let_in.send(()).unwrap();
    drop(let_in);
    way.send(Batch { bytes: b"new\n".to_vec(), lines: 1, reopen: true }).unwrap();
    drop(way);
    let far = Far { target: Gate { let_in: gate, took }, torn: true };
    let condition = Condition::default();
    condition.unwritten.store(1, Relaxed);
    far.serve(&batches, &condition, |lines| panic!("{lines} lost"));
    assert_eq!(taken.try_iter().collect::<Vec<_>>(), ["(again)", "new\n"]);
    assert_eq!((condition.unwritten.load(Relaxed), *condition.writing.lock().unwrap()), (0, None));
}

#[test]
fn a_write_stalls_when_it_takes_some_seconds_and_not_before() {
    let condition = Condition::default();
    assert!(!condition.is_stalled());
    condition.set_writing(Some(Instant::now()));
    assert!(!condition.is_stalled(), "not at once");
    condition.set_writing(Instant::now().checked_sub(STALLED_AFTER));
    assert!(condition.is_stalled());
    condition.set_writing(None);
    assert!(!condition.is_stalled());
}

#[test]
fn the_event_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    EventFile::open(path.clone()).unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}
