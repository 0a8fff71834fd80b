//! The gate: once at once, then counted; bounded, and fair to every container.

use super::Offered::{Counted, Held as HeldBack, Now};
use super::*;

const PACE: Pace = Pace { repeat: Duration::from_secs(3600), per_hour: 30 };

fn at(seconds: u64) -> Mono {
    Mono(0) + Duration::from_secs(seconds)
}

fn key(who: &str, address: u8) -> Key {
    Key {
        topic: Topic::NeverResolved,
        who: Some(who.into()),
        address: Some([203, 0, 113, address].into()),
        repeats: true,
    }
}

/// Something in quarantine tries to get out.
fn tries(who: &str, address: u8) -> Key {
    Key { topic: Topic::Quarantined, ..key(who, address) }
}

fn state(topic: Topic) -> Key {
    Key { topic, who: Some(topic.as_str().into()), address: None, repeats: false }
}

#[test]
fn the_same_is_told_at_once_and_then_counted_by_the_hour() {
    let mut gate = Gate::new(PACE);
    gate.again(&key("web", 1), 5);
    assert_eq!(gate.offer(key("web", 1), "first", 1, at(10)), Now);
    for second in 11..108 {
        assert_eq!(gate.offer(key("web", 1), "again", 1, at(second)), Counted);
    }
    gate.again(&key("web", 1), 3);
    assert_eq!(gate.offer(key("db", 1), "another's", 1, at(111)), Now);
    assert!(gate.due(at(3_609)).is_empty());
    assert_eq!(gate.due(at(3_610)), [("again", 100)]);
    assert!(gate.due(at(3_711)).is_empty(), "nothing more happened");
    assert_eq!(gate.offer(key("web", 1), "later", 5, at(3_800)), Counted);
    assert_eq!(gate.due(at(7_210)), [("later", 5)]);
    // What was quiet for that long is new.
    assert!(gate.due(at(10_810)).is_empty());
    assert_eq!(gate.offer(key("web", 1), "new", 1, at(10_811)), Now);
    assert_eq!(gate.summary(at(20_000)), None, "nothing was held back");
}

#[test]
fn one_container_drowns_neither_others_nor_what_synhold_says_of_itself() {
    let mut gate = Gate::new(PACE);
    let passed = |gate: &mut Gate<u8>, who: &str| {
        (0..=255).filter(|n| gate.offer(key(who, *n), *n, 1, at(60)) == Now).count()
    };
    assert_eq!(passed(&mut gate, "loud"), 10);
    assert_eq!(passed(&mut gate, "other"), 10);
    assert_eq!(gate.offer(state(Topic::Evidence), 7, 1, at(61)), Now);
    assert_eq!((passed(&mut gate, "third"), passed(&mut gate, "fourth")), (10, 1));
    assert_eq!(gate.summary(at(60 + 599)), None);
    let held = gate.summary(at(60 + 600)).unwrap();
    assert_eq!(held[&Topic::NeverResolved], Held { count: 3 * 246 + 255, last: 255 });
    assert_eq!(held.len(), 1);
    assert_eq!(gate.offer(key("fourth", 1), 1, 1, at(3_660)), Now, "an hour later");
}

#[test]
fn changes_of_state_are_never_the_same_and_bounded_all_the_same() {
    let mut gate = Gate::new(PACE);
    let told = (0..100).filter(|n| gate.offer(state(Topic::Canary), *n, 1, at(1)) == Now);
    assert_eq!(told.count(), 10);
    assert_eq!(gate.offer(state(Topic::Evidence), 7, 1, at(2)), Now, "no other's room is taken");
    let held = gate.summary(at(700)).unwrap();
    assert_eq!(held[&Topic::Canary], Held { count: 90, last: 99 }, "the state it is in now");
}

#[test]
fn junk_hides_nothing_of_another_kind_and_the_first_of_everybody_is_told() {
    let mut gate = Gate::new(PACE);
    for n in 0..100 {
        gate.offer(key("web", n), n, 1, at(1));
    }
    let blocked = Key { topic: Topic::Blocklisted, ..key("web", 1) };
    assert_eq!(gate.offer(blocked, 0, 1, at(2)), Now);
    let blocked = Key { topic: Topic::Blocklisted, ..key("web", 2) };
    assert_eq!(gate.offer(blocked, 0, 1, at(2)), HeldBack, "the first alone");
    let put = |who: &str| Key { address: None, repeats: false, ..tries(who, 0) };
    assert_eq!(gate.offer(put("web"), 0, 1, at(3)), Now);
    // Nine more have what is kept for the first of each, and then it is used up.
    let firsts = (0..40).filter(|n| {
        let who = format!("c{n}");
        (0..30).filter(|a| gate.offer(tries(&who, *a), 0, 1, at(4)) == Now).count() > 0
    });
    assert_eq!(firsts.count(), 2 + 9);
    // Whoever puts many away does not drown what else synhold says.
    let told = (0..90).filter(|n| gate.offer(put(&format!("c{n}")), 0, 1, at(5)) == Now).count();
    assert_eq!(told, 9);
    assert_eq!(gate.offer(state(Topic::Evidence), 0, 1, at(6)), Now);
}

#[test]
fn what_is_remembered_has_a_bound_and_the_oldest_makes_room() {
    assert_eq!(Gate::<u32>::new(PACE).room, TOLD_MAX);
    let room = 300;
    let mut gate = Gate::with_room(Pace { per_hour: u32::MAX, ..PACE }, room);
    let dials = |n: u32| Key { address: Some(IpAddr::V4(n.into())), ..key("web", 0) };
    let most = 100;
    for n in 0..most {
        assert_eq!(gate.offer(dials(n), n, 1, at(u64::from(n))), Now);
    }
    assert_eq!(gate.offer(dials(0), 0, 5, at(2_000)), Counted);
    assert_eq!(gate.offer(dials(most), most, 1, at(2_000)), Now);
    assert_eq!(gate.told.len(), 100, "a third");
    let held = gate.summary(at(2_600)).unwrap();
    assert_eq!(held[&Topic::NeverResolved], Held { count: 5, last: 0 });
    for n in 0..500 {
        let other = Key { who: Some(format!("c{n}").into()), ..dials(n) };
        assert_eq!(gate.offer(other, n, 1, at(2_001)), Now);
    }
    assert_eq!(gate.told.len(), room);
}

#[test]
fn every_topic_is_the_same_word_everywhere() {
    for topic in Topic::ALL {
        assert_eq!(serde_json::to_value(topic).unwrap(), topic.as_str());
    }
}
