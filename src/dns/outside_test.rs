//! Tests of a log that comes from outside: its times, its history, and what is told of it.

use std::net::IpAddr;
use std::sync::Mutex;

use crate::dns::testing::lookup;
use crate::dns::{Answer, SpawnConfig, Spec, run};
use crate::engine::health::Batch;

use super::*;

const HOUR: u64 = 3_600_000_000;
const T: Wall = Wall(495_000 * HOUR);

/// A log that was written beforehand, and a clock that goes on by a second with each look.
struct Script(fn(&mut dyn Taker), Mutex<u64>);

impl Outside for Script {
    fn follow(&self, name: &str, _: &Stop, taker: &mut dyn Taker) {
        assert_eq!(name, "resolver");
        self.0(taker);
    }
    fn clock(&self) -> Mono {
        let mut clock = self.1.lock().unwrap();
        *clock += 1_000_000_000;
        Mono(*clock)
    }
}

#[derive(Default)]
struct Heard(Vec<String>);

impl Sink for Heard {
    fn behind(&mut self) {
        self.0.push("behind".to_owned());
    }
    fn answer(&mut self, answer: Answer<'_>) {
        let now = Wall(T.0 + HOUR);
        let time = answer.to_record(now).unwrap().time;
        self.0.push(format!("{} at {}", answer.name, time.0.cast_signed() - T.0.cast_signed()));
    }
    fn lines(&mut self, batch: Batch) {
        self.0.push(format!("{} lines {} skipped", batch.lines, batch.skipped));
    }
    fn caught_up(&mut self) {
        self.0.push("caught up".to_owned());
    }
    fn up(&mut self) {
        self.0.push("up".to_owned());
    }
    fn down(&mut self, why: &str) {
        self.0.push(format!("down: {why}"));
    }
    fn note(&mut self, what: &str) {
        self.0.push(format!("note: {what}"));
    }
}

fn heard(script: fn(&mut dyn Taker)) -> Vec<String> {
    let (mut heard, stop) = (Heard::default(), Stop::new().unwrap());
    let script = Script(script, Mutex::new(0));
    run(&Spec::Docker("resolver".to_owned()), &SpawnConfig::default(), &script, &stop, &mut heard);
    heard.0
}

fn write(taker: &mut dyn Taker, at: u64, name: &str) {
    for line in lookup(name).lines() {
        taker.line(Wall(at), Ok(line.as_bytes()));
    }
}

#[test]
fn records_have_the_times_of_their_lines_and_never_one_of_the_future() {
    let got = heard(|taker| {
        taker.history(T, T);
        taker.up();
        write(taker, T.0 - 5, "past");
        write(taker, T.0 + 2 * HOUR, "future");
        taker.line(T, Err(Skip::TooLong));
        taker.caught_up();
    });
    let answers = ["past.example at -5", "future.example at 3600000000"];
    assert_eq!(got, [&["up"], &answers[..], &["5 lines 1 skipped"]].concat());
}

#[test]
fn history_is_told_and_the_source_is_up_and_caught_up_after_it() {
    let got = heard(|taker| {
        taker.history(Wall(T.0 - 48 * HOUR), T);
        taker.behind();
        for n in 0..256 {
            write(taker, T.0 - 24 * HOUR, &format!("n{n}"));
        }
        taker.caught_up();
        taker.behind();
        write(taker, T.0, "last");
        taker.up();
        taker.caught_up();
    });
    let rest: Vec<&str> =
        got.iter().map(String::as_str).filter(|heard| !heard.contains("example at")).collect();
    assert_eq!(
        rest,
        [
            "note: reading 48 h of the log of container resolver",
            "behind",
            "256 lines 0 skipped",
            "256 lines 0 skipped",
            "note: 50 % of the log of container resolver is read: 512 lines, 256 records",
            "2 lines 0 skipped",
            "note: read 48 h of the log of container resolver: 514 lines, 257 records, 3.0 s",
            "caught up",
            "up",
        ]
    );
}

#[test]
fn a_reason_is_told_once_and_what_was_missed_for_a_moment_is_not() {
    let got = heard(|taker| {
        for _ in 0..2 {
            taker.down("gone");
        }
        taker.history(T, Wall(T.0 + 1_000_000));
        taker.behind();
        taker.up();
        taker.down("gone");
    });
    assert_eq!(got, ["down: gone", "behind", "caught up", "up", "down: gone"]);
}

#[test]
fn a_question_before_a_cut_is_answered_after_it() {
    let got = heard(|taker| {
        taker.history(T, T);
        taker.up();
        taker.line(T, Ok(b"dnsmasq[1]: 7 10.0.0.2/9 query[A] a.example from 10.0.0.2"));
        taker.down("cut");
        taker.history(T, T);
        taker.up();
        taker.line(T, Ok(b"dnsmasq[1]: 7 10.0.0.2/9 reply a.example is 192.0.2.1"));
        taker.caught_up();
    });
    assert!(got.contains(&"a.example at 0".to_owned()), "{got:?}");
}

#[test]
fn without_an_engine_the_source_is_down_until_it_is_stopped() {
    let (mut heard, stop) = (Heard::default(), Stop::new().unwrap());
    stop.raise();
    super::run("resolver", &Nowhere, &stop, &mut heard);
    assert_eq!(heard.0, ["down: there is no container engine"]);
}

/// As Debian's and Alpine's dnsmasq write them in a container, where they are process 1, or 7 below a shell.
#[test]
fn what_dnsmasq_writes_in_a_container_is_understood() {
    for tag in ["dnsmasq[1]: ", "dnsmasq[7]: ", "dnsmasq: ", "Nov 22 04:37:57 dnsmasq[1]: "] {
        for extra in ["", "12 172.18.0.4/4711 "] {
            let mut pump = Pump::new();
            let mut got = Got(Vec::new());
            for body in ["query[A] a.example from 172.18.0.4", "cached a.example is 192.0.2.9"] {
                pump.timed(T, Ok(format!("{tag}{extra}{body}").as_bytes()), &mut got);
            }
            let client: IpAddr = "172.18.0.4".parse().unwrap();
            assert_eq!(got.0, [("a.example".to_owned(), Some(client))], "{tag}{extra}");
        }
    }
}

struct Got(Vec<(String, Option<IpAddr>)>);

impl Sink for Got {
    fn behind(&mut self) {}
    fn answer(&mut self, answer: Answer<'_>) {
        self.0.push((answer.name.to_owned(), answer.client));
    }
    fn lines(&mut self, _: Batch) {}
    fn caught_up(&mut self) {}
    fn up(&mut self) {}
    fn down(&mut self, _: &str) {}
}
