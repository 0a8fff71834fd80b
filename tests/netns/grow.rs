//! Sets of single addresses beyond the size they began with: larger ones take their place, and nothing passes meanwhile.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::Value;

use super::lab::raw::{self, Raw};
use super::lab::{CT4, Side, at};
use super::lists::{counts, server};
use super::stand::{PORT, Stand, assert_passes, assert_refused};

const KEPT: &str = "203.0.113.20\n";

/// Single addresses none of which touches another, so that they stay single.
fn text(first: u32, count: u32) -> String {
    let line = |n: u32| format!("{}\n", Ipv4Addr::from(0x0900_0000 + 2 * n));
    KEPT.to_owned() + &(first..first + count).map(line).collect::<String>()
}

fn elements(stand: &Stand) -> u64 {
    let count = || synhold::nftables::Channel::open().unwrap().set_count("blockhosts4").unwrap();
    stand.lab.gw.run(count).expect("this kernel counts")
}

#[test]
fn a_list_grows_past_its_set_and_a_listed_address_is_refused_all_along() {
    let mut stand = Stand::with_lists("grow", &["--hold-ms", "50"], &[("block.txt", KEPT)]);
    // With a record only the list stands between it and the wire.
    stand.resolve(CT4.into(), "listed.example", server(20));
    stand.resolve(CT4.into(), "free.example", server(40));
    let (stop, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let raw = Raw::to_gateway(&stand.lab, Side::Ct);
            while !stop.load(Ordering::Relaxed) {
                let n = sent.fetch_add(20, Ordering::Relaxed);
                let src = |more| at(CT4, 1_024 + ((n + more) % 60_000) as u16);
                let all = (0..20).map(|more| raw::syn(src(more), at(server(20), PORT), n));
                raw.send_all(all, 2_000);
            }
        });
        let guard = Stop(&stop);
        let steps: [(u32, u32, u64, u64); 4] = [
            (0, 60_000, 60_000, 0),
            (0, 70_000, 10_000, 0),
            (0, 140_000, 70_000, 0),
            // All others at once: no room is needed for both.
            (140_000, 140_000, 140_000, 140_000),
        ];
        for (first, count, added, removed) in steps {
            let event = stand.list("block.txt", &text(first, count));
            assert_eq!(elements(&stand), u64::from(count) + 1, "{event}");
            let (put, taken) = counts(&event);
            // A set made anew is filled anew.
            assert!(put >= added && taken >= removed, "{event}");
        }
        drop(guard);
    });
    assert!(
        sent.load(Ordering::Relaxed) > 1_000,
        "the control: there was always something to refuse"
    );
    assert_eq!(stand.passed(at(server(20), PORT)), 0);
    assert_passes(&stand.lab.ct, at(server(40), PORT));
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    // Nobody else did that, and nobody is said to have.
    let accused = |e: &Value| e["event"] == "health" && e["healthy"] == false;
    let said: Vec<Value> = stand.daemon.events().into_iter().filter(accused).collect();
    assert!(said.is_empty(), "{said:?}");
    assert!(stand.daemon.stop().status.success());
    assert_eq!(stand.lab.gw.ruleset(), "");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
