//! What must not cut a host off or wear it down: failed starts, readers that do not read, floods, rules that vanish.

use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::alerts;
use super::lab::net::connect;
use super::lab::raw::{self, Raw};
use super::lab::serve::{Server, everywhere};
use super::lab::{CT4, DEAD4, Lab, SRV4, Side, at, eventually};
use super::sets_cli;
use super::stand::{BIN, DnsLog, LATER, PORT, SOON, STARTED, Stand, plain, start, synhold};

#[test]
fn standard_output_that_takes_nothing_costs_nobody_the_network() {
    let lab = Lab::new("full");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let mut command = plain(&lab, &log, &["--container-net", "172.31.7.0/24"]);
    command.stdout(fs::File::create("/dev/full").unwrap()).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    super::lab::eventually("the rules are in", SOON, || lab.gw.ruleset().contains("synhold"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(lab.gw.ruleset(), "", "and they are gone again");
}

#[test]
fn a_reader_that_never_reads_does_not_keep_the_daemon_from_stopping() {
    let lab = Lab::new("unread");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let quick = ["--log-format", "json", "--hold-ms", "20", "--evidence-grace", "0s"];
    let mut command = plain(&lab, &log, &quick);
    command.args(["--container-net", "172.31.7.0/24"]);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    super::lab::eventually("the rules are in", SOON, || lab.gw.ruleset().contains("synhold"));
    let raw = Raw::to_gateway(&lab, Side::Ct);
    raw.send_all((0..2_000u16).map(|n| raw::syn(at(CT4, 2_000 + n), at(DEAD4, 80), 1)), 20_000);
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGHUP).unwrap();
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    let mut status = None;
    super::lab::eventually("it ends", Duration::from_secs(15), || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(lab.gw.ruleset(), "");
}

/// Events of long names: many times what a pipe takes.
fn flood(log: &mut DnsLog, count: u32) {
    let label = "x".repeat(60);
    let name = |n: u32| format!("n{n}.{label}.{label}.{label}.example");
    let address = |n: u32| std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).into();
    let text: String = (0..count).map(|n| log.lines(CT4.into(), &name(n), address(n))).collect();
    log.write(&text);
}

#[test]
fn a_standard_output_that_nobody_reads_stalls_nothing_is_named_and_loses_nothing_in_silence() {
    let lab = Lab::new("stalled");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let (file, alerts) = (lab.dir().join("events.jsonl"), lab.dir().join("alerts.jsonl"));
    let config = alerts::config(&lab, &alerts::command("pager", &alerts, ""));
    let mut command = lab.gw.command(BIN);
    command.args(["run", "--no-docker", "--canary", "off", "--metrics", "off", "--log-format"]);
    command.args(["json", "--evidence-grace", "0s", "--hold-ms", "200", "--config", &config]);
    command.args(["--container-net", "172.31.7.0/24", "--state-dir"]).arg(lab.dir().join("state"));
    command.arg("--events").arg(&file);
    command.arg("--dns-source").arg(format!("file:{}", log.path.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let (mut pipes, daemon) = lab.gw.start(command);
    // Somebody has it open, and reads nothing.
    let mut unread = pipes.stdout.take().unwrap();
    eventually("the rules are in", LATER, || lab.gw.ruleset().contains("synhold"));

    flood(&mut log, 1_500);
    let status = || sets_cli::json(&lab, &["status"]).1;
    eventually("it is named", LATER, || status()["stalled"] == json!(["standard output"]));
    let (_, text) = sets_cli::command(&lab, &["status"]);
    assert!(text.contains("standard output takes nothing"), "{text}");
    // Nobody else pays for it.
    log.answer(CT4.into(), "web.example", SRV4.into());
    connect(&lab.ct, at(SRV4, PORT), LATER).expect("resolved");
    connect(&lab.ct, at(DEAD4, PORT), SOON).expect_err("nobody resolved it");
    let told = || !alerts::of_kind(&alerts, "never-resolved").is_empty();
    eventually("the alert goes out", LATER, told);
    let written = || fs::read_to_string(&file).unwrap_or_default();
    let has_both = || ["\"accept\"", "\"never-resolved\""].iter().all(|is| written().contains(is));
    eventually("the other output has it all", LATER, has_both);

    // Read at last, it has everything, since so much could wait.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        unread.read_to_end(&mut text).map(|_| text)
    });
    eventually("it is not stalled any more", LATER, || {
        status()["stalled"] != json!(["standard output"])
    });
    assert_eq!(status()["totals"]["events_shed"], 0);
    daemon.signal(Signal::SIGTERM);
    eventually("it ends", 3 * LATER, || daemon.ended().is_some());
    let read = reader.join().unwrap().unwrap();
    let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines(&read), lines(written().as_bytes()));
}

#[test]
fn a_state_directory_serves_one_namespace_at_a_time() {
    let first = Stand::new("state1", &[]);
    let second = Lab::new("state2");
    let state = first.lab.dir().join("state").display().to_string();
    let ended = start(&second, &first.log.path, &["--state-dir", &state]);
    let ended = ended.wait_end();
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("--state-dir"), "{}", ended.stderr);
    assert_eq!(second.gw.ruleset(), "");
}

#[test]
fn a_start_that_fails_after_a_crash_does_not_make_the_rules_permanent() {
    let stand = Stand::new("crash", &[]);
    let (lab, log) = (stand.lab, stand.log);
    stand.daemon.kill9();
    let failed = start(&lab, &log.path, &["--events", "/nonexistent/x"]).wait_end();
    assert_eq!(failed.status.code(), Some(2), "{}", failed.stderr);
    let again = start(&lab, &log.path, &[]);
    assert_eq!(again.ready()["own_rules"], true);
    assert!(again.stop().status.success());
    assert_eq!(lab.gw.ruleset(), "", "nobody is left cut off");
}

#[test]
fn rules_the_user_puts_in_after_a_crash_are_the_users() {
    let stand = Stand::new("adopt", &[]);
    let (lab, log) = (stand.lab, stand.log);
    stand.daemon.kill9();
    let nets = ["--container-net", "172.31.7.0/24"];
    assert_eq!(synhold(&lab, &[&["rules", "install"][..], &nets].concat()).0, 0);
    let again = start(&lab, &log.path, &[]);
    assert_eq!(again.ready()["own_rules"], false);
    assert!(again.stop().status.success());
    assert!(lab.gw.ruleset().contains("table inet synhold"), "they stay");
}

#[test]
fn a_dry_run_that_is_killed_does_not_leave_the_users_rules_open_for_good() {
    let lab = Lab::new("reopened");
    let nets = ["--container-net", "172.31.7.0/24", "--container-net", "fd07:7::/64"];
    assert_eq!(synhold(&lab, &[&["rules", "install"][..], &nets].concat()).0, 0);
    let installed = lab.gw.ruleset();
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let dry = start(&lab, &log.path, &["--dry-run"]);
    dry.ready();
    dry.kill9();
    assert_ne!(lab.gw.ruleset(), installed);
    let enforcing = start(&lab, &log.path, &[]);
    assert_eq!(enforcing.ready()["own_rules"], false);
    assert!(enforcing.stop().status.success());
    let check = [&["rules", "check"][..], &nets].concat();
    let only_networks = |text: &str| text.lines().all(|line| !line.starts_with("chain"));
    let (_, drift, _) = synhold(&lab, &check);
    assert!(only_networks(&drift), "the user's closed rules are back: {drift}");
    super::lab::net::connect(&lab.ct, at(SRV4, PORT), Duration::from_millis(300))
        .expect_err("closed, as installed");
}

#[test]
fn rules_that_vanish_are_noticed_and_their_return_too() {
    let stand = Stand::new("vanish", &[]);
    let health = |healthy: bool| {
        move |e: &serde_json::Value| {
            e["event"] == "health" && e["what"] == "rules" && e["healthy"] == healthy
        }
    };
    stand.lab.gw.nft("flush ruleset\n");
    let event = stand.daemon.expect_event("gone", health(false), SOON);
    assert!(event["message"].as_str().unwrap().contains("table inet synhold: missing"), "{event}");
    let mut install = vec!["rules", "install"];
    super::lab::CONTAINER_NETS.iter().for_each(|net| install.extend(["--container-net", net]));
    assert_eq!(synhold(&stand.lab, &install).0, 0);
    stand.daemon.expect_event("back", health(true), SOON);
}

#[test]
fn a_queue_that_is_taken_fails_the_start_at_once_and_in_one_line() {
    let stand = Stand::new("twice", &[]);
    // Another mount namespace has another /run, so only the queue itself is in the way.
    let mut command = stand.lab.gw.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    let log = stand.log.path.display();
    let run =
        format!("mount -t tmpfs none /run && exec {BIN} run --memory-only --dns-source file:{log}");
    let output = command.arg(run).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    // A wait for threads that never were would complain in a line of its own.
    assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
    assert!(stderr.contains("queue 0 is served by another program"), "{stderr}");
}

#[test]
fn a_rule_that_somebody_deletes_is_put_back_and_refuses_again() {
    let stand = Stand::new("unrefused", &["--hold-ms", "50"]);
    let listing = stand.lab.gw.command("nft").args(["-a", "list", "ruleset"]).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    let rule = listing.lines().find(|line| line.contains("refused by the daemon")).unwrap();
    let handle = rule.rsplit(' ').next().unwrap();
    stand.lab.gw.nft(&format!("delete rule inet synhold forward handle {handle}\n"));
    let told = |healthy: bool| {
        let is = move |e: &serde_json::Value| e["what"] == "rules" && e["healthy"] == healthy;
        stand.daemon.expect_event("rules", is, SOON)
    };
    let message = told(false)["message"].to_string();
    assert!(
        message.contains("somebody changed the rules") && message.contains("refused by the daemon"),
        "{message}"
    );
    told(true);
    let refused = connect(&stand.lab.ct, at(DEAD4, 80), SOON).expect_err("refused");
    assert_eq!(
        refused.kind(),
        std::io::ErrorKind::ConnectionRefused,
        "by reset: the rule is there"
    );
}

#[test]
fn a_saved_registry_remembers_who_asked() {
    let mut stand = Stand::new("askers", &["--scope", "container", "--hold-ms", "200"]);
    stand.resolve(CT4.into(), "web.example", SRV4.into());
    // Asked by the neighbour too, later: the last asker is another now.
    stand.log.answer(super::lab::CT2_4.into(), "web.example", SRV4.into());
    connect(&stand.lab.ct2, at(SRV4, PORT), SOON).expect("the neighbour asked");
    let (lab, log) = (stand.lab, stand.log);
    assert!(stand.daemon.stop().status.success());
    fs::write(&log.path, STARTED).unwrap();
    let again = start(&lab, &log.path, &["--scope", "container", "--hold-ms", "200"]);
    again.ready();
    for (name, ns) in [("ct", &lab.ct), ("ct2", &lab.ct2)] {
        connect(ns, at(SRV4, PORT), SOON).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn the_demo_shows_what_it_promises() {
    let demo = std::path::Path::new(BIN).with_file_name("examples").join("demo");
    assert!(demo.exists(), "run `cargo build --example demo` first, as `make test` does");
    let output = std::process::Command::new(demo).arg(BIN).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for says in [": shop.example", "refused (never-resolved)", "released after"] {
        assert!(text.contains(says), "{says} is missing:\n{text}");
    }
}
