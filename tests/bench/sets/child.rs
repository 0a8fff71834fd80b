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
use synhold::nftables::element::Key;
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
    let made = nft(list::SETS).status().expect("nft");
    assert!(made.success(), "nft -f {}", list::SETS);
    let mut command = match way {
        "ours" => {
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
    let counts = ["hosts4", "ranges4"].map(|set| count(&mut channel, set));
    if let [Some(hosts), Some(ranges)] = counts {
        assert_eq!(hosts + ranges, entries as u64, "{way}");
    }
    let (change_ms, get_us) = match way {
        "ours" => (changes(&mut channel, folder), gets(&mut channel, folder)),
        _ => (Vec::new(), Vec::new()),
    };
    println!(
        "{}",
        json!({ "seconds": seconds, "bytes": bytes, "change_ms": change_ms, "get_us": get_us })
    );
    // The kernel frees a million elements after the last user of them went; not into the next round's time.
    drop(channel);
    let mut flush = Command::new("nft");
    assert!(flush.args(["flush", "ruleset"]).status().expect("nft").success());
    std::io::stdout().flush().expect("stdout");
    std::thread::sleep(Duration::from_millis(800));
}

/// In a child: what a daemon does with a list file, from reading it to the kernel's word that all is in.
pub fn load(path: &Path) {
    let ranges = read(path);
    let mut bulk = Bulk::new();
    let (hosts, spans) = (|span: &Span| span.first() == span.last(), Family::V4);
    bulk.add("hosts4", ranges.spans(spans).filter(hosts).map(host));
    let list: Vec<Span> = ranges.spans(spans).filter(|span| !hosts(span)).collect();
    let bits: u32 = std::env::var("BITS").map_or(0, |b| b.parse().unwrap());
    if bits == 0 {
        bulk.add("ranges4", list.iter().copied().map(range));
    } else {
        let block = 1usize << bits;
        let blocks = list.len().div_ceil(block);
        let top = usize::BITS - blocks.leading_zeros();
        let rev = |n: usize, bits: u32| n.reverse_bits() >> (usize::BITS - bits);
        let skeleton =
            (0..1usize << top).map(|n| rev(n, top)).filter(|n| *n < blocks).map(|n| n * block);
        let fill = (0..blocks).flat_map(|b| (1..block).map(move |n| b * block + rev(n, bits)));
        bulk.add("ranges4", skeleton.chain(fill).filter_map(|n| list.get(n)).copied().map(range));
    }
    let t = Instant::now();
    drop(ranges);
    Channel::open().and_then(|mut channel| channel.send_bulk(bulk)).expect("loaded");
    eprintln!("send {:?}", t.elapsed());
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

fn host(span: Span) -> Element {
    Element::new(Key::Address(Family::V4.address(span.first())))
}

fn range(span: Span) -> Element {
    Element::new(Key::Span(Family::V4, span))
}

fn element(span: Span) -> (&'static str, Element) {
    match span.first() == span.last() {
        true => ("hosts4", host(span)),
        false => ("ranges4", range(span)),
    }
}

/// Takes every so-maniest entry out and puts those of the time before back: half of each.
fn changes(channel: &mut Channel, folder: &Path) -> Vec<f64> {
    let spans: Vec<Span> = read(&folder.join(list::LIST)).spans(Family::V4).collect();
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

fn gets(channel: &mut Channel, folder: &Path) -> Vec<f64> {
    let spans: Vec<Span> = read(&folder.join(list::LIST)).spans(Family::V4).collect();
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
