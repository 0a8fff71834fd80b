//! `synhold sets`, `block` and `allow` beside a running daemon: what they say is what the kernel and the wire do.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::lab::net::{connect, connect_from};
use super::lab::{CT4, DEAD4, Lab, SRV4, at, eventually};
use super::stand::{Cast, DnsLog, SOON, STARTED, Stand, casts, start, synhold};

/// A command on the state directory that the stand's daemon uses: exit code and what it said.
pub fn command(lab: &Lab, args: &[&str]) -> (i32, String) {
    let state = lab.dir().join("state").display().to_string();
    // The machine's own configuration plays no part.
    let config = lab.dir().join("empty.toml");
    std::fs::write(&config, "").unwrap();
    let place = ["--state-dir", &state, "--config", config.to_str().unwrap()];
    let (code, out, err) = synhold(lab, &[args, &place].concat());
    assert_eq!(err, "", "{args:?}");
    (code, out)
}

#[track_caller]
pub fn fine(lab: &Lab, args: &[&str]) -> String {
    let (code, out) = command(lab, args);
    assert_eq!(code, 0, "{args:?}: {out}");
    out
}

pub fn json(lab: &Lab, args: &[&str]) -> (i32, Value) {
    let (code, out) = command(lab, &[args, &["--json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}")))
}

/// The line of one set.
fn line<'a>(overview: &'a Value, set: &str) -> &'a Value {
    let sets = overview["sets"].as_array().unwrap();
    sets.iter().find(|line| line["name"] == set).unwrap_or_else(|| panic!("no {set}: {overview}"))
}

fn ask(lab: &Lab, address: IpAddr, from: IpAddr) -> (i32, Value) {
    json(lab, &["sets", "test", &address.to_string(), "--from", &from.to_string()])
}

#[track_caller]
fn passes(lab: &Lab, dst: SocketAddr) {
    connect(&lab.ct, dst, SOON).expect("it passes");
}

#[track_caller]
fn refused(lab: &Lab, dst: SocketAddr) {
    connect(&lab.ct, dst, SOON).expect_err("it is refused");
}

#[test]
fn an_edit_holds_on_the_wire_when_the_command_returns_and_open_flows_end() {
    let mut stand = Stand::new("edits", &[]);
    for Cast { container, server, .. } in casts() {
        stand.resolve(container, "shop.example", server.ip());
        let lab = &stand.lab;
        let (name, from) = (server.ip().to_string(), container.to_string());
        passes(lab, server);
        let (open, _) = connect_from(&lab.ct, at(container, 0), server, SOON).expect("open");
        let said = fine(lab, &["block", &name, "--note", "calls home"]);
        // The connection before may not have been forgotten yet.
        assert!(said.contains("open flow"), "{said}");
        assert!(!said.contains("no open flow"), "{said}");
        refused(lab, server);
        let said = fine(lab, &["allow", &name]);
        assert!(said.contains(&format!("although list block has {name} (calls home)")), "{said}");
        passes(lab, server);
        fine(lab, &["unallow", &name]);
        refused(lab, server);
        let said = fine(lab, &["unblock", &name]);
        assert!(said.ends_with("in force now; no open flow had to be ended\n"), "{said}");
        passes(lab, server);
        fine(lab, &["block", "--container", &from, "--for", "1h"]);
        refused(lab, server);
        let (code, tested) = ask(lab, server.ip(), container);
        assert_eq!((code, &tested["verdict"]), (1, &"refused".into()), "{tested}");
        fine(lab, &["unblock", "--container", &from]);
        passes(lab, server);
        drop(open);
    }
    let said = fine(&stand.lab, &["block", "10.9.9.9", "203.0.113.199"]);
    assert_eq!(said.matches("but it passes: it is local (set local4)").count(), 1, "{said}");
    let (code, out) = command(&stand.lab, &["unblock", "203.0.113.200"]);
    assert_eq!((code, out.lines().count()), (1, 1), "nothing to wait for: {out}");
}

#[test]
fn the_sets_show_what_they_hold_and_what_it_did() {
    let stand = Stand::new("shown", &[]);
    let lab = &stand.lab;
    let dead = DEAD4.to_string();
    fine(lab, &["block", "198.51.100.0/24", "2001:db8:bad::/48", "--note", "SBL123"]);
    fine(lab, &["block", &dead, "--for", "1h", "--note", "miner"]);
    fine(lab, &["allow", "192.0.2.0/25"]);
    refused(lab, at(DEAD4, 443));

    let (code, overview) = json(lab, &["sets"]);
    assert_eq!((code, &overview["rules"]), (0, &"enforcing".into()), "{overview}");
    assert_eq!(overview["daemon"], stand.daemon.pid());
    // What has a time is kept with the ranges.
    for (set, elements) in [("block4", 2), ("block6", 1), ("allow4", 1), ("blockhosts4", 0)] {
        let line = line(&overview, set);
        let counts = (&line["wanted"], &line["kernel"], &line["drift"]);
        assert_eq!(counts, (&elements.into(), &elements.into(), &false.into()), "{line}");
        assert!(line["loaded"].is_string() && line["took_ms"].is_u64(), "{line}");
    }
    assert_eq!(
        (&line(&overview, "block4")["hits"], &line(&overview, "block6")["hits"]),
        (&1.into(), &0.into())
    );
    assert_eq!(line(&overview, "hits4")["kernel"], 1);
    let block = overview["lists"].as_array().unwrap().iter().find(|list| list["name"] == "block");
    assert_eq!(block.unwrap()["entries"], 3);

    let (code, shown) = json(lab, &["sets", "show", "block"]);
    assert_eq!(code, 0);
    let elements = shown["sets"][0]["elements"].as_array().unwrap();
    let texts: Vec<&str> = elements.iter().map(|e| e["element"].as_str().unwrap()).collect();
    assert_eq!(texts, [dead.as_str(), "198.51.100.0/24"]);
    assert_eq!(elements[1]["entries"][0]["note"], "SBL123");
    assert_eq!(elements[1]["expires_ms"], Value::Null);
    // Its end is at a whole second.
    assert!((1..=3_601_000).contains(&elements[0]["expires_ms"].as_u64().unwrap()));
    assert_eq!(shown["sets"][1]["elements"][0]["element"], "2001:db8:bad::/48");

    let (_, hits) = json(lab, &["sets", "show", "hits4"]);
    let hit = &hits["sets"][0]["elements"][0];
    assert_eq!((&hit["element"], &hit["hits"]), (&format!("{CT4} . {DEAD4}").into(), &1.into()));
    assert_eq!(hit["entries"][0]["note"], "miner", "{hit}");

    let (_, none) = json(lab, &["sets", "show", "block4", "--match", "198.51.101.0/24"]);
    assert_eq!(none["sets"][0]["elements"], Value::Array(Vec::new()));
    let (_, one) = json(lab, &["sets", "show", "block4", "--match", "198.51.100.77"]);
    assert_eq!(one["sets"][0]["elements"][0]["element"], "198.51.100.0/24");
    let (_, cut) = json(lab, &["sets", "show", "local4", "--limit", "2"]);
    assert_eq!(cut["sets"][0]["elements"].as_array().unwrap().len(), 2);
    assert_eq!(cut["sets"][0]["more"], true);
}

/// A feed that is only in the daemon's own file is known to everybody who asks, whatever file they name.
#[test]
fn commands_are_answered_by_the_configuration_of_the_daemon() {
    let lab = Lab::new("whosefile");
    let path = |name: &str| lab.dir().join(name).display().to_string();
    let (own, other, state) = (path("own.toml"), path("other.toml"), path("state"));
    let listener = lab.gw.run(|| std::net::TcpListener::bind("127.0.0.1:8080")).unwrap();
    std::thread::spawn(move || {
        let answer =
            b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n198.51.100.7\n";
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    let feed = "[[feed]]\nname = \"drop\"\nkind = \"block\"\nurl = \"http://127.0.0.1:8080/\"\ninsecure = true\n";
    std::fs::write(&own, feed).unwrap();
    std::fs::write(&other, "").unwrap();
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let daemon = start(&lab, &log.path, &["--config", &own]);
    daemon.ready();
    let ask = |args: &[&str], more: &[&str]| {
        let (_, out, err) = synhold(&lab, &[args, &["--state-dir", &state], more].concat());
        assert_eq!(err, "", "{args:?}");
        out
    };
    let test = ["sets", "test", "198.51.100.7"];
    eventually("the feed is loaded", SOON * 4, || {
        ask(&test, &[]).contains("refused: set blockhosts4 has 198.51.100.7, from list drop")
    });
    assert!(ask(&["explain", "198.51.100.7"], &[]).contains("from list drop"));
    let said = ask(&["sets"], &[]);
    assert!(said.contains("drop") && !said.contains("the configuration that was read"), "{said}");
    for args in [&test[..], &["sets"], &["sets", "show", "blockhosts4"]] {
        let said = ask(args, &["--config", &other]);
        assert!(said.contains("drop") && !said.contains("within a minute"), "{args:?}: {said}");
    }
    // Who asks when it is gone reads the file that is named.
    assert!(daemon.stop().status.success());
    assert!(!ask(&["sets"], &["--config", &other]).contains("drop"));
}

#[test]
fn a_question_is_answered_by_the_set_that_decides() {
    let mut stand = Stand::new("asked", &["--keep-rules"]);
    let auto = stand.lab.dir().join("state/lists/auto.txt");
    std::fs::write(auto, format!("203.0.113.97 from={CT4} # tcp/443\n")).unwrap();
    fine(&stand.lab, &["block", "198.51.100.0/24", "--note", "SBL123"]);
    fine(&stand.lab, &["block", "evil.example", "203.0.113.99"]);
    fine(&stand.lab, &["allow", "198.51.100.9"]);
    stand.resolve(CT4.into(), "www.evil.example", SRV4.into());
    let Stand { daemon, lab, .. } = stand;
    let check = |address: &str, says: &str| {
        let (code, tested) = ask(&lab, address.parse().unwrap(), CT4.into());
        let because = tested["because"].as_str().unwrap().to_owned();
        assert!(because.contains(says), "{address}: {because}");
        assert_eq!(code, i32::from(tested["verdict"] == "refused"), "{tested}");
        let steps = tested["steps"].as_array().unwrap();
        let decider = steps.iter().find(|step| step["decides"] == true);
        decider.map_or(String::new(), |step| step["set"].as_str().unwrap().to_owned())
    };
    assert_eq!(
        check("198.51.100.7", "set block4 has 198.51.100.0/24, from list block: SBL123"),
        "block4"
    );
    assert_eq!(
        check("198.51.100.9", "accepted: set allow4 has 198.51.100.9, from list allow"),
        "allow4"
    );
    assert_eq!(
        check("203.0.113.99", "refused: set blockhosts4 has 203.0.113.99, from list"),
        "blockhosts4"
    );
    assert_eq!(check("10.1.2.3", "not judged: set local4 has 10.0.0.0/8"), "local4");
    let says = "203.0.113.97, from list auto: tcp/443";
    assert_eq!(check("203.0.113.97", says), "denied4");
    let (_, overview) = json(&lab, &["sets"]);
    let denied = line(&overview, "denied4");
    assert_eq!((&denied["wanted"], &denied["drift"]), (&1.into(), &false.into()), "{denied}");
    let (_, shown) = json(&lab, &["sets", "show", "denied4"]);
    let element = &shown["sets"][0]["elements"][0];
    assert_eq!(
        (&element["expires_ms"], &element["entries"][0]["list"]),
        (&Value::Null, &"auto".into())
    );
    assert_eq!(check("203.0.113.98", "no set decides"), "");
    let (_, tested) = json(&lab, &["sets", "test", "198.51.100.7", "--from", "203.0.113.98"]);
    assert!(tested["because"].as_str().unwrap().contains("in no container network"), "{tested}");

    // The rules stay; the registry is on disk, and nobody mends what is changed.
    assert!(daemon.stop().status.success());
    let server = SRV4.to_string();
    check("203.0.113.98", "no synhold serves the queue, and the rules are those that fail closed");
    let (code, said) = command(&lab, &["status"]);
    assert!(
        code == 1 && said.contains("new container flows are DROPPED until it starts"),
        "{said}"
    );
    assert_eq!(check(&server, "is evil.example or under it, from list block, line"), "");
    assert_eq!(json(&lab, &["sets"]).0, 0, "nothing differs");
    lab.gw.nft("delete element inet synhold blockhosts4 { 203.0.113.99 }\n");
    lab.gw.nft("add element inet synhold block4 { 192.0.2.0/24 }\n");
    assert_eq!(check("203.0.113.99", "no set decides"), "");
    assert_eq!(
        check("192.0.2.7", "set block4 has 192.0.2.0/24, which none of the lists read here has"),
        "block4"
    );
    let (_, tested) = ask(&lab, "203.0.113.99".parse().unwrap(), CT4.into());
    let note = tested["notes"][0].as_str().unwrap();
    assert!(note.contains("but nothing in block4 or blockhosts4 does"), "{note}");
    let (code, overview) = json(&lab, &["sets"]);
    assert_eq!((code, &overview["drift"]), (1, &true.into()), "{overview}");
    assert_eq!(line(&overview, "blockhosts4")["missing"], 1);
    assert_eq!(
        (&line(&overview, "block4")["missing"], &line(&overview, "block4")["extra"]),
        (&0.into(), &1.into())
    );
    let (_, said) = command(&lab, &["sets"]);
    assert!(said.ends_with("`synhold run` loads them\n"), "{said}");
    lab.gw.nft("delete table inet synhold\n");
    let (code, said) = command(&lab, &["sets"]);
    assert!(code == 1 && said.ends_with("`synhold run` puts them in\n"), "{said}");
    assert_eq!(check(&server, "there are no rules of ours in the kernel"), "");
    assert_eq!(json(&lab, &["sets", "show", "block4"]).0, 1);
}
