//! Measurements, asserted nowhere: `cargo test --release --lib dns::throughput -- --ignored --nocapture`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use crate::engine::health::Batch;

use super::framing::Framing;
use super::pump::Pump;
use super::testing::{Heard, Source, lookup};
use super::{Answer, Sink, Spec};

/// Counts, and looks at each answer as a registry would.
#[derive(Default)]
struct Counter {
    answers: u64,
    bytes: usize,
    batch: Batch,
}

impl Sink for Counter {
    fn behind(&mut self) {}
    fn answer(&mut self, answer: Answer<'_>) {
        self.answers += 1;
        self.bytes += answer.name.len() + answer.chain.len();
    }
    fn lines(&mut self, batch: Batch) {
        self.batch.lines += batch.lines;
        self.batch.records += batch.records;
        self.batch.skipped += batch.skipped;
    }
    fn caught_up(&mut self) {}
    fn up(&mut self) {}
    fn down(&mut self, _: &str) {}
}

/// Half of the queries answered from the cache, half forwarded; every third behind CNAMEs, every fourth for AAAA.
fn log(queries: usize, extra: bool) -> String {
    let mut log = String::new();
    for n in 0..queries {
        let (client, port) = (n % 40 + 2, 20_000 + n % 40_000);
        let start = if extra { format!("{n} 172.18.0.{client}/{port} ") } else { String::new() };
        let start = format!("Nov 21 22:12:01 dnsmasq[812]: {start}");
        let name = format!("api{}.service-{}.example.com", n % 5_000, n % 70);
        let (source, six) = (if n % 2 == 0 { "cached" } else { "reply" }, n % 4 == 0);
        let qtype = if six { "AAAA" } else { "A" };
        let _ = writeln!(log, "{start}query[{qtype}] {name} from 172.18.0.{client}");
        if n % 2 == 1 {
            let _ = writeln!(log, "{start}forwarded {name} to 9.9.9.9");
        }
        let mut owner = name;
        if n % 3 == 0 {
            let _ = writeln!(log, "{start}{source} {owner} is <CNAME>");
            owner = format!("edge{}.cdn.example.net", n % 900);
        }
        for last in 1..=2 {
            let address = if six {
                format!("2001:db8::{n:x}:{last}")
            } else {
                format!("198.51.{}.{last}", n % 256)
            };
            let _ = writeln!(log, "{start}{source} {owner} is {address}");
        }
    }
    log
}

#[test]
#[ignore = "a measurement"]
fn throughput() {
    for (format, extra) in [("extra", true), ("plain", false)] {
        let log = log(500_000, extra);
        let (mut pump, mut framing, mut counter) =
            (Pump::new(), Framing::default(), Counter::default());
        let began = Instant::now();
        for chunk in log.as_bytes().chunks(64 << 10) {
            pump.feed(chunk, &mut framing, &mut counter);
        }
        let seconds = began.elapsed().as_secs_f64();
        let batch = counter.batch;
        assert_eq!((batch.records, batch.skipped), (counter.answers, 0));
        println!(
            "{format}: {:.2} M lines/s ({} lines of {} bytes, {} answers)",
            batch.lines as f64 / seconds / 1e6,
            batch.lines,
            log.len() as u64 / batch.lines,
            batch.records
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn latency_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dns.log");
    let mut log = std::fs::File::create(&path).unwrap();
    let source = Source::start(Spec::File(path));
    source.up();
    let mut micros: Vec<u128> = (0..5_000)
        .map(|n| {
            let text = lookup(&format!("n{n}"));
            let began = Instant::now();
            log.write_all(text.as_bytes()).unwrap();
            source.until(|heard| matches!(heard, Heard::Answer(_)));
            began.elapsed().as_micros()
        })
        .collect();
    micros.sort_unstable();
    println!(
        "file, write to answer on another thread: p50 {} us, p99 {} us",
        micros[2_500], micros[4_950]
    );
}
