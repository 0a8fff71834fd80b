//! Allow beats block: at start, at a reload, in the kernel, by name; and a block by name is for who asked for the name.

use super::super::lab::{CT2_4, CT4, at, eventually};
use super::super::stand::{PORT, Stand, assert_passes, assert_refused};
use super::{counts, server};

const NET: &str = "203.0.113.0/24\n";

#[test]
fn allow_beats_block_at_start_and_at_every_reload() {
    let lists = [("allow.txt", "203.0.113.20\n"), ("block.txt", NET)];
    let stand = Stand::with_lists("beats", &["--hold-ms", "50"], &lists);
    stand.wait_members("allow4", &["203.0.113.20"]);
    stand.wait_members("block4", &["203.0.113.0/24"]);
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    assert_refused(&stand.lab.ct, at(server(21), PORT));
    // Single addresses are in the other block set; here they are allowed as parts of a range.
    stand.list("block.txt", "203.0.113.20\n203.0.113.22\n203.0.113.21\n203.0.113.40\n");
    stand.wait_members("block4", &["203.0.113.20-203.0.113.22"]);
    stand.wait_members("blockhosts4", &["203.0.113.40"]);
    stand.list("allow.txt", "203.0.113.16/29\n");
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    assert_passes(&stand.lab.ct, at(server(21), PORT));
    assert_refused(&stand.lab.ct, at(server(40), PORT));
    // Gone from allow, what block says about it holds again, and its open flow ends.
    let event = stand.list("allow.txt", "203.0.113.20\n");
    assert_eq!(counts(&event), (1, 1));
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    assert_refused(&stand.lab.ct, at(server(21), PORT));
    stand.reload(|| std::fs::remove_file(stand.lists().join("allow.txt")).unwrap());
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    assert_eq!(
        stand.daemon.feed().count(|e| e["event"] == "verdict"),
        0,
        "all of it in the kernel"
    );
}

#[test]
fn an_allowed_domain_opens_a_blocked_address_from_its_record_on() {
    let lists = [("allow.txt", "good.example\n"), ("block.txt", NET)];
    let mut stand = Stand::with_lists("opens", &["--hold-ms", "50"], &lists);
    stand.wait_members("block4", &["203.0.113.0/24"]);
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    stand.resolve(CT4.into(), "notgood.example", server(24));
    let mark = stand.daemon.feed().mark();
    stand.resolve(CT4.into(), "www.good.example", server(20));
    assert_eq!(counts(&stand.reloaded_since(mark)), (1, 0));
    stand.wait_members("allow4", &["203.0.113.20"]);
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    assert_refused(&stand.lab.ct, at(server(24), PORT));
    // Known from the registry when the domain is allowed only now.
    stand.list("allow.txt", "good.example\nnotgood.example\n");
    assert_passes(&stand.lab.ct, at(server(24), PORT));
    let event = stand.list("allow.txt", "notgood.example\n");
    assert_eq!(counts(&event), (0, 1));
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    assert_passes(&stand.lab.ct, at(server(24), PORT));
}

#[test]
fn an_allowed_domain_beats_a_block_for_one_container_too() {
    let lists = [("allow.txt", "good.example\n"), ("block.txt", "203.0.113.20 from=172.31.7.2\n")];
    let mut stand = Stand::with_lists("opensone", &["--hold-ms", "50"], &lists);
    stand.wait_members("denied4", &["172.31.7.2 . 203.0.113.20"]);
    stand.resolve(CT2_4.into(), "shared.example", server(20));
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    assert_passes(&stand.lab.ct2, at(server(20), PORT));
    let mark = stand.daemon.feed().mark();
    stand.resolve(CT4.into(), "www.good.example", server(20));
    stand.reloaded_since(mark);
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    stand.list("allow.txt", "");
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    assert_passes(&stand.lab.ct2, at(server(20), PORT));
}

#[test]
fn a_block_for_one_container_lasts_as_long_as_its_line() {
    let lists = [("block.txt", "203.0.113.20 from=172.31.7.2\n")];
    let stand = Stand::with_lists("lasts", &["--hold-ms", "50"], &lists);
    stand.wait_members("denied4", &["172.31.7.2 . 203.0.113.20"]);
    let (found, _) = stand.lab.gw.run(|| synhold::nftables::dump("denied4", 10)).unwrap();
    let lives = found[0].expires_ms.unwrap_or(u64::MAX);
    assert!(lives > 365 * 24 * 3_600_000, "gone from the kernel in {lives} ms, the line is not");
}

#[test]
fn a_blocked_domain_is_refused_to_who_resolved_it_and_to_nobody_else() {
    let mut stand = Stand::new("domain", &["--hold-ms", "50"]);
    stand.resolve(CT4.into(), "cdn.evil.example", server(20));
    stand.resolve(CT2_4.into(), "fine.example", server(20));
    stand.resolve(CT4.into(), "fine.example", server(21));
    stand.resolve(CT4.into(), "new.evil.example", server(22));
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    stand.list("block.txt", "evil.example # whatever is under it\n");
    // Where a flow was ended, the kernel refuses by itself for a minute; elsewhere the daemon is asked.
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    assert_refused(&stand.lab.ct, at(server(22), PORT));
    assert_passes(&stand.lab.ct2, at(server(20), PORT));
    assert_passes(&stand.lab.ct, at(server(21), PORT));
    let drop = |e: &serde_json::Value| e["event"] == "verdict" && e["verdict"] == "drop";
    let refused = stand.daemon.expect_event("the refusal", drop, super::SOON);
    assert_eq!(
        (&refused["reason"], &refused["domain"], &refused["src"]),
        (&"blocklisted".into(), &"evil.example".into(), &CT4.to_string().as_str().into()),
        "{refused}"
    );
    assert_eq!(stand.daemon.feed().count(drop), 1);
    // Unblocked, the refusal of a moment ago does not outlive its reason.
    stand.list("block.txt", "# nothing\n");
    eventually("the pair is open again", super::SOON, || stand.members("denied4").is_empty());
    assert_passes(&stand.lab.ct, at(server(20), PORT));
}
