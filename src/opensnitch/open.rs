//! Opens the database so that nothing of it changes: no lock file, no journal, no byte, whoever writes to it meanwhile.
//!
//! Opened by `mode=ro`, SQLite still makes and writes the shared index (`-shm`) of a database in WAL mode. So where
//! somebody has it open, that index is only read (`readonly_shm`); where nobody has, and nothing is left in the log, the
//! file alone is read (`immutable`).

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::Trouble;

/// How long a writer is waited for; whoever asks has better things to do.
const BUSY: Duration = Duration::from_millis(250);
/// Steps between looks at the clock: some microseconds.
const STEPS: i32 = 1_000;
/// Memory of all that SQLite does in this process: a page cache, and a schema of a dozen tables.
const HEAP_BYTES: i64 = 64 << 20;
/// What the database may make us do. Its owner need not be its writer's friend: a cell has some hundred bytes, a statement
/// of the schema a thousand, and we write the others.
const LIMITS: [(Limit, i32); 7] = [
    (Limit::SQLITE_LIMIT_LENGTH, 1 << 20),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 16),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 32),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 4),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 64),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 0),
];
/// `SQLite format 3\0`, page size, and the two bytes that say how it is written.
const HEAD_BYTES: usize = 20;
const MAGIC: &[u8] = b"SQLite format 3\0";
const WAL: u8 = 2;

/// How a database is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Under its writers' locks.
    Shared,
    /// By the index its writers keep.
    Index,
    /// As it lies there.
    AsItIs,
}

/// Opens the database of this path, for statements that end by `end`. True if nobody may begin to write while it is read.
pub fn open(path: &Path, end: Instant) -> Result<(Connection, bool), Trouble> {
    let path = path.canonicalize().map_err(|error| Trouble::of_file(&error))?;
    let how = how(&path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(uri(&path, how), flags)?;
    bound(&mut connection, end)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok((connection, how == How::AsItIs))
}

/// Nothing that somebody put into the schema makes us wait, or eats the memory. Before anything is read.
fn bound(connection: &mut Connection, end: Instant) -> Result<(), Trouble> {
    connection.progress_handler(STEPS, Some(move || Instant::now() >= end))?;
    for (limit, most) in LIMITS {
        connection.set_limit(limit, most)?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.query_row(&format!("PRAGMA hard_heap_limit={HEAP_BYTES}"), [], |_| Ok(()))?;
    Ok(())
}

/// Whether somebody has begun to write since it was opened as it lies there.
pub fn is_written(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| how(&path) != Ok(How::AsItIs))
}

fn how(path: &Path) -> Result<How, Trouble> {
    // A FIFO would make us wait for whoever writes to it.
    if !std::fs::metadata(path).map_err(|error| Trouble::of_file(&error))?.is_file() {
        return Err(Trouble::Damaged("no file".to_owned()));
    }
    let mut head = [0; HEAD_BYTES];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    match read {
        // SQLite makes an empty file first, and its pages later.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(Trouble::Version("it has no tables".to_owned()));
        }
        read => read.map_err(|error| Trouble::of_file(&error))?,
    }
    if !head.starts_with(MAGIC) {
        return Err(Trouble::Damaged("no SQLite database".to_owned()));
    }
    if head.last() != Some(&WAL) {
        return Ok(How::Shared);
    }
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        std::fs::metadata(PathBuf::from(name)).ok().map(|file| file.len())
    };
    match (beside("-shm"), beside("-wal")) {
        (Some(_), _) => Ok(How::Index),
        (None, None | Some(0)) => Ok(How::AsItIs),
        (None, Some(_)) => Err(Trouble::Unfinished),
    }
}

/// RFC 3986, but for the slashes of the path.
fn uri(path: &Path, how: How) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri += &format!("%{byte:02X}"),
        }
    }
    uri + match how {
        How::Shared => "?mode=ro",
        How::Index => "?mode=ro&readonly_shm=1",
        How::AsItIs => "?mode=ro&immutable=1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_no_option() {
        let uri = uri(Path::new("/a b/c?mode=rwc#x%41/\u{e4}.sqlite3"), How::Shared);
        assert_eq!(uri, "file:///a%20b/c%3Fmode%3Drwc%23x%2541/%C3%A4.sqlite3?mode=ro");
    }
}
