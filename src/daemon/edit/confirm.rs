//! Waits until the daemon has taken an edit over, as its status file says.

use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use crate::daemon::books::Books;
use crate::daemon::told::Told;
use crate::engine::Wall;
use crate::lists::{self, ListReport, Source, Status, Watch};

/// How long a command waits. Reading and loading a change in a million entries takes less than a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether an edit is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Daemon {
    /// The kernel has it.
    InForce {
        /// Open flows that were ended by it.
        ended_flows: u64,
    },
    /// A daemon runs, but has not said so in time.
    Unconfirmed,
    /// No daemon uses the state directory.
    NotRunning,
}

/// Waits for the daemon to have loaded what was in the files at `changed_at`.
pub fn wait(books: &Books, changed_at: Wall) -> Daemon {
    if !books.running {
        return Daemon::NotRunning;
    }
    let Ok(mut watch) = Watch::new([books.folder.status()]) else { return Daemon::Unconfirmed };
    let own = own_of(books, changed_at);
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The watch was there before the file is read, so no change of it is missed.
        let status = Status::load(&books.folder).ok().flatten();
        if let Some(status) = status.filter(|status| covers(status, changed_at, &own)) {
            return Daemon::InForce { ended_flows: ended_since(books.status.as_ref(), &status) };
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Daemon::Unconfirmed;
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        // An interrupted wait is a short wait.
        let _ = poll(&mut [PollFd::new(watch.fd(), PollFlags::POLLIN)], timeout);
        // Whatever it says, the file is read again.
        let _ = watch.changed();
    }
}

/// The same within the daemon.
pub fn wait_live(books: &Books, changed_at: Wall, told: &Told) -> Daemon {
    let own = own_of(books, changed_at);
    match told.wait_for(PATIENCE, |status| covers(status, changed_at, &own)) {
        Some(status) => {
            Daemon::InForce { ended_flows: ended_since(books.status.as_ref(), &status) }
        }
        None => Daemon::Unconfirmed,
    }
}

fn own_of(books: &Books, changed_at: Wall) -> Vec<ListReport> {
    lists::compile(&Source::all_own(&books.folder), &books.protected, changed_at).per_list
}

/// True if the kernel has a reading of the lists that began after the edit and took our own for what they are: the
/// daemon does not believe at once that a list lost nearly everything.
fn covers(status: &Status, changed_at: Wall, own: &[ListReport]) -> bool {
    let entries = |name: &str| {
        let list = status.lists.iter().find(|list| list.report.name == name);
        list.map_or(0, |list| list.report.entries)
    };
    status.in_force
        && status.read.is_some_and(|read| read >= changed_at)
        && own.iter().all(|list| entries(&list.name) == list.entries)
}

/// Flows ended since `before`; a daemon that started meanwhile counts from zero.
fn ended_since(before: Option<&Status>, now: &Status) -> u64 {
    let before = before.filter(|before| before.pid == now.pid);
    now.ended_in_all.saturating_sub(before.map_or(0, |before| before.ended_in_all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::{Folder, ListStatus, Own};

    #[test]
    fn only_a_reading_after_the_edit_that_the_kernel_has_counts() {
        let status = |read, in_force| Status { read, in_force, ..Status::default() };
        let covers = |status: &Status| covers(status, Wall(7), &[]);
        assert!(covers(&status(Some(Wall(7)), true)));
        assert!(!covers(&status(Some(Wall(6)), true)), "read before the edit");
        assert!(!covers(&status(Some(Wall(8)), false)), "not loaded");
        assert!(!covers(&status(None, true)));
    }

    #[test]
    fn a_loss_that_is_not_believed_is_not_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder::new(folder.path());
        std::fs::create_dir_all(folder.lists()).unwrap();
        let compiled = || lists::compile(&Source::all_own(&folder), &[], Wall(0)).per_list;
        std::fs::write(folder.own(Own::Block), "203.0.113.1\n203.0.113.2\n").unwrap();
        let lists = ListStatus::all(&compiled(), &[], &folder);
        let status = Status { read: Some(Wall(7)), in_force: true, lists, ..Status::default() };
        assert!(covers(&status, Wall(7), &compiled()));
        std::fs::write(folder.own(Own::Block), "").unwrap();
        assert!(!covers(&status, Wall(7), &compiled()));
    }

    #[test]
    fn flows_are_counted_from_the_command_on() {
        let status = |pid, ended_in_all| Status { pid, ended_in_all, ..Status::default() };
        assert_eq!(ended_since(Some(&status(1, 5)), &status(1, 7)), 2);
        assert_eq!(ended_since(Some(&status(1, 5)), &status(2, 3)), 3, "another daemon");
        assert_eq!(ended_since(None, &status(1, 3)), 3);
    }
}
