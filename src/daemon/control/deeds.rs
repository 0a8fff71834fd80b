//! Who had what changed: told as an event, for the log and for people.

use crate::control::{Fault, Imported, Peer};
use crate::daemon::edit::{Action, Daemon, Edited};
use crate::daemon::shared::Shared;
use crate::engine::event::{AskedBody, Body, Outcome, Reload};
use crate::engine::text;

/// Entries that one event names: 8 kB of it at most.
const ENTRIES_TOLD_MAX: usize = 32;
/// Characters of a fault that it repeats.
const DETAIL_TOLD_MAX: usize = 300;

/// How our own commands are called.
const COMMAND: &str = "synhold";
/// What they do about it: a change that the daemon could not make may hold all the same.
const GOES_ON: &str = "the command now tries to write the lists by itself";

/// Who asked for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    uid: u32,
    pid: Option<u32>,
    command: Option<String>,
}

impl By {
    /// Looks now: a process that has asked may end at any time.
    pub fn of(peer: &Peer) -> By {
        let pid = Some(peer.pid).filter(|pid| *pid > 0);
        let named = pid.and_then(|pid| std::fs::read(format!("/proc/{pid}/comm")).ok());
        let command = named.map(|name| {
            text::plain(String::from_utf8_lossy(&name).trim_end_matches('\n')).into_owned()
        });
        By { uid: peer.uid, pid, command }
    }

    /// Tells what came of a change: `what` is its word.
    pub fn tell(
        &self,
        shared: &Shared,
        what: &str,
        entries: impl ExactSizeIterator<Item = String>,
        (outcome, detail): (Outcome, Option<String>),
    ) {
        let By { uid, pid, command } = self.clone();
        let more = entries.len().saturating_sub(ENTRIES_TOLD_MAX);
        let asked = AskedBody {
            uid,
            pid,
            command,
            entries: entries.take(ENTRIES_TOLD_MAX).collect(),
            more: u64::try_from(more).unwrap_or(u64::MAX),
            outcome,
            detail,
        };
        shared.event(Body::Reload(Reload {
            what: what.to_owned(),
            lists: None,
            asked: Some(asked),
        }));
    }
}

/// The word of a change of the lists.
pub fn word(action: Action) -> &'static str {
    match action {
        Action::Block => "block",
        Action::Unblock => "unblock",
        Action::Allow => "allow",
        Action::Unallow => "unallow",
        Action::Quarantine => "quarantine",
        Action::Release => "release",
    }
}

/// What came of a change of the lists that somebody asked for.
pub fn of_lists(edited: &Result<Edited, Fault>, by: &By) -> (Outcome, Option<String>) {
    match edited {
        Err(fault) if by.command.as_deref() == Some(COMMAND) => {
            let (outcome, detail) = failed(fault);
            (outcome, detail.map(|why| format!("{why}; {GOES_ON}")))
        }
        Err(fault) => failed(fault),
        Ok(Edited { daemon: None, .. }) => (Outcome::Unchanged, None),
        Ok(Edited { daemon: Some(Daemon::InForce { ended_flows }), .. }) => {
            (Outcome::InForce, Some(format!("open flows ended: {ended_flows}")))
        }
        Ok(Edited { daemon: Some(Daemon::Unconfirmed | Daemon::NotRunning), .. }) => {
            (Outcome::Unconfirmed, None)
        }
    }
}

/// An import of many parts so far.
#[derive(Debug)]
pub struct Import {
    /// Who asked for it.
    pub by: By,
    imported: Imported,
    /// Why its last part was not taken in.
    fault: Option<Fault>,
}

impl Import {
    /// One that begins.
    pub fn of(peer: &Peer) -> Import {
        Import { by: By::of(peer), imported: Imported::default(), fault: None }
    }

    /// Adds what came of a part.
    pub fn add(&mut self, part: &Result<Imported, Fault>) {
        match part {
            Ok(imported) => self.imported.add(*imported),
            Err(fault) => self.fault = Some(fault.clone()),
        }
    }

    /// What came of all of them.
    pub fn outcome(&self) -> (Outcome, Option<String>) {
        let Imported { new, known, skipped } = self.imported;
        let taken = format!("{new} addresses new, {known} known, {skipped} skipped");
        match self.fault.as_ref().map(failed) {
            None => (Outcome::Done, Some(taken)),
            Some((outcome, why)) => {
                let why = why.unwrap_or_default();
                (outcome, Some(format!("{taken}, and then a part was not taken in: {why}")))
            }
        }
    }
}

/// That nothing came of it.
pub fn failed(fault: &Fault) -> (Outcome, Option<String>) {
    (Outcome::Failed, Some(fault.message.chars().take(DETAIL_TOLD_MAX).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(command: &str) -> By {
        By { uid: 0, pid: None, command: Some(command.to_owned()) }
    }

    #[test]
    fn a_command_of_ours_goes_on_where_the_daemon_could_not() {
        let fault = || Err(Fault::new(crate::control::FaultKind::Failed, "read-only"));
        let told = |command: &str| of_lists(&fault(), &by(command));
        let ours = "read-only; the command now tries to write the lists by itself".to_owned();
        assert_eq!(told("synhold"), (Outcome::Failed, Some(ours)));
        assert_eq!(told("socat"), (Outcome::Failed, Some("read-only".to_owned())));
    }

    #[test]
    fn an_import_that_stops_halfway_says_how_far_it_came() {
        let peer = Peer { connection: 0, uid: 0, pid: 0, may_change: true };
        let mut import = Import::of(&peer);
        import.add(&Ok(Imported { new: 3, ..Imported::default() }));
        let said = "3 addresses new, 0 known, 0 skipped";
        assert_eq!(import.outcome(), (Outcome::Done, Some(said.to_owned())));
        import.add(&Err(Fault::new(crate::control::FaultKind::Malformed, "no address")));
        let said = format!("{said}, and then a part was not taken in: no address");
        assert_eq!(import.outcome(), (Outcome::Failed, Some(said)));
    }

    #[test]
    fn a_process_is_named_as_long_as_it_is_there() {
        let own = Peer { connection: 0, uid: 7, pid: std::process::id(), may_change: true };
        let by = By::of(&own);
        assert_eq!((by.uid, by.pid), (7, Some(own.pid)));
        assert!(by.command.is_some_and(|name| !name.is_empty() && !name.contains('\n')));
        let unseen = By::of(&Peer { pid: 0, ..own });
        assert_eq!((unseen.pid, unseen.command), (None, None));
    }
}
