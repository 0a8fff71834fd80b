//! A program of the operator's: no shell, the alert as JSON on its standard input, and not for long.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::notice::Notice;
use super::sink::{Patience, SendError};
use super::text::plain;

/// How often a running program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of its complaints that are kept; the rest is read and forgotten.
const OUTPUT_BYTES_MAX: usize = 4096;
/// Characters of them that are told.
const TOLD_CHARS_MAX: usize = 160;
/// What every program finds, whatever our own environment has in it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// An absolute path.
    pub program: PathBuf,
    /// As they are.
    pub arguments: Vec<String>,
}

impl Command {
    pub(super) fn check(&self) -> Result<(), SendError> {
        let shown = self.program.display();
        match std::fs::metadata(&self.program) {
            Err(error) => Err(SendError::lasting(format!("{shown}: {error}"))),
            Ok(found) if !found.is_file() || found.permissions().mode() & 0o111 == 0 => {
                Err(SendError::lasting(format!("{shown}: is no program")))
            }
            Ok(_) => Ok(()),
        }
    }

    pub(super) fn send(&self, notice: &Notice, patience: &Patience) -> Result<(), SendError> {
        let shown = self.program.display();
        let end = Instant::now() + patience.total;
        let mut child = self
            .prepare(notice)
            .spawn()
            .map_err(|error| SendError::lasting(format!("{shown}: {error}")))?;
        let mut pipes = Pipes::new(&mut child, notice.json());
        let ended = wait(&mut child, &mut pipes, end, patience);
        let said = pipes.said();
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(SendError::passing(format!("{shown}: {status}{said}"))),
            None => {
                let seconds = patience.total.as_secs();
                Err(SendError::passing(format!("{shown}: killed after {seconds} s{said}")))
            }
        }
    }

    fn prepare(&self, notice: &Notice) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        let text = |text: Option<&str>| plain(text.unwrap_or_default(), TOLD_CHARS_MAX);
        let address = notice.address.map(|address| address.to_string());
        command
            .args(&self.arguments)
            .current_dir("/")
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .env("SYNHOLD_ALERT_ID", &notice.id)
            .env("SYNHOLD_ALERT_KIND", notice.kind.as_str())
            .env("SYNHOLD_ALERT_SEVERITY", notice.severity.as_str())
            .env("SYNHOLD_ALERT_CONTAINER", text(notice.container.as_deref()))
            .env("SYNHOLD_ALERT_ADDRESS", text(address.as_deref()))
            .env("SYNHOLD_ALERT_MESSAGE", text(Some(&notice.message)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }
}

/// Its end, or none if it had to be killed, with all that it started and left in its group.
fn wait(
    child: &mut Child,
    pipes: &mut Pipes,
    end: Instant,
    patience: &Patience,
) -> Option<ExitStatus> {
    loop {
        pipes.serve();
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= end || patience.is_over() {
            // Not reaped yet, so its number is still its own.
            if let Ok(group) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Our ends of a program's pipes, served without ever waiting: what it leaves behind may hold the other ends for ever, and
/// ours are closed when it has ended.
struct Pipes {
    input: Option<ChildStdin>,
    /// What it has not taken yet.
    body: Vec<u8>,
    complaints: Option<ChildStderr>,
    kept: Vec<u8>,
}

impl Pipes {
    fn new(child: &mut Child, body: Vec<u8>) -> Pipes {
        let input = child.stdin.take().filter(is_patient);
        let complaints = child.stderr.take().filter(is_patient);
        Pipes { input, body, complaints, kept: Vec::new() }
    }

    /// Hands over and takes what can be now.
    fn serve(&mut self) {
        if let Some(input) = &mut self.input {
            let done = match input.write(&self.body) {
                Ok(written) => {
                    self.body.drain(..written);
                    self.body.is_empty()
                }
                // Who does not want it closes it.
                Err(error) => !passes(&error),
            };
            if done {
                self.input = None;
            }
        }
        let mut bytes = [0; 4096];
        // As much as a pipe holds: what complains without an end must not keep us from looking at the clock.
        for _ in 0..16 {
            let Some(complaints) = &mut self.complaints else { return };
            match complaints.read(&mut bytes) {
                Ok(length @ 1..) => {
                    let room = OUTPUT_BYTES_MAX.saturating_sub(self.kept.len()).min(length);
                    self.kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
                }
                Err(error) if passes(&error) => return,
                Ok(0) | Err(_) => self.complaints = None,
            }
        }
    }

    /// The beginning of its complaints, as the end of a sentence.
    fn said(mut self) -> String {
        self.serve();
        match String::from_utf8_lossy(&self.kept).trim() {
            "" => String::new(),
            said => format!(": {}", plain(said, TOLD_CHARS_MAX)),
        }
    }
}

/// Has nobody wait for a pipe; false if that cannot be had.
fn is_patient(pipe: &impl AsFd) -> bool {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok()
}

fn passes(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::alert::testing::{notice, patience};

    const LONG: Duration = Duration::from_secs(30);

    /// A script; written and closed by another process, or a test beside this one that forks meanwhile could hold it
    /// open for writing, and nobody may run what is.
    fn script(folder: &Path, text: &str) -> Command {
        let (source, program) = (folder.join("source"), folder.join("script"));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o700).open(&source).unwrap();
        file.write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
        drop(file);
        let copied =
            std::process::Command::new("cp").args([&source, &program]).status().unwrap().success();
        assert!(copied);
        Command { program, arguments: vec![folder.display().to_string(), "$HOME; x".to_owned()] }
    }

    #[test]
    fn a_program_gets_its_arguments_as_they_are_and_the_alert_on_its_input() {
        let folder = tempfile::tempdir().unwrap();
        let command = script(folder.path(), "cat > $1/body; env > $1/env; echo \"$2\" > $1/two");
        command.check().unwrap();
        command.send(&notice(), &patience(LONG)).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("body").as_bytes(), notice().json());
        assert_eq!(read("two"), "$HOME; x\n");
        let env = read("env");
        assert!(env.contains("SYNHOLD_ALERT_KIND=never-resolved\n"), "{env}");
        assert!(env.contains("SYNHOLD_ALERT_ADDRESS=203.0.113.9\n"), "{env}");
        assert!(!env.contains("CARGO") && !env.contains("HOME="), "ours stays ours: {env}");
    }

    #[test]
    fn a_program_that_fails_says_why_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let command =
            script(folder.path(), "echo 'no\nroute' >&2; yes | head -c 200000 >&2; exit 3");
        let error = command.send(&notice(), &patience(LONG)).unwrap_err();
        assert!(error.again && error.message.contains("exit status: 3: no route"), "{error}");
        let missing = Command { program: "/nowhere/x".into(), arguments: Vec::new() };
        assert!(!missing.check().unwrap_err().again);
        assert!(!missing.send(&notice(), &patience(LONG)).unwrap_err().again);
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let command = script(folder.path(), "sleep 1000 & echo $! > $1/pid; wait");
        let began = Instant::now();
        let error = command.send(&notice(), &patience(Duration::from_secs(1))).unwrap_err();
        assert!(error.again && error.message.ends_with("killed after 1 s"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(15));
        let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok()?;
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
        };
        let dead = (0..500).any(|_| {
            std::thread::sleep(LOOK_EVERY);
            state().is_none_or(|state| matches!(state, 'Z' | 'X'))
        });
        assert!(dead, "{:?}", state());
    }

    #[test]
    fn what_a_program_leaves_behind_keeps_nothing_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let text = "echo no >&2; sleep 1000 & echo $! > $1/pid; exit 3";
        let command = script(folder.path(), text);
        let began = Instant::now();
        let error = command.send(&notice(), &patience(LONG)).unwrap_err();
        assert!(error.message.ends_with("exit status: 3: no"), "{error}");
        assert!(began.elapsed() < LONG / 2);
        let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        let pipe = std::fs::read_link(format!("/proc/{}/fd/2", pid.trim())).unwrap();
        let ours = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let ours: Vec<PathBuf> = ours.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
        let left = Pid::from_raw(pid.trim().parse().unwrap());
        nix::sys::signal::kill(left, Signal::SIGKILL).unwrap();
        assert!(!ours.contains(&pipe), "nobody reads what it says: {ours:?}");
    }

    #[test]
    fn whoever_ends_does_not_wait_for_a_program() {
        let folder = tempfile::tempdir().unwrap();
        let command = script(folder.path(), "sleep 1000");
        let patience = patience(LONG);
        patience.abandoned.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(command.send(&notice(), &patience).is_err());
    }
}
