//! This host's log: one datagram an alert.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::notice::{Notice, Severity};
use super::sink::{Patience, SendError};
use super::text::plain;

/// Where a host's log listens.
pub const SOCKET_DEFAULT: &str = "/dev/log";

/// A log and how to write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Its socket.
    pub socket: PathBuf,
    /// Which part of the system we are.
    pub facility: Facility,
    /// How lines are written.
    pub format: Format,
}

/// Parts of a system, by the numbers of RFC 5424.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Facility {
    /// Security.
    #[default]
    Auth = 4,
    /// Security, for few eyes.
    Authpriv = 10,
    /// Services.
    Daemon = 3,
    /// Programs.
    User = 1,
    /// For local use.
    Local0 = 16,
    /// For local use.
    Local1 = 17,
    /// For local use.
    Local2 = 18,
    /// For local use.
    Local3 = 19,
    /// For local use.
    Local4 = 20,
    /// For local use.
    Local5 = 21,
    /// For local use.
    Local6 = 22,
    /// For local use.
    Local7 = 23,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As local programs have always done, and every log understands.
    #[default]
    Rfc3164,
    /// With a year and a host.
    Rfc5424,
}

impl Syslog {
    pub(super) fn send(&self, notice: &Notice, patience: &Patience) -> Result<(), SendError> {
        let failed = |error: std::io::Error| {
            SendError::passing(format!("{}: {error}", self.socket.display()))
        };
        let socket = UnixDatagram::unbound().map_err(failed)?;
        // A log that does not read keeps whoever writes.
        socket.set_write_timeout(Some(patience.total)).map_err(failed)?;
        socket.send_to(self.line(notice).as_bytes(), &self.socket).map(drop).map_err(failed)
    }

    fn line(&self, notice: &Notice) -> String {
        let severity = match notice.severity {
            Severity::Critical => 2,
            Severity::Warning => 4,
            Severity::Info => 6,
        };
        let priority = self.facility as u8 * 8 + severity;
        let (pid, line) = (std::process::id(), notice.line());
        match self.format {
            Format::Rfc3164 => {
                let now = jiff::Timestamp::now().to_zoned(TimeZone::system());
                format!("<{priority}>{} synhold[{pid}]: {line}", now.strftime("%b %e %H:%M:%S"))
            }
            Format::Rfc5424 => {
                let host = word(&notice.host);
                let (time, kind) = (&notice.time, notice.kind.as_str());
                format!("<{priority}>1 {time} {host} synhold {pid} {kind} - {line}")
            }
        }
    }
}

/// A field of RFC 5424: printable ASCII without blanks.
fn word(text: &str) -> String {
    let word: String = plain(text, 255).chars().filter(char::is_ascii_graphic).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alert::testing::{notice, patience};

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn lines_are_as_logs_read_them_and_strangers_add_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = UnixDatagram::bind(&path).unwrap();
        log.set_read_timeout(Some(LONG)).unwrap();
        let read = || {
            let mut bytes = [0; 4096];
            let length = log.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        let old = Syslog { socket: path, facility: Facility::Auth, format: Format::Rfc3164 };
        let evil = Notice {
            container: Some("web\n<0>kernel: all is well".into()),
            names: Vec::new(),
            ..notice()
        };
        old.send(&evil, &patience(LONG)).unwrap();
        let line = read();
        assert!(line.starts_with("<36>") && !line.contains('\n'), "{line}");
        let pid = std::process::id();
        assert!(line.contains(&format!(" synhold[{pid}]: kind=never-resolved ")), "{line}");
        assert!(line.contains(" container=web_<0>kernel:_all_is_well "), "{line}");
        assert!(line.ends_with(": web-1 dialled 203.0.113.9"), "{line}");

        let new = Syslog { facility: Facility::Daemon, format: Format::Rfc5424, ..old };
        new.send(&Notice { count: 7, ..notice() }, &patience(LONG)).unwrap();
        let line = read();
        let head =
            format!("<28>1 2026-01-02T03:04:05.678901Z gw-1 synhold {pid} never-resolved - kind=");
        assert!(line.starts_with(&head) && line.ends_with(" (7 times)"), "{line}");
    }

    #[test]
    fn a_log_that_is_not_there_or_does_not_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (facility, format) = Default::default();
        let syslog = Syslog { socket: path.clone(), facility, format };
        let error = syslog.send(&notice(), &patience(LONG)).unwrap_err();
        assert!(error.again && error.message.contains("No such file"), "{error}");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let short = patience(Duration::from_millis(100));
        assert!((0..10_000).any(|_| syslog.send(&notice(), &short).is_err()));
    }
}
