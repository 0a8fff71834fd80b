//! Log lines a second on one core: the real file source, parser, correlator and engine, over a realistic log.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use synhold::dns::{self, Answer, Sink, SpawnConfig, Spec, Stop};
use synhold::engine::health::Batch;
use synhold::engine::{Engine, Now, Settings, Wall};

use super::Size;
use super::report::{Bar, Report};
use super::stats::{median, quantile};

/// Measures and reports.
pub fn measure(size: Size, report: &mut Report) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("dnsmasq.log");
    let text = log(size.names);
    let lines = text.lines().count();
    std::fs::write(&path, &text).expect("write the log");
    eprintln!("parse: {lines} lines ({} MB), {} times", text.len() >> 20, size.parses);
    drop(text);
    let rates: Vec<f64> = (0..size.parses).map(|_| once(&path, lines, size.names)).collect();
    report.add(
        "log_lines_per_second",
        "log lines read, parsed and recorded a second, one core",
        (median(&rates), "/s"),
        Bar::AtLeast(500_000.0),
        format!(
            "worst {:.0}, best {:.0}, {} names",
            quantile(&rates, 0.0),
            quantile(&rates, 1.0),
            size.names
        ),
    );
}

struct Into {
    engine: Engine<u32>,
    stop: Stop,
    counted: Batch,
}

impl Sink for Into {
    fn behind(&mut self) {}

    fn answer(&mut self, answer: Answer<'_>) {
        let record = answer.to_record(Wall(1_764_000_000_000_000)).expect("a record");
        assert!(self.engine.record(&record, Now::default()).released.is_empty());
    }

    fn lines(&mut self, batch: Batch) {
        self.counted.lines += batch.lines;
        self.counted.records += batch.records;
        self.counted.skipped += batch.skipped;
    }

    fn caught_up(&mut self) {
        self.stop.raise();
    }

    fn up(&mut self) {}

    fn down(&mut self, why: &str) {
        panic!("{why}");
    }
}

/// Lines a second of one pass.
fn once(path: &std::path::Path, lines: usize, names: usize) -> f64 {
    let stop = Stop::new().expect("stop");
    let engine = Engine::new(Settings::default(), Vec::new());
    let mut into = Into { engine, stop: stop.clone(), counted: Batch::default() };
    let start = Instant::now();
    dns::run(
        &Spec::File(path.to_owned()),
        &SpawnConfig::default(),
        &dns::Nowhere,
        &stop,
        &mut into,
    );
    let took = start.elapsed();
    assert_eq!(
        (into.counted.lines, into.counted.skipped),
        (lines as u64, 0),
        "the log is read whole"
    );
    assert_eq!(into.engine.registry().len(), names, "every name is recorded");
    lines as f64 / took.as_secs_f64()
}

/// A log of `log-queries=extra`: every name once from upstream, one in five through an alias, most again from cache.
fn log(names: usize) -> String {
    let mut text = String::with_capacity(names * 480);
    for n in 0..names {
        let client = IpAddr::from([172, 17, 0, 2 + (n % 40) as u8]);
        let address = Ipv4Addr::from(0x0b00_0000 + n as u32 * 7);
        let name = name(n);
        let head = |serial: usize| {
            format!("Nov 21 22:12:01 dnsmasq[4711]: {serial} {client}/{}", 32_768 + n % 28_000)
        };
        let first = head(2 * n);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{first} query[A] {name} from {client}\n{first} forwarded {name} to 203.0.113.53\n"
        );
        let _ = match n % 5 {
            0 => write!(
                text,
                "{first} reply {name} is <CNAME>\n{first} reply edge{}.cdn.example is {address}\n",
                n % 9
            ),
            _ => writeln!(text, "{first} reply {name} is {address}"),
        };
        if n % 5 < 3 {
            let again = head(2 * n + 1);
            let _ = write!(
                text,
                "{again} query[A] {name} from {client}\n{again} cached {name} is {address}\n"
            );
        }
    }
    text
}

/// A distinct name of about 27 characters, as services have them.
pub fn name(n: usize) -> String {
    let words = ["api", "cdn", "static", "img", "login", "telemetry", "eu-west-1", "auth"];
    format!("{}-{n:07}.{}.example.com", words[n % 8], ["shop", "cloud", "corp"][n % 3])
}
