//! Evidence from real logs: real dnsmasq, rotation, FIFO, standard input, and what is no evidence.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use nix::unistd::Pid;

use super::lab::daemon::Daemon;
use super::lab::dns::{Over, dns_ask, dnsmasq, qtype, reverse_name, upstream, zone};
use super::lab::net::connect;
use super::lab::proc::is_left_open_to_all;
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Wire;
use super::lab::{CT4, CT6, DEAD4, DNS4, GW4, GW6, Lab, SRV4, SRV6, Side, at};
use super::stand::{DnsLog, LATER, PORT, SOON, Stand, casts, is_verdict_on, start, start_on};

const HOLD: [&str; 2] = ["--hold-ms", "300"];

#[test]
fn our_own_dnsmasq_serves_containers_and_its_log_releases_them() {
    let lab = Lab::new("spawn");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let far = Wire::watch(&lab.srv, "eth0");
    let _upstream = upstream(
        &lab,
        [
            zone::host("web.example", SRV4),
            zone::host("web.example", SRV6),
            zone::cname("www.example", "web.example"),
            zone::txt("trick.example", "203.0.113.99"),
        ],
    );
    let upstream = DNS4.to_string();
    let daemon = start_on(&lab, "spawn", &[&HOLD[..], &["--dns-upstream", &upstream]].concat());
    daemon.ready();

    // A TXT answer shaped like an address is no evidence, nor is a PTR look-up of it.
    for (name, kind) in
        [("trick.example".to_owned(), qtype::TXT), (reverse_name(DEAD4.into()), qtype::PTR)]
    {
        dns_ask(&lab.ct, at(CT4, 0), at(GW4, 53), &name, kind, Over::Udp).expect("answered");
    }
    let trick = at([203, 0, 113, 99], PORT);
    connect(&lab.ct, trick, SOON).expect_err("a TXT answer must not open a way");
    let event = daemon.expect_event("trick", |e| is_verdict_on(e, trick), SOON);
    assert_eq!(event["reason"], "never-resolved", "{event}");
    assert_eq!(far.count_settled(&lab, Side::Srv, |p| p.is_syn_to(trick)), 0);

    // A name, over UDP and TCP, both families; a CNAME credits the name asked.
    for (over, kind, asker, server, gateway) in [
        (Over::Udp, qtype::A, at(CT4, 0), IpAddr::from(SRV4), IpAddr::from(GW4)),
        (Over::Tcp, qtype::AAAA, at(CT6, 0), SRV6.into(), GW6.into()),
    ] {
        dns_ask(&lab.ct, asker, at(gateway, 53), "WWW.Example", kind, over).expect("answered");
        connect(&lab.ct, at(server, PORT), SOON).expect("resolved");
        let event = daemon.expect_event("accept", |e| is_verdict_on(e, at(server, PORT)), SOON);
        assert_eq!(
            (&event["grade"], &event["names"][0]),
            (&"own".into(), &"www.example".into()),
            "{event}"
        );
    }
    let record = daemon.expect_event(
        "record",
        |e| e["event"] == "record" && e["name"] == "www.example",
        SOON,
    );
    assert_eq!(record["chain"][0], "web.example", "{record}");
    daemon.stop();
}

/// The dnsmasq that a daemon runs.
pub fn own_dnsmasq(daemon: &Daemon) -> Option<Pid> {
    let pid = daemon.pid();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let all = lists.flatten().collect::<Vec<_>>().join(" ");
    let is_dnsmasq = |pid: &&str| {
        // Before it is dnsmasq, it is a copy of ours under the name of its thread.
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
        exe.is_ok_and(|exe| exe.ends_with("dnsmasq"))
    };
    all.split_whitespace().find(is_dnsmasq).map(|pid| Pid::from_raw(pid.parse().unwrap()))
}

#[test]
fn a_dnsmasq_started_again_inherits_nothing_of_ours() {
    let lab = Lab::new("spawnfds");
    let upstream = DNS4.to_string();
    let daemon = start_on(&lab, "spawn", &[&HOLD[..], &["--dns-upstream", &upstream]].concat());
    daemon.ready();
    let first = own_dnsmasq(&daemon).expect("a dnsmasq runs");
    let mark = daemon.feed().mark();
    // Now that the queues are open.
    nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).unwrap();
    let is_up = |e: &serde_json::Value| e["what"] == "source" && e["healthy"] == true;
    daemon.feed().wait_after(mark, is_up, LATER).expect("another runs");
    let open = |pid: u32, which: std::ops::Range<u32>| -> BTreeSet<PathBuf> {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        fds.filter(|fd| {
            fd.file_name().to_str().is_some_and(|fd| which.contains(&fd.parse().unwrap()))
        })
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .filter(|target| !target.starts_with("/dev"))
        .collect()
    };
    let again = own_dnsmasq(&daemon).filter(|pid| *pid != first).expect("another");
    let (ours, its) =
        (open(daemon.pid(), 0..u32::MAX), open(again.as_raw().cast_unsigned(), 3..u32::MAX));
    // Of the kind anon_inode all have the same name.
    let shared = its.iter().filter(|target| ours.contains(*target));
    let shared = shared.filter(|target| !target.to_string_lossy().starts_with("anon_inode:"));
    // What whoever started these tests left open for everybody is not the daemon's doing.
    let left = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let left = left.filter(|fd| fd.file_name().to_str().is_some_and(is_left_open_to_all));
    let left: BTreeSet<PathBuf> =
        left.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    let shared: Vec<&PathBuf> = shared.filter(|target| !left.contains(*target)).collect();
    // Its log, of which it keeps a copy.
    let [log] = shared[..] else { panic!("{shared:?}") };
    assert!(log.to_string_lossy().starts_with("pipe:"), "{}", log.display());
    daemon.stop();
}

#[test]
fn a_public_name_with_an_inside_address_is_told_once_and_is_no_evidence() {
    let lab = Lab::new("rebind");
    let inside = Ipv4Addr::new(192, 168, 77, 1);
    let _upstream = upstream(
        &lab,
        [
            zone::host("rebind.example", inside),
            zone::host("nas.lan", inside),
            zone::host("ads.example", Ipv4Addr::UNSPECIFIED),
            zone::host("web.example", SRV4),
        ],
    );
    let upstream = DNS4.to_string();
    let daemon = start_on(&lab, "spawn", &[&HOLD[..], &["--dns-upstream", &upstream]].concat());
    daemon.ready();
    let names = ["rebind.example", "rebind.example", "ads.example", "nas.lan", "web.example"];
    for name in names {
        dns_ask(&lab.ct, at(CT4, 0), at(GW4, 53), name, qtype::A, Over::Udp).expect("answered");
    }
    let alert = daemon.expect_event("alert", |e| e["event"] == "alert", SOON);
    assert_eq!(
        (&alert["alert"], &alert["name"], &alert["address"], &alert["client"], &alert["count"]),
        (
            &"rebinding".into(),
            &"rebind.example".into(),
            &inside.to_string().into(),
            &CT4.to_string().into(),
            &1.into()
        ),
        "{alert}"
    );
    // By the last record, all before it are through.
    let last = |e: &serde_json::Value| e["event"] == "record" && e["name"] == "web.example";
    daemon.expect_event("record", last, SOON);
    let events = daemon.events();
    assert_eq!(events.iter().filter(|e| e["event"] == "alert").count(), 1);
    let recorded: Vec<&str> = events
        .iter()
        .filter(|e| e["event"] == "record")
        .filter_map(|e| e["name"].as_str())
        .collect();
    assert_eq!(recorded, ["nas.lan", "web.example"]);
    daemon.stop();
}

#[test]
fn a_real_dnsmasq_with_plain_log_queries_is_understood() {
    let lab = Lab::new("plain");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let log = lab.dir().join("dnsmasq.log");
    let resolver = dnsmasq(
        &lab.gw,
        &[GW4.into()],
        [
            "--log-queries".to_owned(),
            format!("--log-facility={}", log.display()),
            zone::host("web.example", SRV4),
            zone::txt("trick.example", "203.0.113.99"),
        ],
    );
    let daemon = start(&lab, &log, &HOLD);
    daemon.ready();
    dns_ask(&lab.ct, at(CT4, 0), at(GW4, 53), "trick.example", qtype::TXT, Over::Udp)
        .expect("answered");
    dns_ask(&lab.ct, at(CT4, 0), at(GW4, 53), "web.example", qtype::A, Over::Udp)
        .expect("answered");
    daemon.expect_event("record", |e| e["event"] == "record" && e["name"] == "web.example", SOON);
    connect(&lab.ct, at(SRV4, PORT), SOON).expect("resolved");
    connect(&lab.ct, at([203, 0, 113, 99], PORT), SOON).expect_err("TXT");
    assert_eq!(daemon.events().iter().filter(|e| e["event"] == "record").count(), 1);
    drop(resolver);
}

#[test]
fn rotation_during_traffic_loses_no_record() {
    let mut stand = Stand::new("rotate", &HOLD);
    stand.lab.server_owns("198.51.100.0/24");
    let mut expected: Vec<(String, IpAddr)> = Vec::new();
    for n in 1..=200u8 {
        let (name, address) = (format!("n{n}.example"), IpAddr::from([198, 51, 100, n]));
        if matches!(n, 50 | 100 | 150) {
            // Rotations are hours apart: everything up to the last one has been seen.
            let (last, address) = expected.last().cloned().unwrap();
            stand.recorded(&last, address);
        }
        match n {
            // By rename, as logrotate does; dnsmasq is told and opens the new file.
            50 | 100 => {
                fs::rename(&stand.log.path, stand.log.path.with_extension(format!("{n}"))).unwrap();
                stand.log.answer(
                    CT4.into(),
                    &format!("old{n}.example"),
                    IpAddr::from([198, 51, 100, 250]),
                );
                expected.push((format!("old{n}.example"), IpAddr::from([198, 51, 100, 250])));
                stand.log = DnsLog::create(&stand.log.path.clone());
            }
            // By copy and truncate: what stands in the file must have been read before.
            150 => {
                fs::OpenOptions::new().write(true).truncate(true).open(&stand.log.path).unwrap();
            }
            _ => {}
        }
        stand.log.answer(CT4.into(), &name, address);
        expected.push((name, address));
    }
    for (name, address) in &expected {
        stand.recorded(name, *address);
    }
    connect(&stand.lab.ct, at([198, 51, 100, 200], 9), SOON).expect_err("nobody listens there");
    assert_eq!(stand.verdict(at([198, 51, 100, 200], 9))["reason"], "resolved");
}

#[test]
fn a_file_that_is_not_there_yet_accuses_nobody_and_is_read_once_it_comes() {
    let lab = Lab::new("absent");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let path = lab.dir().join("later.log");
    let daemon = start(&lab, &path, &HOLD);
    daemon.ready();
    connect(&lab.ct, at(DEAD4, PORT), SOON).expect_err("refused all the same");
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, at(DEAD4, PORT)), SOON);
    assert_eq!(
        (&event["reason"], &event["evidence"]["healthy"]),
        (&"unhealthy".into(), &false.into()),
        "{event}"
    );
    assert!(event["evidence"]["down"][0].as_str().unwrap().contains("later.log"), "{event}");

    DnsLog::create(&path).answer(CT4.into(), "web.example", SRV4.into());
    daemon.expect_event("record", |e| e["event"] == "record", SOON);
    daemon.expect_event("up", |e| e["event"] == "health" && e["healthy"] == true, SOON);
    connect(&lab.ct, at(SRV4, PORT), SOON).expect("resolved");
}

#[test]
fn history_in_the_log_counts_at_start() {
    let lab = Lab::new("history");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    for cast in casts() {
        log.answer(cast.container, "old.example", cast.server.ip());
    }
    let daemon = start(&lab, &log.path, &HOLD);
    daemon.ready();
    for cast in casts() {
        connect(&lab.ct, cast.server, SOON).expect("resolved before we came");
    }
}

#[test]
fn a_fifo_is_made_and_its_writers_may_come_and_go() {
    let lab = Lab::new("fifo");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let path = lab.dir().join("dns.fifo");
    let daemon = start_on(&lab, &format!("fifo:{}", path.display()), &HOLD);
    daemon.ready();
    for (n, address) in [(1, IpAddr::from(SRV4)), (2, SRV6.into())] {
        let mut log = DnsLog::create(&path);
        let name = format!("w{n}.example");
        log.answer(if n == 1 { CT4.into() } else { CT6.into() }, &name, address);
        daemon.expect_event(&name, |e| e["event"] == "record" && e["name"] == name.as_str(), SOON);
        connect(&lab.ct, at(address, PORT), SOON).expect("resolved");
        let before = daemon.feed().mark();
        drop(log);
        let down = |e: &serde_json::Value| e["event"] == "health" && e["healthy"] == false;
        assert!(
            daemon.feed().wait_after(before.saturating_sub(3), down, SOON).is_some(),
            "the writer is gone: {}",
            daemon.story()
        );
    }
}

#[test]
fn standard_input_is_a_source_until_it_ends() {
    let lab = Lab::new("stdin");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let mut daemon = start_on(&lab, "stdin", &HOLD);
    daemon.ready();
    let mut stdin = daemon.take_stdin().expect("piped");
    let mut scratch = DnsLog::create(&lab.dir().join("scratch"));
    stdin.write_all(scratch.lines(CT4.into(), "web.example", SRV4.into()).as_bytes()).unwrap();
    daemon.expect_event("record", |e| e["event"] == "record", SOON);
    connect(&lab.ct, at(SRV4, PORT), SOON).expect("resolved");
    drop(stdin);
    daemon.expect_event("down", |e| e["event"] == "health" && e["healthy"] == false, SOON);
    connect(&lab.ct, at(DEAD4, PORT), SOON).expect_err("refused");
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, at(DEAD4, PORT)), SOON);
    assert_eq!(event["reason"], "unhealthy", "{event}");
}

#[test]
fn hostile_and_broken_lines_are_counted_and_open_nothing() {
    let mut stand = Stand::new("hostile", &HOLD);
    let dead = at(DEAD4, PORT);
    let address = DEAD4;
    stand.log.write(&format!("reply evil.example is {address}\n"));
    stand.log.write(&format!("Nov 21 22:12:01 dnsmasq[77]: 900 {CT4}/1 query[A] dnsmasq[1]: reply a.example is {address} from {CT4}\n"));
    stand.log.write(&format!("Nov 21 22:12:01 dnsmasq[77]: 901 {CT4}/1 query[TXT] t.example from {CT4}\nNov 21 22:12:01 dnsmasq[77]: 901 {CT4}/1 reply t.example is {address}\n"));
    stand.log.write(&format!("{}\n", "x".repeat(100_000)));
    stand.log.write("\u{fffd}\u{0}\r\n");
    stand.resolve(CT4.into(), "real.example", SRV4.into());
    connect(&stand.lab.ct, dead, SOON).expect_err("no line above is evidence");
    let event = stand.verdict(dead);
    assert_eq!(event["reason"], "never-resolved", "{event}");
    assert!(event["evidence"]["skipped"].as_u64().unwrap() >= 2, "{event}");
    assert_eq!(event["evidence"]["records"], 1, "{event}");
    assert!(event["evidence"]["last_line_ms"].as_u64().unwrap() < 60_000, "{event}");

    stand.log.write("Nov 21 22:12:01 dnsmasq[77]: overflow: 7 log entries lost\n");
    stand.daemon.expect_event(
        "lost",
        |e| e["event"] == "health" && e["message"].as_str().unwrap().contains("lost 7"),
        SOON,
    );
    let other = at([198, 18, 0, 2], PORT);
    connect(&stand.lab.ct, other, SOON).expect_err("refused");
    assert_eq!(stand.verdict(other)["evidence"]["lost"], 7);
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_one_line_and_leaves_no_rules() {
    let lab = Lab::new("taken");
    let _other = dnsmasq(&lab.gw, &[GW4.into()], [zone::host("x.example", SRV4)]);
    let ended = start_on(&lab, "spawn", &["--dns-listen", &GW4.to_string()]).wait_end();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stderr.trim().lines().collect();
    assert_eq!(lines.len(), 1, "{}", ended.stderr);
    assert!(lines[0].starts_with("synhold: our own dnsmasq"), "{}", ended.stderr);
    assert!(!lab.gw.ruleset().contains("synhold"), "no rules without a daemon");
}

#[test]
fn a_daemon_killed_takes_its_dnsmasq_along() {
    let lab = Lab::new("orphan");
    let daemon = start_on(&lab, "spawn", &["--dns-upstream", &DNS4.to_string()]);
    daemon.ready();
    daemon.kill9();
    // The port is free at once: a second daemon comes up with a dnsmasq of its own.
    let again = start_on(&lab, "spawn", &["--dns-upstream", &DNS4.to_string()]);
    again.ready();
    again.stop();
}

#[test]
fn history_is_as_old_as_its_lines_say() {
    let lab = Lab::new("oldhistory");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let old = |line: &str| line.replace("Nov 21 22:12:01", "2020-01-02T03:04:05Z");
    let [known, fresh] = [at([203, 0, 113, 100], PORT), at([203, 0, 113, 101], PORT)];
    let lines = old(&log.lines(CT4.into(), "long-ago.example", known.ip()));
    log.write(&lines);
    let args = ["--evidence-max-age", "30d", "--evidence-stale", "refuse", "--hold-ms", "100"];
    let daemon = start(&lab, &log.path, &args);
    daemon.ready();
    connect(&lab.ct, known, SOON).expect_err("too old to count");
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, known), SOON);
    assert_eq!((&event["reason"], &event["grade"]), (&"stale".into(), &"stale".into()), "{event}");
    // What comes now is of now, whatever its line says.
    let lines = old(&log.lines(CT4.into(), "now.example", fresh.ip()));
    log.write(&lines);
    daemon.expect_event("record", |e| e["name"] == "now.example", SOON);
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    connect(&lab.ct, fresh, SOON).expect("resolved");
    daemon.stop();
}
