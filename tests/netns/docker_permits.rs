//! What a trusted label lets one container reach against a block list, on a real engine: it passes on the wire, its neighbour not.

use std::net::IpAddr;

use super::docker_stand::Port;
use super::lab::engine::run::Run;
use super::lab::net::udp_ask;
use super::lab::{Side, at};
use super::stand::{LATER, PORT, SOON};

/// Blocked by a network on the list.
const LISTED: &str = "203.0.113.64/26";

fn server(n: u8) -> IpAddr {
    [203, 0, 113, n].into()
}

/// Whether a connection and a datagram pass, as the far side sees it.
#[track_caller]
fn reaches(port: &Port, container: &str, dst: IpAddr, wanted: bool) {
    let from = port.engine.place(container, "bridge").v4.into();
    let dst = at(dst, PORT);
    let before = port.passed(dst);
    let dialled = port.dial(container, from, dst);
    let asked = udp_ask(&port.engine.ns(container), None, dst, b"datagram", SOON);
    let passed = port.passed(dst) - before;
    assert_eq!((dialled.is_ok(), asked.answered()), (wanted, wanted), "{container} to {dst}");
    assert_eq!(passed, if wanted { 2 } else { 0 }, "{container} to {dst} on the wire");
}

#[test]
fn a_label_beats_the_block_list_for_its_container_alone() {
    let mut port = Port::new("dpermit", &["--hold-ms", "200", "--trust-labels"]);
    let both = Run::new("both").label("synhold.mode", "off");
    for run in [
        both.label("synhold.allow", "203.0.113.70"),
        Run::new("net").label("synhold.allow", "203.0.113.64/29"),
        Run::new("named").label("synhold.allow", "web.example"),
        Run::new("plain"),
    ] {
        port.engine.run(&run);
    }
    for name in ["both", "net", "named", "plain"] {
        port.told(0, "up", name);
    }
    let home = |name: &str| IpAddr::from(port.engine.place(name, "bridge").v4);
    let (named, plain) = (home("named"), home("plain"));
    // Resolved, so that only the list can refuse them.
    port.resolve(plain, "any.example", server(70));
    port.resolve(plain, "far.example", server(80));
    reaches(&port, "plain", server(70), true);
    reaches(&port, "plain", server(80), true);
    let mark = port.daemon.feed().mark();
    let lists = port.lab.dir().join("state/lists");
    std::fs::write(lists.join("block.txt"), format!("{LISTED}\n")).unwrap();
    let loaded = |e: &serde_json::Value| e["event"] == "reload" && e["what"] == "lists";
    port.daemon.feed().wait_after(mark, loaded, LATER).expect("loaded");

    for (name, near, far) in [
        ("both", true, true),
        ("net", true, false),
        ("named", false, false),
        ("plain", false, false),
    ] {
        reaches(&port, name, server(70), near);
        reaches(&port, name, server(80), far);
    }
    // The name leads to a listed address: whom it is allowed to gets there, and nobody else.
    port.resolve(named, "web.example", server(90));
    let pair = format!("{named} . {}", server(90));
    let there = || super::stand::members(&port.lab, "permits4").contains(&pair);
    super::lab::eventually("the kernel lets it pass", LATER, there);
    reaches(&port, "named", server(90), true);
    for name in ["net", "plain"] {
        reaches(&port, name, server(90), false);
    }
    let spoken = port.far.count_settled(&port.lab, Side::Srv, |p| p.dst == at(server(90), PORT));
    assert!(spoken > 0);
}

#[test]
fn a_name_that_was_asked_for_before_its_address_was_listed_still_leads_there() {
    let mut port = Port::new("dpermitold", &["--hold-ms", "200", "--trust-labels"]);
    port.run("named", &Run::new("named").label("synhold.allow", "web.example"));
    let named = port.engine.place("named", "bridge").v4.into();
    port.resolve(named, "web.example", server(90));
    reaches(&port, "named", server(90), true);
    let mark = port.daemon.feed().mark();
    let lists = port.lab.dir().join("state/lists");
    std::fs::write(lists.join("block.txt"), format!("{LISTED}\n")).unwrap();
    let loaded = |e: &serde_json::Value| e["event"] == "reload" && e["what"] == "lists";
    port.daemon.feed().wait_after(mark, loaded, LATER).expect("loaded");
    reaches(&port, "named", server(90), true);

    // Nor does it have to be asked for again by another run.
    let Port { daemon, engine, far, log, servers, lab } = port;
    assert!(daemon.stop().status.success());
    let source = format!("file:{}", log.path.display());
    let args = ["--hold-ms", "200", "--trust-labels"];
    let daemon = super::docker_stand::start(&lab, &source, &engine.host(), &args);
    daemon.ready();
    super::docker_stand::knows_the_engine(&daemon, 0);
    daemon.feed().wait_after(0, loaded, LATER).expect("loaded");
    let port = Port { daemon, engine, far, log, servers, lab };
    reaches(&port, "named", server(90), true);
}
