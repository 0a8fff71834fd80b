//! What the user's lists and feeds say: read, fetched, watched, edited, and compiled for the engine.
//!
//! Files are read line by line and nothing but the compiled ranges stays in memory. A line that cannot be understood is
//! reported with its number and skipped; an edit keeps every other byte of the file as it is.
//!
//! ```text
//! allow.txt block.txt auto.txt quarantine.txt --OwnLists--.
//!                                                          >--Source--> compile --> engine::lists::Lists, a report each
//! [[feed]] --Feeds--> last good copies --------------------'        \-> find --> which entry decides
//! add, remove, prune_expired --> the files --Watch--> load and compile again
//! ```
//!
//! What is doubted: a feed that lost 90 % of its entries stays out until its copy is removed or its section says
//! `allow-shrink`; one of the user's two files is believed after [`SHRINK_SETTLE`]. What is refused in a block list
//! unless forced: whatever covers a protected address or a large part of the Internet.

mod atomic;
mod compile;
mod copy;
mod csv;
mod document;
mod edit;
mod entry;
mod feed;
mod feeds;
mod fetch;
mod find;
mod folder;
mod format;
mod hold;
mod item;
mod own;
mod read;
mod schedule;
mod shrink;
mod source;
mod status;
#[cfg(test)]
mod testing;
mod text;
mod watch;

pub use compile::{Compiled, ListReport, MESSAGES_MAX, compile};
pub use document::{Added, Addition, Removal};
pub use edit::{EditError, OWN_BYTES_MAX, add, prune_expired, remove};
pub use entry::{Entry, EntryError};
pub use feed::{
    FEED_BYTES_DEFAULT, FEED_BYTES_MAX, FEEDS_MAX, Feed, FeedConfig, Origin, REFRESH_DEFAULT,
    REFRESH_MAX, REFRESH_MIN,
};
pub use feeds::{FeedReport, Feeds, News, RefreshError, Refreshed};
pub use fetch::FetchError;
pub use find::{FOUND_PER_QUERY_MAX, Findings, Found, Query, find};
pub use folder::{Folder, Own};
pub use format::{Column, Format};
pub use hold::{Protected, danger};
pub use item::{Item, Line, LineError};
pub use own::{Loaded, OwnLists};
pub use read::{Counts, Dialect, ReadError, read};
pub use shrink::{SHRINK_ENTRIES_MIN, SHRINK_SETTLE, accept_shrink, is_suspicious};
pub use source::{Content, DOH_SERVERS, FeedCopy, Source};
pub use status::{ListStatus, SetStatus, Status};
pub use text::{serde_time, show_time};
pub use watch::{DEBOUNCE, Watch};

use serde::{Deserialize, Serialize};

/// Bytes of one line; the longest lines of known feeds, with all their columns, are a tenth of this.
pub const LINE_BYTES_MAX: usize = 4096;

/// What an entry of a list means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Accepted, whatever else is said.
    Allow,
    /// Refused.
    Block,
    /// A container that is refused everything.
    Quarantine,
}
