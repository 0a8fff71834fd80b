//! "Enforcing" and "ready" mean what a status means by them.

use tracing::level_filters::LevelFilter;

use super::*;
use crate::control::{Canary, CanaryState};
use crate::engine::inventory::Inventory;
use crate::engine::policy::Policies;
use crate::engine::wish::Refusal;
use crate::engine::{Engine, Settings, Verdict};
use crate::events::{EventWriter, Outputs};
use crate::nfq::Disposition;

#[test]
fn rules_alone_do_not_make_it_enforce() {
    let writer =
        EventWriter::start(Outputs { stdout: None, level: LevelFilter::OFF, file: None }).unwrap();
    let engine = Engine::new(Settings::default(), Vec::new());
    let books = Inventory::new(Policies::new(engine.settings(), Refusal::Reset));
    let shared = Shared::new(
        engine,
        // No queue is ours.
        Vec::new(),
        writer.sender(),
        Arc::new(crate::daemon::denied::Denied::new().0),
        crate::daemon::truth::Truth::orders().unwrap(),
        (crate::daemon::roster::notes().unwrap(), books, Default::default()),
        Verdict::Drop,
        Disposition::Refuse,
        0,
    );
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
