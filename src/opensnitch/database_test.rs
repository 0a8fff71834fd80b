//! The real schema, written by another connection as OpenSnitch's window does, and read by us.

use std::process::Command;

use rusqlite::params;

use super::*;

/// As OpenSnitch's window makes it.
const SCHEMA: &str = "create table if not exists connections (time text, node text, action text, protocol text, \
    src_ip text, src_port text, dst_ip text, dst_host text, dst_port text, uid text, pid text, process text, \
    process_args text, process_cwd text, rule text, UNIQUE(node, action, protocol, src_ip, src_port, dst_ip, dst_port, \
    uid, pid, process, process_args))";

struct Writer {
    folder: tempfile::TempDir,
    connection: Connection,
    rows: u64,
}

impl Writer {
    fn new(journal: &str) -> Writer {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("db.sqlite3")).unwrap();
        connection.pragma_update(None, "journal_mode", journal).unwrap();
        connection.execute(SCHEMA, []).unwrap();
        Writer { folder, connection, rows: 0 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("db.sqlite3")
    }

    fn database(&self) -> Database {
        Database { path: self.path(), zone: TimeZone::UTC }
    }

    fn row(&mut self, time: &str, action: &str, dst: (&str, &str), rule: &str) {
        self.rows += 1;
        let insert = "insert into connections values (?1, 'unix:/local', ?2, 'tcp', '172.17.0.2', ?3, ?4, ?5, '443', '0', \
            '77', '/usr/bin/dockerd', '', '/', ?6)";
        let values = params![time, action, self.rows.to_string(), dst.0, dst.1, rule];
        self.connection.execute(insert, values).unwrap();
    }

    /// Every file of the folder: inode, size, time of change, bytes. Read by another process: to close a file that we have
    /// open would end our own locks on it.
    fn picture(&self) -> String {
        let script = "stat -c '%n %i %s %.9Y' -- * && cksum -- *";
        let shell =
            Command::new("sh").args(["-c", script]).current_dir(self.folder.path()).output();
        String::from_utf8(shell.unwrap().stdout).unwrap()
    }

    /// What another process finds, as synhold is one: within one, SQLite shares what it has open.
    fn seen(&self) -> String {
        let test = "opensnitch::database::tests::a_look_of_another_process";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(LOOK, self.path())
            .output()
            .unwrap();
        String::from_utf8(child.stdout).unwrap()
    }
}

/// Where [`Writer::seen`] is to look.
const LOOK: &str = "SYNHOLD_TEST_LOOK";

#[test]
fn a_look_of_another_process() {
    let Some(path) = std::env::var_os(LOOK) else { return };
    let database = Database { path: path.into(), zone: TimeZone::UTC };
    let found = database.look(SINCE).map(|found| found.by_address);
    let mut addresses: Vec<IpAddr> = found.iter().flat_map(HashMap::keys).copied().collect();
    addresses.sort();
    println!("seen {addresses:?} {:?}", found.err());
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Midnight of the first of November 2026, UTC.
const SINCE: Wall = Wall(1_793_491_200_000_000);

#[test]
fn denied_connections_and_denied_look_ups_of_names_confirm() {
    let mut writer = Writer::new("delete");
    let day = "2026-11-02 10:00:00.5";
    writer.row(day, "deny", ("203.0.113.9", ""), "deny-x");
    writer.row("2026-11-02 11:00:00", "reject", ("203.0.113.9", "x.example"), "deny-y");
    writer.row(day, "deny", ("1.1.1.1", "7.113.0.203.in-addr.arpa"), REVERSE_RULE);
    writer.row(day, "allow", ("203.0.113.11", "ok.example"), "allow-z");
    writer.row(day, "allow", ("9.9.9.9", "12.113.0.203.in-addr.arpa"), "allow-z");
    writer.row(day, "deny", ("2001:db8::9", ""), "deny-x");
    writer.row("2026-10-31 23:59:59", "deny", ("203.0.113.13", ""), "deny-x");
    writer.row("1793491200", "deny", ("203.0.113.14", ""), "deny-x");
    let found = writer.database().look(SINCE).unwrap();
    let view = |address| found.opinion(ip(address)).view;
    for confirmed in ["203.0.113.9", "203.0.113.7", "2001:db8::9", "::ffff:203.0.113.9"] {
        assert_eq!(view(confirmed), View::Confirmed, "{confirmed}");
    }
    for (other, why) in [
        ("203.0.113.11", "allowed"),
        ("203.0.113.12", "an allowed look-up"),
        ("1.1.1.1", "it is the resolver that a look-up went to"),
        ("203.0.113.13", "too long ago"),
        ("203.0.113.14", "no text of a time, though as text it is beyond any"),
    ] {
        assert_eq!(view(other), View::NeedsReview, "{why}");
    }
    assert_eq!(
        found.opinion(ip("203.0.113.9")).why,
        "OpenSnitch denied connections to it 2 times, last 2026-11-02T11:00:00Z by rule deny-y"
    );
}

#[test]
fn nothing_changes_while_another_process_writes() {
    for journal in ["wal", "delete", "truncate"] {
        let mut writer = Writer::new(journal);
        for address in ["203.0.113.1", "203.0.113.2"] {
            writer.row("2026-11-02 10:00:00", "deny", (address, ""), "r");
            let before = writer.picture();
            assert!(before.contains("db.sqlite3-wal") == (journal == "wal"), "{before}");
            let seen = writer.seen();
            assert!(seen.contains(address) && seen.contains("None"), "{journal}: {seen}");
            assert_eq!(writer.picture(), before, "{journal}");
        }
        // A change under way: a reader sees what was before, and keeps nobody from going on.
        writer.connection.execute_batch("begin immediate").unwrap();
        writer.row("2026-11-02 10:00:00", "deny", ("203.0.113.3", ""), "r");
        let before = writer.picture();
        let seen = writer.seen();
        assert!(seen.contains("203.0.113.2") && !seen.contains("203.0.113.3"), "{seen}");
        assert_eq!(writer.picture(), before, "{journal}");
        writer.connection.execute_batch("commit").unwrap();
        assert!(writer.seen().contains("203.0.113.3"), "{journal}");
    }
}

#[test]
fn a_database_that_nobody_has_open_is_read_as_it_lies_there() {
    let mut writer = Writer::new("wal");
    writer.row("2026-11-02 10:00:00", "deny", ("203.0.113.9", ""), "r");
    let Writer { folder, connection, .. } = writer;
    connection.close().unwrap();
    let path = folder.path().join("db.sqlite3");
    let names = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names(), 1, "its last user has tidied up");
    let database = Database { path, zone: TimeZone::UTC };
    assert!(database.look(SINCE).unwrap().of(ip("203.0.113.9")).is_some());
    assert_eq!(names(), 1, "and we leave nothing");
    std::fs::write(folder.path().join("db.sqlite3-wal"), "torn").unwrap();
    assert_eq!(database.look(SINCE).unwrap_err(), Trouble::Unfinished);
    assert_eq!(names(), 2);
}

#[test]
fn what_cannot_be_asked_says_why_and_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| Database { path: folder.path().join(name), zone: TimeZone::UTC };
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    assert_eq!(at("none").look(SINCE).unwrap_err(), Trouble::Missing);
    assert!(matches!(at("").look(SINCE).unwrap_err(), Trouble::Damaged(_)));
    write("empty", b"");
    assert!(matches!(at("empty").look(SINCE).unwrap_err(), Trouble::Version(_)));
    write("text", b"not a database at all, but long enough for one");
    assert!(matches!(at("text").look(SINCE).unwrap_err(), Trouble::Damaged(_)));
    let other = Connection::open(folder.path().join("other")).unwrap();
    other.execute_batch("create table connections (time text, action text, verdict text)").unwrap();
    let why = at("other").look(SINCE).unwrap_err().opinion();
    assert_eq!((why.view, why.why.ends_with("has no column `dst_ip`")), (View::Unknown, true));
    other.execute_batch("drop table connections").unwrap();
    assert!(at("other").look(SINCE).unwrap_err().to_string().contains("no table"));
    let mut torn = MAGIC_PAGE.to_vec();
    torn.resize(4096, 0xff);
    write("torn", &torn);
    assert!(at("torn").look(SINCE).is_err());
}

#[test]
fn whoever_owns_the_database_has_no_hold_on_whoever_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let endless = "with recursive n(i) as (select 1 union all select i + 1 from n) \
        select i as rowid, i as time, 'deny' as action, '' as dst_ip, '' as dst_host, '' as rule from n";
    let huge = "select 1 as rowid, '' as time, 'deny' as action, zeroblob(900000000) as dst_ip, '' as dst_host, \
        '' as rule";
    let columns = "time text, action text, dst_host text, rule text";
    for (name, schema, why) in [
        ("endless", format!("create view connections as {endless}"), "no table"),
        ("huge", format!("create view connections as {huge}"), "no table"),
        ("virtual", "create virtual table connections using fts5(time)".to_owned(), "no table"),
        (
            "computed",
            format!(
                "create table connections ({columns}, dst_ip blob generated always as (zeroblob(900000000)) virtual)"
            ),
            "no column `dst_ip`",
        ),
    ] {
        let path = folder.path().join(name);
        Connection::open(&path).unwrap().execute_batch(&schema).unwrap();
        let started = Instant::now();
        let trouble = Database { path, zone: TimeZone::UTC }.look(SINCE).unwrap_err();
        assert!(trouble.to_string().contains(why), "{name}: {trouble}");
        assert!(started.elapsed() < PATIENCE, "{name}");
    }
    // Where a statement runs all the same, time and size end it.
    let path = folder.path().join("endless");
    let connection = open::open(&path, Instant::now()).unwrap().0;
    let count = |what: &str| {
        connection.query_row(what, [], |row| row.get::<_, i64>(0)).map_err(Trouble::from)
    };
    assert_eq!(count("select max(time) from connections"), Err(Trouble::Slow));
    let path = folder.path().join("huge");
    let connection = open::open(&path, Instant::now() + PATIENCE).unwrap().0;
    let size = connection.query_row("select dst_ip from connections", [], |_| Ok(()));
    assert!(size.unwrap_err().to_string().contains("too big"));
}

#[test]
fn a_rule_s_name_is_one_line() {
    let mut writer = Writer::new("delete");
    let rule = "x\n[2026] \u{1b}[2J\u{202e}";
    writer.row("2026-11-02 10:00:00", "deny", ("203.0.113.9", ""), rule);
    let found = writer.database().look(SINCE).unwrap();
    assert_eq!(found.of(ip("203.0.113.9")).unwrap().rule, "x [2026]  [2J ");
}

/// The first bytes of a database whose pages are missing.
const MAGIC_PAGE: &[u8] = b"SQLite format 3\0\x10\0\x01\x01";

#[test]
fn a_locked_database_is_soon_given_up() {
    let mut writer = Writer::new("delete");
    writer.row("2026-11-02 10:00:00", "deny", ("203.0.113.9", ""), "r");
    writer.connection.execute_batch("begin exclusive").unwrap();
    assert_eq!(writer.database().look(SINCE).unwrap_err(), Trouble::Locked);
    writer.connection.execute_batch("commit").unwrap();
    assert!(writer.database().look(SINCE).is_ok());
}

#[test]
fn of_a_large_database_the_latest_rows_are_read() {
    let writer = Writer::new("wal");
    writer.connection.execute_batch("begin").unwrap();
    let mut insert = writer
        .connection
        .prepare("insert into connections (time, action, src_port, dst_ip, rule) values ('2026-11-02 10:00:00', ?1, ?2, ?3, 'r')")
        .unwrap();
    insert.execute(params!["deny", 0, "203.0.113.1"]).unwrap();
    for n in 1..50_000 {
        insert.execute(params!["allow", n, "203.0.113.2"]).unwrap();
    }
    insert.execute(params!["deny", 50_000, "203.0.113.3"]).unwrap();
    drop(insert);
    writer.connection.execute_batch("commit").unwrap();
    let found = writer.database().look(SINCE).unwrap();
    assert!(found.of(ip("203.0.113.1")).is_some() && found.of(ip("203.0.113.3")).is_some());
    assert!(!found.is_cut);
}
