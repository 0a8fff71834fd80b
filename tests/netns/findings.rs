//! What was refused, looked at afterwards: OpenSnitch's view, reviews, reports and their page, with the real things.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use super::lab::wire::{Proto, Seen, Wire};
use super::lab::{CT4, Lab, at};

use super::stand::{
    BIN, LATER, PORT, SOON, Stand, assert_passes, assert_refused, is_verdict_on, synhold,
};

const UNKNOWN: [u8; 4] = [203, 0, 113, 77];
const OTHER: [u8; 4] = [203, 0, 113, 78];

/// A command on the lab's state directory: exit code and standard output.
fn command(lab: &Lab, args: &[&str]) -> (i32, String) {
    let state = lab.dir().join("state").display().to_string();
    // The machine's own configuration plays no part.
    let config = lab.dir().join("empty.toml");
    std::fs::write(&config, "").unwrap();
    let place = ["--state-dir", &state, "--config", config.to_str().unwrap()];
    // No resolver answers here, and nothing is proved by how long that takes.
    let mut command = lab.gw.command(BIN);
    let output = command.env("RES_OPTIONS", "timeout:1 attempts:1").args([args, &place].concat());
    let output = output.output().expect("synhold runs");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A database as OpenSnitch's window makes it, with denied reverse look-ups of these names.
fn opensnitch(path: &Path, hosts: &[&str]) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(
            "create table connections (time text, node text, action text, protocol text, src_ip text, src_port text, \
             dst_ip text, dst_host text, dst_port text, uid text, pid text, process text, process_args text, \
             process_cwd text, rule text)",
        )
        .unwrap();
    for host in hosts {
        let row = "insert into connections values (strftime('%Y-%m-%d %H:%M:%f', 'now', 'localtime'), '', 'deny', 'udp', \
            '', '', '1.1.1.1', ?1, '53', '', '', '/usr/bin/dockerd', '', '', '0-deny-arpa-53')";
        connection.execute(row, [host]).unwrap();
    }
}

fn is_finding(event: &Value, address: [u8; 4]) -> bool {
    event["event"] == "alert"
        && event["alert"] == "finding"
        && event["address"] == IpAddr::from(address).to_string().as_str()
}

#[test]
fn a_finding_is_told_once_with_what_opensnitch_makes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("opensnitch.sqlite3");
    opensnitch(&path, &["77.113.0.203.in-addr.arpa"]);
    let db = path.display().to_string();
    let stand = Stand::new("second", &["--hold-ms", "50", "--opensnitch-db", &db]);
    for (address, view) in [(UNKNOWN, "confirmed"), (OTHER, "needs-review")] {
        assert_refused(&stand.lab.ct, at(address, PORT));
        let is = |e: &Value| is_finding(e, address);
        let alert = stand.daemon.expect_event("finding", is, LATER);
        assert_eq!((&alert["opensnitch"], &alert["count"]), (&view.into(), &1.into()), "{alert}");
        assert_eq!(alert["client"], CT4.to_string(), "{alert}");
    }
    // The same again is the same finding, and a database that is no more stops nobody.
    std::fs::write(&path, "this was a database, and is none any more").unwrap();
    stand.lab.gw.nft("flush set inet synhold denied4\n");
    assert_refused(&stand.lab.ct, at(UNKNOWN, PORT + 1));
    stand.verdict(at(UNKNOWN, PORT + 1));
    assert_refused(&stand.lab.ct2, at(OTHER, PORT));
    let is = |e: &Value| is_finding(e, OTHER) && e["client"] != CT4.to_string().as_str();
    stand.daemon.expect_event("the neighbour's", is, LATER);
    let told = stand.daemon.events().iter().filter(|e| is_finding(e, UNKNOWN)).count();
    assert_eq!(told, 1, "{}", stand.daemon.story());
    assert!(stand.daemon.stop().status.success());
}

/// Everything a review or report is told of where things are.
fn with<'a>(args: &[&'a str], events: &'a str) -> Vec<&'a str> {
    let db = ["--opensnitch-db", "/nonexistent/opensnitch.sqlite3"];
    [args, &["--events", events], &db].concat()
}

#[test]
fn a_review_allows_what_was_a_mistake_beside_a_running_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl").display().to_string();
    let args = ["--hold-ms", "50", "--auto-block", "container", "--events", &events];
    let mut stand = Stand::new("review", &args);
    for address in [UNKNOWN, OTHER] {
        let mark = stand.daemon.feed().mark();
        assert_refused(&stand.lab.ct, at(address, PORT));
        stand.reloaded_since(mark);
    }
    stand.resolve(CT4.into(), "late.example", UNKNOWN.into());
    let state = stand.lab.dir().join("state").display().to_string();
    // With the configuration that the daemon has: none.
    let review = |args: &[&str]| {
        let place = ["--state-dir", &state];
        let args = [&["review"], &with(args, &events)[..], &place].concat();
        let (code, out, _) = synhold(&stand.lab, &args);
        (code, out)
    };

    let (code, out) = review(&["--json"]);
    assert_eq!(code, 1, "{out}");
    let found: Value = serde_json::from_str(&out).unwrap();
    let told: Vec<_> = found["items"].as_array().unwrap().iter().collect();
    assert_eq!(told.len(), 2, "{out}");
    for (item, address, proposal) in [(told[0], UNKNOWN, "accept"), (told[1], OTHER, "keep")] {
        assert_eq!(item["dst"], IpAddr::from(address).to_string(), "{item}");
        assert_eq!(
            (&item["proposal"], &item["refused"], &item["auto"]),
            (&proposal.into(), &1.into(), &true.into()),
            "{item}"
        );
        assert_eq!((&item["dport"], &item["proto"]), (&PORT.into(), &"tcp".into()), "{item}");
    }
    assert_eq!(told[0]["known"][0]["name"], "late.example", "{out}");
    assert!(!stand.lists().join("allow.txt").exists(), "asking changes nothing");

    // Auto.txt keeps it refused although it is resolved by now; the review lets it through, and nothing else.
    assert_refused(&stand.lab.ct, at(UNKNOWN, PORT));
    // Another configuration does not know the daemon's feeds.
    let other = &[&["review"], &with(&["--yes"], &events)[..]].concat();
    let (code, out) = command(&stand.lab, other);
    let has_note = out.contains("Note: the configuration that was read is ");
    assert!(code == 1 && has_note && !stand.lists().join("allow.txt").exists(), "{code} {out}");
    let (code, out) = review(&["--yes"]);
    assert_eq!(code, 1, "the other is left: {out}");
    let allow = std::fs::read_to_string(stand.lists().join("allow.txt")).unwrap();
    let line = allow.lines().last().unwrap();
    assert!(line.starts_with("203.0.113.77 # review 20"), "{allow}");
    assert!(
        line.ends_with(": 172.31.7.2 -> 203.0.113.77:443, resolved later as late.example"),
        "{allow}"
    );
    let auto = std::fs::read_to_string(stand.lists().join("auto.txt")).unwrap();
    assert!(!auto.contains("203.0.113.77") && auto.contains("203.0.113.78"), "{auto}");
    assert_passes(&stand.lab.ct, at(UNKNOWN, PORT));
    assert_refused(&stand.lab.ct, at(OTHER, PORT));

    let (code, out) = review(&["--accept", "203.0.113.99"]);
    assert_eq!(code, 2, "{out}");
    let (code, out) = review(&["--accept", "203.0.113.78"]);
    assert_eq!(code, 0, "{out}");
    assert_passes(&stand.lab.ct, at(OTHER, PORT));
    let (code, out) = review(&[]);
    let nothing = "Nothing to review; 2 allowed since";
    assert!(code == 0 && out.contains(nothing), "{code} {out}");
    // The running daemon knows its event file, wherever it was named.
    let (code, out, _) = synhold(&stand.lab, &["review", "--state-dir", &state]);
    assert!(code == 0 && out.contains(nothing) && !out.contains("--events"), "{code} {out}");
    stand.daemon.stop();
}

#[test]
fn a_dry_run_says_what_enforcing_would_break() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl").display().to_string();
    let stand = Stand::new("breaks", &["--hold-ms", "50", "--dry-run", "--events", &events]);
    for (ns, address) in [(&stand.lab.ct, UNKNOWN), (&stand.lab.ct, OTHER), (&stand.lab.ct2, OTHER)]
    {
        assert_passes(ns, at(address, PORT));
    }
    let refused = |e: &Value| is_verdict_on(e, at(OTHER, PORT)) && e["src"] == "172.31.8.2";
    stand.daemon.expect_event("the last verdict", refused, SOON);
    stand.daemon.expect_event("the other", |e| is_verdict_on(e, at(UNKNOWN, PORT)), SOON);
    let wanted = "If you enforce now, 2 containers break: 172.31.7.2 (2 destinations), 172.31.8.2 (1 destination).";
    let mut out = String::new();
    super::lab::eventually("the event file has it", SOON, || {
        out = command(&stand.lab, &[&["review"], &with(&[], &events)[..]].concat()).1;
        out.contains(wanted)
    });
    assert!(out.contains("keep: no name to this day"), "{out}");
    stand.daemon.stop();
}

/// Answers like RDAP and AbuseIPDB, on loopback of a namespace; what it is asked comes out.
fn published(lab: &Lab) -> (u16, Receiver<String>) {
    let (listener, port) = lab.gw.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    });
    let (asked, questions) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|got| got > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let (status, body) = match head.split(' ').nth(1).unwrap_or_default() {
                "/ip/203.0.113.77" => {
                    ("200 OK", r#"{"name":"=EVIL()","country":"NL","entities":[]}"#)
                }
                path if path.starts_with("/api/v2/check?ipAddress=203.0.113.77") => (
                    "200 OK",
                    r#"{"data":{"abuseConfidenceScore":97,"totalReports":12,"isTor":true}}"#,
                ),
                _ => ("503 Service Unavailable", "{}"),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes());
            if asked.send(head).is_err() {
                return;
            }
        }
    });
    (port, questions)
}

/// A state directory with blocked addresses, and nobody running on it.
fn blocked(lab: &Lab) {
    let lists = lab.dir().join("state/lists");
    std::fs::create_dir_all(&lists).unwrap();
    std::fs::write(
        lists.join("block.txt"),
        "203.0.113.77 # mine\n203.0.113.78\n10.0.0.9\n203.0.113.0/30\n",
    )
    .unwrap();
}

fn csv(out: &str) -> Vec<Vec<String>> {
    let rows = out.lines().skip(1);
    rows.map(|row| row.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn a_report_asks_nobody_unless_told_to() {
    let lab = Lab::new("quiet");
    blocked(&lab);
    let wires = [Wire::watch(&lab.gw, "lo"), Wire::watch(&lab.gw, "srv")];
    let (code, out) = command(&lab, &["report", "--csv", "-"]);
    assert_eq!(code, 0, "{out}");
    let rows = csv(&out);
    assert_eq!(
        rows.iter().map(|row| &*row[0]).collect::<Vec<_>>(),
        ["10.0.0.9", "203.0.113.77", "203.0.113.78"]
    );
    assert_eq!(
        (&*rows[0][3], &*rows[1][2], &*rows[1][12]),
        ("Private/Reserved IP", "203.0.0.0/16", "mine")
    );
    // The kernel speaks for itself at any time: multicast reports, neighbour discovery.
    let asks = |seen: &Seen| matches!(seen.proto, Proto::Tcp | Proto::Udp);
    for wire in &wires {
        assert_eq!(wire.count(asks), 0, "a packet left");
    }
    // The same with look-ups is seen, so that silence above means something.
    let nobody = "http://127.0.0.1:9";
    command(&lab, &["report", "--csv", "-", "--lookups", "--rdap-url", nobody]);
    assert!(wires[0].wait_for(asks, SOON).is_some(), "look-ups were not seen");
}

#[test]
fn what_others_publish_is_asked_once_and_a_failure_is_text() {
    let lab = Lab::new("published");
    blocked(&lab);
    let (port, questions) = published(&lab);
    let base = format!("http://127.0.0.1:{port}");
    let key = lab.dir().join("key");
    std::fs::write(&key, "secret-key\n").unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let args = [
        "report",
        "--csv",
        "-",
        "--lookups",
        "--rdap-url",
        &base,
        "--abuseipdb-url",
        &base,
        "--abuseipdb-key-file",
    ];
    let report = || {
        let (code, out) = command(&lab, &[&args[..], &[key.to_str().unwrap()]].concat());
        assert_eq!(code, 0, "{out}");
        csv(&out)
    };
    let rows = report();
    let row = &rows[1];
    assert_eq!((&*row[0], &*row[3], &*row[4]), ("203.0.113.77", "'=EVIL()", "NL"), "no formula");
    assert_eq!((&*row[5], &*row[6], &*row[8]), ("97", "12", "true"));
    assert_eq!(
        (&*rows[2][3], &*rows[2][5]),
        ("(the server answered 503)", "(the server answered 503)")
    );
    let asked: Vec<String> = questions.try_iter().collect();
    assert_eq!(asked.len(), 4, "two of two addresses, none of the private one: {asked:?}");
    let keys = asked.iter().filter(|head| head.to_lowercase().contains("key: secret-key"));
    assert!(
        keys.clone().count() == 2 && keys.clone().all(|head| head.contains("maxAgeInDays=90")),
        "{asked:?}"
    );
    // The second time only what failed is asked again, and what is unblocked is forgotten.
    let lists = lab.dir().join("state/lists/block.txt");
    std::fs::write(lists, "203.0.113.77 # mine\n203.0.113.79\n").unwrap();
    let rows = report();
    assert_eq!((rows.len(), &*rows[0][5]), (2, "97"));
    let asked: Vec<String> = questions.try_iter().collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked.iter().all(|head| head.contains("203.0.113.79")), "{asked:?}");
}

/// Where a page would fetch from if what strangers write became markup.
const FETCHED: [u8; 4] = [203, 0, 113, 200];

#[test]
fn the_page_is_whole_in_a_real_browser_and_fetches_nothing() {
    let lab = Lab::new("page");
    let events = lab.dir().join("events.jsonl");
    let image = "<img src=http://203.0.113.200/x>";
    let text: String = [(1, "web"), (2, "web"), (3, image)]
        .map(|(n, container)| {
            let evidence = serde_json::json!({ "healthy": true, "records": 1, "lag_us": 80, "lines": 9,
                "skipped": 0, "lost": 0, "last_line_ms": 3 });
            let verdict = serde_json::json!({ "ts": format!("2026-11-0{n}T03:04:05Z"), "event": "verdict",
                "mode": "enforce", "verdict": "drop", "enforced": true, "reason": "never-resolved", "grade": "never",
                "held_us": 750_113, "container": container, "container_id": "x", "proto": "tcp", "src": "172.25.0.2",
                "sport": 40112, "dst": format!("203.0.113.{n}"), "dport": 443, "names": [], "evidence": evidence,
                "queue": 0 });
            format!("{verdict}\n")
        })
        .concat();
    std::fs::write(&events, text).unwrap();
    std::fs::create_dir_all(lab.dir().join("state")).unwrap();
    let page = lab.dir().join("page.html");
    let args = ["report", "--html", page.to_str().unwrap()];
    let (code, out) = command(&lab, &with(&args, events.to_str().unwrap()));
    assert_eq!((code, out.trim()), (0, &*format!("3 findings are in {}", page.display())));

    let far = Wire::watch(&lab.srv, "eth0");
    let is_fetch = |seen: &Seen| seen.is_syn_to(at(FETCHED, 80));
    let dom = browse(&lab, &page);
    assert_eq!(dom.matches("<svg").count(), 3, "{dom}");
    assert_eq!(dom.matches("data-head=\"Destination\"").count(), 3, "{dom}");
    assert_eq!(dom.matches("<rect class=\"c-never\"").count(), 3, "a bar a day: {dom}");
    assert!(dom.contains("<title>synhold report") && dom.contains("&lt;img src="), "{dom}");
    for tag in ["<img", "<script", "<link", "<iframe", "<object"] {
        assert!(!dom.contains(tag), "{tag}: {dom}");
    }
    assert_eq!(far.count(is_fetch), 0, "it fetched something");
    // Had the name become markup, it would have been seen.
    std::fs::write(&page, image).unwrap();
    browse(&lab, &page);
    assert!(far.wait_for(is_fetch, SOON).is_some(), "this test proves nothing");
}

/// Opens a page in the gateway's network; what became of it.
fn browse(lab: &Lab, page: &Path) -> String {
    let profile = tempfile::tempdir_in(lab.dir()).unwrap();
    let mut chromium = lab.gw.command("timeout");
    chromium.args([
        "60",
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
    ]);
    chromium.args([
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ]);
    chromium.args(["--disable-sync", "--dump-dom"]);
    chromium.arg(format!("--user-data-dir={}", profile.path().display()));
    chromium.arg(format!("file://{}", page.display()));
    let output = chromium.output().expect("timeout is there");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(dom.contains("</html>"), "is chromium there? (scripts/setup.sh tests) {output:?}");
    dom
}
