//! The sources that need no privilege: file, FIFO and standard input, with real files and threads.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::engine::limits::BACKLOG_BYTES_MAX;

use super::testing::{Heard, Source, lookup, names};
use super::*;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dns.log");
    (folder, path)
}

fn appender(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn write(mut to: &File, name: &str) {
    to.write_all(lookup(name).as_bytes()).unwrap();
}

fn answer(name: &str) -> [String; 1] {
    [name.to_owned()]
}

#[test]
fn specifications_are_read_and_written_alike() {
    for text in [
        "spawn",
        "stdin",
        "file:/var/log/dns.log",
        "fifo:/run/dns log",
        "docker:my_dns-1.2",
        "journal:dnsmasq.service",
    ] {
        assert_eq!(text.parse::<Spec>().unwrap().to_string(), text);
    }
    assert_eq!("journal:dnsmasq".parse(), Ok(Spec::Journal("dnsmasq.service".to_owned())));
    let error = "journal:../x".parse::<Spec>().unwrap_err();
    assert!(error.to_string().contains("names no systemd unit"));
    for name in ["", "a", "-dns", "../dns", "dns/json", "dns?x", "d\u{e9}", &"x".repeat(300)] {
        let error = format!("docker:{name}").parse::<Spec>().unwrap_err();
        assert!(error.to_string().contains("names no container"), "{name}");
    }
    for text in ["", "spawn:x", "file", "file:", "FILE:/x", "/var/log/dns.log", "stdin:"] {
        assert!(text.parse::<Spec>().is_err(), "{text}");
    }
}

#[test]
fn a_file_is_read_from_its_past_on_and_followed() {
    let (_folder, path) = folder();
    let log = appender(&path);
    write(&log, "past");
    let source = Source::start(Spec::File(path));
    source.answers(answer("past"));
    source.up();
    for name in names("next", 50) {
        write(&log, &name);
        source.answers([name]);
    }
}

#[test]
fn a_line_counts_when_it_is_whole() {
    let (_folder, path) = folder();
    let mut log = appender(&path);
    let source = Source::start(Spec::File(path));
    source.up();
    let text = lookup("split");
    let (start, rest) = text.split_at(text.len() - 4);
    log.write_all(start.as_bytes()).unwrap();
    source.until(|heard| *heard == Heard::CaughtUp);
    log.write_all(rest.as_bytes()).unwrap();
    source.answers(answer("split"));
}

#[test]
fn a_file_that_is_absent_is_waited_for_and_read_from_its_start() {
    let (folder, _) = folder();
    let path = folder.path().join("later").join("dns.log");
    let source = Source::start(Spec::File(path.clone()));
    source.down("does not exist yet");
    fs::create_dir(folder.path().join("later")).unwrap();
    write(&appender(&path), "first");
    source.answers(answer("first"));
    source.up();
}

#[test]
fn only_the_newest_bytes_of_a_long_past_are_read() {
    let (_folder, path) = folder();
    let mut log = appender(&path);
    write(&log, "ancient");
    log.set_len(BACKLOG_BYTES_MAX * 2).unwrap();
    log.seek(SeekFrom::End(0)).unwrap();
    log.write_all(b"\n").unwrap();
    write(&log, "recent");
    let source = Source::start(Spec::File(path));
    source.answers(answer("recent"));
}

/// Takes answers until all of `wanted` have come, in any order.
fn all_of(source: &Source, mut wanted: Vec<String>) {
    while !wanted.is_empty() {
        let got = source.until(|heard| matches!(heard, Heard::Answer(_)));
        let Some(Heard::Answer(text)) = got.last() else { continue };
        let before = wanted.len();
        wanted.retain(|name| *text != format!("{name}.example 192.0.2.1"));
        assert_eq!(wanted.len() + 1, before, "{text} came twice or from nowhere");
    }
}

#[test]
fn rotation_by_rename_during_writes_loses_nothing() {
    let (_folder, path) = folder();
    let mut log = appender(&path);
    let source = Source::start(Spec::File(path.clone()));
    source.up();
    for round in 0..50 {
        let wanted = names(&format!("r{round}n"), 60);
        let (before, rest) = wanted.split_at(20);
        let (between, after) = rest.split_at(20);
        before.iter().for_each(|name| write(&log, name));
        // As logrotate with `create`: the new file is there long before dnsmasq opens it.
        fs::rename(&path, path.with_extension(format!("{round}"))).unwrap();
        File::create(&path).unwrap();
        between.iter().for_each(|name| write(&log, name));
        log = appender(&path);
        after.iter().for_each(|name| write(&log, name));
        all_of(&source, wanted);
    }
}

#[test]
fn a_file_truncated_and_grown_past_its_old_size_at_once_is_read_from_its_start() {
    let (_folder, path) = folder();
    let log = appender(&path);
    let source = Source::start(Spec::File(path));
    for round in 0..200 {
        let before = format!("r{round}n");
        write(&log, &before);
        source.until(|heard| *heard == Heard::Answer(format!("{before}.example 192.0.2.1")));
        log.set_len(0).unwrap();
        let mut missing = names(&format!("r{round}after"), 10);
        missing.iter().for_each(|name| write(&log, name));
        // A line may come twice, never not at all.
        while !missing.is_empty() {
            let heard = source.until(|heard| matches!(heard, Heard::Answer(_))).pop();
            missing
                .retain(|name| heard != Some(Heard::Answer(format!("{name}.example 192.0.2.1"))));
        }
    }
}

#[test]
fn a_file_truncated_in_place_is_read_from_its_start() {
    let (_folder, path) = folder();
    let log = appender(&path);
    let source = Source::start(Spec::File(path.clone()));
    for round in 0..10 {
        for name in names(&format!("r{round}n"), 5) {
            write(&log, &name);
            source.answers([name]);
        }
        fs::copy(&path, path.with_extension("1")).unwrap();
        log.set_len(0).unwrap();
        write(&log, "new");
        source.answers(answer("new"));
    }
}

#[test]
fn a_deleted_file_is_read_on_until_a_new_one_is_there() {
    let (_folder, path) = folder();
    let log = appender(&path);
    let source = Source::start(Spec::File(path.clone()));
    source.up();
    fs::remove_file(&path).unwrap();
    write(&log, "nameless");
    source.answers(answer("nameless"));
    let next = appender(&path);
    write(&next, "named");
    source.answers(answer("named"));
    write(&log, "late");
    source.answers(answer("late"));
}

#[test]
fn a_rotation_that_is_undone_repeats_nothing() {
    let (_folder, path) = folder();
    let (log, aside) = (appender(&path), path.with_extension("1"));
    let source = Source::start(Spec::File(path.clone()));
    write(&log, "one");
    source.answers(answer("one"));
    fs::rename(&path, &aside).unwrap();
    write(&appender(&path), "two");
    source.answers(answer("two"));
    fs::rename(&aside, &path).unwrap();
    write(&log, "three");
    source.answers(answer("three"));
}

#[test]
fn a_symlink_is_followed_across_rotation_of_its_target() {
    let (folder, path) = folder();
    let target = folder.path().join("elsewhere");
    fs::create_dir(&target).unwrap();
    let target = target.join("real.log");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let log = appender(&target);
    let source = Source::start(Spec::File(path));
    source.up();
    write(&log, "old");
    source.answers(answer("old"));
    fs::rename(&target, target.with_extension("1")).unwrap();
    write(&appender(&target), "new");
    source.answers(answer("new"));
}

#[test]
fn what_is_no_file_says_so_and_is_tried_again() {
    let (_folder, path) = folder();
    fs::create_dir(&path).unwrap();
    let source = Source::start(Spec::File(path.clone()));
    source.down("is not a regular file");
    fs::remove_dir(&path).unwrap();
    write(&appender(&path), "now");
    source.answers(answer("now"));
    let fifo = Source::start(Spec::Fifo(path));
    fifo.down("is there and is not a FIFO");
}

#[test]
fn a_fifo_is_made_and_outlives_its_writers() {
    let (_folder, path) = folder();
    let source = Source::start(Spec::Fifo(path.clone()));
    source.down("nothing has been written");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for name in names("writer", 20) {
        // Opening for writing without a reader would hang.
        let fifo = OpenOptions::new().write(true).open(&path).unwrap();
        write(&fifo, &name);
        let before = source.until(|heard| matches!(heard, Heard::Answer(_)));
        assert!(before.contains(&Heard::Up), "{before:?}");
        drop(fifo);
        source.down("nobody writes to it any more");
    }
}

#[test]
fn a_writer_that_comes_as_the_last_one_goes_always_finds_a_reader() {
    let (_folder, path) = folder();
    let source = Source::start(Spec::Fifo(path.clone()));
    source.down("nothing has been written");
    let writer = std::thread::spawn(move || {
        for name in names("w", 500) {
            // Fails with ENXIO if there is no reader, even for a moment.
            let options = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).clone();
            write(&options.open(&path).unwrap(), &name);
        }
    });
    source.answers(names("w", 500));
    writer.join().unwrap();
}

#[test]
fn a_fifo_that_was_replaced_is_opened_anew() {
    let (_folder, path) = folder();
    let source = Source::start(Spec::Fifo(path.clone()));
    source.down("nothing has been written");
    fs::remove_file(&path).unwrap();
    source.down("was replaced");
    source.down("nothing has been written");
    write(&OpenOptions::new().write(true).open(&path).unwrap(), "again");
    source.answers(answer("again"));
}

#[test]
fn standard_input_ends_for_good() {
    let (input, output) = std::io::pipe().unwrap();
    let source = Source::with(move |stop, sink| stdin::run(input, stop, sink));
    source.up();
    (&output).write_all(lookup("piped").as_bytes()).unwrap();
    source.answers(answer("piped"));
    drop(output);
    source.down("standard input has ended");
}

#[test]
fn lines_are_counted_and_a_stop_ends_every_source_at_once() {
    let (folder, path) = folder();
    let mut log = appender(&path);
    log.write_all(b"dnsmasq[1]: reply a b is 1.2.3.4\nanything\n").unwrap();
    let source = Source::start(Spec::File(path));
    source.until(|heard| *heard == Heard::Lines(2));
    let fifo = Source::start(Spec::Fifo(folder.path().join("fifo")));
    fifo.down("nothing");
    let absent = Source::start(Spec::File(folder.path().join("absent")));
    absent.down("does not exist");
    let began = Instant::now();
    drop((source, fifo, absent));
    assert!(began.elapsed() < Duration::from_millis(900));
}
