//! The control socket of a running daemon: `status`, `explain`, hostile clients, and whose socket is whose.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::lab::{DEAD4, Lab, SRV4, at, eventually};
use super::sets_cli::{fine, json};
use super::stand::{
    DnsLog, SOON, STARTED, Stand, assert_passes, assert_refused, casts, start, synhold,
};

fn socket(lab: &Lab) -> PathBuf {
    lab.dir().join("state/control.sock")
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("the socket is there").permissions().mode() & 0o7777
}

#[test]
fn status_and_explain_say_what_the_wire_does() {
    let mut stand = Stand::new("ctl", &["--hold-ms", "300"]);
    assert_eq!(mode(&socket(&stand.lab)), 0o600);
    let [cast, _] = casts();
    let server = cast.server.ip().to_string();
    let explain =
        ["explain", &server, "--container", &cast.container.to_string()].map(str::to_owned);
    let explain: Vec<&str> = explain.iter().map(String::as_str).collect();
    // A source that came up a moment ago proves nothing yet.
    eventually("the evidence is healthy", SOON, || {
        json(&stand.lab, &["status"]).1["evidence"]["healthy"] == true
    });
    let (code, said) = json(&stand.lab, &explain);
    assert_eq!((code, &said["passes"]), (1, &false.into()), "{said}");
    assert_eq!(
        (&said["daemon"]["reason"], &said["daemon"]["held_ms"]),
        (&"never-resolved".into(), &300.into())
    );
    assert_refused(&stand.lab.ct, cast.server);
    let (code, said) = json(&stand.lab, &explain);
    assert_eq!((code, &said["daemon"]["denied"]), (1, &true.into()), "a moment ago: {said}");
    assert!(said["because"].as_str().unwrap().contains("denied4"), "{said}");

    stand.log.answer(cast.container, "shop.example", cast.server.ip());
    // The kernel refuses it by itself until the log is read.
    eventually("the record is known", SOON, || json(&stand.lab, &explain).0 == 0);
    assert_passes(&stand.lab.ct, cast.server);
    let (code, said) = json(&stand.lab, &explain);
    assert_eq!((code, &said["daemon"]["grade"]), (0, &"own".into()), "{said}");
    assert_eq!(said["daemon"]["names"][0]["name"], "shop.example");
    stand.reload(|| drop(fine(&stand.lab, &["block", &server])));
    let (code, said) = json(&stand.lab, &explain);
    assert_eq!(code, 1);
    assert!(said["because"].as_str().unwrap().contains("blockhosts4"), "{said}");

    let (code, status) = json(&stand.lab, &["status"]);
    assert_eq!(code, 0);
    assert_eq!(status["daemon"]["pid"], stand.daemon.pid());
    assert_eq!((&status["rules"], &status["mode"]), (&"enforcing".into(), &"enforce".into()));
    assert_eq!(
        (&status["docker"]["state"], &status["evidence"]["healthy"]),
        (&"off".into(), &true.into())
    );
    assert!(status["totals"]["accepted"].as_u64() >= Some(1), "{status}");
    assert!(status["totals"]["refused"].as_u64() >= Some(1), "{status}");
    let text = fine(&stand.lab, &["status"]);
    assert!(text.starts_with("ENFORCING: rules in the kernel"), "{text}");

    let lab = stand.lab;
    assert!(stand.daemon.stop().status.success());
    assert!(!socket(&lab).exists());
    let (code, none) = json(&lab, &["status"]);
    assert_eq!((code, none), (1, serde_json::Value::Null));
}

#[test]
fn hostile_clients_keep_no_verdict_and_no_answer_waiting() {
    let mut stand = Stand::new("ctlhost", &[]);
    let clients: Vec<UnixStream> =
        (0..12).map(|_| UnixStream::connect(socket(&stand.lab)).unwrap()).collect();
    for (n, mut client) in clients.iter().enumerate() {
        client.set_nonblocking(true).unwrap();
        let told: &[u8] = match n % 3 {
            0 => b"{\"v\":1,\"ask\":",
            1 => &b"{\"v\":1,\"ask\":\"status\"}\n".repeat(2000),
            _ => &vec![b'['; 1 << 20],
        };
        // None of it is read by anybody here, and not all of it is taken.
        let _ = client.write(told);
    }
    let [cast, _] = casts();
    stand.log.answer(cast.container, "shop.example", cast.server.ip());
    assert_passes(&stand.lab.ct, cast.server);
    let (code, status) = json(&stand.lab, &["status"]);
    assert_eq!((code, &status["daemon"]["pid"]), (0, &stand.daemon.pid().into()));
    drop(clients);
    assert_eq!(json(&stand.lab, &["status"]).0, 0);
}

#[test]
fn each_state_directory_has_its_daemon() {
    let (one, other) = (Stand::new("ctla", &[]), Stand::new("ctlb", &[]));
    for (here, there) in [(&one, &one), (&one, &other), (&other, &one)] {
        let state = there.lab.dir().join("state").display().to_string();
        let (code, out, _) = synhold(&here.lab, &["status", "--json", "--state-dir", &state]);
        let status: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &status["daemon"]["pid"]), (0, &there.daemon.pid().into()));
    }
    // The sets of this namespace are not those of that daemon, which asks its own.
    let state = other.lab.dir().join("state").display().to_string();
    let dead = DEAD4.to_string();
    let (code, out, _) = synhold(&one.lab, &["explain", &dead, "--json", "--state-dir", &state]);
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &said["kernel"]["verdict"]), (1, &"undecided".into()), "{said}");
    let block = ["block", &dead, "--state-dir", &state];
    assert_eq!(synhold(&one.lab, &block).0, 0);
    let test = ["sets", "test", &dead, "--state-dir"];
    assert_eq!(synhold(&one.lab, &[&test[..], &[&state]].concat()).0, 1, "blocked there");
    let here = one.lab.dir().join("state").display().to_string();
    assert_eq!(synhold(&one.lab, &[&test[..], &[&here]].concat()).0, 0, "and not here");
}

#[test]
fn a_daemon_that_writes_nothing_listens_beside_its_lock_and_a_dead_ones_socket_is_replaced() {
    let lab = Lab::new("ctlmem");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let first = start(&lab, &log.path, &["--memory-only"]);
    first.ready();
    let path = PathBuf::from(format!("/run/synhold/net-{}.sock", lab.gw.inode()));
    assert_eq!(mode(&path), 0o600);
    let state = lab.dir().join("state").display().to_string();
    let place = ["status", "--json", "--state-dir", &state];
    let (code, out, _) = synhold(&lab, &place);
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &status["daemon"]["memory_only"]), (0, &true.into()));
    let (code, _, _) = synhold(&lab, &["status", "--state-dir", "/nonexistent/state"]);
    assert_eq!(code, 1, "that daemon is not of this state directory");
    first.kill9();
    assert!(path.exists(), "nobody took it away");
    assert_eq!(synhold(&lab, &place).0, 1);
    let second = start(&lab, &log.path, &["--memory-only"]);
    second.ready();
    assert_eq!(synhold(&lab, &place).0, 0);
    second.stop();
    assert!(!path.exists());
    let (code, _, stderr) =
        synhold(&lab, &["explain", &at(SRV4, 1).ip().to_string(), "--state-dir", &state]);
    assert_eq!(code, 2);
    assert!(stderr.contains("no synhold runs on"), "{stderr}");
}

#[test]
fn of_a_daemon_that_was_killed_the_lab_leaves_nothing_behind() {
    let lab = Lab::new("ctlkill");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let daemon = start(&lab, &log.path, &["--memory-only"]);
    daemon.ready();
    daemon.kill9();
    let files = ["lock", "sock"].map(|kind| format!("/run/synhold/net-{}.{kind}", lab.gw.inode()));
    let there = || files.iter().filter(|file| Path::new(file).exists()).count();
    assert_eq!(there(), 2);
    // Held, or another lab's namespace could be given its number.
    let _gw = File::open(lab.gw.path()).unwrap();
    drop(lab);
    assert_eq!(there(), 0);
}
