//! Who stands still is found, told of once, and forgiven when it moves.

use std::sync::Arc;

use super::*;
use crate::daemon::mailbox::Mailbox;
use crate::daemon::testing::Parts;
use crate::engine::event::{Body, Health};
use crate::events::{EventWriter, Tapped};

/// Two verdict threads and the keepers, all of them played by the test.
struct Bench {
    shared: Shared,
    watchdog: Watchdog,
    told: Tapped,
    writer: EventWriter,
}

impl Bench {
    fn new() -> Bench {
        let mailboxes = vec![Mailbox::new().unwrap(), Mailbox::new().unwrap()];
        let (shared, writer) = Parts { mailboxes, queue_num: 7, ..Parts::default() }.shared();
        let told = writer.sender().tap(16, Box::new(|body| matches!(body, Body::Health(_))));
        Bench { shared, watchdog: Watchdog::default(), told, writer }
    }

    /// A look after which everybody who is asked for moved.
    fn look(&mut self, lanes: &[usize], keepers: bool) -> bool {
        for lane in lanes {
            self.shared.mailboxes[*lane].beat.count();
        }
        if keepers {
            self.shared.orders.take();
            self.shared.roster.take();
            self.shared.library.get().unwrap().take();
        }
        self.watchdog.all_move(&self.shared)
    }

    fn told(self) -> Vec<(bool, String)> {
        let Bench { shared, told, writer, .. } = self;
        drop((shared, writer));
        let health = |event: &Arc<crate::engine::event::Event>| match &event.body {
            Body::Health(Health { healthy, message, .. }) => (*healthy, message.clone()),
            other => panic!("{other:?}"),
        };
        told.events().try_iter().map(|event| health(&event)).collect()
    }
}

#[test]
fn a_verdict_thread_that_stands_still_ends_the_pings_and_one_that_moves_again_brings_them_back() {
    let mut bench = Bench::new();
    for _ in 0..3 * LANE_PATIENCE {
        assert!(bench.look(&[0, 1], true));
    }
    let pings = (0..2 * LANE_PATIENCE).filter(|_| bench.look(&[0], true)).count() as u64;
    assert_eq!(pings, LANE_PATIENCE);
    assert!(bench.look(&[0, 1], true));
    let name = "the verdict thread of queue 8";
    assert_eq!(
        bench.told(),
        [(false, format!("{name} stands still")), (true, format!("{name} moves again"))]
    );
}

#[test]
fn a_keeper_may_take_its_time_but_not_for_ever() {
    let mut bench = Bench::new();
    assert!(bench.look(&[0, 1], true));
    let pings = (0..2 * KEEPER_PATIENCE).filter(|_| bench.look(&[0, 1], false)).count() as u64;
    assert_eq!(pings, KEEPER_PATIENCE);
    let told = bench.told();
    let keepers = ["rules", "containers", "lists"];
    let expected =
        keepers.map(|of| (false, format!("the thread that keeps the {of} stands still")));
    assert_eq!(told, expected);
}

#[test]
fn the_status_says_how_we_are() {
    let bench = Bench::new();
    assert_eq!(status(&bench.shared), "enforcing, 0 addresses, 0 containers");
    assert_eq!([999, 1_000, 1_234_567].map(grouped), ["999", "1,000", "1,234,567"]);
}
