//! The thread that waits for one sink: each alert is tried a few times, and what becomes of it is told.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::alert::{Notice, Patience, SendError, Sink};

/// Alerts that may wait for one sink: two hours' worth of them at the usual pace.
const QUEUE_MAX: usize = 64;
/// How long one try may take.
const TRY_PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before the second try, and before the third and last.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

/// What becomes of alerts.
pub trait Books: Send + 'static {
    /// It was taken.
    fn sent(&mut self);
    /// It was not, after all tries.
    fn failed(&mut self, error: &SendError);
    /// It was not yet.
    fn delayed(&mut self, error: &SendError);
}

/// The end of a sink's thread.
#[derive(Clone, Debug, Default)]
struct Ending {
    begun: Arc<(Mutex<bool>, Condvar)>,
    abandoned: Arc<AtomicBool>,
}

impl Ending {
    /// From now on nobody waits for another try.
    fn begin(&self) {
        *self.begun.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.begun.1.notify_all();
    }

    /// From now on nobody waits at all.
    fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
    }

    /// Waits; true if it was all the time.
    fn pause(&self, time: Duration) -> bool {
        let begun = self.begun.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.begun.1.wait_timeout_while(begun, time, |begun| !*begun);
        waited.is_ok_and(|(_, waited)| waited.timed_out())
    }
}

/// The way to the thread.
#[derive(Debug)]
pub struct Worker {
    queue: SyncSender<Arc<Notice>>,
    closed: Closed,
}

/// A thread that gets nothing more.
#[derive(Debug)]
pub struct Closed {
    ended: Receiver<()>,
    ending: Ending,
}

impl Worker {
    /// Starts it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(sink: Arc<Sink>, books: impl Books) -> std::io::Result<Worker> {
        let (queue, notices) = sync_channel::<Arc<Notice>>(QUEUE_MAX);
        let (alive, ended) = channel();
        let closed = Closed { ended, ending: Ending::default() };
        let ending = closed.ending.clone();
        let name = format!("alert-{}", sink.name);
        let send: Deliver = Box::new(move |notice, patience| sink.send(notice, patience));
        let mut post = Post { send, books, ending, pauses: PAUSES };
        std::thread::Builder::new().name(name).spawn(move || {
            notices.iter().for_each(|notice| post.deliver(&notice));
            drop(alive);
        })?;
        Ok(Worker { queue, closed })
    }

    /// Hands an alert over; false if there is no room for it.
    pub fn put(&self, notice: Arc<Notice>) -> bool {
        self.queue.try_send(notice).is_ok()
    }

    /// Nothing more comes, and what waits is tried once.
    pub fn close(self) -> Closed {
        self.closed.ending.begin();
        self.closed
    }
}

impl Closed {
    /// Waits for its end; false if that does not come in time.
    pub fn ended_by(&self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        self.ended.recv_timeout(left) != Err(RecvTimeoutError::Timeout)
    }

    /// What it does now is given up, and what still waits is not begun.
    pub fn abandon(&self) {
        self.ending.abandon();
    }
}

/// How a sink is told.
type Deliver = Box<dyn FnMut(&Notice, &Patience) -> Result<(), SendError> + Send>;

struct Post<B> {
    send: Deliver,
    books: B,
    ending: Ending,
    pauses: [Duration; PAUSES.len()],
}

impl<B: Books> Post<B> {
    fn deliver(&mut self, notice: &Notice) {
        if self.ending.abandoned.load(Relaxed) {
            let message = "there was no time left for it".to_owned();
            return self.books.failed(&SendError { message, again: false });
        }
        let abandoned = Arc::clone(&self.ending.abandoned);
        let patience = Patience { total: TRY_PATIENCE, abandoned };
        for pause in self.pauses.map(Some).into_iter().chain([None]) {
            match (self.attempt(notice, &patience), pause) {
                (Ok(()), _) => return self.books.sent(),
                (Err(error), Some(pause)) if error.again => {
                    self.books.delayed(&error);
                    if !self.ending.pause(pause) {
                        return self.books.failed(&error);
                    }
                }
                (Err(error), _) => return self.books.failed(&error),
            }
        }
    }

    /// A panic is a failure: the thread goes on, and everybody sees that the sink does not work.
    fn attempt(&mut self, notice: &Notice, patience: &Patience) -> Result<(), SendError> {
        let send = AssertUnwindSafe(|| (self.send)(notice, patience));
        std::panic::catch_unwind(send).unwrap_or_else(|_| {
            let message = "sending it panicked, which the log says more of".to_owned();
            Err(SendError { message, again: false })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert;
    use crate::daemon::notices::test_notice;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl Books for Log {
        fn sent(&mut self) {
            self.0.lock().unwrap().push("sent".to_owned());
        }

        fn failed(&mut self, error: &SendError) {
            self.0.lock().unwrap().push(format!("failed: {error}"));
        }

        fn delayed(&mut self, _: &SendError) {
            self.0.lock().unwrap().push("delayed".to_owned());
        }
    }

    /// A sink that runs this in a shell.
    fn shell(script: &str) -> Arc<Sink> {
        let text = format!("kind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]");
        Arc::new(alert::all(vec![text.parse().unwrap()]).unwrap().remove(0))
    }

    fn deliver(script: &str, ending: &Ending) -> Vec<String> {
        let log = Log::default();
        let sink = shell(script);
        let send: Deliver = Box::new(move |notice, patience| sink.send(notice, patience));
        let pauses = [Duration::from_millis(1); 2];
        let mut post = Post { send, books: log.clone(), ending: ending.clone(), pauses };
        post.deliver(&test_notice("here"));
        log.0.lock().unwrap().clone()
    }

    #[test]
    fn what_fails_is_tried_three_times_and_what_never_will_is_not() {
        let ending = Ending::default();
        assert_eq!(deliver("exit 0", &ending), ["sent"]);
        let said = deliver("exit 7", &ending);
        assert_eq!(said[..2], ["delayed", "delayed"]);
        assert!(said.len() == 3 && said[2].contains("exit status: 7"), "{said:?}");
        let folder = tempfile::tempdir().unwrap();
        let second =
            format!("test -e {0}/x || {{ touch {0}/x; exit 1; }}", folder.path().display());
        assert_eq!(deliver(&second, &ending), ["delayed", "sent"]);
    }

    #[test]
    fn a_sink_that_panics_has_failed_and_goes_on() {
        let mut panics = 1;
        let send: Deliver = Box::new(move |_, _| {
            panics -= 1;
            if panics == 0 { panic!("on purpose") } else { Ok(()) }
        });
        let log = Log::default();
        let (ending, pauses) = (Ending::default(), PAUSES);
        let mut post = Post { send, books: log.clone(), ending, pauses };
        post.deliver(&test_notice("here"));
        post.deliver(&test_notice("here"));
        let said = log.0.lock().unwrap().clone();
        assert!(said[0].starts_with("failed: sending it panicked"), "{said:?}");
        assert_eq!(said[1..], ["sent"]);
    }

    #[test]
    fn nobody_waits_for_another_try_at_the_end() {
        let ending = Ending::default();
        ending.begin();
        let said = deliver("exit 7", &ending);
        assert!(said.len() == 2 && said[1].starts_with("failed"), "{said:?}");
    }

    #[test]
    fn a_sink_that_hangs_has_a_queue_of_its_own_and_no_more() {
        let log = Log::default();
        let worker = Worker::start(shell("sleep 1000"), log.clone()).unwrap();
        let notice = Arc::new(test_notice("here"));
        let taken = (0..1000).filter(|_| worker.put(Arc::clone(&notice))).count();
        assert!((QUEUE_MAX..=QUEUE_MAX + 1).contains(&taken), "{taken}");
        let closed = worker.close();
        assert!(!closed.ended_by(Instant::now() + Duration::from_millis(50)));
        closed.abandon();
        assert!(closed.ended_by(Instant::now() + Duration::from_secs(20)));
        let said = log.0.lock().unwrap().clone();
        let begun = said.iter().filter(|line| !line.contains("no time left")).count();
        assert!(said.len() >= taken && begun <= 2, "only what hung was begun: {said:?}");
    }
}
