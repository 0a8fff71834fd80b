//! What others do to our table is heard, with who did it; what we do is known as ours.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use synhold::nftables::{Bulk, Changes, Channel, Monitor, Watch};

use super::{host, load, many, many_ranges, nft, nft_load, range, with_sets};

/// Opens a monitor that knows the channel.
fn monitor(channel: &Channel) -> Monitor {
    let mut monitor = Monitor::open().unwrap();
    monitor.is_ours(channel.port().unwrap());
    monitor
}

#[track_caller]
fn is_readable(monitor: &Monitor) -> bool {
    let mut ready = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::ZERO).unwrap() == 1
}

fn sets(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn anothers_change_is_told_with_its_name_and_ours_is_ours() {
    with_sets(|channel| {
        let mut monitor = monitor(channel);
        assert_eq!(monitor.read().unwrap(), Changes::default());
        assert!(!is_readable(&monitor));

        load(channel, "hosts4", [host("192.0.2.1")]);
        assert!(is_readable(&monitor));
        assert_eq!(monitor.read().unwrap(), Changes { ours: true, ..Changes::default() });
        assert!(!is_readable(&monitor));

        let mut command = Command::new("nft");
        command.args("add element inet synhold ranges4 { 10.0.0.0/8 }".split(' '));
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        assert!(child.wait().unwrap().success());
        let heard = monitor.read().unwrap();
        assert_eq!(heard.others.len(), 1, "{heard:?}");
        assert_eq!((heard.others[0].pid, heard.others[0].name.as_str()), (pid, "nft"));
        assert_eq!(heard.sets_touched, sets(&["ranges4"]));
        assert!(heard.is_ours_touched());
        assert!(!heard.ours && !heard.elsewhere && !heard.rules_touched && !heard.overflow);

        // A channel nobody told it about is somebody else, of this process.
        let mut other = Channel::open().unwrap();
        load(&mut other, "hosts4", [host("192.0.2.2")]);
        load(channel, "hosts4", [host("192.0.2.3")]);
        let heard = monitor.read().unwrap();
        assert!(heard.ours && heard.others.len() == 1, "{heard:?}");
        assert_eq!(heard.sets_touched, sets(&["hosts4"]));
    });
}

#[test]
fn rules_sets_and_tables_are_told_apart() {
    with_sets(|channel| {
        let mut monitor = monitor(channel);
        nft("add table inet other");
        nft("add table ip synhold");
        nft("add set ip synhold x { type ipv4_addr ; }");
        let heard = monitor.read().unwrap();
        assert_eq!(heard, Changes { elsewhere: true, ..Changes::default() });
        assert!(!heard.is_ours_touched());

        nft("add chain inet synhold c");
        nft("add set inet synhold mine { type ipv4_addr ; }");
        nft("flush set inet synhold hosts4");
        let heard = monitor.read().unwrap();
        assert!(heard.rules_touched && !heard.table_deleted, "{heard:?}");
        // Flushing what is empty tells of nothing.
        assert_eq!(heard.sets_touched, sets(&["mine"]));

        nft("flush ruleset");
        let heard = monitor.read().unwrap();
        assert!(heard.table_deleted && heard.elsewhere, "{heard:?}");
        assert!(heard.others.iter().any(|who| who.name == "nft"), "{heard:?}");
        assert!(heard.sets_touched.contains("hosts4"));
    });
}

#[test]
fn a_pause_hides_our_load_but_nobody_elses_change() {
    with_sets(|channel| {
        let mut monitor = monitor(channel);
        monitor.pause().unwrap();
        load(channel, "hosts4", many(1_000));
        load(channel, "ranges4", many_ranges(1_000));
        monitor.resume(2).unwrap();
        assert_eq!(monitor.read().unwrap(), Changes::default());

        monitor.pause().unwrap();
        load(channel, "hosts4", [host("192.0.2.1")]);
        nft("add element inet synhold ranges4 { 192.0.2.0/24 }");
        monitor.resume(1).unwrap();
        let heard = monitor.read().unwrap();
        assert_eq!(heard, Changes { overflow: true, ..Changes::default() });
        assert!(heard.is_ours_touched());

        // It hears again, and said so once.
        nft("add element inet synhold ranges4 { 198.51.100.0/24 }");
        let heard = monitor.read().unwrap();
        assert_eq!(heard.sets_touched, sets(&["ranges4"]));
        assert!(!heard.overflow);
    });
}

#[test]
fn a_count_of_transactions_tells_of_others_too() {
    with_sets(|channel| {
        let mut watch = Watch::default();
        assert!(!watch.look(channel, 0).unwrap(), "nothing to compare with");
        load(channel, "hosts4", [host("192.0.2.1")]);
        load(channel, "hosts4", [host("192.0.2.2")]);
        assert!(!watch.look(channel, 2).unwrap());
        assert!(!watch.look(channel, 0).unwrap());
        nft("add table ip somewhere_else");
        load(channel, "hosts4", [host("192.0.2.3")]);
        assert!(watch.look(channel, 1).unwrap());
        assert!(!watch.look(channel, 0).unwrap());
        nft("flush ruleset");
        assert!(watch.look(channel, 0).unwrap());
    });
}

#[test]
fn what_does_not_fit_is_told_as_lost() {
    with_sets(|channel| {
        let mut monitor = monitor(channel);
        let mut other = Channel::open().unwrap();
        let mut bulk = Bulk::new();
        bulk.add("hosts4", many(60_000));
        other.send_bulk(bulk).unwrap();
        let heard = monitor.read().unwrap();
        assert!(heard.overflow && heard.is_ours_touched(), "{:?}", heard.others);
        load(&mut other, "ranges4", [range("192.0.2.0")]);
        let heard = monitor.read().unwrap();
        assert!(!heard.overflow && heard.sets_touched == sets(&["ranges4"]), "{heard:?}");
    });
}

#[test]
fn a_change_while_it_reads_is_not_lost() {
    with_sets(|channel| {
        let mut monitor = monitor(channel);
        let mut heard = 0;
        std::thread::scope(|scope| {
            let changes = scope.spawn(|| {
                let mut other = Channel::open().unwrap();
                for n in 0..200 {
                    load(&mut other, if n % 2 == 0 { "hosts4" } else { "pairs4" }, elements(n));
                }
            });
            while !changes.is_finished() || is_readable(&monitor) {
                let changes = monitor.read().unwrap();
                assert!(!changes.overflow);
                heard += changes.sets_touched.len();
            }
        });
        assert!((2..=200).contains(&heard), "{heard}");
        nft_load("flush set inet synhold pairs4");
        assert_eq!(monitor.read().unwrap().sets_touched, sets(&["pairs4"]));
    });
}

fn elements(n: u32) -> Vec<synhold::nftables::Element> {
    match n % 2 {
        0 => many(n + 1).skip(n as usize).collect(),
        _ => vec![super::pair("172.17.0.2", &format!("192.0.2.{n}"))],
    }
}
