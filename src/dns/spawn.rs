//! A dnsmasq of our own: unprivileged, logging to a pipe, started again when it ends or hangs, and gone when we are.

mod asker;
mod command;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::engine::limits::REOPEN_PAUSE_MAX;

use super::framing::Framing;
use super::pump::{Pump, Read};
use super::{Backoff, Sink, Status, Stop, wait};

use asker::{Asker, UNANSWERED_MAX};
pub(super) use command::find;
pub use command::{Fault, SpawnConfig};

/// How often dnsmasq is looked at although its pipe says nothing: a child of its own may hold the pipe open.
const CHECK: Duration = Duration::from_millis(250);
/// How long dnsmasq may take to end when asked to.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile.
const GRACE_STEP: Duration = Duration::from_millis(5);
/// Bytes of the pipe. dnsmasq waits while it is full, and DNS with it: room for a burst of about 8,000 lines.
const PIPE_BYTES: i32 = 1 << 20;

/// Runs dnsmasq, again and again, until `stop` is raised.
pub fn run(config: &SpawnConfig, stop: &Stop, sink: &mut dyn Sink) {
    let (mut status, mut backoff) = (Status::new(), Backoff::new());
    while !stop.is_raised() {
        let began = Instant::now();
        let why = match start(config) {
            Ok(child) => follow(child, config, stop, &mut status, sink),
            Err(fault) => fault.to_string(),
        };
        if stop.is_raised() {
            return;
        }
        status.down(&why, sink);
        if began.elapsed() > REOPEN_PAUSE_MAX {
            backoff.reset();
        }
        if stop.wait(backoff.next()) {
            return;
        }
    }
}

/// A started dnsmasq. Dropping it ends the process, and those it forked.
struct Running {
    child: Child,
    /// Its number and its process group's; none once it is reaped, since both may then be somebody else's.
    group: Option<Pid>,
    log: Option<ChildStderr>,
}

fn start(config: &SpawnConfig) -> Result<Running, Fault> {
    let mut command = config.command()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // It forks for each TCP connection, and those processes hold its port: they are to be ended with it.
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| Fault::Start(error.to_string()))?;
    let group = i32::try_from(child.id()).ok().map(Pid::from_raw);
    let log = child.stderr.take();
    if let Some(log) = &log {
        // Refused to an unprivileged user beyond the system's limit; the default size does too.
        let _ = fcntl(log.as_fd(), FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    }
    Ok(Running { child, group, log })
}

/// Reads the log until dnsmasq ends or hangs, and says so.
fn follow(
    mut running: Running,
    config: &SpawnConfig,
    stop: &Stop,
    status: &mut Status,
    sink: &mut dyn Sink,
) -> String {
    let Some(log) = running.log.take() else { return "dnsmasq has no log pipe".to_owned() };
    // A pump of its own for each dnsmasq: what the last one was asked, this one does not answer.
    let (mut pump, mut framing) = (Pump::of(running.child.id(), asker::NAME), Framing::default());
    let (mut open, mut asker, mut unanswered) = (true, None, None);
    loop {
        let pipe = [log.as_fd()];
        let ready = wait(stop, if open { &pipe } else { &[] }, Some(CHECK), sink);
        if ready.stopped {
            return String::new();
        }
        if ready.readable != 0 {
            pump.behind(sink);
            open = !matches!(pump.read(&log, &mut framing, sink), Ok(Read::End) | Err(_));
            if stop.poll(&[log.as_fd()], Some(Duration::ZERO)).readable == 0 {
                pump.caught_up(sink);
            }
            if pump.take_alive() {
                asker.iter().for_each(Asker::heard);
            }
            if pump.take_started() {
                status.up(sink);
                // Without a thread for it, it is not asked.
                asker = Asker::start(config, running.child.id()).ok();
            }
        } else if let Ok(Some(exit)) = running.try_reap() {
            return ended(exit, pump.complaint());
        } else if asker.as_ref().is_some_and(Asker::is_hung) {
            return format!("dnsmasq hangs: it answered none of {UNANSWERED_MAX} questions");
        } else if ready.ended != 0 {
            open = false;
        }
        let said = asker.as_ref().and_then(Asker::unanswered);
        if let Some(questions) = said.filter(|_| said != unanswered) {
            unanswered = said;
            sink.unanswered(questions);
        }
    }
}

fn ended(exit: ExitStatus, complaint: &str) -> String {
    if exit.code().is_some_and(|code| code != 0) && !complaint.is_empty() {
        let hint = if complaint.contains("Address already in use") {
            "; another DNS server holds it: stop that one, or give another --dns-listen"
        } else {
            ""
        };
        return format!("dnsmasq does not start: {complaint}{hint}");
    }
    format!("dnsmasq ended ({exit})")
}

impl Drop for Running {
    fn drop(&mut self) {
        // With the pipe closed, dnsmasq cannot be stuck writing to it when the signal comes.
        self.log = None;
        let Ok(None) = self.try_reap() else { return };
        if let Some(group) = self.group {
            let _ = kill(group, Signal::SIGTERM);
        }
        let patience = GRACE.as_millis() / GRACE_STEP.as_millis();
        for _ in 0..patience {
            match self.try_reap() {
                Ok(None) => std::thread::sleep(GRACE_STEP),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        if let Some(group) = self.group {
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Running {
    /// How dnsmasq ended, if it has. Those that it leaves behind are ended first.
    fn try_reap(&mut self) -> io::Result<Option<ExitStatus>> {
        if let Some(group) = self.group {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            if waitid(Id::Pid(group), flags)? == WaitStatus::StillAlive {
                return Ok(None);
            }
            let _ = killpg(group, Signal::SIGKILL);
            self.group = None;
        }
        self.child.try_wait()
    }
}
