//! What is remembered for an operator, and what it adds up to.

use std::sync::Arc;

use super::*;
use crate::engine::health::Evidence;
use crate::engine::{Flow, Mode, Now, Proto};
use crate::events::{EventWriter, Outputs};

fn block(set: &str, dst: &str, count: u64) -> Body {
    Body::Block(BlockBody {
        mode: Mode::Enforce,
        enforced: true,
        set: set.to_owned(),
        container: Some(Arc::from("web")),
        container_id: None,
        src: "172.17.0.2".parse().unwrap(),
        dst: dst.parse().unwrap(),
        count,
        list: None,
        entry: None,
        note: None,
        names: Vec::new(),
    })
}

/// A refusal by the engine of a daemon that reads no DNS.
fn verdict(dst: &str) -> Body {
    let engine = crate::engine::Engine::<u32>::new(Default::default(), Vec::new());
    let dst: IpAddr = dst.parse().unwrap();
    let flow = Flow::new(Proto::Tcp, ("172.17.0.2".parse().unwrap(), 40_000), (dst, 443));
    let decision = engine.forecast(flow, Now::default());
    let mut body = VerdictBody::decided(decision, Evidence::default(), 0);
    body.container = Some(Arc::from("web"));
    Body::Verdict(body)
}

fn memory(bodies: impl IntoIterator<Item = Body>) -> Memory {
    let mut memory = Memory::default();
    for (second, body) in (1..).zip(bodies) {
        memory.take(&Event { time: Wall(second * 1_000_000), body });
    }
    memory
}

#[test]
fn refusals_of_one_container_and_destination_are_one_line_with_the_verdicts_reason() {
    let dead = "203.0.113.9";
    let all = [verdict(dead), block("denied4", dead, 5), block("block4", "203.0.113.10", 2)];
    let memory = memory(all);
    let [one, other] = &memory.refused[..] else { panic!("{:?}", memory.refused) };
    assert_eq!((one.count, one.reason, one.port), (6, Reason::Unhealthy, Some(443)));
    assert_eq!((one.first, one.last), (Wall(1_000_000), Wall(2_000_000)));
    assert_eq!((other.count, other.reason, other.port), (2, Reason::Blocklisted, None));
}

#[test]
fn a_scan_pushes_the_oldest_out_and_takes_no_room() {
    let all = (0..200).map(|n| block("block4", &format!("203.0.113.{n}"), 1));
    let memory = memory(all);
    assert_eq!(memory.refused.len(), REFUSED_MAX);
    let oldest = memory.refused.iter().map(|one| one.last.0 / 1_000_000).min();
    assert_eq!(oldest, Some(200 - REFUSED_MAX as u64 + 1));
}

#[test]
fn rates_are_differences_over_the_time_that_there_is() {
    let desk = Desk::default();
    let totals =
        |second: u64| Totals { accepted: second * 10, refused: second, ..Totals::default() };
    let at = |second: u64| Mono(second * 1_000_000_000);
    for second in 0..100 {
        desk.tick(totals(second), at(second));
        let expected = second.min(60);
        let rates = desk.view(totals(second), at(second)).rates;
        assert_eq!(rates.long.over_ms, expected * 1000);
        assert_eq!((rates.long.verdicts, rates.long.refused), (expected * 11, expected));
        assert_eq!(rates.short.over_ms, second.min(10) * 1000);
        assert_eq!(rates.each_second, vec![11; usize::try_from(expected).unwrap()]);
    }
}

#[test]
fn what_is_told_comes_by_way_of_the_writer() {
    let writer = EventWriter::start(Outputs {
        stdout: None,
        level: tracing::level_filters::LevelFilter::OFF,
        file: None,
    })
    .unwrap();
    let (desk, sender) = (Desk::default(), writer.sender());
    desk.listen(&sender);
    let rules = Health { what: "rules".into(), healthy: false, message: "somebody".into() };
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    let alert = AlertBody {
        alert: Alarm::Rebinding,
        name: crate::engine::Name::new("a.example").ok(),
        address: Some(address),
        client: None,
        container: None,
        count: 1,
        message: "private".to_owned(),
        opensnitch: None,
    };
    for body in [Body::Health(rules), Body::Alert(alert), verdict("203.0.113.9")] {
        sender.send(Event { time: Wall(7), body });
    }
    // Dropped, it has told everybody.
    drop(writer);
    let view = desk.view(Totals::default(), Mono(0));
    assert_eq!((view.refused.len(), view.missed), (1, 0));
    assert_eq!(view.rules.unwrap().message, "somebody");
    assert_eq!(desk.rejected(address)[0].message, "private");
    assert!(desk.rejected("10.0.0.2".parse().unwrap()).is_empty());
}
