//! The registry at a million addresses: resident memory, time to save and to load; each in a process of its own.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use synhold::engine::registry::Registry;
use synhold::engine::sieve::Sieve;
use synhold::engine::{Inquiry, Kind, Name, Record, Wall};
use synhold::store::{self, Disk, Loaded};

use super::Size;
use super::report::{Bar, Report};

/// Measures and reports.
pub fn measure(size: Size, report: &mut Report) {
    let addresses = size.addresses;
    eprintln!("registry: {addresses} addresses");
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("registry");
    let path = path.to_str().expect("a plain path");
    let filled = child(&["registry-fill", path, &addresses.to_string()]);
    let loaded = child(&["registry-load", path]);
    let millions = addresses as f64 / 1e6;
    let of = |value: &Value, key: &str| value[key].as_f64().expect("a number");
    let per_million = of(&filled, "rss") / millions / 1e6;
    report.add(
        "registry_mb_per_million",
        "registry, resident memory per 1 M addresses",
        (per_million, "MB"),
        Bar::AtMost(200.0),
        format!(
            "{:.0} bytes each; {:.0} MB when loaded from its file",
            per_million,
            of(&loaded, "rss") / millions / 1e6
        ),
    );
    let file_mb = store::size(Path::new(path)) as f64 / 1e6;
    report.add(
        "registry_records_per_s",
        "registry, records of known names taken in, one thread",
        (of(&filled, "records_per_s"), "/s"),
        Bar::AtLeast(500_000.0),
        format!("{:.0} of new addresses", of(&filled, "new_per_s")),
    );
    report.add(
        "registry_look_ups_per_s",
        "registry, look-ups, one thread",
        (of(&filled, "look_ups_per_s"), "/s"),
        Bar::None,
        "grade, names and marks",
    );
    let seconds = |value: &Value| (of(value, "seconds"), "s");
    report.add(
        "registry_save_s",
        "registry, time to save",
        seconds(&filled),
        Bar::None,
        format!("{file_mb:.0} MB with a journal, fsync included"),
    );
    report.add(
        "registry_load_s",
        "registry, time to load",
        seconds(&loaded),
        Bar::AtMost(2.0 * millions.max(1.0)),
        "its snapshot, and a journal half as long",
    );
    let per_second = of(&filled, "appended") / of(&filled, "append_seconds") / 1e6;
    report.add(
        "registry_append_per_s",
        "registry, addresses appended to the journal",
        (per_second, "M/s"),
        Bar::None,
        "",
    );
}

fn child(args: &[&str]) -> Value {
    let own = std::env::current_exe().expect("own path");
    let out = Command::new(own).args(args).output().expect("a child");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

/// In a child: fills a registry, saves it, and says what that took.
pub fn fill(path: &Path, addresses: usize) {
    let records: Vec<Record> = (0..addresses / 2 * 3).map(|n| record(n, addresses)).collect();
    let before = rss();
    let registry = Registry::default();
    let rate = |start: Instant| records.len() as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    for record in &records {
        // Each record comes with a name of its own, as from a log.
        let name = Name::new(record.name.as_str()).expect("a name");
        black_box(registry.insert(&Record { name, ..record.clone() }));
    }
    let new_per_s = rate(start);
    assert_eq!(registry.len(), addresses);
    registry.take_dirty();
    let grown = rss() - before;
    let start = Instant::now();
    for record in &records {
        black_box(registry.insert(record));
    }
    let records_per_s = rate(start);
    let start = Instant::now();
    for record in &records {
        let clients = record.client.as_slice();
        let inquiry = Inquiry { clients, at: record.time, max_age: None };
        black_box(registry.look_up(&inquiry, record.address));
    }
    let look_ups_per_s = rate(start);
    let start = Instant::now();
    let mut disk = Disk::open(path, &Loaded::default()).expect("a folder");
    let mut snapshot = disk.begin(&registry).expect("begun");
    while !snapshot.step(&registry).expect("written") {}
    disk.finish(snapshot).expect("saved");
    let seconds = start.elapsed().as_secs_f64();
    // As much as there ever is behind a snapshot.
    let changed: Vec<IpAddr> = registry.addresses().into_iter().take(addresses / 2).collect();
    let start = Instant::now();
    disk.append(&registry, &changed).expect("appended");
    disk.sync().expect("synced");
    let append_seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "rss": grown,
            "seconds": seconds,
            "appended": changed.len(),
            "append_seconds": append_seconds,
            "new_per_s": new_per_s,
            "records_per_s": records_per_s,
            "look_ups_per_s": look_ups_per_s,
        })
    );
}

/// Every other address is IPv6, every other one has two names, one name has five addresses or more, and each is asked for
/// by one of some dozens of containers.
fn record(n: usize, addresses: usize) -> Record {
    let number = (n % addresses) as u32;
    let v4 = Ipv4Addr::from(0x0b00_0000 + number * 7);
    let v6 = Ipv6Addr::from(0x2606_4700_u128 << 96 | u128::from(number) << 24 | 0x1111);
    let address = if number.is_multiple_of(2) { v4.into() } else { v6.into() };
    let name = if n < addresses { n / 5 } else { n / 5 + addresses / 2 };
    Record {
        address,
        name: Name::new(&super::parse::name(name % (addresses / 5))).expect("a name"),
        client: Some(IpAddr::from([172, 17, 0, (number % 40) as u8 + 2])),
        kind: Kind::Reply,
        chain: Vec::new(),
        time: Wall(1_764_000_000_000_000),
    }
}

/// In a child: loads a registry, and says what that took.
pub fn load(path: &Path) {
    let before = rss();
    let registry = Registry::default();
    let start = Instant::now();
    store::load(path, &registry, &Sieve::new(None, Wall(0))).expect("loaded");
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({ "rss": rss() - before, "seconds": seconds, "addresses": registry.len() })
    );
}

/// Resident bytes of this process.
fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = statm.split_whitespace().nth(1).expect("resident").parse().expect("pages");
    pages * 4096
}
