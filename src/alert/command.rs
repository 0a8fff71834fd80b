//! A program of the operator's: no shell, the alert as JSON on its standard input, and not for long.

use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::notice::Notice;
use super::sink::{Patience, SendError};
use super::text::plain;

/// How often a running program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of its complaints that are kept; the rest is read and forgotten.
const OUTPUT_BYTES_MAX: u64 = 4096;
/// Characters of them that are told.
const TOLD_CHARS_MAX: usize = 160;
/// How long the complaints of a program that ended may take to be read: a child of its may hold the pipe open.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(200);
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
        let complaints = child.stderr.take().map(gather);
        let body = notice.json();
        if let Some(mut stdin) = child.stdin.take() {
            // On a thread of its own: who never reads keeps it until it is killed. Who does not want it closes it.
            std::thread::spawn(move || stdin.write_all(&body));
        }
        let ended = wait(&mut child, end, patience);
        let said = complaints.and_then(|said| said.recv_timeout(OUTPUT_PATIENCE).ok());
        let said = said.filter(|said| !said.is_empty());
        let said =
            said.map_or_else(String::new, |said| format!(": {}", plain(&said, TOLD_CHARS_MAX)));
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
fn wait(child: &mut Child, end: Instant, patience: &Patience) -> Option<ExitStatus> {
    loop {
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

/// Reads what a program complains about, to its end; the beginning of it comes out.
fn gather(mut from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = from.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut kept);
        let _ = std::io::copy(&mut from, &mut std::io::sink());
        let _ = tell.send(String::from_utf8_lossy(&kept).trim().to_owned());
    });
    told
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
    fn whoever_ends_does_not_wait_for_a_program() {
        let folder = tempfile::tempdir().unwrap();
        let command = script(folder.path(), "sleep 1000");
        let patience = patience(LONG);
        patience.abandoned.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(command.send(&notice(), &patience).is_err());
    }
}
