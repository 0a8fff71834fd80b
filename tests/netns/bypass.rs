//! Ways around the firewall that were found and closed; each shows its opener, and that nothing came of it.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::lab::daemon::Daemon;
use super::lab::net::{connect, connect_from, udp_ask};
use super::lab::raw::{self, Ext, Raw};
use super::lab::wire::Seen;
use super::lab::{CT4, CT6, DEAD4, DEAD6, Lab, SRV4, SRV6, Side, at};
use super::stand::{DnsLog, PORT, SOON, Stand, casts, is_verdict_on, plain, start, synhold};

const AH: u8 = 51;

/// Puts an authentication header in front of the transport of a finished packet without other extensions.
fn with_ah(packet: &[u8]) -> Vec<u8> {
    let (next, behind) = if packet[0] >> 4 == 4 { (9, 20) } else { (6, 40) };
    // Next header, length in words less two, reserved, SPI, sequence number, 12 bytes of check value.
    let mut header = [0; 24];
    (header[0], header[1], header[7], header[11]) = (packet[next], 4, 1, 1);
    let mut whole = packet.to_vec();
    whole[next] = AH;
    whole.splice(behind..behind, header);
    raw::with_length(whole)
}

/// The same behind destination options.
fn with_options_and_ah(packet: &[u8]) -> Vec<u8> {
    raw::with_extensions(&with_ah(packet), &[Ext::DestinationOptions(0)])
}

pub type Wrap = fn(&[u8]) -> Vec<u8>;
pub const WRAPS6: [Wrap; 2] = [with_ah, with_options_and_ah];

/// Packets to that address, in whatever wrapping, that the far side has seen.
fn seen(stand: &Stand, dst: IpAddr) -> Vec<Seen> {
    stand.far.count_settled(&stand.lab, Side::Srv, |_| true);
    stand.far.all().into_iter().filter(|p| !p.outgoing && p.dst.ip() == dst).collect()
}

fn wait_verdicts(stand: &Stand, count: usize, dst: SocketAddr) {
    let counted = stand.daemon.feed().wait_count(count, |e: &Value| is_verdict_on(e, dst), SOON);
    assert_eq!(counted, count, "verdicts on {dst}");
}

#[test]
fn an_ipv6_authentication_header_opens_no_way_for_the_bare_flow() {
    for (n, wrap) in (0..).zip(WRAPS6) {
        let stand = Stand::new("ah", &["--hold-ms", "100"]);
        let raw = Raw::to_gateway(&stand.lab, Side::Ct);
        let (src, server) = (at(CT6, 45_000 + n), at(SRV6, PORT));
        raw.send(&wrap(&raw::syn(src, server, 1)));
        wait_verdicts(&stand, 1, server);
        assert_eq!(stand.verdict(server)["reason"], "never-resolved", "the inner SYN was judged");
        connect_from(&stand.lab.ct, src, server, SOON).expect_err("and so is the bare one");

        let (src, dead) = (at(CT6, 45_010 + n), at(DEAD6, 9_999));
        raw.send(&wrap(&raw::udp(src, dead, b"open")));
        wait_verdicts(&stand, 1, dead);
        raw.send(&raw::udp(src, dead, b"stolen"));

        for dst in [server, dead] {
            let passed = seen(&stand, dst.ip());
            assert!(passed.is_empty(), "nothing left, bare or wrapped: {passed:?}");
        }
    }
}

#[test]
fn behind_an_authentication_header_a_resolved_address_is_reached() {
    for wrap in WRAPS6 {
        let mut stand = Stand::new("ahok", &["--hold-ms", "100"]);
        stand.resolve(CT6.into(), "six.example", SRV6.into());
        let raw = Raw::to_gateway(&stand.lab, Side::Ct);
        let dst = at(SRV6, 8_443);
        raw.send(&wrap(&raw::syn(at(CT6, 45_100), dst, 1)));
        assert_eq!(stand.verdict(dst)["reason"], "resolved");
        let passed = seen(&stand, SRV6.into());
        assert!(passed.iter().any(|p| p.is_syn_to(dst) && p.extensions >= 24), "{passed:?}");
    }
}

/// IPv4 knows no extension headers: conntrack takes AH itself for the protocol, and its flow opens no other.
#[test]
fn an_ipv4_authentication_header_opens_no_way_for_the_bare_flow() {
    let stand = Stand::new("ahfour", &["--hold-ms", "100"]);
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    let (src, server) = (at(CT4, 45_200), at(SRV4, PORT));
    raw.send(&with_ah(&raw::syn(src, server, 1)));
    connect_from(&stand.lab.ct, src, server, SOON).expect_err("judged");
    assert_eq!(stand.verdict(server)["reason"], "never-resolved");
    let (src, dead) = (at(CT4, 45_201), at(DEAD4, 9_999));
    raw.send(&with_ah(&raw::udp(src, dead, b"open")));
    raw.send(&raw::udp(src, dead, b"stolen"));
    wait_verdicts(&stand, 1, dead);
    for dst in [server, dead] {
        let bare = seen(&stand, dst.ip()).into_iter().filter(|p| p.extensions == 0 && p.dst == dst);
        assert_eq!(bare.count(), 0, "{dst}");
    }
}

#[test]
fn plain_flows_are_judged_as_ever() {
    let mut stand = Stand::new("plain", &["--hold-ms", "100"]);
    for cast in casts() {
        connect(&stand.lab.ct, cast.server, SOON).expect_err("tcp, unresolved");
        let refused = udp_ask(&stand.lab.ct, None, cast.dead, b"x", SOON);
        assert!(refused.refused(), "{refused:?}");
        for (dst, proto) in [(cast.server, "tcp"), (cast.dead, "udp")] {
            let event = stand.verdict(dst);
            assert_eq!((&event["proto"], &event["verdict"]), (&proto.into(), &"drop".into()));
            assert_eq!(stand.passed(dst), 0);
        }
        stand.resolve(cast.container, "web.example", cast.server.ip());
        connect(&stand.lab.ct, cast.server, SOON).expect("tcp, resolved");
        assert!(udp_ask(&stand.lab.ct, None, cast.server, b"x", SOON).answered(), "udp, resolved");
    }
}

#[test]
fn what_a_set_refuses_passes_in_a_dry_run() {
    for (args, refuses) in [(&[][..], true), (&["--dry-run"][..], false)] {
        for set in ["block", "blockhosts", "quarantine"] {
            let mut stand = Stand::new("dryset", &[&["--hold-ms", "100"], args].concat());
            for cast in casts() {
                let (dst, src) = (cast.server.ip(), cast.container);
                stand.resolve(src, "web.example", dst);
                connect(&stand.lab.ct, cast.server, SOON).expect("the control");
                let family = if dst.is_ipv4() { 4 } else { 6 };
                match set {
                    "block" => stand.list("block.txt", &format!("{}\n", net_of(dst))),
                    "blockhosts" => stand.list("block.txt", &format!("{dst}\n")),
                    _ => stand.list("quarantine.txt", &format!("{src}\n")),
                };
                let before = stand.daemon.feed().count(|e| is_verdict_on(e, cast.server));
                let connected = connect(&stand.lab.ct, cast.server, SOON);
                assert_eq!(connected.is_err(), refuses, "{set}{family} {args:?}: {connected:?}");
                if !refuses {
                    // The daemon judged it all the same.
                    wait_verdicts(&stand, before + 1, cast.server);
                    let verdict = stand
                        .daemon
                        .feed()
                        .all()
                        .into_iter()
                        .rfind(|e| is_verdict_on(e, cast.server));
                    assert_eq!(verdict.unwrap()["reason"], "blocklisted", "{set}{family}");
                }
                let listing = stand.lab.gw.ruleset();
                let asks = |line: &&str| line.contains(&format!(" @{set}{family} counter"));
                let idle = |line: &str| line.contains("counter packets 0 ");
                let counting = listing.lines().filter(asks).filter(|line| !idle(line));
                assert_eq!(counting.count(), 1, "{listing}");
            }
        }
    }
}

/// A network of two addresses that an address lies in.
fn net_of(address: IpAddr) -> synhold::nftables::Net {
    synhold::nftables::Net::around(address, if address.is_ipv4() { 31 } else { 127 })
}

#[test]
fn alibabas_metadata_address_is_judged() {
    let stand = Stand::new("metadata", &["--hold-ms", "100"]);
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    let metadata = at([100, 100, 100, 200], 80);
    raw.send(&raw::syn(at(CT4, 6_000), metadata, 1));
    assert_eq!(stand.verdict(metadata)["reason"], "never-resolved");
}

fn fresh(name: &str) -> (Lab, DnsLog) {
    let lab = Lab::new(name);
    let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    (lab, log)
}

#[test]
fn rules_a_killed_run_left_stay_ours_however_often_a_start_fails() {
    let (lab, log) = fresh("ownlost");
    let daemon = start_ready(&lab, &log, &[]);
    daemon.kill9();
    assert!(lab.gw.ruleset().contains("installed_by_run"));
    let failed = start(&lab, &log.path, &["--events", "/nonexistent/dir/x"]).wait_end();
    assert_eq!(failed.status.code(), Some(2), "{}", failed.stderr);
    // Killed before it comes to the rules: opening the FIFO blocks its start.
    let fifo = lab.dir().join("events");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let blocked = start(&lab, &log.path, &["--events", &fifo.display().to_string()]);
    let lock = format!("/run/synhold/net-{}.lock", lab.gw.inode());
    let pid = blocked.pid().to_string();
    super::lab::eventually("it has the lock", SOON, || {
        std::fs::read_to_string(&lock).is_ok_and(|holder| holder == pid)
    });
    blocked.kill9();

    let daemon = start(&lab, &log.path, &[]);
    assert_eq!(daemon.ready()["own_rules"], true);
    let nets: Vec<&str> =
        super::lab::CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]).collect();
    let (code, out, _) = synhold(&lab, &[&["rules", "check"][..], &nets].concat());
    assert_eq!((code, out.trim()), (0, "the rules in the kernel are as they should be"));
    assert!(daemon.stop().status.success());
    assert_eq!(lab.gw.ruleset(), "");
    connect(&lab.ct, at(SRV4, PORT), SOON).expect_err("nobody listens there");
}

fn start_ready(lab: &Lab, log: &DnsLog, args: &[&str]) -> Daemon {
    let daemon = start(lab, &log.path, args);
    daemon.ready();
    daemon
}

#[test]
fn rules_the_user_installs_under_a_running_daemon_are_the_users() {
    let (lab, log) = fresh("adopt");
    let daemon = start_ready(&lab, &log, &[]);
    let install = ["rules", "install", "--container-net", "172.31.7.0/24"];
    let (code, out, _) = synhold(&lab, &install);
    assert!(code == 0 && out.starts_with("the rules were changed in place"), "{out}");
    let ended = daemon.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(lab.gw.ruleset().contains("judge tcp"), "they stay");
    assert_eq!(synhold(&lab, &["rules", "remove"]).0, 0);

    // Removed and put in anew under it, as a user would who starts over.
    let daemon = start_ready(&lab, &log, &[]);
    assert_eq!(synhold(&lab, &["rules", "remove"]).0, 0);
    assert_eq!(synhold(&lab, &install).0, 0);
    assert!(daemon.stop().status.success());
    assert!(lab.gw.ruleset().contains("judge tcp"), "they stay");
}

#[test]
fn rules_of_the_user_changed_under_a_running_daemon_are_not_put_back() {
    let (lab, log) = fresh("changed");
    let install = ["rules", "install", "--container-net", "172.31.7.0/24", "--queues"];
    assert_eq!(synhold(&lab, &[&install[..], &["1"]].concat()).0, 0);
    let daemon = start_ready(&lab, &log, &["--queues", "2"]);
    assert_eq!(synhold(&lab, &[&install[..], &["3"]].concat()).0, 0);
    // nft does not say which queues a rule of nft_compat means; we do.
    let changed = synhold(&lab, &["rules", "show"]);
    assert!(changed.1.contains("to 0-2"), "{changed:?}");
    let ended = daemon.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(synhold(&lab, &["rules", "show"]), changed);
}

#[test]
fn kept_rules_are_nobodys_to_take_away() {
    let (lab, log) = fresh("kept");
    assert!(start_ready(&lab, &log, &["--keep-rules"]).stop().status.success());
    let kept = lab.gw.ruleset();
    assert!(kept.contains("judge tcp") && !kept.contains("installed_by_run"), "{kept}");
    let daemon = start(&lab, &log.path, &[]);
    assert_eq!(daemon.ready()["own_rules"], false);
    assert!(daemon.stop().status.success());
    assert_eq!(lab.gw.ruleset(), kept);
}

#[test]
fn foreign_rules_in_our_table_are_told_and_do_not_stop_the_stop() {
    let (lab, log) = fresh("restore");
    assert_eq!(synhold(&lab, &["rules", "install"]).0, 0);
    let clean = lab.gw.ruleset();
    lab.gw.nft(
        "insert rule inet synhold forward meta mark set 1\n\
         insert rule inet synhold refuse limit rate 5/second log prefix \"bye\"\n\
         add set inet synhold mine { type ipv4_addr; elements = { 9.9.9.9 } }\n",
    );
    let mut command = plain(&lab, &log, &["--log-format", "json"]);
    command.env("RUST_LOG", "synhold=warn");
    let daemon = Daemon::start(&lab.gw, command);
    assert_eq!(daemon.ready()["own_rules"], false);
    let ended = daemon.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    for what in ["set mine", "chain forward", "[limit] [log]"] {
        assert!(ended.stderr.contains(what), "{what} in {}", ended.stderr);
    }
    assert_eq!(lab.gw.ruleset(), clean, "what is ours is back, and nothing else was made up");
}
