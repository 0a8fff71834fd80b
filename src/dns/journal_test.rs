//! A journalctl that fails in every way, played by a script; the real one is asked in tests/netns.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::*;
use crate::dns::spawn::find;
use crate::dns::testing::{Heard, Source};
use crate::engine::Mono;

/// A journal of ours: entries in a file, and a script that shows them as journalctl would.
struct Fake {
    folder: tempfile::TempDir,
    left: Left,
    reached: Arc<Mutex<Vec<Place>>>,
}

struct Kept(Left, Arc<Mutex<Vec<Place>>>);

impl Outside for Kept {
    fn follow(&self, _: &str, _: &Stop, _: &mut dyn Taker) {}
    fn clock(&self) -> Mono {
        Mono(0)
    }
    fn journal_left(&self, _: &str) -> Left {
        self.0.clone()
    }
    fn journal_reached(&self, _: &str, place: &Place) {
        self.1.lock().unwrap().push(place.clone());
    }
}

fn entry(n: u64, message: &str) -> String {
    format!(
        "{{\"__CURSOR\":\"i={n};e\",\"__REALTIME_TIMESTAMP\":\"{}\",\"MESSAGE\":\"{message}\",\"_PID\":\"7\",\"_SYSTEMD_UNIT\":\"dnsmasq.service\",\"SYSLOG_IDENTIFIER\":\"dnsmasq\"}}\n",
        1_000_000 + n
    )
}

/// Questions and answers of names from `n1` on, two entries each.
fn lookups(count: u64) -> String {
    let pair = |n: u64| {
        let name = format!("n{n}.example");
        entry(2 * n, &format!("{n} 10.0.0.2/9 query[A] {name} from 10.0.0.2"))
            + &entry(2 * n + 1, &format!("{n} 10.0.0.2/9 reply {name} is 192.0.2.1"))
    };
    (1..=count).map(pair).collect()
}

fn names(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|n| format!("n{n}")).collect()
}

impl Fake {
    /// `follow` is what the script does after it has put the entries from the cursor on into `$entries`.
    fn new(entries: &str, follow: &str) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake { folder, left: Left::Since(Wall(0)), reached: Arc::default() };
        fs::write(fake.path("entries"), entries).unwrap();
        let dir = fake.folder.path().display();
        let script = format!(
            "#!/bin/sh\nPATH=/usr/bin:/bin\ncd {dir}\nfrom=\nfor a; do case $a in\n\
             --lines=1) [ -e late ] || tail -n 1 entries; exit 0;;\n\
             --cursor=*) from=${{a#--cursor=}};;\nesac; done\n\
             echo \"$*\" >> calls\n\
             if [ -n \"$from\" ]; then entries=$(sed -n \"/$from/,\\$p\" entries); else entries=$(cat entries); fi\n{follow}\n"
        );
        fs::write(fake.path("journalctl"), script).unwrap();
        fs::set_permissions(fake.path("journalctl"), fs::Permissions::from_mode(0o755)).unwrap();
        fake
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("calls")).unwrap().lines().map(str::to_owned).collect()
    }

    fn start(&self) -> Source {
        let journalctl = self.path("journalctl");
        let kept = Kept(self.left.clone(), Arc::clone(&self.reached));
        Source::with(move |stop, sink| {
            with(|| Ok(tool(&journalctl)), "dnsmasq.service", &kept, stop, sink);
        })
    }
}

fn tool(journalctl: &Path) -> Tool {
    let setpriv = find("setpriv").unwrap();
    Tool { setpriv, journalctl: journalctl.to_owned(), machine: Some("ab".repeat(16)) }
}

#[test]
fn a_journalctl_that_ends_again_and_again_gives_each_entry_once() {
    // Three at a time: the one that is known, and two new ones.
    let fake = Fake::new(
        &lookups(6),
        "printf '%s\\n' \"$entries\" | head -n 3; [ $(printf '%s\\n' \"$entries\" | wc -l) -gt 3 ] && { echo broken pipe of sorts >&2; exit 3; }; exec sleep 100",
    );
    let source = fake.start();
    source.answers(names(1..=1));
    source.down("journalctl ended (exit status: 3): broken pipe of sorts");
    source.answers(names(2..=6));
    source.up();
    let calls = fake.calls();
    assert!(calls[0].contains("--since=@0.000000 ") && calls[1].contains("--cursor=i=4;e "));
    let reached = fake.reached.lock().unwrap();
    assert_eq!(reached.last(), Some(&Place { cursor: "i=13;e".to_owned(), at: Wall(1_000_013) }));
    // Nothing that a shell would take apart, and only what the unit or journald itself wrote.
    let id = "ab".repeat(16);
    let wanted = format!(
        "_MACHINE_ID={id} _SYSTEMD_UNIT=dnsmasq.service + _MACHINE_ID={id} _TRANSPORT=driver OBJECT_SYSTEMD_UNIT=dnsmasq.service + _MACHINE_ID={id} _TRANSPORT=syslog SYSLOG_IDENTIFIER=dnsmasq"
    );
    assert!(calls[0].ends_with(&wanted), "{}", calls[0]);
}

#[test]
fn an_entry_that_was_vacuumed_costs_none_of_those_after_it() {
    // The entry of the cursor is gone, and journalctl begins with the next.
    let mut fake = Fake::new(&lookups(3), "cat entries; exec sleep 100");
    fake.left = Left::At("i=1;e".to_owned());
    fake.start().answers(names(1..=3));
}

#[test]
fn a_cursor_that_is_not_taken_is_given_up() {
    let mut fake = Fake::new(
        &lookups(2),
        "[ -n \"$from\" ] && { echo 'Failed to seek to cursor: Invalid argument' >&2; exit 1; }; cat entries; exec sleep 100",
    );
    fake.left = Left::At("i=1;e".to_owned());
    let source = fake.start();
    source.down("Failed to seek to cursor");
    source.answers(names(1..=2));
}

#[test]
fn history_ends_with_the_last_entry_there_was() {
    let follow = "printf '%s\\n' \"$entries\" | head -n 3; while [ ! -e go ]; do sleep 0.01; done; printf '%s\\n' \"$entries\" | tail -n +4; exec sleep 100";
    let fake = Fake::new(&lookups(2), follow);
    let source = fake.start();
    source.answers(names(1..=1));
    fs::write(fake.path("go"), "").unwrap();
    let heard = source.until(|heard| *heard == Heard::Up);
    assert!(
        heard.iter().any(|heard| matches!(heard, Heard::Answer(text) if text.starts_with("n2")))
    );
}

#[test]
fn what_is_no_entry_is_skipped_and_an_empty_journal_is_up() {
    let noise = format!("nonsense\n{{}}\n{}\n", "x".repeat(ENTRY_BYTES_MAX * 2));
    let fake = Fake::new(&(noise + &lookups(1)), "cat entries; exec sleep 100");
    fs::write(fake.path("late"), "").unwrap();
    let source = fake.start();
    source.up();
    source.answers(names(1..=1));
}

#[test]
fn a_journalctl_that_is_missing_or_dies_is_told_and_waited_for() {
    let fake = Fake::new(&lookups(1), "kill -9 $$");
    let source = fake.start();
    source.down("signal: 9");
    let kept = Kept(Left::Since(Wall(0)), Arc::default());
    let none = Source::with(move |stop, sink| {
        with(|| Err("journalctl is not installed".to_owned()), "x.service", &kept, stop, sink);
    });
    none.down("is not installed");
}

#[test]
fn nothing_is_left_running() {
    let fake = Fake::new(&lookups(1), "echo $$ > pid; cat entries; exec sleep 100");
    let source = fake.start();
    source.answers(names(1..=1));
    drop(source);
    let pid = fs::read_to_string(fake.path("pid")).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn cursors_are_what_journalctl_writes_and_nothing_else() {
    assert!(is_cursor(
        "s=4ef0ad37;i=826;b=332795a7;m=7fa1d54fe;t=660d8a078ae96;x=17435c0e74922857"
    ));
    let odd: HashSet<&str> = ["", "a b", "a\n", "--file=/x", "i=1/2"].into();
    assert!(odd.iter().all(|text| !is_cursor(text)));
}
