//! Refusals of a moment ago in the kernel, and refused destinations on the block list: in, out, and never too long.

mod auto;

use std::net::SocketAddr;

use serde_json::Value;

use super::lab::dial::{Dial, connect_many};
use super::lab::net::connect;
use super::lab::{CT2_4, CT4, CT6, DEAD6, at, eventually};
use super::lists::server;
use super::stand::{PORT, SOON, Stand, assert_passes, assert_refused};

fn pair(dst: SocketAddr) -> String {
    format!("{CT4} . {}", dst.ip())
}

/// Tries counted by the kernel's element for this container and destination.
fn tries(stand: &Stand, dst: SocketAddr) -> u64 {
    let (found, _) = stand.lab.gw.run(|| synhold::nftables::dump("denied4", 1_000)).unwrap();
    let element = found.iter().find(|found| found.element.key.to_string() == pair(dst));
    element.and_then(|found| found.count).map_or(0, |count| count.packets)
}

#[test]
fn a_retry_meets_the_kernel_and_others_are_judged_afresh() {
    let stand = Stand::new("retry", &["--hold-ms", "50"]);
    let (dst, other) = (at(server(70), PORT), at(server(71), PORT));
    assert_refused(&stand.lab.ct, dst);
    assert_eq!(stand.verdict(dst)["reason"], "never-resolved");
    stand.wait_members("denied4", &[&pair(dst)]);
    let mut nft = stand.lab.gw.command("nft");
    let listing = nft.args(["list", "set", "inet", "synhold", "denied4"]).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert!(listing.contains("timeout 1m") && listing.contains("expires 5"), "{listing}");

    for _ in 0..5 {
        assert_refused(&stand.lab.ct, dst);
    }
    assert_eq!(tries(&stand, dst), 5);
    let is = |e: &Value| e["event"] == "block" && e["dst"] == dst.ip().to_string().as_str();
    let told = stand.daemon.expect_event("a hit", is, SOON);
    assert_eq!((&told["set"], &told["src"]), (&"denied4".into(), &CT4.to_string().as_str().into()));
    assert!((1..=5).contains(&told["count"].as_u64().unwrap()), "{told}");
    assert_eq!((&told["list"], &told["enforced"]), (&Value::Null, &true.into()), "{told}");

    // Another container, another destination, another family: each is asked about once.
    assert_refused(&stand.lab.ct2, dst);
    assert_refused(&stand.lab.ct, other);
    connect(&stand.lab.ct, at(DEAD6, PORT), SOON).unwrap_err();
    assert_eq!(stand.verdict(at(DEAD6, PORT))["reason"], "never-resolved");
    stand.wait_members("denied6", &[&format!("{CT6} . {DEAD6}")]);
    stand.wait_members("denied4", &[&pair(dst), &pair(other), &format!("{CT2_4} . {}", dst.ip())]);
    assert_eq!(stand.verdicts_on(dst.ip()).len(), 2, "one for each container");
    assert_eq!(stand.verdicts_on(other.ip()).len(), 1);
    assert_eq!(stand.passed(dst), 0);
}

#[test]
fn a_record_takes_the_refusal_back_and_the_next_try_passes() {
    let mut stand = Stand::new("takeback", &["--hold-ms", "20"]);
    let all: Vec<SocketAddr> = (100..150).map(|n| at(server(n), PORT)).collect();
    let dials: Vec<Dial> = all.iter().map(|dst| Dial::from(*dst)).collect();
    let dialled = connect_many(&stand.lab.ct, &dials, SOON);
    assert!(dialled.iter().all(|dialled| dialled.result.is_err()), "{dialled:?}");
    eventually("all are denied", SOON, || stand.members("denied4").len() == all.len());
    for (n, dst) in all.iter().enumerate() {
        stand.resolve(CT4.into(), &format!("name-{n}.example"), dst.ip());
        // One thread notes the record and another changes the kernel, a moment later.
        eventually("it is taken back", SOON, || !stand.members("denied4").contains(&pair(*dst)));
        if let Err(error) = connect(&stand.lab.ct, *dst, SOON) {
            panic!("try {n}, {dst}: {error}; {} tries in the set", tries(&stand, *dst));
        }
    }
    stand.wait_members("denied4", &[]);
}

#[test]
fn a_dry_run_denies_and_lists_nothing() {
    let args = ["--dry-run", "--hold-ms", "50", "--auto-block", "global"];
    let lists = [("block.txt", "203.0.113.75\n")];
    let stand = Stand::with_lists("drydeny", &args, &lists);
    stand.wait_members("blockhosts4", &["203.0.113.75"]);
    for n in [74, 74, 75] {
        assert_passes(&stand.lab.ct, at(server(n), PORT));
    }
    let is = |n: u8| {
        let text = server(n).to_string();
        move |e: &Value| e["event"] == "verdict" && e["dst"] == text.as_str()
    };
    assert_eq!(stand.daemon.feed().wait_count(2, is(74), SOON), 2, "the retry is judged again");
    assert_eq!(stand.verdict(at(server(75), PORT))["reason"], "blocklisted");
    assert!(stand.verdicts_on(server(74)).iter().all(|verdict| verdict["enforced"] == false));
    // A dry run counts what a list has, and says so.
    let hit = |e: &Value| e["event"] == "block" && e["set"] == "blockhosts4";
    assert_eq!(stand.daemon.expect_event("a hit", hit, SOON)["enforced"], false);
    stand.wait_members("denied4", &[]);
    let lists = stand.lists();
    let ended = stand.daemon.stop();
    assert!(ended.status.success());
    assert!(!lists.join("auto.txt").exists(), "nothing is listed, not at the end either");
}
