//! The health of each source by itself, two sources of one log, and the hold that follows what was measured.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::lab::net::connect;
use super::lab::serve::{Server, everywhere};
use super::lab::{CT4, DEAD4, Lab, SRV4, at, eventually, retry_until};
use super::sets_cli::{fine, json};
use super::stand::{DnsLog, LATER, PORT, SOON, STARTED, Stand, is_verdict_on, start_on};

/// Enough look-ups for a measure, one at a time as containers ask.
const MANY: usize = 1_100;

fn source(lab: &Lab, n: usize) -> Value {
    json(lab, &["status"]).1["sources"][n].clone()
}

/// Look-ups of an address nobody dials, a batch each.
fn busy(log: &mut DnsLog, lab: &Lab, count: usize) {
    let seen = source(lab, 0)["delay"]["samples"].as_u64().unwrap_or(0);
    for n in 0..count {
        log.answer(CT4.into(), "busy.example", [198, 51, 100, 1].into());
        // A pace that no reader on a busy machine takes for one batch.
        if n % 8 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let enough = || source(lab, 0)["delay"]["samples"].as_u64().unwrap_or(0) > seen;
    eventually("look-ups are measured", LATER, enough);
}

/// Look-ups until the hold is shorter than configured.
fn shorten(log: &mut DnsLog, lab: &Lab) -> u64 {
    let hold = || json(lab, &["status"]).1["hold_us"].as_u64().unwrap();
    let short = retry_until(Duration::from_secs(60), || {
        busy(log, lab, MANY);
        Some(hold()).filter(|hold| *hold < 750_000)
    });
    short.unwrap_or_else(|| panic!("the hold stays: {}", source(lab, 0)))
}

#[test]
fn a_quick_source_makes_for_a_short_hold_and_a_slow_one_widens_it_at_once() {
    let mut stand = Stand::new("adaptive", &[]);
    let held = |stand: &Stand, dst: [u8; 4]| {
        let began = Instant::now();
        connect(&stand.lab.ct, at(dst, PORT), SOON).expect_err("nobody resolved it");
        let event = stand.verdict(at(dst, PORT));
        assert_eq!(event["reason"], "never-resolved", "{event}");
        assert!(began.elapsed() < SOON);
        event["held_us"].as_u64().unwrap()
    };
    assert!(held(&stand, [198, 18, 0, 1]) >= 750_000, "nothing has been measured yet");
    let short = shorten(&mut stand.log, &stand.lab);
    let before = source(&stand.lab, 0);
    // What stalls on a busy machine lengthens it again, up to what is configured and no further.
    let waited = retry_until(LATER, || {
        let n = u8::try_from(rand(&stand) % 200).unwrap() + 2;
        Some(held(&stand, [198, 18, 0, n])).filter(|held| *held < 700_000)
    });
    assert!(waited.is_some_and(|waited| waited >= 50_000), "{waited:?} of {short}, {before}");

    // A writer that is late: the packet comes first, and its record 200 ms after.
    let dst = at(SRV4, PORT);
    let lab = &stand.lab;
    std::thread::scope(|scope| {
        let dialled = scope.spawn(|| connect(&lab.ct, dst, SOON));
        eventually("it is held or refused", SOON, || {
            super::stand::waiting(lab) == 1 || dialled.is_finished()
        });
        std::thread::sleep(Duration::from_millis(200));
        stand.log.answer(CT4.into(), "late.example", SRV4.into());
        let _ = dialled.join();
    });
    stand.recorded("late.example", SRV4.into());
    eventually("the hold is wide again", SOON, || {
        json(&stand.lab, &["status"]).1["hold_us"].as_u64().unwrap() >= 300_000
    });
    let after = source(&stand.lab, 0);
    assert!(after["delay"]["longest_us"].as_u64().unwrap() >= 200_000, "{after}");
    let text = fine(&stand.lab, &["status"]);
    assert!(text.contains("DELAY P99.9") && !text.contains('\u{1b}'), "{text}");
}

/// A number that differs from call to call.
fn rand(stand: &Stand) -> usize {
    stand.daemon.events().len()
}

#[test]
fn a_log_that_is_read_twice_counts_once() {
    let lab = Lab::new("twice");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let path = lab.dir().join("dnsmasq.log");
    let other = lab.dir().join("link.log");
    std::os::unix::fs::symlink(&path, &other).unwrap();
    let mut log = DnsLog::create(&path);
    log.write(STARTED);
    let second = format!("file:{}", other.display());
    let args = ["--hold-ms", "300", "--dns-source", &second];
    let daemon = start_on(&lab, &format!("file:{}", path.display()), &args);
    daemon.ready();
    let up = |e: &Value| {
        e["event"] == "health" && e["message"].as_str().unwrap().contains("link.log is read")
    };
    daemon.expect_event("the second source", up, LATER);
    let names = |n: u8| (format!("n{n}.example"), IpAddr::from([198, 51, 100, n]));
    for n in 1..=50 {
        let (name, address) = names(n);
        log.answer(CT4.into(), &name, address);
    }
    for n in 0..2 {
        eventually("both have read all", LATER, || source(&lab, n)["records"] == 50);
    }
    let records: Vec<Value> =
        daemon.events().into_iter().filter(|e| e["event"] == "record").collect();
    assert_eq!(records.len(), 50, "each record is told once");
    let status = json(&lab, &["status"]).1;
    assert_eq!(status["evidence"]["records"], 50, "{status}");
    assert!(!daemon.events().iter().any(|e| e["event"] == "alert"), "{}", daemon.story());

    // One of them fails: that one is down, and the other is as it was.
    fs::remove_file(&other).unwrap();
    fs::create_dir(&other).unwrap();
    eventually("the second is down", LATER, || source(&lab, 1)["up"] == false);
    eventually("the first is as it was", SOON, || {
        let first = source(&lab, 0);
        first["up"] == true && first["doubt"].is_null()
    });
    connect(&lab.ct, at(DEAD4, PORT), SOON).expect_err("refused");
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, at(DEAD4, PORT)), SOON);
    assert_eq!(
        (&event["reason"], &event["evidence"]["why"].as_array().unwrap().len()),
        (&"unhealthy".into(), &1),
        "{event}"
    );
    log.answer(CT4.into(), "web.example", SRV4.into());
    connect(&lab.ct, at(SRV4, PORT), SOON).expect("the first source is enough to let through");
}

#[test]
fn a_restart_and_lines_that_are_missing_are_doubts() {
    let mut stand = Stand::new("doubts", &["--hold-ms", "300"]);
    stand.resolve(CT4.into(), "a.example", [198, 51, 100, 1].into());
    stand.log.write(STARTED);
    eventually("a restart is doubted", SOON, || {
        source(&stand.lab, 0)["doubt"] == "is of a dnsmasq that started anew a moment ago"
    });
    let (dead, word) = (at(DEAD4, PORT), "started anew");
    connect(&stand.lab.ct, dead, SOON).expect_err("refused all the same");
    let event = stand.verdict(dead);
    assert!(event["evidence"]["why"][0].as_str().unwrap().contains(word), "{event}");
    assert_eq!(event["reason"], "unhealthy", "{event}");

    for n in 1..=20 {
        stand.log.answer(CT4.into(), &format!("b{n}.example"), [198, 51, 100, 2].into());
    }
    // Its question is missing.
    let text = stand.log.lines(CT4.into(), "gone.example", [198, 51, 100, 3].into());
    stand.log.answer(CT4.into(), "next.example", [198, 51, 100, 4].into());
    stand.log.write(&format!("{}\n", text.lines().nth(1).unwrap()));
    eventually("a line lost", SOON, || source(&stand.lab, 0)["lost"] == 1);
}

#[test]
fn a_log_on_a_full_disk_accuses_nobody() {
    let lab = Lab::new("fulldisk");
    let folder = lab.dir().join("small");
    fs::create_dir(&folder).unwrap();
    let mount = |args: &[&str]| {
        assert!(Command::new(args[0]).args(&args[1..]).arg(&folder).status().unwrap().success());
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
    let mut log = DnsLog::create(&folder.join("dnsmasq.log"));
    log.write(STARTED);
    let daemon = start_on(&lab, &format!("file:{}", log.path.display()), &["--hold-ms", "300"]);
    daemon.ready();
    eventually("all is well", LATER, || source(&lab, 0)["doubt"].is_null());
    let mut filler = fs::File::create(folder.join("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    let told = |e: &Value| {
        e["event"] == "health" && e["message"].as_str().unwrap().contains("disk is full")
    };
    daemon.expect_event("the disk", told, LATER);
    connect(&lab.ct, at(DEAD4, PORT), SOON).expect_err("refused all the same");
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, at(DEAD4, PORT)), SOON);
    assert!(event["evidence"]["why"][0].as_str().unwrap().ends_with("its disk is full"), "{event}");
    drop(filler);
    fs::remove_file(folder.join("filler")).unwrap();
    eventually("lines may have been lost", LATER, || {
        source(&lab, 0)["doubt"] == "lost lines within the last minute"
    });
    daemon.stop();
    drop(log);
    mount(&["umount"]);
}
