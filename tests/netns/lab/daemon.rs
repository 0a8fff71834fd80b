//! The real synhold binary in the gateway: its events as they come, its end as it was.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::feed::Feed;
use super::ns::Ns;
use super::proc::Proc;

/// How many events (or lines) are kept.
const ROOM: usize = 200_000;
/// How long an end may take. Closing inotify and the namespace's sockets waits for the kernel's grace periods, which on a
/// busy machine with few processors are many seconds; a test that times a stop says so itself.
const STOP: Duration = Duration::from_secs(60);

/// A running program that prints JSON Lines; dropping it kills and reaps it.
#[derive(Debug)]
pub struct Daemon {
    proc: Proc,
    events: Arc<Feed<Value>>,
    strays: Arc<Feed<String>>,
    stderr: Arc<Feed<String>>,
    stdin: Option<ChildStdin>,
    readers: Vec<JoinHandle<()>>,
}

/// How a daemon ended, and all it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// From the signal to its end.
    pub took: Duration,
    /// Every event it printed.
    pub events: Vec<Value>,
    /// Lines on stdout that were not JSON.
    pub strays: Vec<String>,
    /// Everything on stderr.
    pub stderr: String,
}

impl Daemon {
    /// Starts `BIN run --log-format json ARGS...` in a namespace; does not wait for it to be ready.
    pub fn run<A: AsRef<std::ffi::OsStr>>(
        ns: &Ns,
        bin: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Daemon {
        let mut command = ns.command(bin);
        command.args(["run", "--no-docker", "--log-format", "json"]).args(args);
        // Tests are about what comes after the grace of a first start, but for those that say otherwise.
        if !command.get_args().any(|arg| arg == "--evidence-grace") {
            command.args(["--evidence-grace", "0s"]);
        }
        // What nobody asked about stays out of the way.
        for quiet in ["--metrics", "--canary"] {
            if !command.get_args().any(|arg| arg == quiet) {
                command.args([quiet, "off"]);
            }
        }
        Daemon::start(ns, command)
    }

    /// Starts a command of [`Ns::command`] with pipes on all three; its stdin stays open until taken or dropped.
    pub fn start(ns: &Ns, mut command: Command) -> Daemon {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (pipes, proc) = ns.start(command);
        let (events, strays, stderr) =
            (Arc::new(Feed::new(ROOM)), Arc::new(Feed::new(ROOM)), Arc::new(Feed::new(ROOM)));
        let out = {
            let (events, strays) = (Arc::clone(&events), Arc::clone(&strays));
            let stdout = pipes.stdout.expect("piped");
            std::thread::spawn(move || {
                each_line(stdout, |line| match serde_json::from_str(&line) {
                    Ok(event) => events.push(event),
                    Err(_) => strays.push(line),
                });
                events.close();
                strays.close();
            })
        };
        let err = {
            let stderr = Arc::clone(&stderr);
            let pipe = pipes.stderr.expect("piped");
            std::thread::spawn(move || {
                each_line(pipe, |line| stderr.push(line));
                stderr.close();
            })
        };
        Daemon { proc, events, strays, stderr, stdin: pipes.stdin, readers: vec![out, err] }
    }

    /// Its process id (nsenter becomes the program, it does not fork).
    pub fn pid(&self) -> u32 {
        self.proc.pid()
    }

    /// Its exit status, when it has ended by itself.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.proc.ended()
    }

    /// Its standard input, once.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Its events, with marks and waits.
    pub fn feed(&self) -> &Feed<Value> {
        &self.events
    }

    /// Its events so far.
    pub fn events(&self) -> Vec<Value> {
        self.events.all()
    }

    /// Its stderr so far, with waits.
    pub fn stderr(&self) -> &Feed<String> {
        &self.stderr
    }

    /// Lines on stdout that were not JSON, so far.
    pub fn strays(&self) -> Vec<String> {
        self.strays.all()
    }

    /// The first event that matches, printed already or still to come.
    pub fn wait_event(&self, matches: impl Fn(&Value) -> bool, timeout: Duration) -> Option<Value> {
        self.events.wait_for(matches, timeout)
    }

    /// [`Daemon::wait_event`] for one that must come.
    ///
    /// # Panics
    /// When it does not, with the last events and the stderr.
    pub fn expect_event(
        &self,
        what: &str,
        matches: impl Fn(&Value) -> bool,
        timeout: Duration,
    ) -> Value {
        self.wait_event(matches, timeout)
            .unwrap_or_else(|| panic!("no event within {timeout:?}: {what}\n{}", self.story()))
    }

    /// Waits for its `ready` event.
    ///
    /// # Panics
    /// When it does not come within twenty seconds; starting needs grace periods of the kernel as ending does.
    pub fn ready(&self) -> Value {
        self.expect_event("ready", |e| e["event"] == "ready", Duration::from_secs(20))
    }

    /// The last events and the stderr, for panic messages.
    pub fn story(&self) -> String {
        let (events, status) = (self.events.all(), self.ended());
        let tail: String = events.iter().rev().take(20).rev().map(|e| format!("  {e}\n")).collect();
        let (strays, stderr) = (self.strays.all().join("\n"), self.stderr.all().join("\n"));
        format!(
            "pid {}, ended: {status:?}\nlast of {} events:\n{tail}stdout beside: {strays}\nstderr:\n{stderr}",
            self.pid(),
            events.len()
        )
    }

    /// Sends a signal; false when it has ended already.
    pub fn send_signal(&self, signal: Signal) -> bool {
        self.proc.signal(signal)
    }

    /// SIGTERM, then its end.
    ///
    /// # Panics
    /// When it does not end within ten seconds.
    pub fn stop(self) -> Ended {
        self.end_by(Signal::SIGTERM)
    }

    /// SIGKILL, then its end.
    pub fn kill9(self) -> Ended {
        self.end_by(Signal::SIGKILL)
    }

    /// A signal, then its end and all it said.
    ///
    /// # Panics
    /// When it does not end within ten seconds.
    pub fn end_by(self, signal: Signal) -> Ended {
        let start = Instant::now();
        self.proc.signal(signal);
        self.wait(start)
    }

    /// Waits for an end that comes by itself (a start that fails).
    ///
    /// # Panics
    /// When it does not end within ten seconds.
    pub fn wait_end(self) -> Ended {
        self.wait(Instant::now())
    }

    fn wait(mut self, start: Instant) -> Ended {
        let status = self.proc.wait(STOP);
        let status =
            status.unwrap_or_else(|| panic!("still running after {STOP:?}\n{}", self.story()));
        let took = start.elapsed();
        // What is still in the pipes; a child of the daemon may hold them open, so not for ever.
        let drained = super::retry_until(Duration::from_secs(1), || {
            self.readers.iter().all(JoinHandle::is_finished).then_some(())
        });
        if drained.is_some() {
            for reader in self.readers.drain(..) {
                let _ = reader.join();
            }
        }
        Ended {
            status,
            took,
            events: self.events.all(),
            strays: self.strays.all(),
            stderr: self.stderr.all().join("\n"),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.proc.end();
    }
}

fn each_line(from: impl Read, mut line: impl FnMut(String)) {
    let mut reader = BufReader::new(from);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
        line(String::from_utf8_lossy(&bytes).trim_end().to_owned());
        bytes.clear();
    }
}
