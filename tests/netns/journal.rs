//! `journal:UNIT` with a real journald, journalctl and dnsmasq.

use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;

use super::lab::daemon::Daemon;
use super::lab::dns::{Over, dns_ask, qtype, zone};
use super::lab::journal::Journal;
use super::lab::net::connect;
use super::lab::serve::{Server, everywhere};
use super::lab::{CONTAINER_NETS, CT4, DEAD4, GW4, Lab, at, eventually, retry_until};
use super::sets_cli::json;
use super::stand::{BIN, LATER, PORT, SOON, is_verdict_on};

/// The n-th server, which dnsmasq knows as `wN.example`.
fn server(n: u8) -> IpAddr {
    [198, 51, 100, n].into()
}

fn name(n: u8) -> String {
    format!("w{n}.example")
}

struct Host {
    dnsmasq: Option<Daemon>,
    journal: Journal,
    lab: Lab,
}

impl Host {
    fn new(name: &str, settings: &str) -> Host {
        let lab = Lab::new(name);
        lab.server_owns("198.51.100.0/24");
        let journal = Journal::start(&lab, settings);
        let mut host = Host { dnsmasq: None, journal, lab };
        host.start_dnsmasq();
        host
    }

    fn start_dnsmasq(&mut self) {
        self.dnsmasq = None;
        let hosts: Vec<String> = (0..100).map(|n| zone::host(&name(n), server(n))).collect();
        self.dnsmasq = Some(self.journal.dnsmasq(&self.lab, &[GW4.into()], &hosts));
        retry_until(LATER, || self.try_ask(0, Over::Udp)).expect("dnsmasq answers");
    }

    fn daemon(&self, more: &[&str]) -> Daemon {
        let state = self.lab.dir().join("state").display().to_string();
        let source = format!("journal:{}", self.journal.unit());
        let mut command: Command = self.journal.command(&self.lab.gw, BIN);
        command.args([
            "run",
            "--no-docker",
            "--log-format",
            "json",
            "--config",
            "/dev/null",
            "--evidence-grace",
            "0s",
        ]);
        command.args(["--state-dir", &state, "--dns-source", &source]);
        command.args(CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]));
        command.args(more);
        let daemon = Daemon::start(&self.lab.gw, command);
        daemon.ready();
        let up = |e: &Value| {
            e["event"] == "health" && e["message"].as_str().unwrap().ends_with("is read")
        };
        daemon.expect_event("the journal is read", up, LATER);
        daemon
    }

    fn try_ask(&self, n: u8, over: Over) -> Option<Vec<IpAddr>> {
        let reply =
            dns_ask(&self.lab.ct, at(CT4, 0), at(GW4, 53), &name(n), qtype::A, over).ok()?;
        Some(reply.addresses())
    }

    fn ask(&self, n: u8, over: Over) {
        assert_eq!(self.try_ask(n, over), Some(vec![server(n)]));
    }

    fn source(&self) -> Value {
        json(&self.lab, &["status"]).1["sources"][0].clone()
    }

    /// Waits for a record, which the event log tells once.
    #[track_caller]
    fn recorded(daemon: &Daemon, n: u8) {
        let is = |e: &Value| e["event"] == "record" && e["name"] == name(n).as_str();
        daemon.expect_event("record", is, LATER);
        assert_eq!(daemon.events().iter().filter(|e| is(e)).count(), 1);
    }
}

#[test]
fn a_journal_is_read_from_its_past_on_followed_and_resumed_across_everything() {
    let mut host = Host::new("journal", "");
    let _server = Server::tcp(&host.lab.srv, &everywhere(PORT));
    // Before we came, over UDP and by a child for TCP.
    host.ask(1, Over::Udp);
    host.ask(2, Over::Tcp);
    let daemon = host.daemon(&[]);
    Host::recorded(&daemon, 1);
    Host::recorded(&daemon, 2);
    connect(&host.lab.ct, at(server(2), PORT), SOON).expect("resolved before we came");

    for n in 3..20 {
        host.ask(n, if n % 3 == 0 { Over::Tcp } else { Over::Udp });
        if let Err(error) = connect(&host.lab.ct, at(server(n), PORT), SOON) {
            panic!("{n} is resolved: {error}\n{}", daemon.story());
        }
    }
    connect(&host.lab.ct, at(DEAD4, PORT), SOON).expect_err("nobody resolved it");
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, at(DEAD4, PORT)), SOON);
    assert_eq!(event["reason"], "never-resolved", "{event}");

    // Each line once, as the journal itself counts them.
    let lines = || {
        host.journal
            .ask(&host.lab, &["--quiet", "-o", "cat", "SYSLOG_IDENTIFIER=dnsmasq"])
            .lines()
            .count() as u64
    };
    let same = || host.source()["lines"].as_u64() == Some(lines());
    eventually("each line is read once", LATER, same);
    let delay = host.source()["delay"].clone();
    assert!(delay["samples"].as_u64().unwrap() >= 17, "{delay}");

    // journald goes and comes, and its files are rotated.
    host.journal.restart();
    retry_until(LATER, || host.try_ask(20, Over::Udp)).expect("dnsmasq answers");
    host.journal.ask(&host.lab, &["--rotate"]);
    host.ask(21, Over::Udp);
    Host::recorded(&daemon, 21);

    // While we are away, the unit starts anew.
    daemon.stop();
    host.ask(22, Over::Udp);
    host.start_dnsmasq();
    host.ask(23, Over::Tcp);
    let state =
        host.lab.dir().join("state").join(format!("dns-journal-{}.json", host.journal.unit()));
    assert!(std::fs::read_to_string(&state).unwrap().contains("\"cursor\":\"s="));
    let daemon = host.daemon(&[]);
    Host::recorded(&daemon, 22);
    Host::recorded(&daemon, 23);
    let known = daemon.events();
    let again = known.iter().filter(|e| e["event"] == "record" && e["name"] == name(5).as_str());
    assert_eq!(again.count(), 0, "what is known is no news");

    // journalctl dies: back at once, nothing lost.
    let children = format!("/proc/{}/task", daemon.pid());
    let find = || -> Option<i32> {
        std::fs::read_dir(&children).ok()?.flatten().find_map(|task| {
            let children = std::fs::read_to_string(task.path().join("children")).ok()?;
            children.split_whitespace().find_map(|pid| {
                let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
                (comm.trim() == "journalctl").then(|| pid.parse().ok())?
            })
        })
    };
    let pid = retry_until(LATER, find).expect("there is one journalctl");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    host.ask(24, Over::Udp);
    Host::recorded(&daemon, 24);
    let down = |e: &Value| {
        e["event"] == "health" && e["message"].as_str().unwrap().contains("journalctl ended")
    };
    daemon.expect_event("journalctl ended", down, LATER);
    // Killed, we take ours along.
    daemon.kill9();
    eventually("no journalctl is left", LATER, || {
        std::fs::read_dir("/proc").unwrap().flatten().all(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            !String::from_utf8_lossy(&line)
                .contains(&format!("_SYSTEMD_UNIT={}", host.journal.unit()))
        })
    });
}

#[test]
fn what_journald_drops_is_lost_and_another_unit_is_no_evidence() {
    let host = Host::new("jloss", "RateLimitIntervalSec=1s\nRateLimitBurst=30");
    let daemon = host.daemon(&[]);
    // Not of the unit, whatever it calls itself.
    let mut forger = host.journal.command(&host.lab.gw, "setpriv");
    forger.args([
        "--reuid=12345",
        "--clear-groups",
        "logger",
        "--socket",
        "/run/systemd/journal/dev-log",
        "--tag",
        "dnsmasq",
    ]);
    let forged = format!(
        "7 {CT4}/9 query[A] forged.example from {CT4}\n7 {CT4}/9 config forged.example is {DEAD4}\n"
    );
    super::lab::proc::run(forger, &forged);
    let lost =
        |e: &Value| e["event"] == "health" && e["message"].as_str().unwrap().contains("lost");
    // journald tells what it dropped with the first line of the next interval.
    let told = retry_until(LATER, || {
        (1..60).for_each(|n| host.ask(n, Over::Udp));
        daemon.events().iter().any(lost).then_some(())
    });
    assert!(told.is_some(), "{}", daemon.story());
    eventually("the source is doubted", LATER, || {
        host.source()["doubt"] == "lost lines within the last minute"
    });
    assert!(host.source()["lost"].as_u64().unwrap() > 0);
    assert!(!daemon.events().iter().any(|e| e["name"] == "forged.example"));
}
