//! The operator's desk: who may ask and who may change, what is remembered and followed, and what a log never says.

use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::{Value, json};

use super::lab::daemon::Daemon;
use super::lab::{CONTAINER_NETS, Lab, eventually};
use super::sets_cli::{fine, json as asked};
use super::stand::{
    BIN, DnsLog, SOON, STARTED, Stand, assert_passes, assert_refused, casts, is_verdict_on, start,
};

/// A group that every Debian has, and somebody who is in none that matters.
pub const GROUP: (&str, u32) = ("nogroup", 65534);
pub const MEMBER: u32 = 4243;
const STRANGER: u32 = 4242;

/// Runs the command as somebody else, from a place everybody can reach.
pub fn by(lab: &Lab, uid: u32, gid: u32, args: &[&str]) -> (i32, String) {
    let bin = lab.dir().join("synhold");
    let state = lab.dir().join("state").display().to_string();
    let mut command = lab.gw.command("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "--"]);
    command.arg(bin).args(args).args(["--state-dir", &state]);
    let output = command.output().expect("setpriv runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// Every mode and group that a path has, until it is told to stop.
fn watch(path: &Path, stop: &AtomicBool) -> Vec<(u32, u32)> {
    let mut seen = Vec::new();
    while !stop.load(SeqCst) {
        if let Ok(there) = std::fs::symlink_metadata(path) {
            seen.push((there.permissions().mode() & 0o7777, there.gid()));
            seen.dedup();
        }
    }
    seen
}

#[test]
fn the_groups_members_ask_and_change_nothing_and_nobody_else_gets_in() {
    let lab = Lab::new("deskgroup");
    std::fs::set_permissions(lab.dir(), std::fs::Permissions::from_mode(0o711)).unwrap();
    std::fs::copy(BIN, lab.dir().join("synhold")).unwrap();
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let (state, stop) = (lab.dir().join("state"), Arc::new(AtomicBool::new(false)));
    let socket = state.join("control.sock");
    let watcher = {
        let (socket, stop) = (socket.clone(), Arc::clone(&stop));
        std::thread::spawn(move || watch(&socket, &stop))
    };
    let daemon = start(&lab, &log.path, &["--control-group", GROUP.0]);
    daemon.ready();
    stop.store(true, SeqCst);
    let seen = watcher.join().unwrap();
    let there = std::fs::symlink_metadata(&socket).unwrap();
    assert_eq!((there.permissions().mode() & 0o7777, there.gid()), (0o660, GROUP.1));
    let allowed = [(0o600, 0), (0o600, GROUP.1), (0o660, GROUP.1)];
    assert!(
        seen.iter().all(|one| allowed.contains(one)),
        "never more open than in the end: {seen:?}"
    );
    let folder = std::fs::metadata(&state).unwrap();
    assert_eq!((folder.mode() & 0o7777, folder.gid(), folder.uid()), (0o710, GROUP.1, 0));
    for entry in std::fs::read_dir(&state).unwrap().flatten().filter(|e| e.path() != socket) {
        let about = entry.metadata().unwrap();
        assert_eq!((about.gid(), about.mode() & 0o007), (0, 0), "{}", entry.path().display());
    }

    for question in [&["status"][..], &["events"], &["registry", "stats"]] {
        let (code, said) = by(&lab, MEMBER, GROUP.1, question);
        assert_eq!(code, 0, "{question:?}: {said}");
    }
    assert_eq!(by(&lab, MEMBER, GROUP.1, &["registry", "lookup", "a.example"]).0, 1);
    for change in [&["registry", "forget", "a.example"][..], &["block", "203.0.113.7"]] {
        let (code, said) = by(&lab, MEMBER, GROUP.1, change);
        assert!(code == 2 && said.contains("root") && said.contains("sudo"), "{change:?}: {said}");
    }
    let (code, said) = by(&lab, STRANGER, STRANGER, &["status"]);
    assert!(code == 2 && said.contains("is not for you"), "{said}");
}

#[test]
fn a_group_that_is_not_there_is_an_error_at_the_start() {
    let lab = Lab::new("desknone");
    let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let ended = start(&lab, &log.path, &["--control-group", "no-such-group"]).wait_end();
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("there is no group no-such-group: make it"), "{}", ended.stderr);
}

/// `synhold events --json ARGS`, as a program whose lines are read as they come.
fn follower(lab: &Lab, args: &[&str]) -> Daemon {
    let mut command = lab.gw.command(BIN);
    let state = lab.dir().join("state").display().to_string();
    command.args(["events", "--json", "--state-dir", &state]).args(args);
    Daemon::start(&lab.gw, command)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_follower_that_nobody_reads_ends_by_itself() {
    let stand = Stand::new("deskreader", &["--hold-ms", "300"]);
    let state = stand.lab.dir().join("state").display().to_string();
    let mut command = stand.lab.gw.command(BIN);
    command.args(["events", "--follow", "--state-dir", &state]).stdout(Stdio::piped());
    let mut follower = command.spawn().unwrap();
    let mut read = BufReader::new(follower.stdout.take().unwrap());
    read.read_line(&mut String::new()).unwrap();
    drop(read);
    let mut ended = None;
    eventually("it ends", SOON, || {
        ended = follower.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}

#[test]
fn events_are_remembered_followed_and_picked() {
    let mut stand = Stand::new("deskfollow", &["--hold-ms", "300"]);
    let [cast, other] = casts();
    let all = follower(&stand.lab, &["--follow"]);
    let container = cast.container.to_string();
    let one = follower(&stand.lab, &["--follow", "--refused", "--container", &container]);
    for follower in [&all, &one] {
        // Both begin with what was before them, or with nothing of their kind.
        let begun = || asked(&stand.lab, &["status"]).0 == 0 && follower.ended().is_none();
        eventually("they follow", SOON, begun);
    }
    all.expect_event("what was before", |e| e["event"] == "ready", SOON);
    stand.resolve(cast.container, "shop.example", cast.server.ip());
    assert_passes(&stand.lab.ct, cast.server);
    assert_refused(&stand.lab.ct, cast.dead);
    assert_refused(&stand.lab.ct, other.dead);
    let of = |dst| move |e: &Value| is_verdict_on(e, dst);
    for dst in [cast.server, cast.dead, other.dead] {
        let logged = stand.daemon.expect_event("a verdict", of(dst), SOON);
        assert_eq!(all.expect_event("the same verdict", of(dst), SOON), logged);
    }
    all.expect_event("a record", |e| e["event"] == "record", SOON);
    one.expect_event("a refusal", of(cast.dead), SOON);
    let strange = |e: &Value| {
        e["event"] != "verdict" || e["src"] != container.as_str() || e["verdict"] != "drop"
    };
    assert_eq!(one.feed().count(strange), 0, "{}", one.story());

    let refused = lines(&fine(&stand.lab, &["events", "--json", "--refused"]));
    let dsts: Vec<&str> = refused.iter().filter_map(|e| e["dst"].as_str()).collect();
    for dst in [cast.dead, other.dead] {
        assert!(dsts.contains(&dst.ip().to_string().as_str()), "{refused:?}");
    }
    let kept = lines(&fine(&stand.lab, &["events", "--json"]));
    let is_loud = |e: &Value| e["event"] == "record" || e["verdict"] == "accept";
    assert!(kept[0]["event"] != "record" && !kept.iter().any(is_loud), "{kept:?}");
    let last =
        lines(&fine(&stand.lab, &["events", "--json", "--last", "1", "--only", "ready,stop"]));
    assert!(last.len() == 1 && last[0]["event"] == "ready", "{last:?}");
    let text = fine(&stand.lab, &["events", "--refused"]);
    assert!(text.contains("WARN: 🚨 tcp") && text.contains("nobody resolved this"), "{text}");

    assert!(stand.daemon.stop().status.success());
    let ended = all.wait_end();
    assert!(
        ended.status.success() && ended.stderr.contains("the daemon stops"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_live_block_refuses_on_the_wire_and_the_commands_see_it() {
    let mut stand = Stand::new("desklive", &["--hold-ms", "300"]);
    for cast in casts() {
        stand.resolve(cast.container, "shop.example", cast.server.ip());
        assert_passes(&stand.lab.ct, cast.server);
        let server = cast.server.ip().to_string();
        let entries = || json!([server]);
        let said =
            ask(&stand.lab, json!({ "ask": "block", "entries": entries(), "note": "by hand" }));
        let answer = &said["answer"];
        assert_eq!(
            (&answer["daemon"]["state"], &answer["entries"][0]["added"]),
            (&"in-force".into(), &"new".into()),
            "{said}"
        );
        assert_refused(&stand.lab.ct, cast.server);
        let (code, again) = asked(&stand.lab, &["block", &server]);
        assert_eq!((code, &again["entries"][0]["added"]), (0, &"unchanged".into()), "{again}");
        let said = ask(&stand.lab, json!({ "ask": "allow", "entries": entries(), "for": "1h" }));
        assert_eq!(said["answer"]["daemon"]["state"], "in-force", "{said}");
        assert_passes(&stand.lab.ct, cast.server);
        ask(&stand.lab, json!({ "ask": "unallow", "entries": entries() }));
        assert_refused(&stand.lab.ct, cast.server);
        let said = ask(&stand.lab, json!({ "ask": "unblock", "entries": entries() }));
        assert_eq!(said["answer"]["entries"][0]["removed"][0]["list"], "block", "{said}");
        assert_passes(&stand.lab.ct, cast.server);
    }
    for (question, kind) in [
        (json!({ "ask": "block", "entries": ["127.0.0.0/8"] }), "failed"),
        (json!({ "ask": "block", "entries": ["no such thing"] }), "malformed"),
        (json!({ "ask": "block" }), "malformed"),
        (json!({ "ask": "block", "container": "nobody" }), "not-found"),
        (json!({ "ask": "allow", "entries": ["a.example"], "for": "soon" }), "malformed"),
    ] {
        let said = ask(&stand.lab, question.clone());
        assert_eq!(said["error"]["kind"], kind, "{question}: {said}");
    }
}

#[test]
fn a_daemon_that_writes_no_status_says_too_what_is_in_force() {
    let lab = Lab::new("deskmem");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let daemon = start(&lab, &log.path, &["--memory-only"]);
    daemon.ready();
    let path = format!("/run/synhold/net-{}.sock", lab.gw.inode());
    let said = ask_at(Path::new(&path), json!({ "ask": "events", "last": 1 }));
    assert_eq!(said["answer"]["recent"], 1, "{said}");
    let server = casts()[0].server.ip().to_string();
    let said = ask_at(Path::new(&path), json!({ "ask": "block", "entries": [server] }));
    assert_eq!(said["answer"]["daemon"]["state"], "in-force", "{said}");
    assert!(super::stand::members(&lab, "blockhosts4").contains(&server));
}

/// Asks one question as root, and reads the first line of the answer.
fn ask(lab: &Lab, question: Value) -> Value {
    ask_at(&lab.dir().join("state/control.sock"), question)
}

fn ask_at(socket: &Path, mut question: Value) -> Value {
    use std::io::{BufRead as _, BufReader, Write as _};
    question["v"] = 1.into();
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(format!("{question}\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// A daemon for people, at the level that a service has.
fn human(lab: &Lab, log: &Path, level: &str) -> Daemon {
    let mut command: Command = lab.gw.command(BIN);
    command.env("RUST_LOG", level);
    command.args(["run", "--no-docker", "--metrics", "off", "--canary", "off", "--hold-ms", "300"]);
    command.args(["--evidence-grace", "0s", "--auto-block", "global"]);
    command.args(["--dns-source", &format!("file:{}", log.display())]);
    command.args(["--state-dir", &lab.dir().join("state").display().to_string()]);
    command.args(CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]));
    Daemon::start(&lab.gw, command)
}

#[test]
fn what_is_in_order_is_named_to_nobody_at_info() {
    let lab = Lab::new("deskhush");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let port = super::stand::PORT;
    let _server = super::lab::serve::Server::tcp(&lab.srv, &super::lab::serve::everywhere(port));
    let daemon = human(&lab, &log.path, "info");
    let says = |text: &str| daemon.strays().iter().any(|line| line.contains(text));
    eventually("it is ready", SOON * 4, || says("ready, enforcing"));
    let mut names = Vec::new();
    for cast in casts() {
        let name = if cast.container.is_ipv4() { "shop4.example" } else { "shop6.example" };
        log.answer(cast.container, name, cast.server.ip());
        names.extend([name.to_owned(), cast.server.ip().to_string()]);
        eventually("the record is read", SOON, || {
            asked(&lab, &["registry", "lookup", name]).0 == 0
        });
        assert_passes(&lab.ct, cast.server);
        assert_refused(&lab.ct, cast.dead);
    }
    // Lines that make no sense, and an answer that is none.
    let client: IpAddr = casts()[0].container;
    log.write(&format!("rubbish from hidden.example\nNov 21 22:12:01 dnsmasq[77]: 9 {client}/1 reply hidden.example is 9.9.9.9.9\n"));
    log.answer(client, "inside.example", "10.1.2.3".parse().unwrap());
    eventually("it is alarmed", SOON, || says("inside.example"));
    eventually("refusals are told", SOON, || {
        casts().iter().all(|cast| says(&format!("{} refused", cast.dead)))
    });
    let ended = daemon.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    names.push("hidden.example".to_owned());
    let every: Vec<String> = casts()
        .iter()
        .flat_map(|cast| {
            [cast.container, cast.server.ip(), cast.dead.ip()].map(|ip| ip.to_string())
        })
        .chain(["10.1.2.3".to_owned(), "inside.example".to_owned()])
        .collect();
    for name in names.iter().chain(&every) {
        assert!(!ended.stderr.contains(name.as_str()), "{name} in diagnostics:\n{}", ended.stderr);
    }
    for line in ended.strays.iter().filter(|line| !line.contains("] WARN: ")) {
        let told = names.iter().chain(&every).find(|name| line.contains(name.as_str()));
        assert_eq!(told, None, "{line}");
    }
    let told = |name: &String| ended.strays.iter().any(|line| line.contains(name.as_str()));
    assert!(!names.iter().any(told), "{:?}", ended.strays);
}

#[test]
fn flows_in_order_are_named_to_whoever_asks_for_it() {
    let lab = Lab::new("deskdebug");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let port = super::stand::PORT;
    let _server = super::lab::serve::Server::tcp(&lab.srv, &super::lab::serve::everywhere(port));
    let daemon = human(&lab, &log.path, "synhold::events=trace");
    let says = |text: &str| daemon.strays().iter().any(|line| line.contains(text));
    eventually("it is ready", SOON * 4, || says("ready, enforcing"));
    let [cast, _] = casts();
    log.answer(cast.container, "shop.example", cast.server.ip());
    eventually("the record is shown", SOON, || says("TRACE: 🍯 shop.example is"));
    log.answer(cast.container, "other.example", cast.server.ip());
    eventually("and the other", SOON, || says("TRACE: 🍯 other.example is"));
    assert_passes(&lab.ct, cast.server);
    eventually("the flow is shown", SOON, || says("DEBUG: 🔍 tcp"));
    eventually("with all names", SOON, || says("DEBUG: ↳ ") && says("other.example, shop.example"));
}
