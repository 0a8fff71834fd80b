//! Alerts of a running daemon: a refusal reaches every sink once, what fails or hangs shows, and a test needs no daemon.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::lab::feed::Feed;
use super::lab::net::connect;
use super::lab::{CT4, DEAD4, Lab, at, eventually};
use super::metrics::{scrape, value};
use super::sets_cli::json;
use super::stand::{DnsLog, LATER, PORT, SOON, STARTED, assert_refused, start, synhold};

const METRICS: &str = "127.0.0.1:9753";

/// Everything up, with these `[[alert]]` sections.
struct Desk {
    daemon: super::lab::daemon::Daemon,
    lab: Lab,
    _log: DnsLog,
}

impl Desk {
    fn new(lab: Lab, sections: &str) -> Desk {
        let config = config(&lab, sections);
        let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
        log.write(STARTED);
        let args = ["--hold-ms", "200", "--metrics", METRICS, "--config", &config];
        let daemon = start(&lab, &log.path, &args);
        daemon.ready();
        eventually("the evidence is healthy", LATER, || {
            json(&lab, &["status"]).1["evidence"]["healthy"] == true
        });
        Desk { daemon, lab, _log: log }
    }
}

pub fn config(lab: &Lab, sections: &str) -> String {
    let path = lab.dir().join("synhold.toml");
    std::fs::write(&path, sections).unwrap();
    path.display().to_string()
}

/// A command that adds its input to a file as a line.
pub fn command(name: &str, file: &Path, more: &str) -> String {
    let script = format!("cat >> {0}; echo >> {0}", file.display());
    format!(
        "[[alert]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n{more}\n"
    )
}

/// The alerts in a file; a line that is being written is none yet.
fn told(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

pub fn of_kind(file: &Path, kind: &str) -> Vec<Value> {
    told(file).into_iter().filter(|alert| alert["kind"] == kind).collect()
}

/// An HTTP server in the gateway: heads and bodies as they come.
fn webhook(lab: &Lab) -> (SocketAddr, Arc<Feed<(String, String)>>) {
    let listener = lab.gw.run(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let at = listener.local_addr().unwrap();
    let feed = Arc::new(Feed::new(100));
    let theirs = Arc::clone(&feed);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(LATER)).unwrap();
            let mut reader = BufReader::new(&stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|n| n > 0) {}
            let lower = head.to_ascii_lowercase();
            let length =
                lower.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            if reader.read_exact(&mut body).is_ok() {
                theirs.push((head, String::from_utf8(body).unwrap()));
            }
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        }
    });
    (at, feed)
}

fn syslog(lab: &Lab) -> (PathBuf, Arc<Feed<String>>) {
    let path = lab.dir().join("syslog");
    let socket = UnixDatagram::bind(&path).unwrap();
    let feed = Arc::new(Feed::new(100));
    let theirs = Arc::clone(&feed);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length) = socket.recv(&mut bytes) {
            theirs.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
    });
    (path, feed)
}

#[test]
fn a_refusal_reaches_every_sink_once_and_the_next_tries_are_a_count() {
    let lab = Lab::new("alerts");
    let file = lab.dir().join("alerts.jsonl");
    let (hook, requests) = webhook(&lab);
    let (socket, lines) = syslog(&lab);
    let key = lab.dir().join("key");
    std::fs::write(&key, "k3y\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, mode).unwrap();
    let sections = [
        command("pager", &file, "repeat = \"4s\""),
        format!(
            "[[alert]]\nname = \"chat\"\nkind = \"webhook\"\nurl = \"http://{hook}/hook\"\nsecret-file = \"{}\"\n",
            key.display()
        ),
        format!(
            "[[alert]]\nname = \"log\"\nkind = \"syslog\"\nsocket = \"{}\"\non = [\"never-resolved\"]\n",
            socket.display()
        ),
        "[[alert]]\nname = \"gone\"\nkind = \"syslog\"\nsocket = \"/nonexistent/log\"\n".to_owned(),
    ];
    let desk = Desk::new(lab, &sections.concat());
    let dst = at(DEAD4, PORT);
    assert_refused(&desk.lab.ct, dst);
    eventually("the command has it", LATER, || of_kind(&file, "never-resolved").len() == 1);
    let alert = of_kind(&file, "never-resolved").remove(0);
    let address = DEAD4.to_string();
    for (key, wanted) in [
        ("version", Value::from(1)),
        ("severity", "warning".into()),
        ("source", CT4.to_string().into()),
        ("address", address.clone().into()),
        ("port", PORT.into()),
        ("proto", "tcp".into()),
        ("count", 1.into()),
        ("reason", "never-resolved".into()),
        ("grade", "never".into()),
        ("enforced", true.into()),
        ("advice", format!("synhold explain {address} --container {CT4}").into()),
    ] {
        assert_eq!(alert[key], wanted, "{key}: {alert}");
    }
    assert_eq!(alert["evidence"]["healthy"], true);
    assert!(alert["held_us"].as_u64() >= Some(200_000), "{alert}");
    let is = |(_, body): &(String, String)| body.contains("\"kind\":\"never-resolved\"");
    let (head, body) = requests.wait_for(is, LATER).expect("the webhook has it");
    let same: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&same["id"], &same["address"]), (&alert["id"], &alert["address"]));
    assert!(head.contains("x-synhold-signature: t="), "{head}");
    let line = lines.wait_for(|line| line.contains("kind=never-resolved"), LATER);
    let line = line.expect("syslog has it");
    assert!(line.starts_with("<36>") && line.contains(&format!("address={address}")), "{line}");

    // The kernel refuses it by itself now: nobody is told at once, and the count comes later.
    connect(&desk.lab.ct, dst, SOON).expect_err("refused a moment ago");
    eventually("the count", LATER, || of_kind(&file, "never-resolved").len() == 2);
    let again = of_kind(&file, "never-resolved").remove(1);
    assert_eq!(again["count"], 1, "{again}");
    assert_eq!(requests.all().iter().filter(|request| is(request)).count(), 1);
    assert_eq!(lines.all().len(), 1);

    // What fails is an event, an alert to the others, in the status and in the metrics.
    let failed = |e: &Value| e["event"] == "health" && e["what"] == "alert gone";
    assert_eq!(desk.daemon.expect_event("it fails", failed, LATER)["healthy"], false);
    eventually("the others are told", LATER, || of_kind(&file, "sink").len() == 1);
    let state = |name: &str| {
        let status = json(&desk.lab, &["status"]).1;
        let sinks = status["alerts"].as_array().unwrap().clone();
        sinks.into_iter().find(|sink| sink["name"] == name).unwrap()
    };
    assert_eq!((&state("pager")["ok"], &state("gone")["ok"]), (&true.into(), &false.into()));
    assert!(state("gone")["message"].as_str().unwrap().contains("No such file"));
    eventually("it is measured", LATER, || {
        let page = scrape(&desk.lab.gw);
        let of = |sink, outcome| {
            value(&page, "synhold_alerts_total", &[("sink", sink), ("outcome", outcome)])
        };
        of("log", "sent") == Some(1.0)
            && of("chat", "sent") >= Some(1.0)
            && value(&page, "synhold_alert_sink_ok", &[("sink", "gone")]) == Some(0.0)
    });
    assert!(desk.daemon.stop().status.success());
}

#[test]
fn lists_quarantine_and_drift_are_told() {
    let lab = Lab::new("alertkinds");
    let file = lab.dir().join("alerts.jsonl");
    let desk = Desk::new(lab, &command("pager", &file, ""));
    let lists = desk.lab.dir().join("state/lists");
    let lists_loaded = |text: (&str, &str)| {
        let mark = desk.daemon.feed().mark();
        std::fs::write(lists.join(text.0), text.1).unwrap();
        let is = |e: &Value| e["event"] == "reload" && e["what"] == "lists";
        desk.daemon.feed().wait_after(mark, is, LATER).expect("the lists are loaded");
    };
    let of = |kind: &str, part: &str| {
        let mut found = of_kind(&file, kind).into_iter();
        found.find(|alert| alert["message"].as_str().unwrap().contains(part))
    };
    let blocked = at([203, 0, 113, 20], PORT);
    lists_loaded(("block.txt", "203.0.113.20 # bad\n"));
    assert_refused(&desk.lab.ct, blocked);
    eventually("the hit", LATER, || of("blocklisted", "203.0.113.20").is_some());
    let hit = of("blocklisted", "203.0.113.20").unwrap();
    assert!(hit["message"].as_str().unwrap().contains("of list block"), "{hit}");

    lists_loaded(("quarantine.txt", &format!("{CT4}\n")));
    eventually("it is put in", LATER, || of("quarantined", "was put into quarantine").is_some());
    connect(&desk.lab.ct, at([203, 0, 113, 21], PORT), SOON).expect_err("in quarantine");
    eventually("and tries", LATER, || of("quarantined", "dialled 203.0.113.21").is_some());

    desk.lab.gw.nft("flush chain inet synhold forward\n");
    eventually("drift", LATER, || of("drift", "somebody changed the rules").is_some());
    assert_eq!(of("drift", "").unwrap()["severity"], "critical");
}

#[test]
fn a_sink_that_hangs_keeps_neither_verdicts_nor_the_end_waiting() {
    let lab = Lab::new("alerthang");
    let pid = lab.dir().join("pid");
    let hang = format!(
        "[[alert]]\nname = \"hang\"\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"echo $$ > {}; exec sleep 1000\"]\n",
        pid.display()
    );
    let desk = Desk::new(lab, &hang);
    assert_refused(&desk.lab.ct, at(DEAD4, PORT));
    eventually("it hangs", LATER, || {
        std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))
    });
    assert_refused(&desk.lab.ct, at([198, 18, 7, 7], PORT));
    let pid = std::fs::read_to_string(&pid).unwrap();
    let ended = desk.daemon.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    eventually("it was killed", SOON, || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
    assert!(ended.stderr.contains("alert sinks took too long at stop"), "{}", ended.stderr);
}

#[test]
fn a_test_says_of_every_sink_whether_it_takes_alerts() {
    let lab = Lab::new("alerttest");
    let file = lab.dir().join("alerts.jsonl");
    let bad = "[[alert]]\nname = \"gone\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n";
    let path = config(&lab, &(command("pager", &file, "on = [\"drift\"]") + bad));
    let run =
        |args: &[&str]| synhold(&lab, &[&["alert", "test", "--config", &path][..], args].concat());
    let (code, out, stderr) = run(&["--json"]);
    assert_eq!((code, stderr.as_str()), (1, ""));
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&said[0]["name"], &said[0]["ok"]), (&"pager".into(), &true.into()), "{said}");
    assert_eq!((&said[1]["name"], &said[1]["ok"]), (&"gone".into(), &false.into()));
    assert!(said[1]["error"].as_str().unwrap().contains("refused"), "{said}");
    let [alert] = &of_kind(&file, "test")[..] else { panic!("{:?}", told(&file)) };
    assert!(alert["message"].as_str().unwrap().contains("pager"), "{alert}");
    let (code, out, _) = run(&["--name", "pager"]);
    assert_eq!(code, 0);
    assert!(out.lines().nth(1).unwrap().ends_with("ok"), "{out}");
    let (code, _, stderr) = run(&["--name", "nobody"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("there are pager, gone"), "{stderr}");
    let empty = lab.dir().join("empty.toml").display().to_string();
    std::fs::write(&empty, "").unwrap();
    let (code, _, stderr) = synhold(&lab, &["alert", "test", "--config", &empty]);
    assert_eq!((code, stderr.lines().count()), (2, 1));
    assert!(stderr.contains("[[alert]]"), "{stderr}");
    std::fs::write(&empty, "[[alert]]\nkind = \"mail\"\n").unwrap();
    let (code, _, stderr) = synhold(&lab, &["alert", "test", "--config", &empty]);
    assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
}

#[test]
fn what_was_wrong_at_start_is_told_and_a_command_inherits_nothing() {
    let lab = Lab::new("alertstart");
    let (file, fds) = (lab.dir().join("alerts.jsonl"), lab.dir().join("fds"));
    let state = lab.dir().join("state");
    std::fs::create_dir_all(&state).unwrap();
    let odd = "{\"no address\": [\"web.example\"]}";
    std::fs::write(state.join("dns-registry.json"), odd).unwrap();
    // The shell's own descriptors, listed by a child: two commands, so that neither takes the shell's place.
    let script =
        format!("ls -l /proc/$$/fd > {0}.$$; mv {0}.$$ {0}.$SYNHOLD_ALERT_KIND", fds.display());
    let list = format!(
        "[[alert]]\nname = \"list\"\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n"
    );
    let desk = Desk::new(lab, &(command("pager", &file, "on = [\"disk\"]") + &list));
    let damaged = |e: &Value| e["event"] == "health" && e["what"] == "registry";
    let event = desk.daemon.expect_event("it is damaged", damaged, LATER);
    eventually("the command has it", LATER, || {
        of_kind(&file, "disk").iter().any(|alert| alert["message"] == event["message"])
    });
    // By now everything is open that a running daemon has.
    assert_refused(&desk.lab.ct, at(DEAD4, PORT));
    let fds = fds.with_extension("never-resolved");
    eventually("the other ran", LATER, || fds.exists());
    let fds = std::fs::read_to_string(&fds).unwrap();
    // Whoever started these tests may have left files and pipes open for everybody, but none of these.
    assert!(!fds.contains("socket:[") && !fds.contains("anon_inode"), "{fds}");
}

#[test]
fn hangup_reads_sinks_again_and_a_fault_changes_nothing() {
    let lab = Lab::new("alerthup");
    let (old, new) = (lab.dir().join("old.jsonl"), lab.dir().join("new.jsonl"));
    let desk = Desk::new(lab, &command("old", &old, ""));
    assert_refused(&desk.lab.ct, at(DEAD4, PORT));
    eventually("the old one is told", LATER, || of_kind(&old, "never-resolved").len() == 1);

    let url = "kind = \"webhook\"\nurl = \"http://chat.example/T0K3N\"\n";
    config(&desk.lab, &(command("new", &new, "") + "[[alert]]\n" + url));
    let is = |healthy: bool| move |e: &Value| e["what"] == "config" && e["healthy"] == healthy;
    desk.daemon.send_signal(Signal::SIGHUP);
    let wrong = desk.daemon.expect_event("the fault", is(false), LATER);
    let message = wrong["message"].as_str().unwrap();
    assert!(message.contains("insecure = true") && !message.contains('\n'), "{message}");
    let names = || -> Vec<String> {
        let sinks = json(&desk.lab, &["status"]).1["alerts"].as_array().unwrap().clone();
        sinks.iter().map(|sink| sink["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(), ["old"]);

    let secret = desk.lab.dir().join("url");
    std::fs::write(&secret, "http://127.0.0.1:9/T0K3N?T0K3N\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&secret, mode).unwrap();
    let chat = format!(
        "[[alert]]\nname = \"chat\"\nkind = \"webhook\"\nurl-file = \"{}\"\n",
        secret.display()
    );
    config(&desk.lab, &(command("new", &new, "") + &chat + &command("old", &old, "")));
    desk.daemon.send_signal(Signal::SIGHUP);
    desk.daemon.expect_event("it is right again", is(true), LATER);
    let read = |e: &Value| e["event"] == "reload" && e["what"] == "alerts";
    desk.daemon.expect_event("the sinks are read", read, LATER);
    assert_eq!(names(), ["new", "chat", "old"]);
    assert_refused(&desk.lab.ct, at(DEAD4, PORT));
    assert_refused(&desk.lab.ct, at([198, 18, 7, 7], PORT));
    eventually("both are told", LATER, || {
        of_kind(&new, "never-resolved").iter().any(|alert| alert["address"] == "198.18.7.7")
            && of_kind(&old, "never-resolved").len() == 2
    });
    let failed = |e: &Value| e["event"] == "health" && e["what"] == "alert chat";
    desk.daemon.expect_event("nobody listens there", failed, LATER);
    let metrics = format!("{:?}", scrape(&desk.lab.gw));
    let shown = synhold(&desk.lab, &["status", "--json"]).1 + &metrics;
    let told: String = desk.daemon.events().iter().map(ToString::to_string).collect();
    let ended = desk.daemon.stop();
    assert!(ended.status.success() && !ended.stderr.contains("T0K3N"), "{}", ended.stderr);
    assert!(!shown.contains("T0K3N") && !told.contains("T0K3N"), "{shown}");
}
