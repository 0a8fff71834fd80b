//! A hold cut short by what was measured: it holds where the evidence is sound, and is given back where it is not.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Engine, Step};
use crate::engine::flow::{Flow, Proto};
use crate::engine::health::{Batch, SourceHealth};
use crate::engine::limits::{DELAYS_MIN, HOLD_DEFAULT, HOLD_MIN, LOOK_TICK};
use crate::engine::settings::Settings;
use crate::engine::time::{Mono, Now, Wall};
use crate::engine::verdict::Reason;

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000_000), wall: Wall(1_700_000_000_000_000 + ms * 1_000) }
}

/// An engine that has measured quick records until second 100, and its source.
fn engine(adaptive: bool) -> (Engine<u32>, Arc<SourceHealth>) {
    let source = Arc::new(SourceHealth::new("file:/log"));
    source.mark_up(at(0).mono);
    source.count(Batch { lines: 1, ..Batch::default() }, at(0));
    (0..DELAYS_MIN).for_each(|_| source.delays.observe(Duration::from_millis(1), at(100_000).mono));
    let mut settings = Settings::default();
    settings.evidence.adaptive = adaptive;
    (Engine::new(settings, vec![Arc::clone(&source)]), source)
}

/// Holds a packet at second 100, and tells how long it was held, and why it was refused.
fn refused(engine: &Engine<u32>) -> (Duration, Reason) {
    let address = |text: &str| text.parse().unwrap();
    let flow = Flow::new(Proto::Tcp, (address("172.17.0.2"), 9), (address("203.0.113.9"), 443));
    assert!(matches!(engine.packet(flow, 0, 1, at(100_000)), Step::Hold(_)));
    let mut answers = Vec::new();
    while answers.is_empty() {
        let due = engine.next_deadline(0).unwrap();
        answers = engine.expire(0, at(due.0.div_ceil(1_000_000)));
    }
    (answers[0].decision.held, answers[0].decision.reason)
}

#[test]
fn a_quick_and_sound_source_makes_for_a_short_hold_unless_that_is_fixed() {
    assert_eq!(refused(&engine(true).0), (HOLD_MIN, Reason::NeverResolved));
    assert_eq!(refused(&engine(false).0), (HOLD_DEFAULT, Reason::NeverResolved));
    let (engine, source) = engine(true);
    source.looked(at(100_010).mono);
    assert_eq!(refused(&engine).0, HOLD_MIN, "looked at since");
}

#[test]
fn a_packet_waits_its_full_time_while_nobody_looked_or_lines_were_lost() {
    let (engine, source) = engine(true);
    source.looked((at(100_000).mono) - LOOK_TICK);
    assert_eq!(refused(&engine), (HOLD_DEFAULT, Reason::Unhealthy));
    source.looked(at(100_040).mono);
    source.count(Batch { lines: 1, lost: 1, ..Batch::default() }, at(100_001));
    assert_eq!(refused(&engine), (HOLD_DEFAULT, Reason::Unhealthy));
}
