//! The processes that are measured: one that makes a namespace and watches a load in it, and our loader.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;
use synhold::engine::intervals::Span;
use synhold::engine::net::{Family, Net};
use synhold::engine::ranges::RangeSet;
use synhold::nftables::element::{Key, highest_first};
use synhold::nftables::{Bulk, Channel, Element};

use super::list;

/// Changes that are timed, each of as many elements.
const CHANGES: usize = 9;
const CHANGED: usize = 1_000;
/// Questions that are timed.
const GETS: usize = 2_000;

/// In a child: loads a list in a way, times that, and if it was ours, what comes after.
pub fn round(way: &str, folder: &Path, entries: usize) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a namespace; this needs root");
    let nft = |script: &str| {
        let mut command = Command::new("nft");
        command.arg("-f").arg(folder.join(script));
        command
    };
    let mut command = match way {
        "ours" => {
            let made = nft(list::SETS).status().expect("nft");
            assert!(made.success(), "nft -f {}", list::SETS);
            let mut command = Command::new(std::env::current_exe().expect("own path"));
            command.arg("sets-load").arg(folder.join(list::LIST));
            command
        }
        "nft" => nft(list::NFT),
        _ => nft(list::SPLIT),
    };
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).status().expect("a loader");
    let seconds = start.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}: {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("resource usage");
    let bytes = usage.max_rss() * 1024;
    let mut channel = Channel::open().expect("netlink");
    let count = |channel: &mut Channel, set| channel.set_count(set).expect("an answer");
    let [hosts, ranges] = ["hosts4", "ranges4"].map(|set| count(&mut channel, set));
    // Kernels that count say how many ranges there are.
    let loaded = ranges.map(|ranges| ranges + hosts.unwrap_or(0));
    assert!(loaded.is_none_or(|loaded| loaded == entries as u64), "{way}: {loaded:?}");
    let mut measured = json!({ "seconds": seconds, "bytes": bytes });
    if way == "ours" {
        let spans: Vec<Span> = read(&folder.join(list::LIST)).spans(Family::V4).collect();
        measured["change_ms"] = changes(&mut channel, &spans).into();
        measured["get_us"] = gets(&mut channel, &spans).into();
        measured["replace_s"] = replaced(&mut channel, &spans).into();
    }
    println!("{measured}");
    // The kernel frees elements when the last user of them is gone; not in the next round's time.
    drop(channel);
    let mut flush = Command::new("nft");
    assert!(flush.args(["flush", "ruleset"]).status().expect("nft").success());
    std::io::stdout().flush().expect("stdout");
    std::thread::sleep(Duration::from_millis(100) + Duration::from_nanos(700) * entries as u32);
}

/// In a child: what a daemon does with a list file, from reading it to the kernel's word that all is in.
pub fn load(path: &Path) {
    let ranges = read(path);
    let spans = || ranges.spans(Family::V4).map(element);
    let of = |set| spans().filter(move |(name, _)| *name == set).map(|(_, element)| element);
    let mut bulk = Bulk::new();
    bulk.add("hosts4", of("hosts4")).add("ranges4", highest_first(of("ranges4")));
    Channel::open().and_then(|mut channel| channel.send_bulk(bulk)).expect("loaded");
}

fn read(path: &Path) -> RangeSet {
    let file = std::fs::File::open(path).expect("the list");
    let mut lines = BufReader::with_capacity(1 << 16, file);
    let mut line = String::new();
    RangeSet::new(std::iter::from_fn(move || {
        line.clear();
        let len = lines.read_line(&mut line).expect("a line");
        let net: Net = (len > 0).then(|| line.trim_end().parse().expect("a network"))?;
        Some((net.family(), net.span()))
    }))
}

/// A single address goes to the set of addresses, anything longer to the set of ranges.
fn element(span: Span) -> (&'static str, Element) {
    match span.first() == span.last() {
        true => ("hosts4", Element::new(Key::Address(Family::V4.address(span.first())))),
        false => ("ranges4", Element::new(Key::Span(Family::V4, span))),
    }
}

/// Takes every so-maniest entry out and puts those of the time before back: half of each.
fn changes(channel: &mut Channel, spans: &[Span]) -> Vec<f64> {
    let step = spans.len() / CHANGED * 2;
    let part = |round: usize| spans.iter().skip(round * 3).step_by(step).copied();
    let mut times = Vec::new();
    for round in 0..=CHANGES {
        let mut bulk = Bulk::new();
        let start = Instant::now();
        for set in ["hosts4", "ranges4"] {
            let of = |span: &Span| element(*span).0 == set;
            bulk.remove(set, part(round).filter(of).map(|span| element(span).1));
            if round > 0 {
                bulk.add(set, part(round - 1).filter(of).map(|span| element(span).1));
            }
        }
        channel.send_bulk(bulk).expect("changed");
        if round > 0 {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let mut bulk = Bulk::new();
    for span in part(CHANGES) {
        let (set, element) = element(span);
        bulk.add(set, [element]);
    }
    channel.send_bulk(bulk).expect("put back");
    times
}

fn gets(channel: &mut Channel, spans: &[Span]) -> Vec<f64> {
    let step = spans.len() / GETS;
    let mut times = Vec::new();
    for span in spans.iter().step_by(step.max(1)) {
        let inside: IpAddr = Family::V4.address(span.last());
        let (set, key) = match element(*span) {
            ("hosts4", _) => ("hosts4", Key::Address(inside)),
            (set, _) => (set, Key::point(inside)),
        };
        let start = Instant::now();
        let found = channel.get(set, key).expect("an answer").expect("it is there");
        times.push(start.elapsed().as_secs_f64() * 1e6);
        assert_eq!(found.element.key, element(*span).1.key);
    }
    times
}

/// Empties and fills everything in one transaction, as after a change that nobody knows.
fn replaced(channel: &mut Channel, spans: &[Span]) -> f64 {
    let start = Instant::now();
    let mut bulk = Bulk::new();
    for set in ["hosts4", "ranges4"] {
        let all = spans.iter().map(|span| element(*span));
        bulk.flush(set).add(set, all.filter(|(name, _)| *name == set).map(|(_, element)| element));
    }
    channel.send_bulk(bulk).expect("replaced");
    start.elapsed().as_secs_f64()
}
