//! Watching, tried on an engine of our own: order, gaps, faults and returns.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use crate::docker::testing::{Engine, PATIENCE, State, container, event, link, network};
use crate::engine::container::{Change, Dated};

use super::*;

/// A moment far after any list in these tests.
const LATER: u64 = 9_000_000_000_000_000;

#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Change(Dated),
    Up(String),
    Down(String),
    Odd(u64),
}

struct Ear(Sender<Heard>);

impl Listener for Ear {
    fn change(&mut self, change: Dated) {
        let _ = self.0.send(Heard::Change(change));
    }
    fn up(&mut self, version: &str) {
        let _ = self.0.send(Heard::Up(version.to_owned()));
    }
    fn down(&mut self, why: &str) {
        let _ = self.0.send(Heard::Down(why.to_owned()));
    }
    fn odd(&mut self, count: u64) {
        let _ = self.0.send(Heard::Odd(count));
    }
}

/// Watches, and hands out what is heard.
fn watching(engine: &Engine) -> (Watch, Receiver<Heard>) {
    let (sender, heard) = channel();
    (watch(engine.address(), Ear(sender)).unwrap(), heard)
}

/// The next thing heard, in short: `All a1,b2`, `+a1 10.1.0.5`, `attached a1 10.1.0.5`, `died a1`.
#[track_caller]
fn next(heard: &Receiver<Heard>) -> String {
    match heard.recv_timeout(PATIENCE).expect("something is heard") {
        Heard::Up(version) => format!("up {version}"),
        Heard::Down(why) => format!("down {why}"),
        Heard::Odd(count) => format!("odd {count}"),
        Heard::Change(dated) => short(dated.change),
    }
}

fn short(change: Change) -> String {
    match change {
        Change::All { containers, .. } => {
            let mut ids: Vec<String> =
                containers.iter().map(|container| container.id.to_string()).collect();
            ids.sort();
            format!("all {}", ids.join(","))
        }
        Change::Container(container) => {
            let endpoints = container.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
            let addresses: Vec<String> = endpoints.map(ToString::to_string).collect();
            format!("+{} {}", container.id, addresses.join(","))
        }
        Change::Attached { id, endpoint } => format!("attached {id} {:?}", endpoint.addresses),
        Change::Detached { id, .. } => format!("detached {id}"),
        Change::Died { id } => format!("died {id}"),
        Change::Removed { id } => format!("removed {id}"),
        Change::Renamed { id, name } => format!("{id} is {name}"),
        Change::Network(network) => format!("network {}", network.id),
        Change::NetworkRemoved { id } => format!("no network {id}"),
    }
}

#[track_caller]
fn up(heard: &Receiver<Heard>) {
    assert_eq!(next(heard), "up Docker Engine 99.1, API 1.52");
}

/// Up, and these containers are all there are.
#[track_caller]
fn up_with(heard: &Receiver<Heard>, ids: &str) {
    up(heard);
    assert_eq!(next(heard), format!("all {ids}"));
}

#[test]
fn what_happens_while_the_lists_are_made_is_told_after_them() {
    let engine = Engine::listening();
    engine.set(|state| {
        state.run_a1();
        state.networks.insert("net1".into(), network(&[("a1", "10.1.0.5"), ("b2", "10.1.0.6")]));
        state.held = vec!["/containers/json".into()];
    });
    let (watch, heard) = watching(&engine);
    engine.wait_asked("/containers/json");
    engine.wait_subscribed();
    // The list was asked for: these are in the stream only.
    engine.tell(&[link("connect", "b2", LATER), event("die", "a1", LATER + 1)]);
    engine.set(|state| state.held.clear());
    up_with(&heard, "a1");
    assert_eq!(next(&heard), "attached b2 [10.1.0.6]");
    assert_eq!(next(&heard), "died a1");
    let asked = engine.state().asked.clone();
    let position = |path: &str| asked.iter().position(|asked| asked.starts_with(path)).unwrap();
    assert!(position("/events") < position("/containers/json"), "{asked:?}");
    assert!(asked[position("/events")].contains("since="), "{asked:?}");
    watch.stop();
    assert!(heard.try_recv().is_err(), "nothing is told after the stop");
}

#[test]
fn a_life_is_told_in_order_with_the_moments_of_its_events() {
    let engine = Engine::listening();
    engine.set(|state| {
        state.networks.insert("net1".into(), network(&[]));
    });
    let (_watch, heard) = watching(&engine);
    up_with(&heard, "");
    engine.set(State::attach_a1);
    engine.wait_subscribed();
    engine.tell(&[
        event("create", "a1", LATER),
        link("connect", "a1", LATER + 1),
        event("start", "a1", LATER + 2),
        event("rename", "a1", LATER + 3),
        event("die", "a1", LATER + 4),
        link("disconnect", "a1", LATER + 5),
        event("destroy", "a1", LATER + 6),
        // Gone before it could be asked about: what is known of it is that it is gone.
        event("create", "b2", LATER + 7),
        link("connect", "b2", LATER + 8),
        event("destroy", "b2", LATER + 9),
    ]);
    let told: Vec<(u64, String)> = std::iter::repeat_with(|| heard.recv_timeout(PATIENCE).unwrap())
        .take(8)
        .map(|heard| match heard {
            Heard::Change(dated) => (dated.at.0 - LATER, short(dated.change)),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        (0, "+a1 "),
        (1, "attached a1 [10.1.0.5]"),
        (2, "+a1 10.1.0.5"),
        (3, "a1 is renamed"),
        (4, "died a1"),
        (5, "detached a1"),
        (6, "removed a1"),
        (9, "removed b2"),
    ];
    assert_eq!(told, expected.map(|(at, what)| (at, what.to_owned())));
}

#[test]
fn what_the_lists_show_too_late_is_told_from_the_events_before_them() {
    let engine = Engine::listening();
    engine.set(|state| {
        // Both died just before; one of them runs again, and the list still shows the other.
        state.attach_a1();
        state.containers.insert("b2".into(), container("b2", "two", "10.1.0.6"));
        state.backlog =
            vec![event("die", "a1", 1), event("die", "b2", 2), link("connect", "a1", 3)];
    });
    let (_watch, heard) = watching(&engine);
    up_with(&heard, "a1,b2");
    // Whether the end of the one that runs again is told as well depends on when the engine sends it.
    let mut told = vec![next(&heard)];
    while told.last().is_some_and(|last| last != "attached a1 [10.1.0.5]") {
        told.push(next(&heard));
    }
    assert!(told.contains(&"died b2".to_owned()), "{told:?}");
    told.retain(|told| told != "died a1");
    assert_eq!(told, ["died b2", "attached a1 [10.1.0.5]"]);
}

#[test]
fn a_stream_that_is_cut_is_taken_up_with_new_lists() {
    let engine = Engine::listening();
    let (_watch, heard) = watching(&engine);
    up_with(&heard, "");
    engine.set(State::run_a1);
    engine.wait_subscribed();
    engine.cut();
    let down = next(&heard);
    assert!(down.starts_with("down unix:///"), "{down}");
    up_with(&heard, "a1");
}

#[test]
fn an_engine_that_goes_and_comes_back_is_found_again_and_said_once() {
    let engine = Engine::new();
    let (_watch, heard) = watching(&engine);
    let down = next(&heard);
    assert!(down.ends_with("no engine listens there (no such socket)"), "{down}");
    engine.listen();
    up_with(&heard, "");
    engine.wait_subscribed();
    engine.close();
    let mut downs = Vec::new();
    while !downs.last().is_some_and(|last: &String| last.contains("no such socket")) {
        downs.push(next(&heard));
    }
    assert!(downs.len() <= 3, "{downs:?}");
    engine.listen();
    let back = Instant::now();
    up_with(&heard, "");
    assert!(back.elapsed() < PAUSES.1 * 5, "{:?}", back.elapsed());
}

#[test]
fn who_is_no_engine_or_says_no_is_down_with_its_words() {
    let engine = Engine::listening();
    engine.set(|state| {
        state
            .instead
            .insert("/containers/json".into(), (500, r#"{"message":"out of luck"}"#.into()));
    });
    let (_watch, heard) = watching(&engine);
    let down = next(&heard);
    assert!(down.ends_with("the engine answered 500: out of luck"), "{down}");
    engine.set(|state| {
        state.instead.clear();
        state.instead.insert("/version".into(), (200, "<html>".into()));
    });
    let down = next(&heard);
    assert!(down.starts_with("down unix:///"), "{down}");
    engine.set(|state| state.instead.clear());
    up(&heard);
}

#[test]
fn what_is_not_understood_is_passed_over_and_counted() {
    let engine = Engine::listening();
    engine.set(|state| {
        state.run_a1();
        state.containers.insert("odd".into(), serde_json::json!({ "Id": null, "Ports": 7 }));
    });
    let (_watch, heard) = watching(&engine);
    up_with(&heard, "a1");
    assert_eq!(next(&heard), "odd 1");
    engine.wait_subscribed();
    engine.tell(&[
        "garbage {{{".into(),
        r#"{"Type":"sandbox","Action":"dream","Actor":{"ID":"x"}}"#.into(),
        event("checkpoint", "a1", LATER),
        "\u{0}\u{ff}".into(),
        event("die", "a1", LATER),
    ]);
    let mut told = vec![next(&heard), next(&heard)];
    told.sort();
    assert_eq!(told, ["died a1", "odd 4"]);
}

#[test]
fn thousands_of_events_are_told_in_order_with_few_questions() {
    const COUNT: u64 = 5_000;
    let engine = Engine::listening();
    engine.set(State::attach_a1);
    let (_watch, heard) = watching(&engine);
    up_with(&heard, "a1");
    engine.wait_subscribed();
    let lines: Vec<String> = (0..COUNT)
        .map(|n| match n % 2 {
            0 => link("connect", "a1", LATER + n),
            _ => event("die", "a1", LATER + n),
        })
        .collect();
    engine.tell(&lines);
    for n in 0..COUNT {
        match heard.recv_timeout(PATIENCE).unwrap() {
            Heard::Change(dated) => {
                assert_eq!(dated.at.0, LATER + n);
                assert_eq!(short(dated.change).starts_with("died"), n % 2 == 1);
            }
            other => panic!("{other:?}"),
        }
    }
    let asked = engine.state().asked.len() as u64;
    assert!(asked < COUNT / 20, "{asked} questions");
}

#[test]
fn events_are_read_while_a_late_answer_is_awaited_and_told_behind_it() {
    let engine = Engine::listening();
    engine.set(State::attach_a1);
    let (_watch, heard) = watching(&engine);
    up_with(&heard, "a1");
    engine.wait_subscribed();
    engine.set(|state| state.held = vec!["/networks/net1".into()]);
    engine.tell(&[link("connect", "a1", LATER)]);
    engine.wait_asked("/networks/net1");
    // Still read while the answer is awaited, and told in its place.
    engine.tell(&[event("die", "a1", LATER + 1)]);
    engine.set(|state| state.held.clear());
    assert_eq!(next(&heard), "attached a1 [10.1.0.5]");
    assert_eq!(next(&heard), "died a1");
}

/// Panics at the first change, as a fault in what reads answers would.
struct Fragile(Ear, bool);

impl Listener for Fragile {
    fn change(&mut self, change: Dated) {
        assert!(std::mem::replace(&mut self.1, true), "a fault to be caught");
        self.0.change(change);
    }
    fn up(&mut self, version: &str) {
        self.0.up(version);
    }
    fn down(&mut self, why: &str) {
        self.0.down(why);
    }
}

#[test]
fn a_panic_is_told_and_survived() {
    let engine = Engine::listening();
    let (sender, heard) = channel();
    let _watch = watch(engine.address(), Fragile(Ear(sender), false)).unwrap();
    up(&heard);
    let down = next(&heard);
    assert!(down.contains("a fault to be caught"), "{down}");
    up_with(&heard, "");
}

#[test]
fn an_engine_that_never_answers_does_not_hold_up_the_stop() {
    let engine = Engine::listening();
    engine.set(|state| state.held = vec!["/".into()]);
    let (watch, _heard) = watching(&engine);
    engine.wait_asked("/version");
    let begun = Instant::now();
    watch.stop();
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    engine.set(|state| state.held.clear());
}

#[path = "gateway_test.rs"]
mod gateway;
