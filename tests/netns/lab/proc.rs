//! Commands with a deadline, and processes that are always ended and reaped.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a set-up command may take before the lab gives up on it.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a command to its end, feeding it `input`; it is killed when the deadline passes.
///
/// # Errors
/// One line: could not start, or took too long.
pub fn output(mut command: Command, input: &str, deadline: Duration) -> Result<Output, String> {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{what}: {e}"))?;
    let (mut stdin, input) = (child.stdin.take().expect("piped"), input.to_owned());
    thread::spawn(move || stdin.write_all(input.as_bytes()));
    let (tell, told) = mpsc::channel();
    let read = |number: usize, mut from: Box<dyn Read + Send>| {
        let tell = tell.clone();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            let _ = tell.send((number, bytes));
        });
    };
    read(0, Box::new(child.stdout.take().expect("piped")));
    read(1, Box::new(child.stderr.take().expect("piped")));
    let end = Instant::now() + deadline;
    let mut said = [Vec::new(), Vec::new()];
    for _ in 0..2 {
        let Ok((number, bytes)) = told.recv_timeout(end.saturating_duration_since(Instant::now()))
        else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{what}: not done after {deadline:?}"));
        };
        said[number] = bytes;
    }
    let status = child.wait().map_err(|e| format!("{what}: {e}"))?;
    let [stdout, stderr] = said;
    Ok(Output { status, stdout, stderr })
}

/// Runs a command that must succeed and returns what it printed.
///
/// # Errors
/// One message with the command, its exit status and its stderr.
pub fn try_run(command: Command, input: &str) -> Result<String, String> {
    let what = format!("{command:?}");
    let out = output(command, input, DEADLINE)?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&out.stderr);
    let input = if input.is_empty() { String::new() } else { format!("\ninput was:\n{input}") };
    Err(format!("{what}: {}: {}{input}", out.status, stderr.trim_end()))
}

/// [`try_run`] for a command whose failure ends the test.
///
/// # Panics
/// When the command fails, with everything it said.
pub fn run(command: Command, input: &str) -> String {
    try_run(command, input).unwrap_or_else(|e| panic!("{e}"))
}

/// Feeds one `ip -batch` with lines that name their namespaces.
///
/// # Errors
/// What `ip` said.
pub fn try_ip_batch(lines: &str) -> Result<String, String> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]);
    try_run(ip, lines)
}

/// [`try_ip_batch`] that must succeed.
///
/// # Panics
/// With the batch and what `ip` said.
pub fn ip_batch(lines: &str) -> String {
    try_ip_batch(lines).unwrap_or_else(|e| panic!("{e}"))
}

/// Lifts this process' limit of open files, so that thousands of sockets fit.
pub fn raise_open_files(wanted: u64) {
    let limits = fs::read_to_string("/proc/self/limits").expect("limits");
    let line = limits.lines().find(|l| l.starts_with("Max open files")).expect("open files limit");
    let mut numbers = line.split_whitespace().skip(3);
    let soft = numbers.next().map_or(0, |n| n.parse().unwrap_or(u64::MAX));
    let hard = numbers.next().map_or(0, |n| n.parse().unwrap_or(u64::MAX));
    if soft < wanted {
        let mut command = Command::new("prlimit");
        command.arg(format!("--pid={}", std::process::id()));
        command.arg(format!("--nofile={wanted}:{}", hard.max(wanted)));
        run(command, "");
    }
}

/// A running process; dropping it kills and reaps it, and so does dropping its lab.
#[derive(Clone, Debug)]
pub struct Proc {
    child: Arc<Mutex<Child>>,
    pid: u32,
}

impl Proc {
    /// Takes over a child.
    pub fn new(child: Child) -> Proc {
        Proc { pid: child.id(), child: Arc::new(Mutex::new(child)) }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit status, when it has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().expect("wait")
    }

    /// Sends a signal; false when it has ended already (its id may be another's by now).
    pub fn signal(&self, signal: Signal) -> bool {
        let mut child = self.child.lock().unwrap();
        if child.try_wait().expect("wait").is_some() {
            return false;
        }
        kill(Pid::from_raw(self.pid.try_into().expect("pid fits")), signal).expect("kill");
        true
    }

    /// Waits for its end.
    pub fn wait(&self, timeout: Duration) -> Option<ExitStatus> {
        super::retry_until(timeout, || self.ended())
    }

    /// Kills and reaps it; harmless when it has ended.
    pub fn end(&self) -> ExitStatus {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        child.wait().expect("wait")
    }
}

/// Whether this process has a descriptor beside the first three that whatever it starts gets too (`O_CLOEXEC`, asm-generic/fcntl.h).
pub fn is_left_open_to_all(fd: &str) -> bool {
    let Ok(about) = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")) else {
        return false;
    };
    let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    let flags = i64::from_str_radix(flags, 8).unwrap();
    fd.parse::<u32>().unwrap() > 2 && flags & 0o2_000_000 == 0
}
