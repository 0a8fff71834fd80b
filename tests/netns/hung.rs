//! Our own dnsmasq, stopped in its tracks: it is noticed, told and started again, and asking it leaves no trace.

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::alerts::{command, config, of_kind};
use super::evidence::own_dnsmasq;
use super::lab::daemon::Daemon;
use super::lab::dns::{Over, dns_ask, over_tcp, qtype, question, upstream, zone};
use super::lab::net::{connect, connect_from};
use super::lab::serve::{Server, everywhere};
use super::lab::{CT4, DNS4, GW4, Lab, SRV4, at, eventually};
use super::metrics::{scrape, value};
use super::sets_cli::{self, json};
use super::stand::{DnsLog, LATER, PORT, SOON, STARTED, start, start_on};

#[test]
fn a_dnsmasq_that_hangs_is_named_everywhere_started_again_and_asked_in_silence() {
    let lab = Lab::new("hung");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let _upstream = upstream(&lab, [zone::host("web.example", SRV4)]);
    let file = lab.dir().join("alerts.jsonl");
    let config = config(&lab, &command("pager", &file, ""));
    let (at_metrics, upstream) = ("127.0.0.1:9753", DNS4.to_string());
    let args = ["--hold-ms", "300", "--metrics", at_metrics, "--dns-upstream", &upstream];
    let daemon = start_on(&lab, "spawn", &[&args[..], &["--config", &config]].concat());
    daemon.ready();
    let status = || json(&lab, &["status"]).1;
    let unanswered = || status()["sources"][0]["unanswered"].clone();
    eventually("it is asked", LATER, || unanswered() == 0);
    let before = status();

    let first = own_dnsmasq(&daemon).expect("a dnsmasq runs");
    kill(first, Signal::SIGSTOP).unwrap();
    let told = |healthy: bool, part: &'static str| {
        let is = move |e: &Value| {
            let message = e["message"].as_str().unwrap_or_default();
            e["what"] == "source" && e["healthy"] == healthy && message.contains(part)
        };
        daemon.expect_event(part, is, LATER);
    };
    told(false, "dnsmasq did not answer 2 questions in a row");
    let (_, text) = sets_cli::command(&lab, &["status"]);
    let fault = "DNS source spawn does not answer (2 questions in a row): containers resolve";
    assert!(text.contains(fault) && text.contains(" SILENT "), "{text}");
    assert_eq!(status()["evidence"]["healthy"], true, "what is known is as good as before");
    let page = scrape(&lab.gw);
    let source = [("source", "spawn")];
    assert!(value(&page, "synhold_source_unanswered_questions", &source) >= Some(2.0));
    told(false, "is down: dnsmasq hangs");
    told(true, "dnsmasq answers again");
    assert_ne!(own_dnsmasq(&daemon), Some(first));
    eventually("both alerts are out", LATER, || of_kind(&file, "evidence").len() == 2);
    let [silent, back] = &of_kind(&file, "evidence")[..] else { panic!("two") };
    assert_eq!((&silent["severity"], &back["severity"]), (&"critical".into(), &"info".into()));

    // Nothing of all that asking is left: no line, no record, no packet.
    let after = status();
    assert_eq!(after["sources"][0]["records"], 0);
    assert_eq!(after["evidence"]["records"], 0);
    let lines = |status: &Value| status["sources"][0]["lines"].as_u64().unwrap();
    // A start says some lines of its own.
    assert_eq!(lines(&after), 2 * lines(&before), "{before} {after}");
    assert_eq!((&after["totals"]["accepted"], &after["totals"]["refused"]), (&0.into(), &0.into()));
    dns_ask(&lab.ct, at(CT4, 0), at(GW4, 53), "web.example", qtype::A, Over::Udp).expect("answer");
    connect(&lab.ct, at(SRV4, PORT), SOON).expect("resolved");
    let ended = daemon.stop();
    assert!(!ended.events.iter().any(|e| e.to_string().contains("alive.synhold")));
}

/// Blocks an address beside a daemon that hangs: exit code, what it said, and the line it wrote.
fn block_beside(lab: &Lab, args: &[&str]) {
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let daemon = start(lab, &log.path, args);
    daemon.ready();
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let (code, out) = sets_cli::command(lab, &["block", "203.0.113.7"]);
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(code, 0, "{out}");
    let text = std::fs::read_to_string(lab.dir().join("state/lists/block.txt")).unwrap();
    assert!(text.contains("\n203.0.113.7\n"), "{text}");
    eventually("it is taken over", LATER, || sets_cli::command(lab, TEST).0 == 1);
}

const TEST: &[&str] = &["sets", "test", "203.0.113.7"];

#[test]
fn a_change_beside_a_daemon_that_hangs_is_written_to_its_list() {
    block_beside(&Lab::new("hungfile"), &[]);
}

#[test]
fn a_change_beside_a_daemon_that_hangs_and_writes_nothing_is_written_to_its_list() {
    let lab = Lab::new("hungmem");
    std::fs::create_dir_all(lab.dir().join("state/lists")).unwrap();
    block_beside(&lab, &["--memory-only"]);
}

/// A connection of a container to our dnsmasq, which has forked for it.
fn held(lab: &Lab, dnsmasq: Pid) -> TcpStream {
    let children = format!("/proc/{dnsmasq}/task/{dnsmasq}/children");
    let forked = || {
        let pids = std::fs::read_to_string(&children);
        pids.map_or(0, |pids| pids.split_whitespace().count())
    };
    let before = forked();
    let (stream, _) = connect_from(&lab.ct, at(CT4, 0), at(GW4, 53), SOON).expect("connected");
    eventually("it has forked", SOON, || forked() > before);
    stream
}

/// Waits for the next time that its dnsmasq is read anew, and says which it is.
fn another(daemon: &Daemon, mark: u64, than: Pid) -> Pid {
    let is_up = |e: &Value| e["what"] == "source" && e["message"] == "DNS source spawn is read";
    let up = daemon.feed().wait_after(mark, is_up, LATER);
    assert!(up.is_some(), "{}", daemon.story());
    own_dnsmasq(daemon).filter(|pid| *pid != than).expect("another")
}

#[test]
fn what_a_dnsmasq_forked_for_a_connection_neither_keeps_the_next_from_its_port_nor_answers_for_it()
{
    let lab = Lab::new("hungtcp");
    let _upstream = upstream(&lab, [zone::host("web.example", SRV4)]);
    let upstream = DNS4.to_string();
    let daemon = start_on(&lab, "spawn", &["--dns-upstream", &upstream]);
    daemon.ready();
    let unanswered = || json(&lab, &["status"]).1["sources"][0]["unanswered"].clone();
    eventually("it is asked", LATER, || unanswered() == 0);
    let first = own_dnsmasq(&daemon).expect("a dnsmasq runs");
    let (_idle, mut talk) = (held(&lab, first), held(&lab, first));
    talk.set_read_timeout(Some(SOON)).unwrap();

    let mark = daemon.feed().mark();
    kill(first, Signal::SIGSTOP).unwrap();
    let hangs =
        |e: &Value| e["message"].as_str().is_some_and(|text| text.contains("dnsmasq hangs"));
    let noticed = (1..60).any(|id| {
        let answer = over_tcp(&mut talk, &question(id, "web.example", qtype::A));
        assert!(answer.is_ok() || own_dnsmasq(&daemon) != Some(first), "{answer:?}");
        daemon.feed().wait_after(mark, hangs, Duration::from_millis(400)).is_some()
    });
    assert!(noticed, "{}", daemon.story());
    let second = another(&daemon, mark, first);
    let doubts = || json(&lab, &["status"]).1["evidence"]["why"].to_string();
    eventually("what was lost with it is doubted", SOON, || doubts().contains("started anew"));

    let _idle = held(&lab, second);
    let mark = daemon.feed().mark();
    kill(second, Signal::SIGKILL).unwrap();
    another(&daemon, mark, second);
    daemon.stop();
}
