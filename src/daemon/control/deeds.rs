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

/// What came of a change of the lists.
pub fn of_lists(edited: &Result<Edited, Fault>) -> (Outcome, Option<String>) {
    match edited {
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

/// What came of an import.
pub fn of_import(imported: &Imported) -> (Outcome, Option<String>) {
    let Imported { new, known, skipped } = imported;
    let detail = format!("{new} addresses new, {known} known, {skipped} skipped");
    (Outcome::Done, Some(detail))
}

/// That nothing came of it.
pub fn failed(fault: &Fault) -> (Outcome, Option<String>) {
    (Outcome::Failed, Some(fault.message.chars().take(DETAIL_TOLD_MAX).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
