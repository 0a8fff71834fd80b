//! "Enforcing" and "ready" mean what a status means by them.

use super::*;
use crate::control::{Canary, CanaryState};
use crate::daemon::testing::Parts;

#[test]
fn rules_alone_do_not_make_it_enforce() {
    // No queue is ours.
    let (shared, _writer) = Parts::default().shared();
    shared.rules.say(RulesState::Enforcing);
    let series = Mutex::default();
    let meters = Meters { shared: Arc::new(shared), since: Wall(0), queues: 1, series };
    let own = meters.own();
    let enforcing = own.iter().find(|family| family.name == "enforcing").unwrap();
    assert_eq!(enforcing.samples, Family::flag("enforcing", "", false).samples);
    assert!(meters.readiness().message.contains("does not tell its queues"));
    *meters.shared.canary() =
        Canary { state: CanaryState::Failing, message: "it passed".into(), ..Canary::default() };
    assert!(meters.readiness().message.contains("canary: it passed"));
}

#[test]
fn an_address_that_others_reach_has_a_warning() {
    for at in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert_eq!(exposure(at.parse().unwrap()), None, "{at}");
    }
    for at in ["0.0.0.0:1", "[::]:1", "172.17.0.1:1", "[fd00::1]:1"] {
        assert!(exposure(at.parse().unwrap()).is_some(), "{at}");
    }
}
