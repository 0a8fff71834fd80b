//! Other programs that are asked something, and not for long.

use std::io::{self, Read};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long one may take: less than an area has in all, so that the rest of it is told.
pub const PROGRAM_PATIENCE: Duration = Duration::from_secs(4);
/// Bytes read of what it says.
const SAID_BYTES_MAX: u64 = 64 << 10;
/// Pause between two looks whether it has ended.
const STEP: Duration = Duration::from_millis(5);

/// Runs it and returns what it says. One that takes longer than `patience` is ended.
///
/// # Errors
/// If it cannot be run, or took too long.
pub fn ask(command: &mut Command, patience: Duration) -> io::Result<Output> {
    let end = Instant::now() + patience;
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let said = [child.stdout.take().map(hear), child.stderr.take().map(hear)];
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            let text = format!("it was not done after {} s", patience.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        std::thread::sleep(STEP);
    };
    let [stdout, stderr] = said.map(|said| {
        let left = end.saturating_duration_since(Instant::now()).max(STEP);
        said.and_then(|said| said.recv_timeout(left).ok()).unwrap_or_default()
    });
    Ok(Output { status, stdout, stderr })
}

/// Reads on a thread of its own, so that a full pipe stops nobody.
fn hear(pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let mut pipe = pipe.take(SAID_BYTES_MAX);
        let _ = pipe.read_to_end(&mut said);
        let _ = tell.send(said);
    });
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended_and_what_others_say_is_heard() {
        let begun = Instant::now();
        let hangs = ask(Command::new("sleep").arg("60"), Duration::from_millis(50));
        assert_eq!(hangs.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(30));
        let script = "echo out; echo err >&2; exit 3";
        let out = ask(Command::new("sh").args(["-c", script]), Duration::from_secs(30)).unwrap();
        let said = (out.status.code(), &out.stdout[..], &out.stderr[..]);
        assert_eq!(said, (Some(3), &b"out\n"[..], &b"err\n"[..]));
    }
}
