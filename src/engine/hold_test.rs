//! The hold against a naive model: a plain list searched from end to end.

use proptest::prelude::*;

use super::*;
use crate::engine::Proto;

const BOUNDS: Bounds = Bounds { hold: Duration::from_nanos(50), budget: 3, total: 8 };

#[derive(Clone, Copy, Debug)]
enum Action {
    Packet { src: u8, port: u8, dst: u8, lane: u8 },
    Record { dst: u8, only_src: Option<u8> },
    Expire { lane: u8 },
    Drain { lane: u8 },
    Pass { time: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..3u8, 0..3u8, 0..3u8, 0..2u8).prop_map(|(src, port, dst, lane)| Action::Packet { src, port, dst, lane }),
        2 => (0..3u8, proptest::option::of(0..3u8)).prop_map(|(dst, only_src)| Action::Record { dst, only_src }),
        2 => (0..2u8).prop_map(|lane| Action::Expire { lane }),
        1 => (0..2u8).prop_map(|lane| Action::Drain { lane }),
        4 => prop_oneof![Just(1u64), 1..60u64, Just(300_000_000u64)].prop_map(|time| Action::Pass { time }),
    ]
}

fn address(net: u8, host: u8) -> IpAddr {
    IpAddr::from([10, 0, net, host])
}

fn flow(src: u8, port: u8, dst: u8) -> Flow {
    Flow::new(Proto::Udp, (address(0, src), port.into()), (address(1, dst), 53))
}

#[derive(Default)]
struct Model {
    waiting: Vec<(Flow, u16, u32, Mono, u32)>,
    passed: Vec<(Flow, Mono)>,
}

impl Model {
    fn park(&mut self, flow: Flow, lane: u16, ticket: u32, now: Mono) -> Park {
        if let Some(entry) = self.waiting.iter_mut().find(|entry| entry.0 == flow) {
            entry.4 += 1;
            return Park::Joined;
        }
        if self.passed.iter().any(|(passed, at)| *passed == flow && now < *at + LINGER) {
            return Park::Joined;
        }
        let of_source =
            self.waiting.iter().filter(|entry| entry.0.src.ip() == flow.src.ip()).count();
        if of_source >= BOUNDS.budget || self.waiting.len() >= BOUNDS.total {
            return Park::OverBudget;
        }
        self.waiting.push((flow, lane, ticket, now, 0));
        Park::Held
    }

    fn take(
        &mut self,
        pass: bool,
        now: Mono,
        pick: impl Fn(&Flow, u16, Mono) -> bool,
    ) -> Vec<(u32, u32)> {
        let (taken, rest): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).partition(|(flow, lane, _, since, _)| pick(flow, *lane, *since));
        self.waiting = rest;
        if pass {
            self.passed.extend(taken.iter().map(|entry| (entry.0, now)));
        }
        sorted(taken.into_iter().map(|(_, _, ticket, _, copies)| (ticket, copies)).collect())
    }
}

fn sorted(mut list: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    list.sort_unstable();
    list
}

fn tickets(left: Vec<Left<u32>>) -> Vec<(u32, u32)> {
    sorted(left.into_iter().map(|left| (left.ticket, left.copies)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_hold_does_what_the_naive_model_does(actions in proptest::collection::vec(action(), 1..120)) {
        let mut hold: Hold<u32> = Hold::new(BOUNDS);
        let mut model = Model::default();
        let mut now = Mono(1_000);
        for (ticket, action) in (0u32..).zip(actions) {
            match action {
                Action::Packet { src, port, dst, lane } => {
                    let flow = flow(src, port, dst);
                    let got = hold.park(Arrival {
                        flow,
                        lane: lane.into(),
                        ticket,
                        owner: None,
                        mode: Mode::Enforce,
                        hold: BOUNDS.hold,
                    }, now);
                    prop_assert_eq!(got, model.park(flow, lane.into(), ticket, now));
                }
                Action::Record { dst, only_src } => {
                    let admits = |src: IpAddr| only_src.is_none_or(|only| src == address(0, only));
                    let got = tickets(hold.release(address(1, dst), admits, now));
                    let pick = |flow: &Flow, _, _| flow.dst.ip() == address(1, dst) && admits(flow.src.ip());
                    prop_assert_eq!(got, model.take(true, now, pick));
                }
                Action::Expire { lane } => {
                    let got = tickets(hold.expire(lane.into(), now, usize::MAX));
                    let pick = |_: &Flow, of, since: Mono| of == u16::from(lane) && since + BOUNDS.hold <= now;
                    prop_assert_eq!(got, model.take(false, now, pick));
                }
                Action::Drain { lane } => {
                    let got = tickets(hold.drain(lane.into(), now));
                    prop_assert_eq!(got, model.take(false, now, |_, of, _| of == u16::from(lane)));
                }
                Action::Pass { time } => now = now + Duration::from_nanos(time),
            }
            prop_assert_eq!(hold.len(), model.waiting.len());
            prop_assert_eq!(hold.by_destination.len(), hold.len());
            prop_assert_eq!(hold.deadlines.len(), hold.len());
            prop_assert_eq!(hold.per_source.values().sum::<usize>(), hold.len());
            for lane in 0..2 {
                let first = model.waiting.iter().filter(|e| e.1 == lane).map(|e| e.3 + BOUNDS.hold).min();
                prop_assert_eq!(hold.next_deadline(lane), first);
            }
        }
    }
}
