//! Rough handling: uplinks on bridges, posture after a stop, labels without end, policies that change while refusals stand.

use std::time::Duration;

use serde_json::json;

use super::docker_stand::{HOLD, OWN_NET, Port, SERVERS, config, knows_the_engine, start};
use super::lab::engine::Engine;
use super::lab::engine::run::Run;
use super::lab::net::connect;
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Seen;
use super::lab::{DEAD4, Lab, Side, at, eventually, raw, raw::Raw, retry_until};
use super::stand::{DnsLog, LATER, PORT, SOON, STARTED, members};

/// Moves the way to the server onto a bridge.
fn bridge_the_uplink(port: &Port) {
    port.lab.gw.ip(
        "link add br0 type bridge\nlink set br0 up\naddr flush dev srv\nlink set srv master br0\n\
         addr add 192.0.2.1/28 dev br0\n",
    );
}

const UPLINK: &str = "route replace default via 192.0.2.2 dev br0\n";

/// Makes a network of the engine on that bridge, and waits until its containers are judged.
fn network_on_the_uplink(port: &Port) {
    let body = json!({
        "Name": "lan", "Driver": "bridge",
        "IPAM": { "Driver": "default", "Config": [{ "Subnet": "192.0.2.0/28", "Gateway": "192.0.2.1" }] },
        "Options": { "com.docker.network.bridge.name": "br0" },
    });
    port.engine.call("POST", "/networks/create", Some(&body));
    let judged = || members(&port.lab, "containers4").contains("192.0.2.0/28").then_some(());
    retry_until(LATER, judged).expect("its containers are judged");
}

fn is_guarded(port: &Port, bridge: &str) -> bool {
    members(&port.lab, "bridges").contains(&format!("\"{bridge}\""))
}

#[test]
fn a_bridge_with_the_uplink_in_it_does_not_cut_the_host_off() {
    let port = Port::new("uplink", &HOLD);
    bridge_the_uplink(&port);
    port.lab.gw.ip(UPLINK);
    let server = at(SERVERS[0], PORT);
    connect(&port.lab.gw, server, SOON).expect("the host reaches the server by its bridge");
    let mark = port.daemon.feed().mark();
    network_on_the_uplink(&port);
    let told = |e: &serde_json::Value| {
        e["event"] == "health" && e["message"].as_str().is_some_and(|m| m.contains("network lan"))
    };
    port.daemon.feed().wait_after(mark, told, LATER).expect("it is told");
    connect(&port.lab.gw, server, SOON).expect("the host still reaches the server");
    assert!(!is_guarded(&port, "br0"));
}

#[test]
fn a_default_route_may_come_late_and_go_for_a_while() {
    let port = Port::new("flap", &HOLD);
    bridge_the_uplink(&port);
    network_on_the_uplink(&port);
    eventually("nobody knows better yet", LATER, || is_guarded(&port, "br0"));
    port.lab.gw.ip(UPLINK);
    eventually("it leads out", LATER, || !is_guarded(&port, "br0"));
    connect(&port.lab.gw, at(SERVERS[0], PORT), SOON).expect("the host reaches the server");
    port.lab.gw.ip("route del default\n");
    // Something that has all networks looked at again.
    port.engine.network("own", &OWN_NET);
    let own = port.engine.interface("own");
    eventually("the new one is known", LATER, || is_guarded(&port, &own));
    assert!(!is_guarded(&port, "br0"), "it comes back");
}

#[test]
fn bridges_of_another_engine_are_judged_as_they_come_and_go() {
    let port = Port::new("others", &HOLD);
    let judged = || members(&port.lab, "containers4").contains("10.88.0.0/16");
    port.lab.gw.ip(
        "link add podman7 type bridge\nlink set podman7 up\naddr add 10.88.0.1/16 dev podman7\n",
    );
    eventually("it is judged", LATER, judged);
    port.lab.gw.ip("link del podman7\n");
    eventually("it is no more", LATER, || !judged());
}

#[test]
fn installed_rules_hold_their_posture_over_followed_networks_when_the_daemon_is_gone() {
    let lab = Lab::new("posture");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let engine = Engine::start(&lab, &[]);
    let (code, _, error) = super::stand::synhold(&lab, &["rules", "install"]);
    assert_eq!(code, 0, "{error}");
    engine.network("own", &OWN_NET);
    engine.run(&Run::new("one").network("own"));
    let web = at(SERVERS[0], PORT);
    let go = || connect(&engine.ns("one"), web, Duration::from_secs(2));
    go().expect("unknown to the rules, as the control");
    let source = format!("file:{}", log.path.display());
    let daemon = start(&lab, &source, &engine.host(), &HOLD);
    daemon.ready();
    knows_the_engine(&daemon, 0);
    daemon.stop();
    go().expect_err("installed rules are closed while nobody answers");
    let (code, out, error) = super::stand::synhold(&lab, &["rules", "check"]);
    assert_eq!(code, 0, "they are as they may be: {out}{error}");
}

#[test]
fn a_container_with_labels_without_end_is_known_all_the_same() {
    let dir = tempfile::tempdir().expect("folder");
    let file = config(dir.path(), "[[container]]\nname = \"evil\"\nscope = \"container\"\n");
    let mut port = Port::new("labels", &[&HOLD[..], &["--config", &file]].concat());
    port.resolve([172, 17, 0, 99].into(), "web.example", SERVERS[0]);
    let mut run = Run::new("evil");
    // Longer than a line of events may be.
    run.body["Labels"]["junk"] = json!("x".repeat(1_100_000));
    port.run("evil", &run);
    let from = port.engine.place("evil", "bridge").v4.into();
    let dst = at(SERVERS[0], PORT);
    port.dial("evil", from, dst).expect_err("another's look-up does not count for it");
    assert_eq!(port.verdict(from, dst)["container"], "evil");
}

#[test]
fn a_policy_that_loosens_takes_back_what_was_refused_a_moment_ago() {
    let dir = tempfile::tempdir().expect("folder");
    let file = config(dir.path(), "[[container]]\nname = \"strict\"\nscope = \"container\"\n");
    let mut port = Port::new("loosens", &[&HOLD[..], &["--config", &file]].concat());
    port.resolve([172, 17, 0, 99].into(), "web.example", SERVERS[0]);
    port.run("strict", &Run::new("strict"));
    let (from, dst) = (port.engine.place("strict", "bridge").v4.into(), at(SERVERS[0], PORT));
    port.dial("strict", from, dst).expect_err("out of scope");
    let mark = port.daemon.feed().mark();
    port.engine.rename("strict", "loose");
    port.told(mark, "changed", "loose");
    let taken_back = || members(&port.lab, "denied4").is_empty().then_some(());
    retry_until(LATER, taken_back).expect("no refusal stands");
    port.dial("loose", from, dst).expect("its scope is global now");
}

#[test]
fn nothing_is_dropped_of_a_container_in_a_dry_run_not_even_what_is_no_flow() {
    let dir = tempfile::tempdir().expect("folder");
    let file = config(dir.path(), "[[container]]\nname = \"dry\"\nmode = \"dry-run\"\n");
    let port = Port::new("dryrun", &[&HOLD[..], &["--config", &file]].concat());
    let dst = at(DEAD4, PORT);
    for (name, passes) in [("dry", true), ("wet", false)] {
        port.run(name, &Run::new(name));
        let from = port.engine.place(name, "bridge").v4;
        let wire = Raw::from_container(&port.lab, &port.engine.ns(name), "docker0");
        let payload = [u8::from(passes); 8];
        let mut bad = raw::udp(at(from, 7000), dst, &payload);
        // Its checksum.
        bad[26] ^= 0x55;
        wire.send(&bad);
        let is = |p: &Seen| p.is_udp_to(dst) && p.payload == payload;
        if passes {
            port.far.wait_for(is, LATER).expect("it passes");
        } else {
            assert_eq!(port.far.count_settled(&port.lab, Side::Srv, is), 0);
        }
    }
}
