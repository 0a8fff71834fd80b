//! Start, stop, crash, modes, and what is left behind.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::lab::net::connect;
use super::lab::raw::{self, Raw};
use super::lab::wire::Wire;
use super::lab::{CT4, DEAD4, Lab, SRV4, Side, at, eventually};
use super::stand::{DnsLog, PORT, SOON, Stand, casts, plain, start, synhold, waiting};

const QUICK: Duration = Duration::from_millis(500);

#[test]
fn killed_in_the_closed_posture_nothing_passes_until_a_new_daemon_serves_with_its_registry() {
    let mut stand = Stand::new("closed", &[]);
    let (rules, _, _) = synhold(&stand.lab, &["rules", "check", "--container-net", "10.0.0.0/8"]);
    assert_eq!(rules, 1, "the control: check compares with what it is told");
    for cast in casts() {
        stand.resolve(cast.container, "web.example", cast.server.ip());
    }
    let state = stand.lab.dir().join("state/registry/journal-1");
    eventually("the registry is saved", Duration::from_secs(10), || {
        fs::read(&state)
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).matches("web.example").count() == 2)
    });
    let (lab, far, log) = (stand.lab, stand.far, stand.log);
    stand.daemon.kill9();
    for cast in casts() {
        connect(&lab.ct, cast.server, QUICK).expect_err("no listener, no new flows");
        assert_eq!(far.count_settled(&lab, Side::Srv, |p| p.is_syn_to(cast.server)), 0);
    }
    fs::write(&log.path, "").unwrap();
    let again = start(&lab, &log.path, &[]);
    assert_eq!(again.ready()["records"], 2);
    for cast in casts() {
        connect(&lab.ct, cast.server, SOON).expect("known from before the crash");
    }
    let ended = again.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(
        !lab.gw.ruleset().contains("synhold"),
        "the rules of the killed run were ours to take away"
    );
}

#[test]
fn killed_in_the_open_posture_everything_passes() {
    let stand = Stand::new("open", &["--fail", "open", "--hold-ms", "100"]);
    for cast in casts() {
        // By the neighbour: the kernel would refuse it a while longer, as a verdict of a moment ago.
        connect(&stand.lab.ct2, cast.server, SOON).expect_err("enforced while we live");
    }
    let (lab, _far) = (stand.lab, stand.far);
    stand.daemon.kill9();
    for cast in casts() {
        connect(&lab.ct, cast.server, SOON).expect("open");
    }
}

#[test]
fn a_clean_stop_answers_what_is_held_and_leaves_the_ruleset_as_it_was() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let lab = Lab::new("stop");
        lab.gw.nft(
            "table ip foreign {\nchain c {\ntype filter hook forward priority 5\ncounter\n}\n}\n",
        );
        let before = lab.gw.ruleset();
        let far = Wire::watch(&lab.srv, "eth0");
        let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
        let daemon = start(&lab, &log.path, &["--hold-ms", "990", "--queues", "2"]);
        daemon.ready();
        let raw = Raw::to_gateway(&lab, Side::Ct);
        for n in 0..50u16 {
            raw.send(&raw::syn(at(CT4, 7_000 + n), at(DEAD4, 80), 1));
        }
        eventually("50 are held", SOON, || waiting(&lab) == 50);
        let ended = daemon.end_by(signal);
        assert!(ended.status.success(), "{signal}: {}", ended.stderr);
        assert!(ended.took < Duration::from_secs(3), "{:?}", ended.took);
        let shutdown = ended.events.iter().filter(|e| e["reason"] == "shutdown").count();
        assert_eq!(shutdown, 50, "every held packet was answered");
        let stop = ended.events.last().unwrap();
        assert_eq!(
            (&stop["event"], &stop["refused"], &stop["gone"]),
            (&"stop".into(), &50.into(), &0.into()),
            "{stop}"
        );
        assert_eq!(far.count_settled(&lab, Side::Srv, |p| p.is_syn()), 0);
        let after: String = lab.gw.ruleset();
        assert_eq!(without_counters(&after), without_counters(&before));
    }
}

fn without_counters(ruleset: &str) -> String {
    ruleset.lines().filter(|line| !line.contains("counter packets")).collect::<Vec<_>>().join("\n")
}

#[test]
fn rules_that_were_there_stay_and_are_put_back_to_what_they_were() {
    let lab = Lab::new("stay");
    let nets = ["--container-net", "172.31.7.0/24", "--container-net", "fd07:7::/64"];
    let install = [&["rules", "install"][..], &nets].concat();
    let (code, out, err) = synhold(&lab, &install);
    assert_eq!(code, 0, "{out}{err}");
    let installed = lab.gw.ruleset();
    assert!(installed.contains("table inet synhold"));
    assert_eq!(synhold(&lab, &install).0, 0);
    assert_eq!(lab.gw.ruleset(), installed, "installing twice changes nothing");

    let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let daemon = start(&lab, &log.path, &["--dry-run", "--queue-num", "9"]);
    assert_eq!(daemon.ready()["own_rules"], false);
    assert_ne!(lab.gw.ruleset(), installed, "the dry run has changed them in place");
    assert!(daemon.stop().status.success());
    assert_eq!(lab.gw.ruleset(), installed, "and put them back");
    assert_eq!(synhold(&lab, &["rules", "remove"]).0, 0);
    assert_eq!(lab.gw.ruleset(), "");
    assert_eq!(synhold(&lab, &["rules", "show"]).0, 1, "nothing to show is a no");
}

#[test]
fn keep_rules_leaves_them() {
    let lab = Lab::new("keep");
    let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let daemon = start(&lab, &log.path, &["--keep-rules"]);
    daemon.ready();
    assert!(daemon.stop().status.success());
    assert!(lab.gw.ruleset().contains("table inet synhold"));
}

#[test]
fn a_second_instance_says_who_holds_the_namespace() {
    let stand = Stand::new("second", &[]);
    let second = start(&stand.lab, &stand.log.path, &["--queue-num", "5"]).wait_end();
    assert_eq!(second.status.code(), Some(2));
    assert!(
        second.stderr.contains(&format!("process {}", stand.daemon.pid())),
        "{}",
        second.stderr
    );
    // Another namespace of the same machine is another matter.
    let other = Stand::new("second2", &[]);
    assert!(other.daemon.stop().status.success());
    assert!(stand.daemon.stop().status.success());
}

#[test]
fn a_queue_somebody_else_serves_is_named() {
    let lab = Lab::new("busy");
    let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let held = lab.gw.run(|| {
        let mut queue = nfq::Queue::open().unwrap();
        queue.bind(3).unwrap();
        queue
    });
    let ended = start(&lab, &log.path, &["--queue-num", "3"]).wait_end();
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("queue 3 is served by another program"), "{}", ended.stderr);
    assert!(!lab.gw.ruleset().contains("synhold"));
    drop(held);
}

#[test]
fn a_queue_the_kernel_took_away_is_opened_again() {
    let mut stand = Stand::new("unbound", &["--hold-ms", "200"]);
    stand.resolve(CT4.into(), "web.example", SRV4.into());
    connect(&stand.lab.ct, at(SRV4, PORT), SOON).expect("the control: served");
    super::steal::unbind_queue(stand.daemon.pid(), 0);
    let back = |e: &serde_json::Value| {
        e["event"] == "health" && e["what"] == "queue" && e["healthy"] == true
    };
    stand.daemon.expect_event("queue served again", back, SOON);
    connect(&stand.lab.ct, at(SRV4, PORT), SOON).expect("served again");
    let ended = stand.daemon.stop();
    assert_eq!(ended.events.last().unwrap()["reopened"], 1);
}

#[test]
fn check_names_the_rule_somebody_deleted_and_install_puts_it_back() {
    let lab = Lab::new("drift");
    let nets = ["--container-net", "172.31.7.0/24", "--container-net", "fd07:7::/64"];
    let rules = |action: &str| synhold(&lab, &[&["rules", action][..], &nets].concat());
    assert_eq!(rules("check").0, 1, "no rules at all");
    assert_eq!(rules("install").0, 0);
    assert_eq!(rules("check").0, 0);
    let listing =
        lab.gw.command("nft").args(["-a", "list", "table", "inet", "synhold"]).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    let judge = listing.lines().find(|line| line.contains("judge udp")).expect("the rule");
    let handle = judge.rsplit(' ').next().unwrap();
    lab.gw.nft(&format!("delete rule inet synhold forward handle {handle}\n"));
    let (code, out, _) = rules("check");
    let first = out.lines().next().unwrap_or_default();
    assert_eq!((code, first), (1, "chain forward: rule \"judge udp\": missing"));
    assert_eq!(rules("install").0, 0);
    assert_eq!(rules("check").0, 0);
    let (code, shown, _) = synhold(&lab, &["rules", "show"]);
    assert_eq!(code, 0);
    assert!(shown.contains("judge udp") && shown.contains("172.31.7.0/24"), "{shown}");
}

#[test]
fn systemd_is_told_ready_living_and_stopping() {
    let lab = Lab::new("notify");
    let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let path = lab.dir().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut command = plain(&lab, &log, &["--log-format", "json"]);
    command.env("NOTIFY_SOCKET", &path);
    let daemon = super::lab::daemon::Daemon::start(&lab.gw, command);
    let mut buffer = [0; 256];
    let mut next = || {
        let length = socket.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(next().contains("READY=1"));
    // That it lives, and how it is; then that it lives, and nothing new to say.
    assert!(next().contains("WATCHDOG=1"));
    assert!(next().contains("STATUS=enforcing, 0 addresses, 0 containers"));
    assert!(next().contains("WATCHDOG=1"));
    assert!(daemon.stop().status.success());
    while !next().contains("STOPPING=1") {}
}

#[test]
fn packets_lost_to_a_stalled_daemon_are_counted_and_it_goes_on() {
    let mut stand = Stand::new("stall", &["--hold-ms", "200"]);
    stand.daemon.send_signal(Signal::SIGSTOP);
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    // More than the kernel queues for us: the rest is dropped, the posture being closed.
    raw.send_all((0..20_000u16).map(|n| raw::syn(at(CT4, 20_000 + n), at(DEAD4, 80), 1)), 0);
    stand.daemon.send_signal(Signal::SIGCONT);
    let lost = |e: &serde_json::Value| {
        e["event"] == "health" && e["what"] == "queue" && e["healthy"] == false
    };
    stand.daemon.expect_event("loss", lost, SOON);
    assert_eq!(stand.far.count_settled(&stand.lab, Side::Srv, |p| p.is_syn()), 0);
    stand.resolve(CT4.into(), "web.example", SRV4.into());
    connect(&stand.lab.ct, at(SRV4, PORT), SOON).expect("and it serves again");
    let ended = stand.daemon.stop();
    let stop = ended.events.last().unwrap();
    assert!(
        stop["kernel_dropped"].as_u64().unwrap() + stop["user_dropped"].as_u64().unwrap() > 0,
        "{stop}"
    );
}

#[test]
fn removing_the_rules_under_held_packets_is_survived() {
    let mut stand = Stand::new("pulled", &["--hold-ms", "300"]);
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    for n in 0..20u16 {
        raw.send(&raw::syn(at(CT4, 7_000 + n), at(DEAD4, 80), 1));
    }
    stand.wait_held(20);
    // Deleting the table makes the kernel drop what waits: our answers then are for packets that are gone.
    assert_eq!(synhold(&stand.lab, &["rules", "remove"]).0, 0);
    let refused = |e: &serde_json::Value| e["reason"] == "never-resolved";
    assert_eq!(stand.daemon.feed().wait_count(20, refused, SOON), 20);
    let nets = ["--container-net", "172.31.7.0/24"];
    assert_eq!(synhold(&stand.lab, &[&["rules", "install"][..], &nets].concat()).0, 0);
    stand.resolve(CT4.into(), "web.example", SRV4.into());
    connect(&stand.lab.ct, at(SRV4, PORT), SOON).expect("served again");
    let ended = stand.daemon.stop();
    let stop = ended.events.last().unwrap();
    assert_eq!(stop["gone"], 20, "{stop}");
}

#[test]
fn without_root_the_start_fails_in_one_line() {
    let lab = Lab::new("user");
    let mut command = lab.gw.command("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        super::stand::BIN,
        "run",
        "--no-docker",
        "--memory-only",
    ]);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
    assert!(stderr.contains("root"), "{stderr}");
}

#[test]
fn several_queues_share_the_load_and_the_hold() {
    let mut stand = Stand::new("queues", &["--queues", "4", "--hold-ms", "990"]);
    assert_eq!(stand.daemon.ready()["queues"], 4);
    for cast in casts() {
        stand.resolve(cast.container, "web.example", cast.server.ip());
    }
    for cast in casts() {
        for _ in 0..50 {
            connect(&stand.lab.ct, cast.server, SOON).expect("resolved");
        }
    }
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    let held: Vec<SocketAddr> = (0..100u16).map(|n| at(IpAddr::from(DEAD4), 1_000 + n)).collect();
    raw.send_all(held.iter().map(|&dst| raw::syn(at(CT4, 9_000), dst, 1)), 0);
    stand.wait_held(100);
    stand.resolve(CT4.into(), "late.example", DEAD4.into());
    // Those the daemon had not read yet when the record came are plainly resolved.
    let accepted =
        |e: &serde_json::Value| e["verdict"] == "accept" && e["dst"] == DEAD4.to_string().as_str();
    assert_eq!(stand.daemon.feed().wait_count(100, accepted, SOON), 100);
}
