//! When something about records is marked or alerted, all thresholds in one place. No mark changes a verdict.
//!
//! They are about what is resolved while we look: history that is read in at a start says nothing about a flood of now.

use std::time::Duration;

use super::time::Wall;

/// How long a name is new after it was seen for the first time, in seconds: malware that makes its names as it goes
/// connects at once, and so does every program at its first start, hence a mark and no more.
pub const NEW_NAME: u32 = 10;
/// New addresses of one name within [`ADDRESSES_WINDOW`] from which on it is marked. A large service answers with some
/// dozens from one place, and what it has rotated through is known after days and counts no more; a fast-flux name has
/// another handful every few minutes, day after day, and reaches hundreds within hours. What is left is a program that
/// asks a pool of volunteers (NTP) or an object store with thousands of addresses every few seconds.
pub const ADDRESSES_PER_NAME: u32 = 256;
/// See [`ADDRESSES_PER_NAME`]; in seconds.
pub const ADDRESSES_WINDOW: u32 = 24 * 60 * 60;
/// New names of one asker within [`NAMES_WINDOW`] from which on they are marked. A browser opens some dozens for a page;
/// a crawler may come that far, a tunnel or a generator of domains does.
pub const NAMES_PER_ASKER: u32 = 500;
/// See [`NAMES_PER_ASKER`]; in seconds.
pub const NAMES_WINDOW: u32 = 60;
/// How long after a record's time it is history, which raises nothing. Lines are read within milliseconds; a reader
/// that is further behind is told of elsewhere.
pub const LIVE: Duration = Duration::from_secs(10);
/// How long one thing is not told again.
pub const TOLD_AGAIN: u32 = 60 * 60;
/// Things told within that time for one asker, so that none can fill the log or drown what others did.
pub const TOLD_PER_ASKER: usize = 32;
/// The same for one container, whatever addresses it asks from, or for all that no container owns: a part of all.
pub const TOLD_PER_ACCOUNT: usize = TOLD_MAX / 8;
/// Things told within that time altogether.
pub const TOLD_MAX: usize = 1024;
/// Alerts that wait to be fetched, once a second.
pub const ALERTS_WAITING: usize = 256;

/// Whether a record of `time` that is read at `now` tells of the present.
pub fn is_live(time: Wall, now: Wall) -> bool {
    now <= time + LIVE
}
