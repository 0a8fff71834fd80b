//! Destinations nobody resolved go on the block list if so configured, come off it, and survive a restart on it.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::super::lab::{CT4, at, eventually};
use super::super::lists::{server, soon};
use super::super::stand::{PORT, SOON, Stand, assert_passes, assert_refused, members, start};

fn auto(stand: &Stand) -> String {
    fs::read_to_string(stand.lists().join("auto.txt")).unwrap_or_default()
}

/// The line about an address, once it is written and the kernel has it.
fn listed(stand: &Stand, n: u8) -> String {
    let head = format!("{} ", server(n));
    let line = || auto(stand).lines().find(|line| line.starts_with(&head)).map(str::to_owned);
    let found = super::super::lab::retry_until(SOON, line);
    found.unwrap_or_else(|| panic!("not listed: {}\n{}", auto(stand), stand.daemon.story()))
}

#[test]
fn listed_for_one_container_it_stays_refused_to_it_alone_across_a_crash() {
    let args = ["--hold-ms", "50", "--auto-block", "container"];
    let mut stand = Stand::new("autoone", &args);
    let mark = stand.daemon.feed().mark();
    assert_refused(&stand.lab.ct, at(server(80), PORT));
    let line = listed(&stand, 80);
    assert!(line.contains(" until=") && line.contains(" from=172.31.7.2"), "{line}");
    assert!(line.ends_with("# never-resolved: tcp/443 from 172.31.7.2"), "{line}");
    stand.reloaded_since(mark);
    // Whoever takes the kernel's element out does not open it.
    stand.lab.gw.nft("delete element inet synhold denied4 { 172.31.7.2 . 203.0.113.80 }\n");
    eventually("it is put back", SOON, || !stand.members("denied4").is_empty());
    assert_refused(&stand.lab.ct, at(server(80), PORT));
    // A record does not help it without --auto-block-forgive, and harms nobody else.
    stand.resolve(CT4.into(), "late.example", server(80));
    assert_refused(&stand.lab.ct, at(server(80), PORT));
    assert_passes(&stand.lab.ct2, at(server(80), PORT));

    let (lab, log) = (stand.lab, stand.log);
    stand.daemon.kill9();
    lab.gw.nft("flush set inet synhold denied4\n");
    let again = start(&lab, &log.path, &args);
    again.ready();
    assert_refused(&lab.ct, at(server(80), PORT));
    assert_passes(&lab.ct2, at(server(80), PORT));
    eventually("the kernel has it", SOON, || {
        members(&lab, "denied4").contains("172.31.7.2 . 203.0.113.80")
    });
    let is = |e: &Value| e["event"] == "verdict" && e["verdict"] == "drop";
    for verdict in again.events().iter().filter(|e| is(e)) {
        assert_eq!(verdict["reason"], "blocklisted", "{verdict}");
    }
}

#[test]
fn listed_for_all_it_is_forgiven_by_a_later_record_if_so_configured() {
    for (forgive, name) in [(true, "autoforgive"), (false, "autokeep")] {
        let args = ["--hold-ms", "50", "--auto-block", "global", "--auto-block-forgive"];
        let mut stand = Stand::new(name, &args[..if forgive { 5 } else { 4 }]);
        let mark = stand.daemon.feed().mark();
        assert_refused(&stand.lab.ct, at(server(81), PORT));
        let line = listed(&stand, 81);
        assert!(!line.contains("from=") || line.contains("# never-resolved"), "{line}");
        stand.reloaded_since(mark);
        stand.wait_members("block4", &["203.0.113.81"]);
        assert_refused(&stand.lab.ct2, at(server(81), PORT));
        assert_eq!(stand.verdicts_on(server(81)).len(), 1, "the neighbour's meets the kernel");

        // Loading the lists again is no record.
        for text in ["198.51.100.1\n", "198.51.100.1\n198.51.100.2\n", ""] {
            let mark = stand.daemon.feed().mark();
            stand.list("block.txt", text);
            stand.reloaded_since(mark);
            assert!(auto(&stand).contains("203.0.113.81"), "forgiven without a record");
        }
        stand.wait_members("block4", &["203.0.113.81"]);

        let mark = stand.daemon.feed().mark();
        stand.resolve(CT4.into(), "late.example", server(81));
        if forgive {
            stand.reloaded_since(mark);
            stand.wait_members("block4", &[]);
            assert!(!auto(&stand).contains("203.0.113.81"), "{}", auto(&stand));
            eventually("nothing is denied", SOON, || stand.members("denied4").is_empty());
            assert_passes(&stand.lab.ct, at(server(81), PORT));
            assert_passes(&stand.lab.ct2, at(server(81), PORT));
        } else {
            assert_refused(&stand.lab.ct, at(server(81), PORT));
            assert_refused(&stand.lab.ct2, at(server(81), PORT));
            assert!(auto(&stand).contains("203.0.113.81"));
            // A person's word beats the daemon's.
            stand.list("allow.txt", "203.0.113.81\n");
            assert_passes(&stand.lab.ct2, at(server(81), PORT));
        }
    }
}

#[test]
fn resolved_before_it_is_written_down_it_is_not_listed() {
    let mut stand = Stand::new("autolate", &["--hold-ms", "50", "--auto-block", "global"]);
    assert_refused(&stand.lab.ct, at(server(86), PORT));
    stand.resolve(CT4.into(), "late.example", server(86));
    assert_refused(&stand.lab.ct, at(server(87), PORT));
    listed(&stand, 87);
    assert!(!auto(&stand).contains("203.0.113.86"), "{}", auto(&stand));
    assert_passes(&stand.lab.ct, at(server(86), PORT));
}

#[test]
fn what_is_over_leaves_the_kernel_and_the_file() {
    let mut stand = Stand::new("autoover", &["--hold-ms", "50"]);
    for n in [82, 83, 84] {
        stand.resolve(CT4.into(), &format!("n{n}.example"), server(n));
    }
    let (first, later) = (soon(Duration::from_millis(1_500)), soon(Duration::from_secs(3_600)));
    stand.list(
        "auto.txt",
        &format!(
            "# mine\n203.0.113.82 until={first} # a\n203.0.113.83 until={first} from={CT4}\n203.0.113.84 until={later}\n"
        ),
    );
    let mark = stand.daemon.feed().mark();
    for n in [82, 83, 84] {
        assert_refused(&stand.lab.ct, at(server(n), PORT));
    }
    assert_passes(&stand.lab.ct2, at(server(83), PORT));
    stand.reloaded_since(mark);
    stand.wait_members("block4", &["203.0.113.84"]);
    assert_eq!(auto(&stand), format!("# mine\n203.0.113.84 until={later}\n"));
    assert_passes(&stand.lab.ct, at(server(82), PORT));
    eventually("the pair is gone", SOON, || stand.members("denied4").is_empty());
    assert_passes(&stand.lab.ct, at(server(83), PORT));
    assert_refused(&stand.lab.ct, at(server(84), PORT));
}

#[test]
fn off_is_the_default() {
    let stand = Stand::new("autooff", &["--hold-ms", "50"]);
    assert_refused(&stand.lab.ct, at(server(85), PORT));
    stand.verdict(at(server(85), PORT));
    let lists = stand.lists();
    assert!(stand.daemon.stop().status.success());
    assert!(!lists.join("auto.txt").exists(), "and what waits to be written is written at a stop");
}
