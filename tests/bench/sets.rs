//! Lists into sets: our bulk path beside `nft -f` on the same list, time and peak memory, each load a process of its
//! own in a network namespace of its own; then changes and single questions in what was loaded.

mod child;
mod list;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Size;
use super::go_on;
use super::report::{Bar, Report};
use super::stats::{median, quantile};
pub use child::{load, round};
use list::Kind;

/// One way to load one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Our loader: single addresses to the hash set, networks to the interval set.
    Ours,
    /// `nft -f` into one interval set, as people write it.
    Nft,
    /// `nft -f` into the same two sets as ours.
    NftSplit,
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Way::Ours => "ours",
            Way::Nft => "nft",
            Way::NftSplit => "nft-split",
        }
    }
}

/// What the rounds of one way gave.
#[derive(Debug, Default)]
struct Loads {
    seconds: Vec<f64>,
    megabytes: Vec<f64>,
    change_ms: Vec<f64>,
    get_us: Vec<f64>,
    replace_s: Vec<f64>,
}

/// Measures and reports.
pub fn measure(size: Size, report: &mut Report) {
    let folder = tempfile::tempdir().expect("folder");
    for entries in size.lists.iter().copied() {
        for kind in [Kind::Mixed, Kind::Networks] {
            // The larger a list, the steadier its time.
            let rounds = (size.list_rounds * 100_000 / entries).clamp(size.list_rounds, 15);
            eprintln!("sets: {entries} entries, {}, {rounds} rounds", kind.words());
            compare(folder.path(), kind, entries, rounds, report);
        }
    }
}

fn compare(folder: &Path, kind: Kind, entries: usize, rounds: usize, report: &mut Report) {
    list::write(folder, kind, entries);
    let ways: &[Way] = match kind {
        Kind::Mixed => &[Way::Ours, Way::Nft, Way::NftSplit],
        // There is nothing to split.
        Kind::Networks => &[Way::Ours, Way::Nft],
    };
    let mut loads: Vec<Loads> = ways.iter().map(|_| Loads::default()).collect();
    for n in 0..rounds {
        for place in 0..ways.len() {
            go_on();
            // Each round begins with another, so that none is always the one behind the largest.
            let place = (place + n) % ways.len();
            loads[place].take(&measured(folder, ways[place], entries));
        }
    }
    let name = format!("{} {}", count(entries), kind.words());
    let key = format!("sets_{}_{}", kind.words(), count(entries).replace(' ', "").to_lowercase());
    // The contract speaks of a million.
    let barred = entries >= 1_000_000;
    against(report, &key, &name, "nft -f", (&loads[0], &loads[1]), barred);
    if let Some(split) = loads.get(2) {
        let key = format!("{key}_split");
        against(report, &key, &name, "nft -f, two sets", (&loads[0], split), false);
    }
    inside(report, &key, &name, &loads[0], barred);
}

impl Loads {
    fn take(&mut self, value: &Value) {
        let number = |key: &str| value[key].as_f64().expect("a number");
        self.seconds.push(number("seconds"));
        self.megabytes.push(number("bytes") / 1e6);
        let numbers = |key: &str| {
            value[key]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_f64)
                .collect::<Vec<_>>()
        };
        self.change_ms.extend(numbers("change_ms"));
        self.get_us.extend(numbers("get_us"));
        self.replace_s.extend(value["replace_s"].as_f64());
    }
}

/// Ratios, with the contract's bars where they are meant.
fn against(
    report: &mut Report,
    key: &str,
    name: &str,
    other: &str,
    (ours, theirs): (&Loads, &Loads),
    barred: bool,
) {
    let bar = |limit| if barred { Bar::AtMost(limit) } else { Bar::None };
    let (a, b) = (median(&ours.seconds), median(&theirs.seconds));
    report.add(
        &format!("{key}_time"),
        &format!("{name}: time beside {other}"),
        (a / b, "x"),
        bar(0.25),
        format!(
            "{a:.3} s ({:.3}..{:.3}) against {b:.3} s",
            quantile(&ours.seconds, 0.0),
            quantile(&ours.seconds, 1.0)
        ),
    );
    let (a, b) = (median(&ours.megabytes), median(&theirs.megabytes));
    report.add(
        &format!("{key}_memory"),
        &format!("{name}: peak memory beside {other}"),
        (a / b, "x"),
        bar(0.20),
        format!("{a:.0} MB against {b:.0} MB"),
    );
}

fn inside(report: &mut Report, key: &str, name: &str, ours: &Loads, barred: bool) {
    report.add(
        &format!("{key}_change"),
        &format!("{name}: a change of 1,000"),
        (median(&ours.change_ms), "ms"),
        if barred { Bar::AtMost(100.0) } else { Bar::None },
        format!("{:.1}..{:.1} ms", quantile(&ours.change_ms, 0.0), quantile(&ours.change_ms, 1.0)),
    );
    report.add(
        &format!("{key}_get"),
        &format!("{name}: asking for one element"),
        (median(&ours.get_us), "us"),
        Bar::None,
        format!("p99 {:.0} us", quantile(&ours.get_us, 0.99)),
    );
    report.add(
        &format!("{key}_replace"),
        &format!("{name}: all emptied and filled in one transaction"),
        (median(&ours.replace_s), "s"),
        Bar::None,
        "",
    );
}

/// Runs one load in a process that makes itself a namespace.
fn measured(folder: &Path, way: Way, entries: usize) -> Value {
    let own = std::env::current_exe().expect("own path");
    let folder = folder.to_str().expect("a plain path");
    let mut command = Command::new(own);
    command.args(["sets-round", way.word(), folder, &entries.to_string()]);
    let out = command.output().expect("a child");
    assert!(out.status.success(), "{way:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

fn count(entries: usize) -> String {
    match entries {
        1_000_000.. => format!("{} M", entries / 1_000_000),
        _ => format!("{} k", entries / 1_000),
    }
}
