//! The rules in the real kernel: put in, read back, compared, changed in place, taken out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod drift;
mod networks;
mod side_doors;
mod strangers;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use nix::sched::{CloneFlags, unshare};
use synhold::nftables::expr::Reg;
use synhold::nftables::{
    self, Bridge, Drift, Error, Options, Posture, QueueVia, Refuse, Ruleset, apply, check, probe,
    read, remove,
};

/// Runs in a fresh network namespace, which goes with its thread.
pub fn in_netns<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        test()
    });
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

pub fn run(command: &mut Command, input: &str) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
pub fn nft(args: &str) -> String {
    let output = run(Command::new("nft").args(args.split(' ')), "");
    assert!(output.status.success(), "nft {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub fn nft_load(text: &str) {
    let output = run(Command::new("nft").args(["-f", "-"]), text);
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

/// The handle of the rule with this comment.
#[track_caller]
fn handle_of(comment: &str) -> String {
    let listing = nft("-a list table inet synhold");
    let line =
        listing.lines().find(|line| line.contains(&format!("comment \"{comment}\""))).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

/// Both families, two networks each, and what this kernel can queue with.
fn options() -> Options {
    Options {
        queue_num: 7,
        queue_via: probe().unwrap(),
        containers: ["172.17.0.0/16", "198.51.100.0/24", "fd00:17::/64", "2001:db8:1::/64"]
            .map(|net| net.parse().unwrap())
            .to_vec(),
        host_addresses: ["203.0.113.1", "2001:db8::1"]
            .map(|address| address.parse().unwrap())
            .to_vec(),
        bridges: vec![
            bridge("docker0", &["172.17.0.0/16"]),
            bridge("br-0123456789ab", &["198.51.100.0/25", "fd00:17::/64", "198.51.100.128/25"]),
            bridge("br-0123456789ab", &["2001:db8:1::/64"]),
        ],
        ..Options::default()
    }
}

pub fn bridge(interface: &str, nets: &[&str]) -> Bridge {
    let nets = nets.iter().map(|net| net.parse().unwrap()).collect();
    Bridge { interface: interface.to_owned(), nets }
}

fn install(options: &Options) -> Ruleset {
    let wanted = Ruleset::new(options);
    apply(&wanted, read().unwrap().as_ref()).unwrap();
    wanted
}

#[track_caller]
fn assert_drift(wanted: &Ruleset, lines: &[&str]) {
    let drift: Vec<String> =
        check(wanted, read().unwrap().as_ref()).iter().map(Drift::to_string).collect();
    assert_eq!(drift, lines);
}

#[test]
fn what_is_applied_is_read_back() {
    in_netns(|| {
        assert_eq!(read().unwrap(), None);
        for posture in [Posture::Closed, Posture::Open] {
            for refuse in [Refuse::Reset, Refuse::Drop] {
                for queues in [1, 4] {
                    for flag in [false, true] {
                        let (dry_run, owned) = (flag, flag);
                        let wanted = install(&Options {
                            posture,
                            refuse,
                            queues,
                            dry_run,
                            owned,
                            ..options()
                        });
                        let found = read().unwrap().unwrap();
                        assert_eq!((&found, found.is_owned()), (&wanted, owned));
                        assert_drift(&wanted, &[]);
                    }
                }
            }
        }
    });
}

#[test]
fn applying_twice_changes_nothing() {
    in_netns(|| {
        let start = generation();
        let wanted = install(&options());
        assert_eq!(generation(), start + 1, "installing is one transaction");
        let before = (nft("-a list ruleset"), generation());
        let applied = apply(&wanted, read().unwrap().as_ref()).unwrap();
        assert_eq!(applied.changes, []);
        assert_eq!((nft("-a list ruleset"), generation()), before);
    });
}

/// Counts the transactions committed in this namespace, whoever sent them: NFT_MSG_GETGEN.
fn generation() -> u32 {
    const GET_GENERATION: [u8; 20] =
        [20, 0, 0, 0, 16, 10, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let socket = netlink_sys::Socket::new(libc::NETLINK_NETFILTER as isize).unwrap();
    socket.send_to(&GET_GENERATION, &netlink_sys::SocketAddr::new(0, 0), 0).unwrap();
    let (answer, _) = socket.recv_from_full().unwrap();
    u32::from_be_bytes(answer[24..28].try_into().unwrap())
}

#[test]
fn racing_installs_do_not_double_rules() {
    in_netns(|| {
        let wanted = Ruleset::new(&options());
        apply(&wanted, None).unwrap();
        apply(&wanted, None).unwrap();
        assert_eq!(read().unwrap(), Some(wanted));
    });
}

#[test]
fn other_options_change_rules_in_place() {
    in_netns(|| {
        let wanted = install(&options());
        let handle_line = |chain: &str| {
            let listing = nft("-a list table inet synhold");
            listing
                .lines()
                .find(|line| line.contains(&format!("chain {chain} ")))
                .unwrap()
                .to_owned()
        };
        let handles = || ["forward", "verdict", "refuse"].map(handle_line);
        let (before, judge) = (handles(), handle_of("judge tcp"));
        nft("add element inet synhold quarantine4 { 172.17.0.9 }");
        nft("add element inet synhold block6 { 2001:db8:bad::/48 }");
        nft("add element inet synhold blockhosts4 { 203.0.113.66 }");

        let other = Options {
            queue_num: 20,
            queues: 2,
            posture: Posture::Open,
            refuse: Refuse::Drop,
            containers: vec!["172.16.0.0/15".parse().unwrap(), "2001:db8:1::/64".parse().unwrap()],
            host_addresses: vec!["255.255.255.254".parse().unwrap()],
            ..options()
        };
        let changed = Ruleset::new(&other);
        let applied = apply(&changed, Some(&wanted)).unwrap();
        assert!(applied.changes.len() > 4, "{:?}", applied.changes);
        assert_eq!(read().unwrap(), Some(changed));
        assert_eq!(handles(), before);
        // Chain forward says the same in both, so its rules and their counters stay.
        assert_eq!(handle_of("judge tcp"), judge);
        assert!(nft("list set inet synhold quarantine4").contains("172.17.0.9"));
        assert!(nft("list set inet synhold block6").contains("2001:db8:bad::/48"));
        assert!(nft("list set inet synhold blockhosts4").contains("203.0.113.66"));
    });
}

#[test]
fn a_set_of_hosts_grows_and_is_left_grown() {
    in_netns(|| {
        let small = install(&options());
        let large = install(&Options { hosts_size: 131_072, ..options() });
        assert_drift(&large, &[]);
        assert_eq!(read().unwrap().as_ref(), Some(&large));
        nft("add element inet synhold blockhosts4 { 203.0.113.66 }");
        assert_drift(&small, &[]);
        assert_eq!(apply(&small, Some(&large)).unwrap().changes, []);
        assert!(nft("list set inet synhold blockhosts4").contains("203.0.113.66"));
    });
}

const FOREIGN: &str = "
table ip mine {
	set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }
	chain c { type filter hook forward priority 0; policy drop; ip saddr @s counter accept; }
}
table inet other {
	chain c { tcp dport { 80, 443 } accept; }
}
";

#[test]
fn removing_leaves_everything_as_it_was() {
    in_netns(|| {
        nft_load(FOREIGN);
        let before = nft("-a list ruleset");
        assert!(!remove().unwrap());
        install(&options());
        assert_ne!(nft("-a list ruleset"), before);
        assert!(remove().unwrap());
        assert_eq!(nft("-a list ruleset"), before);
        assert_eq!(read().unwrap(), None);
        assert!(!remove().unwrap());
    });
}

#[test]
fn a_transaction_that_fails_leaves_nothing() {
    in_netns(|| {
        nft_load(FOREIGN);
        let before = nft("-a list ruleset");
        let mut wanted = Ruleset::new(&options());
        // A rule of the last chain asks a set that is not there; all before it is fine.
        let set = "no_such_set".to_owned();
        let lookup = nftables::expr::Expr::Lookup { set, from: Reg::ONE, inverted: false };
        let rules = &mut wanted.chains.last_mut().unwrap().rules;
        rules.last_mut().unwrap().exprs.insert(0, lookup);
        let error = apply(&wanted, None).unwrap_err();
        assert!(
            matches!(&error, Error::Unsupported { what, .. } if what == "rule \"drop what is forged\" of chain forged"),
            "{error}"
        );
        assert_eq!(nft("-a list ruleset"), before);

        let good = install(&options());
        let before = nft("-a list ruleset");
        assert!(apply(&wanted, Some(&good)).is_err());
        assert_eq!(nft("-a list ruleset"), before);
        assert_drift(&good, &[]);
    });
}

#[test]
fn a_change_made_on_an_old_reading_is_refused_whole() {
    in_netns(|| {
        let old = install(&options());
        nft("delete element inet synhold containers4 { 172.17.0.0/16 }");
        let before = nft("-a list ruleset");
        let wanted = Ruleset::new(&Options { containers: Vec::new(), queues: 3, ..options() });
        let error = apply(&wanted, Some(&old)).unwrap_err();
        assert!(
            matches!(&error, Error::Refused { what, .. } if what.contains("containers4")),
            "{error}"
        );
        assert_eq!(nft("-a list ruleset"), before);
    });
}

#[test]
fn probing_leaves_nothing() {
    in_netns(|| {
        nft_load(FOREIGN);
        let before = (nft("-a list ruleset"), generation());
        let via = probe().unwrap();
        assert_eq!((nft("-a list ruleset"), generation()), before);
        // nft asks the same kernel in its own way.
        let native = run(
            Command::new("nft").args(["-c", "-f", "-"]),
            "table inet t {\nchain c { queue to 0; }\n}",
        );
        assert_eq!(via == QueueVia::Native, native.status.success());
        install(&options());
        let before = nft("-a list ruleset");
        probe().unwrap();
        assert_eq!(nft("-a list ruleset"), before);
    });
}

#[test]
fn thousands_of_networks_fit_one_transaction() {
    in_netns(|| {
        let net = |n: u16| format!("2001:db8:{n:x}::/64").parse().unwrap();
        let many = Options { containers: (0..4_000).map(|n| net(n * 2)).collect(), ..options() };
        let wanted = install(&many);
        assert_eq!(wanted.set("containers6").unwrap().elements.as_ref().unwrap().len(), 4_000);
        assert_eq!(read().unwrap(), Some(wanted));
        let fewer = Options { containers: (0..3_000).map(|n| net(n + 1)).collect(), ..options() };
        let wanted = install(&fewer);
        assert_eq!(read().unwrap(), Some(wanted));
    });
}

#[test]
fn reading_under_constant_change_is_whole() {
    in_netns(|| {
        let (a, b) = (
            install(&options()),
            Ruleset::new(&Options { queues: 4, refuse: Refuse::Drop, ..options() }),
        );
        let (left, right) = (a.clone(), b.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..100 {
                    apply(&b, Some(&a)).unwrap();
                    apply(&a, Some(&b)).unwrap();
                }
            });
            for _ in 0..100 {
                match read() {
                    Ok(found) => {
                        assert!(found.as_ref() == Some(&left) || found.as_ref() == Some(&right))
                    }
                    Err(error) => assert!(matches!(error, Error::Busy(_)), "{error}"),
                }
            }
        });
    });
}

/// Runs itself as a user without rights; the same test is both sides.
#[test]
fn without_rights_one_line_says_so() {
    const CHILD: &str = "SYNHOLD_TEST_UNPRIVILEGED";
    let name = "rules::without_rights_one_line_says_so";
    if std::env::var_os(CHILD).is_some() {
        for error in [probe().unwrap_err(), read().unwrap_err(), remove().unwrap_err()] {
            assert!(matches!(error, Error::NotPermitted), "{error}");
        }
        let error = apply(&Ruleset::new(&Options::default()), None).unwrap_err();
        assert!(matches!(error, Error::NotPermitted), "{error}");
        assert!(!error.to_string().contains('\n'));
        return;
    }
    // Opened here, for the tree the binary lies in may be closed to others.
    in_netns(move || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").uid(65_534).gid(65_534);
        let output = run(&mut child, "");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    });
}
