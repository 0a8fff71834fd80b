//! The canary: it passes where judging works, fails where somebody breaks it, and leaves nothing behind.

use serde_json::Value;

use super::lab::daemon::Daemon;
use super::lab::{Lab, eventually};
use super::sets_cli::{fine, json};
use super::stand::{DnsLog, LATER, STARTED, Stand, assert_refused, casts, start, synhold};

const LINK: &str = "synhold-canary";
const WELL: &str = "an unresolved address was refused, a resolved one was reached";

fn canary(lab: &Lab) -> Value {
    json(lab, &["status"]).1["canary"].clone()
}

/// What each family's packets found.
fn families(lab: &Lab) -> Vec<String> {
    let canary = canary(lab);
    let word = |found: &Value, key: &str| found[key].as_str().unwrap_or_default().to_owned();
    let all = canary["families"].as_array().into_iter().flatten();
    all.map(|found| format!("{} {}", word(found, "family"), word(found, "state"))).collect()
}

/// Waits until the canary is in a state, and returns what it says then.
fn wait(lab: &Lab, state: &str) -> String {
    let mut last = Value::Null;
    let came = super::lab::retry_until(2 * LATER, || {
        last = canary(lab);
        (last["state"] == state).then(|| last["message"].as_str().unwrap_or_default().to_owned())
    });
    came.unwrap_or_else(|| panic!("the canary is not {state}: {last}"))
}

fn is_link_there(lab: &Lab) -> bool {
    let links = lab.gw.proc_net("dev").unwrap();
    links.contains(LINK)
}

/// A change of the rules that the daemon takes for a person's, and does not mend.
fn nft_by_command(lab: &Lab, script: &str) {
    let told = format!("/run/synhold/net-{}.rules", lab.gw.inode());
    std::fs::write(told, []).unwrap();
    lab.gw.nft(script);
}

fn stand(name: &str, args: &[&str]) -> Stand {
    Stand::new(name, &[&["--canary", "on"], args].concat())
}

#[test]
fn it_passes_is_counted_nowhere_and_leaves_nothing() {
    let stand = stand("canpass", &[]);
    let before = json(&stand.lab, &["status"]).1["totals"].clone();
    let said = wait(&stand.lab, "passing");
    assert_eq!(said, WELL);
    assert_eq!(families(&stand.lab), ["IPv4 passing", "IPv6 passing"]);
    let (_, text) = super::sets_cli::command(&stand.lab, &["status"]);
    assert!(text.contains(&format!("Canary: {WELL} (IPv4 and IPv6)\n")), "{text}");
    let status = json(&stand.lab, &["status"]).1;
    assert_eq!(status["totals"], before, "its packets are nobody's");
    assert_eq!((&status["held_now"], &status["evidence"]["records"]), (&0.into(), &0.into()));
    let nets = super::lab::CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]);
    let check: Vec<&str> = ["rules", "check"].into_iter().chain(nets).collect();
    let (code, out, _) = synhold(&stand.lab, &check);
    assert_eq!((code, out.as_str()), (0, "the rules in the kernel are as they should be\n"));
    assert!(stand.members("containers4").contains("198.19.255.130"));
    assert!(stand.members("containers6").contains("2001:2:0:ffff:ffff:ffff:ffff:ff82"));
    assert!(stand.members("denied4").is_empty() && stand.members("denied6").is_empty());
    // Everybody else is judged as before.
    casts().iter().for_each(|cast| assert_refused(&stand.lab.ct, cast.server));
    assert!(is_link_there(&stand.lab));

    let Stand { daemon, lab, .. } = stand;
    let ended = daemon.stop();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{}", ended.stderr);
    let of_canary =
        |e: &&Value| ["198.19.", "2001:2:0:", "canary"].iter().any(|of| e.to_string().contains(of));
    assert_eq!(ended.events.iter().filter(of_canary).count(), 0);
    assert!(!is_link_there(&lab));
    assert!(!lab.gw.ruleset().contains("synhold"));
    for entry in std::fs::read_dir(lab.dir().join("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(14).any(|part| part == b"canary.synhold"), "{}", path.display());
        }
    }
}

#[test]
fn rules_that_are_gone_fail_it_and_rules_put_back_mend_it() {
    let stand = stand("cangone", &[]);
    let mark = stand.daemon.feed().mark();
    fine_rules(&stand.lab, "remove");
    let said = wait(&stand.lab, "failing");
    assert_eq!(said, "an address nobody resolved was reached, and no verdict was asked for");
    stand.told(mark, "canary", &["the canary: an address nobody resolved was reached"]);
    let mark = stand.daemon.feed().mark();
    fine_rules(&stand.lab, "install");
    wait(&stand.lab, "passing");
    let told = stand.told(mark, "canary", &["an unresolved address was refused"]);
    assert_eq!(told["healthy"], true);
    let all = stand.daemon.events();
    let of_canary = all.iter().filter(|e| e["event"] == "health" && e["what"] == "canary").count();
    assert_eq!(of_canary, 2, "each is told once");
}

fn fine_rules(lab: &Lab, action: &str) {
    let nets = super::lab::CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]);
    let nets: Vec<&str> = if action == "install" { nets.collect() } else { Vec::new() };
    let (code, out, err) = synhold(lab, &[&["rules", action], &nets[..]].concat());
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn a_link_or_a_route_that_is_taken_away_is_made_anew() {
    let stand = stand("canlink", &[]);
    let lab = &stand.lab;
    wait(lab, "passing");
    let looks_after = |taken: &str, change: &dyn Fn()| {
        let before = canary(lab)["at"].clone();
        lab.gw.ip(taken);
        // It looks again where something changed.
        change();
        eventually("it has looked again", 2 * LATER, || canary(lab)["at"] != before);
        assert_eq!(canary(lab)["state"], "passing", "{taken}");
        assert!(is_link_there(lab));
    };
    let theirs = "insert rule inet synhold forward counter comment \"theirs\"\n";
    looks_after("link delete synhold-canary\n", &|| nft_by_command(lab, theirs));
    looks_after("route flush dev synhold-canary\n", &|| fine_rules(lab, "install"));
    let all = stand.daemon.events();
    let of_canary = |e: &&Value| e["event"] == "health" && e["what"] == "canary";
    assert_eq!(all.iter().filter(of_canary).count(), 0, "nothing was wrong");
}

#[test]
fn an_accept_before_our_rules_fails_it() {
    let stand = stand("canaccept", &[]);
    wait(&stand.lab, "passing");
    nft_by_command(&stand.lab, "insert rule inet synhold forward accept comment \"theirs\"\n");
    let said = wait(&stand.lab, "failing");
    assert_eq!(said, "an address nobody resolved was reached, and no verdict was asked for");
    fine_rules(&stand.lab, "install");
    wait(&stand.lab, "passing");
}

/// The daemon on a host where somebody has done something before.
fn started(name: &str, before: impl FnOnce(&Lab)) -> (Daemon, Lab) {
    let lab = Lab::new(name);
    before(&lab);
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let daemon = start(&lab, &log.path, &["--canary", "on"]);
    daemon.ready();
    (daemon, lab)
}

/// A table of somebody else's that drops whatever is forwarded of a family.
fn drops_at(lab: &Lab, family: &str, priority: i32) {
    let hook = format!("type filter hook forward priority {priority}; policy drop;");
    lab.gw.nft(&format!("add table {family} theirs\nadd chain {family} theirs f {{ {hook} }}\n"));
}

#[test]
fn a_drop_of_others_behind_our_rules_is_a_remark() {
    let (_daemon, lab) = started("candrop", |lab| drops_at(lab, "ip6", 10));
    let note = "accepted by synhold, then dropped by another rule of this host";
    let said =
        format!("IPv4: {WELL}; IPv6: an unresolved address was refused, a resolved one was {note}");
    assert_eq!(wait(&lab, "passing"), said);
}

#[test]
fn a_drop_of_others_before_our_rules_is_a_failure_of_that_family() {
    for (family, name) in [("ip", "IPv4"), ("ip6", "IPv6")] {
        let (_daemon, lab) =
            started(&format!("canbefore{family}"), |lab| drops_at(lab, family, -200));
        assert_eq!(wait(&lab, "failing"), format!("{name}: packets do not reach the queue"));
        lab.gw.nft(&format!("delete table {family} theirs\n"));
        assert_eq!(wait(&lab, "passing"), WELL);
    }
}

#[test]
fn ipv6_that_passes_unjudged_fails_it_and_rules_put_back_mend_it() {
    let stand = stand("cansix", &[]);
    // Until the rules are settled, what differs is taken for the start's.
    wait(&stand.lab, "passing");
    let theirs = "insert rule inet synhold forward meta nfproto ipv6 accept comment \"theirs\"\n";
    nft_by_command(&stand.lab, theirs);
    let said = wait(&stand.lab, "failing");
    assert_eq!(said, "IPv6: an address nobody resolved was reached, and no verdict was asked for");
    assert_eq!(families(&stand.lab), ["IPv4 passing", "IPv6 failing"]);
    fine_rules(&stand.lab, "install");
    assert_eq!(wait(&stand.lab, "passing"), WELL);
}

#[test]
fn a_host_that_forwards_no_ipv6_or_has_none_fails_nothing() {
    for (name, sysctl, value, found) in [
        ("cannofwd", "ipv6/conf/all/forwarding", "0", &["IPv4 passing", "IPv6 off"][..]),
        ("canno6", "ipv6/conf/default/disable_ipv6", "1", &["IPv4 passing"]),
    ] {
        let (_daemon, lab) = started(name, |lab| lab.gw.sysctl(sysctl, value));
        assert_eq!(wait(&lab, "passing"), WELL, "{name}");
        assert_eq!(families(&lab), found, "{name}");
    }
}

#[test]
fn ipv6_that_is_switched_off_and_on_again_is_no_failure() {
    let (daemon, lab) = started("canoff6", |_| ());
    assert_eq!(wait(&lab, "passing"), WELL);
    let comes = |what: &[&str]| {
        // It looks again where something changed.
        nft_by_command(&lab, "insert rule inet synhold forward counter comment \"theirs\"\n");
        eventually("it is seen", 2 * LATER, || families(&lab) == what);
        assert_eq!(canary(&lab)["state"], "passing", "{}", canary(&lab));
    };
    lab.gw.sysctl("ipv6/conf/all/disable_ipv6", "1");
    comes(&["IPv4 passing", "IPv6 off"]);
    lab.gw.sysctl("ipv6/conf/all/disable_ipv6", "0");
    comes(&["IPv4 passing", "IPv6 passing"]);
    let told = |e: &&Value| e["event"] == "health" && e["what"] == "canary";
    assert_eq!(daemon.events().iter().filter(told).count(), 0, "{}", daemon.story());
}

/// The kernel remembers the packets of the run before, and lets their like pass without asking.
#[test]
fn restarts_one_after_the_other_fail_nothing() {
    let (mut daemon, lab) = started("canagain", |_| ());
    let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    for _ in 0..4 {
        let flown = || canary(&lab)["state"] != "waiting";
        eventually("it has flown", 2 * LATER, flown);
        assert_eq!(wait(&lab, "passing"), WELL);
        let told = |e: &&Value| e["event"] == "health" && e["what"] == "canary";
        assert_eq!(daemon.events().iter().filter(told).count(), 0, "{}", daemon.story());
        daemon.stop();
        daemon = start(&lab, &log.path, &["--canary", "on"]);
        daemon.ready();
    }
}

#[test]
fn silence_is_a_refusal_where_it_is_asked_for() {
    let stand = stand("cansilent", &["--refuse", "drop"]);
    wait(&stand.lab, "passing");
}

#[test]
fn it_says_why_it_is_off_or_waits() {
    let dry = stand("candry", &["--dry-run"]);
    assert!(wait(&dry.lab, "off").contains("dry run"));
    drop(dry);
    let off = Stand::new("canoff", &["--canary", "off"]);
    assert!(wait(&off.lab, "off").contains("--canary off"));
    assert!(!is_link_there(&off.lab));
    drop(off);
    let (_daemon, lab) = started("canfwd", |lab| lab.gw.sysctl("ipv4/ip_forward", "0"));
    let says = |what: &str| canary(&lab)["message"].as_str().is_some_and(|m| m.contains(what));
    eventually("it says so", LATER, || says("net.ipv4.ip_forward is 0"));
    assert_eq!(canary(&lab)["state"], "waiting");
    fine(&lab, &["block", "198.18.0.0/15"]);
    lab.gw.sysctl("ipv4/ip_forward", "1");
    eventually("it says so", LATER, || says("the lists name"));
}

#[test]
fn a_killed_daemon_leaves_nothing_that_keeps_the_next_from_it() {
    let (first, lab) = started("cankill", |_| ());
    let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    eventually("its link is there", LATER, || is_link_there(&lab));
    first.kill9();
    let second = start(&lab, &log.path, &["--canary", "on"]);
    second.ready();
    wait(&lab, "passing");
    second.kill9();
    eventually("the kernel takes the link away", LATER, || !is_link_there(&lab));

    // One of that name which is somebody else's stays.
    lab.gw.ip(&format!("link add {LINK} type bridge\n"));
    let third = start(&lab, &log.path, &["--canary", "on"]);
    third.ready();
    assert!(wait(&lab, "off").contains("not synhold's"));
    third.stop();
    assert!(is_link_there(&lab));
}
