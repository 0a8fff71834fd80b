//! What others do to our table while the daemon runs: told, put back, and refused all the while.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::lab::net::connect_here;
use super::lab::{CT4, at, eventually};
use super::lists::server;
use super::stand::{LATER, PORT, SOON, Stand, assert_passes, assert_refused, synhold};

const LISTS: [(&str, &str); 3] = [
    ("allow.txt", "203.0.113.30\n"),
    ("block.txt", "203.0.113.20\n203.0.113.128/25\n203.0.113.22 from=172.31.8.2\n"),
    ("quarantine.txt", "172.31.7.200\n"),
];

/// A daemon with a little of every list, and a name for a server that is on none.
fn stand(name: &str) -> Stand {
    let mut stand = Stand::with_lists(name, &["--hold-ms", "50"], &LISTS);
    stand.resolve(CT4.into(), "web.example", server(40));
    stand.resolve(CT4.into(), "listed.example", server(20));
    stand.resolve(CT4.into(), "listed.example", server(22));
    assert_whole(&stand);
    stand
}

/// Kernel and wire are what the lists say.
fn assert_whole(stand: &Stand) {
    for (set, wanted) in [
        ("allow4", "203.0.113.30"),
        ("block4", "203.0.113.128/25"),
        ("blockhosts4", "203.0.113.20"),
        ("quarantine4", "172.31.7.200"),
    ] {
        stand.wait_members(set, &[wanted]);
    }
    eventually("the pair is there", SOON, || {
        stand.members("denied4").contains("172.31.8.2 . 203.0.113.22")
    });
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    assert_refused(&stand.lab.ct, at(server(129), PORT));
    assert_refused(&stand.lab.ct2, at(server(22), PORT));
    assert_passes(&stand.lab.ct, at(server(22), PORT));
    assert_passes(&stand.lab.ct, at(server(30), PORT));
    assert_passes(&stand.lab.ct, at(server(40), PORT));
}

fn handle_of(stand: &Stand, comment: &str) -> String {
    let mut nft: Command = stand.lab.gw.command("nft");
    let listing = nft.args(["-a", "list", "table", "inet", "synhold"]).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    let comment = format!("comment \"{comment}\"");
    let line = listing.lines().find(|line| line.contains(&comment)).expect("the rule");
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn what_a_stranger_does_to_sets_is_told_and_put_back() {
    let stand = stand("strangesets");
    for script in [
        "delete element inet synhold blockhosts4 { 203.0.113.20 }",
        "add element inet synhold allow4 { 203.0.113.20 }",
        "delete element inet synhold block4 { 203.0.113.128/25 }",
        "add element inet synhold block4 { 203.0.113.40 }",
        "flush set inet synhold allow4",
        "flush set inet synhold quarantine4",
        "delete element inet synhold denied4 { 172.31.8.2 . 203.0.113.22 }",
        "add element inet synhold denied4 { 172.31.7.2 . 203.0.113.40 }",
    ] {
        let mark = stand.daemon.feed().mark();
        stand.lab.gw.nft(&format!("{script}\n"));
        let told = stand.told(mark, "rules", &["somebody changed the list sets"]);
        assert_eq!(told["healthy"], false, "{script}: {told}");
        assert_eq!(stand.told(mark, "rules", &["again"])["healthy"], true, "{script}");
        assert_whole(&stand);
    }
}

#[test]
fn what_a_stranger_does_to_rules_is_told_and_put_back_with_all_sets() {
    let stand = stand("strangerules");
    let judge = handle_of(&stand, "judge tcp");
    let lets_through = "insert rule inet synhold forward ip daddr 203.0.113.20 accept";
    for script in [
        format!("delete rule inet synhold forward handle {judge}"),
        lets_through.to_owned(),
        "flush chain inet synhold forward".to_owned(),
        "flush table inet synhold".to_owned(),
        "delete element inet synhold local4 { 10.0.0.0/8 }".to_owned(),
        "flush ruleset".to_owned(),
        "delete table inet synhold".to_owned(),
    ] {
        let mark = stand.daemon.feed().mark();
        stand.lab.gw.nft(&format!("{script}\n"));
        let told = stand.told(mark, "rules", &["somebody changed the rules", "they are put back"]);
        assert_eq!(told["healthy"], false, "{script}: {told}");
        assert_eq!(stand.told(mark, "rules", &["as they should be"])["healthy"], true, "{script}");
        assert_whole(&stand);
    }
    assert_eq!(stand.daemon.ended(), None);
    assert!(stand.daemon.stop().status.success());
    assert_eq!(stand.lab.gw.ruleset(), "", "they are still ours to take away");
}

/// Counts words about the health of the rules since a mark.
fn words(stand: &Stand, mark: u64) -> usize {
    let is = |e: &Value| e["event"] == "health" && e["what"] == "rules";
    stand.daemon.feed().since(mark).iter().filter(|e| is(e)).count()
}

#[test]
fn a_program_that_never_stops_flushing_is_not_fought_for_ever() {
    for (name, script) in [
        ("spinsets", "flush set inet synhold block4\n"),
        ("spinrules", "flush chain inet synhold forward\n"),
    ] {
        let stand = stand(name);
        let mark = stand.daemon.feed().mark();
        for _ in 0..60 {
            stand.lab.gw.nft(script);
        }
        // Something on the same thread that comes after all that was heard.
        let settled = stand.daemon.feed().mark();
        stand.list("allow.txt", "203.0.113.30\n203.0.113.32\n");
        let said = words(&stand, mark);
        // Ten mends a minute, each told when it begins and when it is done, and that it is given up.
        assert!((2..=22).contains(&said), "{name}: {said} events\n{}", stand.daemon.story());
        assert!(words(&stand, settled) <= 2, "{name}");
        // What the kernel lacks the daemon knows, as long as rules ask it.
        if name == "spinsets" {
            assert_refused(&stand.lab.ct, at(server(129), PORT));
        }
        assert!(stand.daemon.stop().status.success());
    }
}

#[test]
fn rules_a_person_removes_stay_away_until_they_install_them_again() {
    let stand = stand("person");
    let mark = stand.daemon.feed().mark();
    assert_eq!(synhold(&stand.lab, &["rules", "remove"]).0, 0);
    stand.told(mark, "rules", &["`synhold rules` changed the rules", "synhold rules install"]);
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    // Lists that change meanwhile are the daemon's business all the same, and no reason to put rules in.
    std::fs::write(stand.lists().join("quarantine.txt"), "172.31.7.201\n").unwrap();
    stand.told(mark, "lists", &["the kernel's sets are not what the lists say"]);
    assert!(!stand.lab.gw.ruleset().contains("synhold"));
    let mark = stand.daemon.feed().mark();
    std::fs::write(stand.lists().join("quarantine.txt"), "172.31.7.200\n").unwrap();

    let nets = super::lab::CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]);
    let install: Vec<&str> = ["rules", "install"].into_iter().chain(nets).collect();
    let (code, out, err) = synhold(&stand.lab, &install);
    assert_eq!(code, 0, "{out}{err}");
    stand.told(mark, "rules", &["as they should be"]);
    assert_whole(&stand);
    // And from now on strangers are minded again.
    let mark = stand.daemon.feed().mark();
    stand.lab.gw.nft("flush chain inet synhold forward\n");
    stand.told(mark, "rules", &["somebody changed the rules", "they are put back"]);
    stand.told(mark, "rules", &["as they should be"]);
    assert_whole(&stand);
}

#[test]
fn what_was_opened_while_the_rules_were_gone_is_ended() {
    let stand = stand("meanwhile");
    let listed = at(server(20), PORT);
    // The rules may be back before the connection is tried: then once more.
    let opened = (0..8).find_map(|_| {
        let mark = stand.daemon.feed().mark();
        stand.lab.gw.nft("flush ruleset\n");
        let opened = stand.lab.ct.run(|| connect_here(None, listed, SOON)).ok();
        stand.told(mark, "rules", &["as they should be"]);
        opened
    });
    let (mut stream, _) = opened.expect("nobody refused it while there were no rules");
    eventually("it is cut", LATER, || stream.write_all(b"still here").is_err());
    assert_whole(&stand);
}

/// Runs `synhold rules WHAT` with the daemon's own networks.
#[track_caller]
fn rules(stand: &Stand, what: &str, options: &[&str]) {
    let nets = super::lab::CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]);
    let all: Vec<&str> = ["rules", what].into_iter().chain(nets).collect();
    let (code, out, err) = synhold(&stand.lab, &[&all, options].concat());
    assert_eq!(code, 0, "{what} {options:?}: {out}{err}\n{}", stand.daemon.story());
}

#[test]
fn what_a_person_made_of_the_rules_is_kept_against_strangers_and_stays() {
    let stand = stand("theirs");
    let options = ["--refuse", "drop"];
    let mark = stand.daemon.feed().mark();
    rules(&stand, "install", &options);
    stand.told(mark, "rules", &["`synhold rules` changed the rules", "synhold rules install"]);
    for script in ["flush chain inet synhold forward\n", "flush ruleset\n"] {
        let mark = stand.daemon.feed().mark();
        stand.lab.gw.nft(script);
        stand.told(mark, "rules", &["somebody changed the rules", "they are put back"]);
        stand.told(mark, "rules", &["as they should be"]);
        rules(&stand, "check", &options);
    }
    // More addresses than the set has room for: it is made anew, and the rest is not touched.
    let line = |n: u32| format!("{}\n", std::net::Ipv4Addr::from(0x0900_0000 + 2 * n));
    stand.list("block.txt", &(0..66_000).map(line).collect::<String>());
    rules(&stand, "check", &options);
    // Those of the daemon's own options are wanted again.
    let mark = stand.daemon.feed().mark();
    rules(&stand, "install", &[]);
    stand.told(mark, "rules", &["as they should be"]);
    assert!(stand.daemon.stop().status.success());
    assert!(stand.lab.gw.ruleset().contains("synhold"), "they are the person's");
}

#[test]
fn strangers_are_minded_again_once_a_command_that_changed_nothing_is_over() {
    let stand = stand("nothing");
    rules(&stand, "install", &[]);
    // Nothing tells when what it announced is over: it has changed nothing.
    std::thread::sleep(Duration::from_secs(11));
    for script in ["flush chain inet synhold forward\n", "flush ruleset\n"] {
        let mark = stand.daemon.feed().mark();
        stand.lab.gw.nft(script);
        stand.told(mark, "rules", &["somebody changed the rules", "they are put back"]);
        stand.told(mark, "rules", &["as they should be"]);
        assert_whole(&stand);
    }
    assert!(stand.daemon.stop().status.success());
    assert!(stand.lab.gw.ruleset().contains("synhold"), "they are the person's");
}
