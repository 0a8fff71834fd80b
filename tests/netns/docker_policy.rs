//! What holds for one container: labels and `[[container]]` sections on a real engine, from the first packet on.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::docker_stand::{HOLD, OWN_NET, Port, config};
use super::lab::engine::run::Run;
use super::lab::{DEAD4, at};
use super::stand::{LATER, PORT, SOON, is_verdict_on};

const TRUST: [&str; 3] = ["--hold-ms", "200", "--trust-labels"];

fn server(n: u8) -> IpAddr {
    [203, 0, 113, n].into()
}

/// Where a container on the default bridge is.
fn home(port: &Port, container: &str) -> IpAddr {
    port.engine.place(container, "bridge").v4.into()
}

#[test]
fn labels_loosen_where_they_are_trusted() {
    let port = Port::new("dtrust", &TRUST);
    let allow = "203.0.113.128/25,web.example";
    for (name, key, value) in [
        ("strict", "synhold.mode", "enforce"),
        ("dry", "synhold.mode", "dry-run"),
        ("off", "synhold.mode", "off"),
        ("allowed", "synhold.allow", allow),
    ] {
        let up = port.run(name, &Run::new(name).label(key, value));
        assert_eq!(up["faults"], Value::Null, "{up}");
    }
    let dst = |n| at(server(n), PORT);
    port.dial("strict", home(&port, "strict"), dst(10)).expect_err("nobody resolved it");
    assert_eq!(port.passed(dst(10)), 0);

    let took = port.dial("dry", home(&port, "dry"), dst(11)).expect("only noted");
    assert!(took < Duration::from_millis(150), "and not held: {took:?}");
    let event = port.verdict(home(&port, "dry"), dst(11));
    assert_eq!((&event["verdict"], &event["enforced"]), (&"drop".into(), &false.into()), "{event}");
    assert_eq!(event["mode"], "dry-run", "{event}");

    port.dial("off", home(&port, "off"), dst(12)).expect("not judged");
    port.dial("allowed", home(&port, "allowed"), dst(200)).expect("allowed to it");
    port.dial("allowed", home(&port, "allowed"), dst(13)).expect_err("not allowed to it");
    port.dial("strict", home(&port, "strict"), dst(200)).expect_err("allowed to another one");
}

#[test]
fn labels_hold_from_the_first_packet() {
    let port = Port::new("dfirstlabel", &TRUST);
    for (n, value) in [(20, "off"), (21, "dry-run"), (22, "enforce")] {
        let name = format!("eager{n}");
        let line = format!("echo | nc -w 3 {} {PORT}", server(n));
        port.engine.run(&Run::new(&name).shell(&line).label("synhold.mode", value));
        port.engine.wait(&name);
        let passed = port.passed(at(server(n), PORT));
        assert_eq!(passed > 0, value != "enforce", "{value}: {passed}\n{}", port.daemon.story());
    }
}

#[test]
fn labels_that_are_not_trusted_loosen_nothing_but_may_tighten() {
    let mut port = Port::new("duntrust", &HOLD);
    for (name, key, value) in [
        ("off", "synhold.mode", "off"),
        ("dry", "synhold.mode", "dry-run"),
        ("allowed", "synhold.allow", "203.0.113.0/24"),
        ("wrong", "synhold.mode", "of"),
    ] {
        let up = port.run(name, &Run::new(name).label(key, value));
        assert!(up["faults"].to_string().contains(key), "{up}");
        assert_eq!(up["mode"], "enforce", "{up}");
        let dst = at(server(30), PORT);
        port.dial(name, home(&port, name), dst).expect_err("as for everyone");
    }
    assert_eq!(port.passed(at(server(30), PORT)), 0);
    // Its own look-ups alone count for it, though the host takes everyone's.
    let up = port.run("own", &Run::new("own").label("synhold.scope", "container"));
    assert_eq!((&up["scope"], &up["faults"]), (&"container".into(), &Value::Null), "{up}");
    port.resolve(home(&port, "off"), "theirs.example", server(31));
    port.dial("dry", home(&port, "dry"), at(server(31), PORT)).expect("anyone's look-up");
    port.dial("own", home(&port, "own"), at(server(31), PORT)).expect_err("not its own");
    assert_eq!(port.verdict(home(&port, "own"), at(server(31), PORT))["reason"], "out-of-scope");
    port.resolve(home(&port, "own"), "mine.example", server(32));
    port.dial("own", home(&port, "own"), at(server(32), PORT)).expect("its own");
}

#[test]
fn refuse_and_hold_are_the_containers_own() {
    let port = Port::new("drefuse", &TRUST);
    let silent = Run::new("silent").label("synhold.refuse", "drop").label("synhold.hold-ms", "50");
    port.run("silent", &silent);
    port.run("slow", &Run::new("slow").label("synhold.hold-ms", "700"));
    port.run("plain", &Run::new("plain"));
    for (name, least, most) in [("silent", 50, 190), ("slow", 700, 1_000), ("plain", 200, 600)] {
        let dst = at(server(40), PORT);
        let from = home(&port, name);
        let ns = port.engine.ns(name);
        let patience = Duration::from_millis(1_500);
        let tried = super::lab::net::connect_from(&ns, at(from, 0), dst, patience);
        let kind = tried.expect_err("nobody resolved it").kind();
        let wanted =
            if name == "silent" { ErrorKind::TimedOut } else { ErrorKind::ConnectionRefused };
        assert_eq!(kind, wanted, "{name}");
        let held = port.verdict(from, dst)["held_us"].as_u64().unwrap() / 1_000;
        assert!((least..most).contains(&held), "{name}: {held} ms");
    }
}

#[test]
fn labels_changed_by_creating_it_again_hold_at_once() {
    let port = Port::new("drecreate", &TRUST);
    port.engine.network("own", &OWN_NET);
    let run = |mode: &str| {
        let fixed = Run::new("web").network("own").at([10, 55, 0, 9]);
        port.run("web", &fixed.label("synhold.mode", mode))
    };
    let from: IpAddr = [10, 55, 0, 9].into();
    for (n, mode) in [(50, "enforce"), (51, "off"), (52, "dry-run"), (53, "enforce"), (54, "off")] {
        let up = run(mode);
        assert_eq!(up["mode"], mode, "{up}");
        let passed = port.dial("web", from, at(server(n), PORT)).is_ok();
        assert_eq!(passed, mode != "enforce", "{mode}");
        let mark = port.daemon.feed().mark();
        port.engine.remove("web");
        port.told(mark, "gone", "web");
    }
    // What the last one might do is nothing to whoever comes to its address.
    port.run("heir", &Run::new("heir").network("own").at([10, 55, 0, 9]));
    port.dial("heir", from, at(server(55), PORT)).expect_err("judged");
}

#[test]
fn sections_of_the_configuration_hold_for_who_fits() {
    let sections = r#"
        [[container]]
        name = "web-*"
        mode = "dry-run"

        [[container]]
        image = "busy*"
        name = "batch"
        allow = ["203.0.113.128/25"]
        refuse = "drop"
    "#;
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path(), sections);
    let port = Port::new("dsections", &[&HOLD[..], &["--config", &file]].concat());
    for (name, mode) in [("web-1", "dry-run"), ("batch", "enforce"), ("other", "enforce")] {
        let up = port.run(name, &Run::new(name));
        assert_eq!((&up["mode"], &up["faults"]), (&mode.into(), &Value::Null), "{up}");
    }
    port.dial("web-1", home(&port, "web-1"), at(server(60), PORT)).expect("only noted");
    port.dial("batch", home(&port, "batch"), at(server(200), PORT)).expect("allowed");
    port.dial("other", home(&port, "other"), at(server(201), PORT)).expect_err("not to it");
    // A new name may be another section's.
    let mark = port.daemon.feed().mark();
    port.engine.rename("other", "web-2");
    assert_eq!(port.told(mark, "changed", "web-2")["mode"], "dry-run");
    port.dial("web-2", home(&port, "web-2"), at(server(61), PORT)).expect("only noted");
}

#[test]
fn lists_meet_the_policy_in_the_kernel() {
    let mut port = Port::new("dlists", &TRUST);
    port.run("dry", &Run::new("dry").label("synhold.mode", "dry-run"));
    port.run("off", &Run::new("off").label("synhold.mode", "off"));
    port.run("free", &Run::new("free").label("synhold.allow", "203.0.113.70"));
    port.run("plain", &Run::new("plain"));
    let dst = at(server(70), PORT);
    // Resolved, so that only the list can refuse it.
    port.resolve(home(&port, "plain"), "listed.example", server(70));
    port.dial("plain", home(&port, "plain"), dst).expect("not listed yet");
    let mark = port.daemon.feed().mark();
    let lists = port.lab.dir().join("state/lists");
    std::fs::write(lists.join("block.txt"), format!("{}\n", server(70))).unwrap();
    let loaded = |e: &Value| e["event"] == "reload" && e["what"] == "lists";
    port.daemon.feed().wait_after(mark, loaded, LATER).expect("loaded");

    for (name, passes) in [("dry", true), ("off", true), ("free", true), ("plain", false)] {
        let tried = port.dial(name, home(&port, name), dst);
        assert_eq!(tried.is_ok(), passes, "{name}: {tried:?}");
    }
    for (name, enforced) in [("dry", false), ("plain", true)] {
        let from = home(&port, name).to_string();
        let is = |e: &Value| {
            e["src"] == from.as_str() && (e["event"] == "block" || e["reason"] == "blocklisted")
        };
        let event = port.daemon.expect_event(&format!("a list met {name}"), is, LATER);
        assert_eq!(event["enforced"], enforced, "{event}");
        port.assert_named(&event, name);
    }
}

#[test]
fn explain_and_status_know_the_container() {
    let port = Port::new("dexplain", &TRUST);
    port.run("web", &Run::new("web").label("synhold.mode", "dry-run"));
    let from = home(&port, "web");
    let _ = port.dial("web", from, at(DEAD4, PORT));
    port.daemon.expect_event("verdict", |e| is_verdict_on(e, at(DEAD4, PORT)), SOON);
    let state = port.lab.dir().join("state").display().to_string();
    let ask = |args: &[&str]| {
        let all = [args, &["--state-dir", &state]].concat();
        let (code, stdout, stderr) = super::stand::synhold(&port.lab, &all);
        assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}: {stdout}");
        stdout
    };
    let status = ask(&["status"]);
    let line = status.lines().find(|line| line.contains("web")).expect("it is listed");
    assert!(line.contains("dry-run") && line.contains(&from.to_string()), "{status}");
    let explained = ask(&["explain", &DEAD4.to_string(), "--container", "web"]);
    assert!(explained.contains("web") && explained.contains("dry-run"), "{explained}");
}
