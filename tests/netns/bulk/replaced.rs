//! A set brought to what is wanted, by difference or all anew, without a moment in which it says less.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use synhold::nftables::{Channel, Element, Replaced, dump, generation, replace};

use super::{host, load, many, many_ranges, nft, range, ranges, shown, with_sets};

#[test]
fn a_small_set_changes_by_difference() {
    with_sets(|channel| {
        let first = ranges(&["10.0.0.0-10.0.0.9", "10.0.0.20-10.0.0.29", "10.0.0.40-10.0.0.49"]);
        let done = replace(channel, "ranges4", first.clone()).unwrap();
        assert_eq!(done, Replaced { added: 3, removed: 0, exact: true, transactions: 1 });
        let before = generation().unwrap();
        let done = replace(channel, "ranges4", first).unwrap();
        assert_eq!(done, Replaced { exact: true, ..Replaced::default() });
        assert_eq!(generation().unwrap(), before, "nothing was sent");

        let second = ranges(&["10.0.0.0-10.0.0.9", "10.0.0.20-10.0.0.31", "10.0.0.50"]);
        let done = replace(channel, "ranges4", second).unwrap();
        assert_eq!(done, Replaced { added: 2, removed: 2, exact: true, transactions: 1 });
        assert_eq!(shown("ranges4"), ["10.0.0.0-10.0.0.9", "10.0.0.20-10.0.0.31", "10.0.0.50"]);
        let done = replace(channel, "ranges4", []).unwrap();
        assert_eq!(done, Replaced { removed: 3, exact: true, transactions: 1, ..done });
        assert!(replace(channel, "no_such_set", []).is_err());
    });
}

#[test]
fn times_are_part_of_what_is_wanted() {
    with_sets(|channel| {
        let timed = |text: &str, ms| Element { timeout_ms: Some(ms), ..range(text) };
        let first = [range("10.0.0.0"), timed("10.0.0.2", 600_000), timed("10.0.0.4", 600_000)];
        replace(channel, "ranges4", first).unwrap();
        // What has a second less to live is the same; what has an hour more, or for ever, is not.
        let second =
            [timed("10.0.0.0", 600_000), timed("10.0.0.2", 599_000), timed("10.0.0.4", 4_200_000)];
        let done = replace(channel, "ranges4", second).unwrap();
        assert_eq!((done.added, done.removed, done.exact), (2, 2, true));
        let (found, _) = dump("ranges4", 9).unwrap();
        let times: Vec<_> = found.iter().map(|found| found.element.timeout_ms).collect();
        assert_eq!(times, [Some(600_000), Some(600_000), Some(4_200_000)]);
        let done = replace(channel, "ranges4", [range("10.0.0.2")]).unwrap();
        assert_eq!((done.added, done.removed, done.exact), (1, 3, true));
        assert_eq!(dump("ranges4", 9).unwrap().0[0].expires_ms, None);
    });
}

#[test]
fn a_large_set_is_filled_anew_in_one_transaction() {
    with_sets(|channel| {
        load(channel, "hosts4", many(30_000));
        load(channel, "ranges4", many_ranges(30_000));
        let before = generation().unwrap().unwrap();
        let done = replace(channel, "hosts4", many(30_001).skip(1)).unwrap();
        assert!(!done.exact && done.added == 30_000, "{done:?}");
        let done = replace(channel, "ranges4", many_ranges(30_001).skip(1)).unwrap();
        assert!(!done.exact && done.added == 30_000, "{done:?}");
        assert_eq!(generation().unwrap(), Some(before + 2));
        let (hosts, spans) = (shown("hosts4"), shown("ranges4"));
        assert_eq!((hosts.len(), spans.len()), (30_000, 30_000));
        assert_eq!((hosts[0].as_str(), spans[0].as_str()), ("10.0.0.10", "10.0.0.10-10.0.0.13"));
    });
}

/// Beside ranges that go in the same transaction, adding upwards costs the kernel one walk, not one each: minutes.
#[test]
fn replacing_many_ranges_takes_no_longer_than_loading_them_twice() {
    with_sets(|channel| {
        let start = Instant::now();
        load(channel, "ranges4", many_ranges(100_000));
        let load = start.elapsed();
        let start = Instant::now();
        replace(channel, "ranges4", many_ranges(100_001).skip(1)).unwrap();
        let again = start.elapsed();
        assert!(again < load * 6 + Duration::from_secs(20), "{load:?} {again:?}");
    });
}

#[test]
fn no_reader_ever_misses_what_is_in_both_versions() {
    with_sets(|channel| {
        let both = [host("192.0.2.1"), host("10.0.0.0")];
        let (a, b) = (many(100_000), many(100_010).skip(10));
        let a = || both.into_iter().chain(a.clone().skip(1));
        let b = || both.into_iter().chain(b.clone());
        replace(channel, "hosts4", a().collect::<Vec<_>>()).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut channel = Channel::open().unwrap();
                let mut asked = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    for element in both {
                        let found = channel.get("hosts4", element.key).unwrap();
                        assert!(found.is_some(), "{} after {asked}", element.key);
                        asked += 1;
                    }
                }
                asked
            });
            for _ in 0..4 {
                for list in [b().collect::<Vec<_>>(), a().collect()] {
                    assert!(!replace(channel, "hosts4", list).unwrap().exact);
                }
            }
            over.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 1_000);
        });
    });
}

#[test]
fn what_somebody_changed_meanwhile_is_mended_too() {
    with_sets(|channel| {
        load(channel, "ranges4", ranges(&["10.0.0.0-10.0.0.9", "10.0.0.20-10.0.0.29"]));
        nft("delete element inet synhold ranges4 { 10.0.0.0-10.0.0.9 }");
        nft("add element inet synhold ranges4 { 10.0.0.2-10.0.0.3 }");
        let wanted = ranges(&["10.0.0.0-10.0.0.9", "10.0.0.20-10.0.0.29"]);
        let done = replace(channel, "ranges4", wanted).unwrap();
        assert_eq!((done.added, done.removed), (1, 1));
        assert_eq!(shown("ranges4"), ["10.0.0.0-10.0.0.9", "10.0.0.20-10.0.0.29"]);
    });
}
