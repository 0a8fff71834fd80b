//! `report.json`: what others answered about addresses, so that they are not asked again too soon.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Addresses;
use crate::engine::Wall;
use crate::report::lookup::{Found, Registration, Reputation, Wanted};
use crate::store::{Small, Version};

const FILE: &str = "report.json";
/// Bytes of a file that is read: a hundred thousand addresses with all that is known of them.
const BYTES_MAX: u64 = 128 << 20;
const LOSS: &str = "everybody is asked again";
const DAY: u64 = 24 * 60 * 60;
/// Whose an address is changes rarely.
const REGISTRATION_AGE: Duration = Duration::from_secs(30 * DAY);
const NAME_AGE: Duration = Duration::from_secs(7 * DAY);
/// A key has a thousand questions a day.
const REPUTATION_AGE: Duration = Duration::from_secs(DAY);

/// An answer, and when it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answer<T> {
    pub what: T,
    at: Wall,
}

/// What is remembered of one address.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// When it was first seen.
    pub first: Wall,
    /// When something about it changed last.
    pub updated: Wall,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ptr: Option<Answer<Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdap: Option<Answer<Registration>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abuse: Option<Answer<Reputation>>,
}

/// All addresses of the last report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    version: Version<1>,
    rows: BTreeMap<IpAddr, Remembered>,
    #[serde(skip)]
    is_changed: bool,
    /// What stands in the file is not known, and stays there.
    #[serde(skip)]
    is_unread: bool,
}

impl Remembered {
    /// What nobody was asked about lately.
    pub(super) fn wanted(&self, now: Wall) -> Wanted {
        let old = |at: Option<Wall>, age: Duration| at.is_none_or(|at| at + age <= now || at > now);
        Wanted {
            ptr: old(self.ptr.as_ref().map(|known| known.at), NAME_AGE),
            rdap: old(self.rdap.as_ref().map(|known| known.at), REGISTRATION_AGE),
            abuse: old(self.abuse.as_ref().map(|known| known.at), REPUTATION_AGE),
        }
    }
}

impl Memory {
    /// What the last report left; and why it is not used, if it is not.
    pub(super) fn load(state_dir: &Path, now: Wall) -> (Memory, Option<String>) {
        let file = file(state_dir);
        match file.load(LOSS, now, Some) {
            Ok(memory) => (memory.unwrap_or_default(), None),
            Err(complaint) => {
                (Memory { is_unread: file.is_unread(), ..Memory::default() }, Some(complaint))
            }
        }
    }

    /// Forgets who is not blocked any more.
    pub(super) fn keep_only(&mut self, addresses: &Addresses) {
        let before = self.rows.len();
        self.rows.retain(|address, _| addresses.contains(address));
        self.is_changed |= before != self.rows.len();
    }

    /// Notes that an address is blocked, since then as far as is known.
    pub(super) fn seen(&mut self, address: IpAddr, first: Option<Wall>, now: Wall) {
        let fresh =
            || Remembered { first: first.unwrap_or(now), updated: now, ..Remembered::default() };
        self.is_changed |= !self.rows.contains_key(&address);
        let row = self.rows.entry(address).or_insert_with(fresh);
        if let Some(first) = first.filter(|first| *first < row.first) {
            row.first = first;
            self.is_changed = true;
        }
    }

    /// What is remembered of an address.
    pub(super) fn of(&self, address: IpAddr) -> Option<&Remembered> {
        self.rows.get(&address)
    }

    /// Takes answers in; what failed is asked again next time.
    pub(super) fn answered(&mut self, address: IpAddr, found: Found, now: Wall) {
        let Some(row) = self.rows.get_mut(&address) else { return };
        let Found { ptr, rdap, abuse } = found;
        let answers = [
            ptr.and_then(Result::ok).map(|what| row.ptr = Some(Answer { what, at: now })),
            rdap.and_then(Result::ok).map(|what| row.rdap = Some(Answer { what, at: now })),
            abuse.and_then(Result::ok).map(|what| row.abuse = Some(Answer { what, at: now })),
        ];
        if answers.iter().any(Option::is_some) {
            row.updated = now;
            self.is_changed = true;
        }
    }

    /// Writes it down, if there is something new.
    pub(super) fn save(&self, state_dir: &Path) -> std::io::Result<()> {
        if self.is_changed && !self.is_unread { file(state_dir).save(self) } else { Ok(()) }
    }
}

fn file(state_dir: &Path) -> Small {
    Small::new(state_dir.join(FILE), BYTES_MAX, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_their_time_and_failures_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (address, other): (IpAddr, IpAddr) =
            ("203.0.113.9".parse().unwrap(), "203.0.113.10".parse().unwrap());
        let now = Wall(1_800_000_000_000_000);
        let load = || match Memory::load(folder.path(), now) {
            (memory, None) => memory,
            (_, Some(complaint)) => panic!("{complaint}"),
        };
        let mut memory = load();
        memory.seen(address, None, now);
        memory.seen(other, Some(Wall(7)), now);
        let all = Wanted { ptr: true, rdap: true, abuse: true };
        assert_eq!(memory.of(address).unwrap().wanted(now), all);
        let found = Found {
            ptr: Some(Ok(None)),
            rdap: Some(Err("(no)".to_owned())),
            abuse: Some(Ok(Reputation::default())),
        };
        memory.answered(address, found, now);
        memory.save(folder.path()).unwrap();
        let mut memory = load();
        let later = now + REPUTATION_AGE;
        let wanted = |memory: &Memory, at| memory.of(address).unwrap().wanted(at);
        assert_eq!(wanted(&memory, now), Wanted { rdap: true, ..Wanted::default() });
        assert_eq!(wanted(&memory, later), Wanted { rdap: true, abuse: true, ptr: false });
        assert_eq!(memory.of(other).unwrap().first, Wall(7));
        memory.keep_only(&[address].into());
        memory.save(folder.path()).unwrap();
        assert!(load().of(other).is_none(), "blocked no more");
    }

    #[test]
    fn what_could_not_be_read_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::create_dir(&path).unwrap();
        let (mut memory, complaint) = Memory::load(folder.path(), Wall(1));
        assert!(complaint.is_some());
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "as it was").unwrap();
        memory.seen("203.0.113.9".parse().unwrap(), None, Wall(1));
        memory.save(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "as it was");
    }
}
