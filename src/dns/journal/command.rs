//! The command line of journalctl: what is asked of it, checked, and never put through a shell.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::dns::spawn::find;
use crate::engine::Wall;

use super::Running;

/// Bytes of a unit's name (systemd's own limit is 255; ours leaves room for the name of a file).
const UNIT_BYTES_MAX: usize = 200;
/// What a unit's name may end with. Others have no processes that log.
const KINDS: [&str; 3] = [".service", ".scope", ".slice"];
/// What is asked of every journalctl. With --follow alone it shows the present boot only and drops what came before;
/// with --merge it does not.
const ALWAYS: [&str; 6] = [
    "--quiet",
    "--no-pager",
    "--merge",
    "--output=json",
    "--output-fields=MESSAGE,_PID,SYSLOG_IDENTIFIER,_SOURCE_REALTIME_TIMESTAMP,N_DROPPED,_TRANSPORT,_SYSTEMD_UNIT,_UID",
    "--system",
];

/// The full name of a unit: as systemd wants it, so that it is also safe as an argument and in a file's name.
pub fn unit(text: &str) -> Option<String> {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte);
    let fine = !text.is_empty() && text.bytes().all(usual) && !text.starts_with(['.', '-']);
    let full = match KINDS.iter().any(|kind| text.ends_with(kind)) {
        true => text.to_owned(),
        false => format!("{text}.service"),
    };
    (fine && full.len() <= UNIT_BYTES_MAX).then_some(full)
}

/// Where journalctl begins.
pub(super) enum Begin<'a> {
    /// With the entry of this cursor, or the next if that is gone. journalctl's --after-cursor would then drop one.
    Cursor(&'a str),
    /// With what was logged from then on.
    Since(Wall),
}

/// The programs that are needed.
pub(super) struct Tool {
    pub(super) setpriv: PathBuf,
    pub(super) journalctl: PathBuf,
    /// This machine, as the journal knows it: with --merge there may be entries of others.
    pub(super) machine: Option<String>,
}

impl Tool {
    /// Finds them.
    ///
    /// # Errors
    /// In words that say what to do.
    pub(super) fn find() -> Result<Tool, String> {
        let missing = |what: &str, package: &str| {
            format!("{what} is not installed: apt-get install {package}")
        };
        let journalctl = find("journalctl").ok_or_else(|| missing("journalctl", "systemd"))?;
        let setpriv = find("setpriv").ok_or_else(|| missing("setpriv", "util-linux"))?;
        let machine = std::fs::read_to_string("/etc/machine-id").ok();
        let machine = machine.map(|id| id.trim().to_owned()).filter(|id| is_id(id));
        Ok(Tool { setpriv, journalctl, machine })
    }

    /// Everything from there on, and then what comes.
    pub(super) fn follow(&self, unit: &str, begin: &Begin<'_>) -> Result<Running, String> {
        let begin = match begin {
            Begin::Cursor(cursor) => format!("--cursor={cursor}"),
            Begin::Since(since) => {
                format!("--since=@{}.{:06}", since.0 / 1_000_000, since.0 % 1_000_000)
            }
        };
        self.start(&["--follow".to_owned(), "--no-tail".to_owned(), begin], unit)
    }

    /// The last entry there is.
    pub(super) fn last(&self, unit: &str) -> Result<Running, String> {
        self.start(&["--lines=1".to_owned()], unit)
    }

    /// The matches: what the unit's processes wrote, what journald says it dropped of that, and what a dnsmasq wrote
    /// whose unit journald came too late to find out (see [`super::entry`]). Fields that begin with a line are
    /// journald's own, and no process can write them.
    fn matches(&self, unit: &str) -> Vec<String> {
        let machine = self.machine.as_ref().map(|id| format!("_MACHINE_ID={id}"));
        let unit_wrote = [format!("_SYSTEMD_UNIT={unit}")];
        let dropped = ["_TRANSPORT=driver".to_owned(), format!("OBJECT_SYSTEMD_UNIT={unit}")];
        let orphans = ["_TRANSPORT=syslog".to_owned(), "SYSLOG_IDENTIFIER=dnsmasq".to_owned()];
        let mut all = Vec::new();
        for one in [&unit_wrote[..], &dropped, &orphans] {
            if !all.is_empty() {
                all.push("+".to_owned());
            }
            all.extend(machine.iter().cloned());
            all.extend_from_slice(one);
        }
        all
    }

    fn start(&self, arguments: &[String], unit: &str) -> Result<Running, String> {
        let failed = |error: &std::io::Error| format!("journalctl cannot be started: {error}");
        let mut command = Command::new(&self.setpriv);
        // Root may read the journal; journalctl needs nothing more of it, and goes when we do.
        command.args(["--no-new-privs", "--inh-caps=-all", "--pdeathsig=KILL", "--"]);
        command.arg(&self.journalctl).args(ALWAYS).args(arguments).args(self.matches(unit));
        command.env_clear().env("LC_ALL", "C").current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        match (child.stdout.take(), child.stderr.take()) {
            (Some(out), Some(complaints)) => {
                Ok(Running { child, out, complaints, complaint: Vec::new() })
            }
            _ => Err("journalctl has no pipe".to_owned()),
        }
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_as_systemd_names_them() {
        for (text, full) in [
            ("dnsmasq", "dnsmasq.service"),
            ("dnsmasq.service", "dnsmasq.service"),
            ("dnsmasq@lan.service", "dnsmasq@lan.service"),
            ("dns\\x2dmasq", "dns\\x2dmasq.service"),
            ("v1.2", "v1.2.service"),
        ] {
            assert_eq!(unit(text).as_deref(), Some(full), "{text}");
        }
        for text in
            ["", "-u", "../x", "a b", "a/b", "a=b", "a+b", ".service", "é", &"x".repeat(193)]
        {
            assert_eq!(unit(text), None, "{text}");
        }
    }
}
