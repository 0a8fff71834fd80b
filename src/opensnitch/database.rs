//! What the database says: connections that were denied, by the address they were about.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use jiff::tz::TimeZone;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, Row};

use super::{arpa, open, stamp};
use crate::engine::opinion::{Opinion, View};
use crate::engine::{Wall, text};

/// Rows looked at, the latest first: months of a busy desktop.
const ROWS_MAX: i64 = 1_000_000;
/// Rows read under one lock, so that nobody who writes waits for us.
const ROWS_AT_ONCE: i64 = 20_000;
/// How long a look may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses kept of a look, at some hundred bytes each.
const ADDRESSES_MAX: usize = 100_000;
/// Characters of a cell that are read; a name has 253 at most.
const CELL_BYTES_MAX: usize = 256;
/// The columns that are read; the table has had them since it was made.
const COLUMNS: [&str; 5] = ["time", "action", "dst_ip", "dst_host", "rule"];
/// The rule that the ancestor shipped to have reverse look-ups denied.
const REVERSE_RULE: &str = "0-deny-arpa-53";

/// Where the database is. It is opened for each look and closed again.
#[derive(Clone, Debug)]
pub struct Database {
    path: PathBuf,
    zone: TimeZone,
}

/// Why the database cannot be asked. Never an error of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is none.
    #[error("there is no OpenSnitch database")]
    Missing,
    /// Somebody has it for himself.
    #[error("the OpenSnitch database is locked")]
    Locked,
    /// Its writer ended in the middle of something, and only a writer may bring that to an end.
    #[error("the OpenSnitch database was left in the middle of a change: open OpenSnitch once")]
    Unfinished,
    /// It is of another version.
    #[error("the OpenSnitch database is of another version: {0}")]
    Version(String),
    /// It is larger than time allows, or made to be.
    #[error("the OpenSnitch database takes too long to be read")]
    Slow,
    /// It is none, or not as a whole.
    #[error("the OpenSnitch database is damaged: {0}")]
    Damaged(String),
    /// Anything else.
    #[error("the OpenSnitch database cannot be read: {0}")]
    Other(String),
}

/// What was denied about one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Times, as far as rows tell: the same connection is one row.
    pub count: u64,
    /// Of those, look-ups of its name.
    pub reverse: u64,
    /// The last time.
    pub last: Wall,
    /// The rule that denied it then.
    pub rule: String,
}

/// What one look found.
#[derive(Clone, Debug, Default)]
pub struct Denials {
    by_address: HashMap<IpAddr, Denied>,
    /// True if there are rows that were not looked at.
    is_cut: bool,
}

impl Trouble {
    pub(super) fn of_file(error: &std::io::Error) -> Trouble {
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Trouble::Missing,
            _ => Trouble::Other(error.to_string()),
        }
    }

    /// What there is to say where nobody can be asked.
    pub fn opinion(&self) -> Opinion {
        Opinion { view: View::Unknown, why: self.to_string() }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Locked,
            Some(ErrorCode::OperationInterrupted) => Trouble::Slow,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Trouble::Damaged(error.to_string())
            }
            _ => Trouble::Other(error.to_string()),
        }
    }
}

impl Database {
    /// The database of this path, whether it is there or not. Its times are this host's.
    pub fn new(path: &Path) -> Database {
        Database { path: path.to_owned(), zone: TimeZone::system() }
    }

    /// True if there is one.
    pub fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// What was denied since then.
    ///
    /// # Errors
    /// [`Trouble`]: it cannot be asked.
    pub fn look(&self, since: Wall) -> Result<Denials, Trouble> {
        let end = Instant::now() + PATIENCE;
        let (connection, alone) = open::open(&self.path, end)?;
        let found = self.read(&connection, since, end);
        // Read as it lies there while somebody began to write: anything may have been read.
        match alone && open::is_written(&self.path) {
            true => Err(Trouble::Locked),
            false => found,
        }
    }

    fn read(&self, connection: &Connection, since: Wall, end: Instant) -> Result<Denials, Trouble> {
        check(connection)?;
        let newest: Option<i64> =
            connection.query_row("SELECT max(rowid) FROM connections", [], |row| row.get(0))?;
        let (mut denials, mut upto) = (Denials::default(), newest.unwrap_or(0));
        let last = upto.saturating_sub(ROWS_MAX);
        let mut rows = connection.prepare(
            "SELECT time, action, dst_ip, dst_host, rule FROM connections \
             WHERE rowid > ?1 AND rowid <= ?2 AND (action <> 'allow' OR rule = ?3)",
        )?;
        while upto > last.max(0) {
            if Instant::now() >= end || denials.by_address.len() >= ADDRESSES_MAX {
                break;
            }
            let from = upto.saturating_sub(ROWS_AT_ONCE);
            let mut found = rows.query((from, upto, REVERSE_RULE))?;
            let all = loop {
                match found.next() {
                    Ok(Some(row)) => self.take(row, since, &mut denials),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(Trouble::from(error)),
                }
            };
            match all {
                // What was read before counts.
                Err(Trouble::Slow) => break,
                all => all?,
            }
            upto = from;
        }
        denials.is_cut = upto > 0;
        Ok(denials)
    }

    fn take(&self, row: &Row<'_>, since: Wall, into: &mut Denials) {
        let [time, action, dst_ip, dst_host, rule] = [0, 1, 2, 3, 4].map(|place| cell(row, place));
        let is_denied = matches!(action.as_str(), "deny" | "reject" | "drop");
        let reverse = arpa::reversed(&dst_host);
        let address = match reverse {
            Some(address) if is_denied || rule == REVERSE_RULE => address,
            // Of another look-up, what was denied is the resolver.
            Some(_) => return,
            None if is_denied => match dst_ip.parse::<IpAddr>() {
                Ok(address) => address.to_canonical(),
                Err(_) => return,
            },
            None => return,
        };
        let Some(at) = stamp::time(&time, &self.zone).filter(|at| *at >= since) else { return };
        let denied = into.by_address.entry(address).or_default();
        denied.count += 1;
        denied.reverse += u64::from(reverse.is_some());
        if at >= denied.last {
            denied.last = at;
            denied.rule = rule;
        }
    }
}

impl Denials {
    /// What was denied about an address.
    pub fn of(&self, address: IpAddr) -> Option<&Denied> {
        self.by_address.get(&address.to_canonical())
    }

    /// What that makes of an address.
    pub fn opinion(&self, address: IpAddr) -> Opinion {
        let Some(denied) = self.of(address) else {
            let rows = if self.is_cut { " in the rows looked at" } else { "" };
            let why = format!("OpenSnitch has denied nothing about it{rows}");
            return Opinion { view: View::NeedsReview, why };
        };
        let Denied { count, reverse, last, rule } = denied;
        let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
        let what = match reverse {
            0 => "connections to it",
            reverse if reverse == count => "look-ups of its name",
            _ => "connections to it and look-ups of its name",
        };
        let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_micros(last.0));
        let why = format!("OpenSnitch denied {what} {times}, last {at} by rule {rule}");
        Opinion { view: View::Confirmed, why }
    }
}

fn check(connection: &Connection) -> Result<(), Trouble> {
    // Of a view, whoever owns the file says what reading it does. Computed columns are not among the columns.
    let kind = "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = 'connections'";
    let kinds: Vec<String> = connection
        .prepare(kind)?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, rusqlite::Error>>()?;
    if kinds.iter().any(|kind| kind != "table") {
        return Err(Trouble::Version("its `connections` is no table".to_owned()));
    }
    let mut columns = connection.prepare("SELECT name FROM pragma_table_info('connections')")?;
    let there: Vec<String> =
        columns.query_map([], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
    if there.is_empty() {
        return Err(Trouble::Version("it has no table `connections`".to_owned()));
    }
    match COLUMNS.iter().find(|column| !there.iter().any(|there| there == *column)) {
        Some(column) => {
            Err(Trouble::Version(format!("its table `connections` has no column `{column}`")))
        }
        None => Ok(()),
    }
}

/// A cell as one line of text, whatever was put there.
fn cell(row: &Row<'_>, place: usize) -> String {
    match row.get_ref(place) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
            let bytes = bytes.get(..CELL_BYTES_MAX).unwrap_or(bytes);
            text::plain(&String::from_utf8_lossy(bytes)).into_owned()
        }
        Ok(ValueRef::Integer(number)) => number.to_string(),
        Ok(ValueRef::Null | ValueRef::Real(_)) | Err(_) => String::new(),
    }
}

#[cfg(test)]
#[path = "database_test.rs"]
mod tests;
