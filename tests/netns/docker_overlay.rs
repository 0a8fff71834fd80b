//! Containers of overlay networks, which leave the host by a bridge that no event tells of.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::docker_stand::{HOLD, OWN_NET, Port, SERVERS};
use super::lab::at;
use super::lab::engine::Engine;
use super::lab::engine::run::Run;
use super::stand::{LATER, PORT};

/// Makes the engine a swarm of its own, with an overlay network `ov`.
fn swarm(engine: &Engine) {
    let send = |path: &str, body: &Value| {
        let body = body.to_string();
        let sent = engine.try_call("POST", path, Some(("application/json", body.as_bytes())));
        sent.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    };
    send("/swarm/init", &json!({ "ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "192.0.2.1" }));
    send("/networks/create", &json!({ "Name": "ov", "Driver": "overlay", "Attachable": true }));
}

/// Where a container is on the bridge by which overlay networks leave.
fn way_out(engine: &Engine, container: &str) -> IpAddr {
    let id = engine.inspect(container)["Id"].as_str().expect("an id").to_owned();
    let bridge = engine.call("GET", "/networks/docker_gwbridge", None);
    let address = bridge["Containers"][&id]["IPv4Address"].as_str();
    let address = address.unwrap_or_else(|| panic!("{container} is not on it: {bridge}"));
    let (address, _) = address.split_once('/').expect("with its prefix length");
    address.parse().expect("an address")
}

/// A container of `ov` is judged under its name when it leaves, and its gap is told as it is.
fn judged_and_named(port: &Port, told: &Value) {
    let (from, web) = (way_out(&port.engine, "task"), at(SERVERS[0], PORT));
    assert_eq!(told["addresses"], json!([from]), "{told}");
    let gap = "network ov is of type overlay: its traffic between hosts does not pass this host's rules; what leaves by \
               docker_gwbridge is judged";
    assert_eq!(told["gaps"], json!([gap]), "{told}");
    port.dial("task", from, web).expect_err("nobody resolved it");
    let verdict = port.verdict(from, web);
    port.assert_named(&verdict, "task");
    assert_eq!(port.passed(web), 0);
}

/// What was told last of the container, once it has this many addresses that are judged.
#[track_caller]
fn told_last(port: &Port, addresses: usize) -> Value {
    let is = |e: &Value| {
        let there = e["addresses"].as_array().map_or(0, Vec::len);
        e["event"] == "container" && e["container"] == "task" && there == addresses
    };
    port.daemon.expect_event("the container's addresses", is, LATER)
}

#[test]
fn a_container_of_an_overlay_network_is_judged_and_named_on_its_way_out() {
    let mut port = Port::new("dovout", &HOLD);
    swarm(&port.engine);
    port.engine.run(&Run::new("task").network("ov"));
    judged_and_named(&port, &told_last(&port, 1));
    let from = way_out(&port.engine, "task");
    port.resolve(from, "web.example", SERVERS[0]);
    port.dial("task", from, at(SERVERS[0], PORT)).expect("resolved");
}

#[test]
fn a_container_of_an_overlay_network_from_before_the_daemon_is_judged_and_named() {
    let port = Port::with("dovold", &[], &HOLD, |engine| {
        swarm(engine);
        engine.run(&Run::new("task").network("ov"));
    });
    judged_and_named(&port, &told_last(&port, 1));
}

#[test]
fn a_way_out_comes_and_goes_with_the_other_networks_of_a_container() {
    let port = Port::new("dovmove", &HOLD);
    swarm(&port.engine);
    port.engine.network("own", &OWN_NET);
    port.engine.run(&Run::new("task").network("ov"));
    let out = way_out(&port.engine, "task").to_string();
    assert_eq!(told_last(&port, 1)["addresses"], json!([out]));
    let mark = port.daemon.feed().mark();
    port.engine.connect("own", "task");
    let own = port.engine.place("task", "own");
    // In whatever order the news come: in the end it is there alone.
    let has = |wanted: Value| {
        move |e: &Value| {
            e["event"] == "container" && e["container"] == "task" && e["addresses"] == wanted
        }
    };
    let wanted = json!(own.both().collect::<Vec<_>>());
    port.daemon.feed().wait_after(mark, has(wanted), LATER).expect("off its way out");
    let mark = port.daemon.feed().mark();
    port.engine.disconnect("own", "task");
    let out = way_out(&port.engine, "task");
    port.daemon.feed().wait_after(mark, has(json!([out])), LATER).expect("on its way out again");
    port.dial_named("task", out, at(SERVERS[0], PORT));
    let mark = port.daemon.feed().mark();
    port.engine.remove("task");
    port.told(mark, "gone", "task");
}
