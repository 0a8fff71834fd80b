//! Addresses change hands, on a real engine: nothing that was one container's is the next one's, good or bad.

use std::net::IpAddr;

use serde_json::Value;

use super::docker_stand::{OWN_NET, Port, knows_the_engine, start};
use super::lab::engine::Engine;
use super::lab::engine::run::Run;
use super::lab::{at, eventually};
use super::sets_cli::json;
use super::stand::{LATER, PORT, SOON, is_verdict_on, members};

fn server(n: u8) -> IpAddr {
    [203, 0, 113, n].into()
}

fn fixed(name: &str, last: u8) -> (Run, IpAddr) {
    let address = IpAddr::from([10, 55, 0, last]);
    (Run::new(name).network("own").at(address), address)
}

#[test]
fn what_was_blocked_for_a_container_is_not_blocked_for_the_next_on_its_address() {
    let args = ["--hold-ms", "200", "--auto-block", "container"];
    let mut port = Port::new("dauto", &args);
    port.engine.network("own", &OWN_NET);
    let (run, address) = fixed("first", 9);
    port.run("first", &run);
    let dst = at(server(30), PORT);
    let auto = port.lab.dir().join("state/lists/auto.txt");
    let (listed, whose) = (format!("{} ", server(30)), format!(" from={address} "));
    let has = || {
        let text = std::fs::read_to_string(&auto).unwrap_or_default();
        text.lines().any(|line| line.starts_with(&listed) && line.contains(&whose))
    };
    // A source that came up a moment ago proves nothing, and then nobody is accused.
    eventually("the evidence is healthy", SOON, || {
        json(&port.lab, &["status"]).1["evidence"]["healthy"] == true
    });
    let mark = port.daemon.feed().mark();
    port.dial("first", address, dst).expect_err("nobody resolved it");
    let loaded = |e: &Value| e["event"] == "reload" && e["what"] == "lists";
    port.daemon.feed().wait_after(mark, loaded, LATER).expect("loaded");
    assert!(has(), "it is listed for it");
    // Not a refusal of a moment ago: a record lifts that.
    port.resolve([10, 55, 0, 99].into(), "late.example", server(30));
    port.dial("first", address, dst).expect_err("listed");
    port.run("beside", &Run::new("beside").network("own"));
    let beside = port.engine.place("beside", "own").v4.into();
    port.dial("beside", beside, dst).expect("listed for another");
    let passed = port.passed(dst);

    let mark = port.daemon.feed().mark();
    port.engine.remove("first");
    port.told(mark, "gone", "first");
    let (run, _) = fixed("heir", 9);
    port.run("heir", &run);
    let pair = format!("{address} . {}", server(30));
    port.dial("heir", address, dst).expect("listed for whom had its address");
    assert!(port.passed(dst) > passed);
    assert!(!members(&port.lab, "denied4").contains(&pair));
    eventually("it is on no list any more", LATER, || !has());
}

const OWN: [&str; 4] = ["--hold-ms", "200", "--scope", "container"];

/// Ends the daemon, does something, and starts it again.
fn away(port: Port, act: impl FnOnce(&Engine)) -> Port {
    let Port { daemon, engine, far, log, servers, lab } = port;
    assert!(daemon.stop().status.success());
    act(&engine);
    let daemon = start(&lab, &format!("file:{}", log.path.display()), &engine.host(), &OWN);
    daemon.ready();
    knows_the_engine(&daemon, 0);
    Port { daemon, engine, far, log, servers, lab }
}

#[test]
fn an_address_that_changed_hands_while_we_were_away_credits_nobody() {
    let mut port = Port::new("dtenant", &OWN);
    port.engine.network("own", &OWN_NET);
    for (name, last) in [("first", 9), ("stays", 8)] {
        let (run, address) = fixed(name, last);
        port.run(name, &run);
        port.resolve(address, &format!("{name}.example"), server(last));
        port.dial(name, address, at(server(last), PORT)).expect("its own look-up");
        assert_eq!(port.verdict(address, at(server(last), PORT))["grade"], "own");
    }
    let (run, address) = fixed("heir", 9);
    let dst = at(server(9), PORT);
    let passed = port.passed(dst);
    port = away(port, |engine| {
        engine.remove("first");
        engine.run(&run);
    });
    // The log is read again from its beginning each time, and the heir is no news the second time.
    for _ in 0..2 {
        port.dial("stays", fixed("stays", 8).1, at(server(8), PORT)).expect("still its own");
        port.dial("heir", address, dst).expect_err("another's look-up");
        let event = port.daemon.expect_event("verdict", |e| is_verdict_on(e, dst), SOON);
        let told = (&event["reason"], &event["container"]);
        assert_eq!(told, (&"out-of-scope".into(), &"heir".into()), "{event}");
        port = away(port, |_| {});
    }
    assert_eq!(port.passed(dst), passed);
    port.resolve(address, "heir.example", server(9));
    port.dial("heir", address, dst).expect("a look-up of its own");
}
