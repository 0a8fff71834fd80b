//! The way out of overlay networks, tried on an engine of our own.

use serde_json::Value;

use super::*;
use crate::docker::testing::{Engine, State, container, event, link, network};

/// The way out of overlay networks, with these containers on it.
fn gateway(attached: &[(&str, &str)]) -> Value {
    let mut gateway = network(attached);
    gateway["Id"] = "gw1".into();
    gateway["Name"] = "docker_gwbridge".into();
    gateway
}

#[test]
fn the_way_out_of_an_overlay_network_is_told_with_what_brings_it_about() {
    let engine = Engine::listening();
    let (_watch, heard) = watching(&engine);
    up_with(&heard, "");
    engine.wait_subscribed();
    engine.set(|state| {
        state.run_a1();
        let mut overlay = network(&[("a1", "10.1.0.5")]);
        overlay["Driver"] = "overlay".into();
        state.networks.insert("net1".into(), overlay);
        let there = gateway(&[("a1", "172.18.0.3"), ("ingress-sbox", "172.18.0.2")]);
        state.networks.insert("docker_gwbridge".into(), there);
    });
    engine.tell(&[link("connect", "a1", LATER)]);
    assert_eq!(next(&heard), "network net1");
    assert_eq!(next(&heard), "network gw1");
    assert_eq!(next(&heard), "attached a1 [10.1.0.5]");
    assert_eq!(next(&heard), "attached a1 [172.18.0.3]");
    engine.tell(&[event("start", "a1", LATER + 1)]);
    assert_eq!(next(&heard), "+a1 10.1.0.5,172.18.0.3");
    // A network with a gateway of its own, which the fake engine need not show, has come.
    engine.set(|state| {
        state.networks.insert("docker_gwbridge".into(), gateway(&[]));
        state.networks.insert("net1".into(), network(&[("a1", "10.1.0.5")]));
    });
    engine.tell(&[link("connect", "a1", LATER + 2)]);
    assert_eq!(next(&heard), "attached a1 [10.1.0.5]");
    assert_eq!(next(&heard), "detached a1");
    // And has gone again.
    engine.set(|state| {
        state.networks.insert("docker_gwbridge".into(), gateway(&[("a1", "172.18.0.4")]));
    });
    engine.tell(&[link("disconnect", "a1", LATER + 3)]);
    assert_eq!(next(&heard), "detached a1");
    assert_eq!(next(&heard), "attached a1 [172.18.0.4]");
}

#[test]
fn the_lists_tell_who_is_on_the_way_out_of_overlay_networks() {
    let engine = Engine::listening();
    engine.set(|state| {
        let mut ended = container("b2", "two", "10.1.0.6");
        ended["State"] = "exited".into();
        state.containers.insert("b2".into(), ended);
        state.run_a1();
        let on_it = [("a1", "172.18.0.3"), ("b2", "172.18.0.4")];
        state.networks.insert("docker_gwbridge".into(), gateway(&on_it));
    });
    let (_watch, heard) = watching(&engine);
    up(&heard);
    let Heard::Change(Dated { change: Change::All { containers, .. }, .. }) =
        heard.recv_timeout(PATIENCE).unwrap()
    else {
        panic!("no lists");
    };
    let mut told: Vec<String> =
        containers.into_iter().map(|container| short(Change::Container(container))).collect();
    told.sort();
    assert_eq!(told, ["+a1 10.1.0.5,172.18.0.3", "+b2 "]);
}

#[test]
fn nobody_asks_for_a_way_out_where_all_networks_are_bridges() {
    let engine = Engine::listening();
    engine.set(State::attach_a1);
    let (_watch, heard) = watching(&engine);
    up_with(&heard, "a1");
    engine.wait_subscribed();
    engine.tell(&[link("connect", "a1", LATER), event("start", "a1", LATER + 1)]);
    assert_eq!(next(&heard), "attached a1 [10.1.0.5]");
    assert_eq!(next(&heard), "+a1 10.1.0.5");
    let asked = engine.state().asked.clone();
    assert!(!asked.iter().any(|path| path.contains("docker_gwbridge")), "{asked:?}");
}
