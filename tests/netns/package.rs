//! The Debian package on a machine with a systemd of its own: installed, enforcing, watched over, upgraded, removed, purged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::lab::machine::Machine;
use super::lab::proc::output;
use super::lab::retry_until;
use super::stand::{BIN, LATER};

/// For the package, if it is to be made here.
const PACKING: Duration = Duration::from_secs(300);
/// A container's network and an outside, with a web server and a resolver, and what synhold is told of them.
const WORLD: &str = r#"
ip netns add container; ip netns add outside
ip link add toc type veth peer name eth0 netns container
ip link add too type veth peer name eth0 netns outside
ip addr add 172.31.7.1/24 dev toc; ip link set toc up
ip addr add 203.0.113.1/24 dev too; ip link set too up
ip -n container addr add 172.31.7.2/24 dev eth0; ip -n container link set eth0 up
ip -n container route add default via 172.31.7.1
for n in 9 10; do ip -n outside addr add 203.0.113.$n/24 dev eth0; done
ip -n outside link set eth0 up; ip -n outside link set lo up
ip -n outside route add default via 203.0.113.1
sysctl -qw net.ipv4.ip_forward=1
ip netns exec outside dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --pid-file= --user=root \
    --address=/good.example/203.0.113.10 --listen-address=203.0.113.9
ip netns exec outside busybox httpd -p 80 -h /usr/share/doc
mkdir -p /etc/synhold
cat >/etc/synhold/synhold.toml <<X
container-net = ["172.31.7.0/24"]
dns-listen = ["172.31.7.1"]
dns-upstream = ["203.0.113.9"]
evidence-grace = "0s"
no-docker = true
metrics = "off"
events = "/var/log/synhold/events.jsonl"
X
"#;

/// The package of the program under test, made once.
fn package() -> &'static Path {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(|| {
        let folder = Path::new(BIN).parent().unwrap();
        let package = folder.join("synhold-test.deb");
        let made = |path: &Path| path.metadata().and_then(|made| made.modified()).ok();
        if made(&package) < made(Path::new(BIN)) {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/package.sh");
            let mut command = Command::new(script);
            command.arg("debug").arg(&package).env("CARGO_TARGET_DIR", folder.parent().unwrap());
            let out = output(command, "", PACKING).unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
        package
    })
}

fn machine() -> Machine {
    let machine = Machine::boot();
    machine.bring(package(), "synhold.deb");
    machine
}

/// Whether the container gets through.
fn reaches(machine: &Machine, last: u8) -> bool {
    let dial = format!(
        "ip netns exec container timeout 10 bash -c 'exec 3<>/dev/tcp/203.0.113.{last}/80'"
    );
    machine.try_sh(&dial).is_ok()
}

fn shows(machine: &Machine, property: &str) -> String {
    machine.sh(&format!("systemctl show --value -p {property} synhold")).trim().to_owned()
}

#[test]
fn the_package_protects_once_it_is_told_to_and_leaves_nothing_behind() {
    let machine = machine();
    let said = machine.sh("dpkg --install /root/synhold.deb 2>&1");
    assert!(said.contains("systemctl enable --now synhold"), "{said}");
    // It has done nothing yet.
    assert_eq!(machine.sh("systemctl is-active synhold || true").trim(), "inactive");
    assert_eq!(machine.sh("nft list tables"), "");
    assert_eq!(machine.sh("systemd-analyze verify synhold.service 2>&1"), "");
    machine.sh("getent group synhold");

    machine.sh(WORLD);
    assert!(reaches(&machine, 9));
    machine.sh("systemctl enable --now synhold 2>&1");
    assert_eq!(shows(&machine, "StatusText"), "enforcing, 0 addresses, 0 containers");
    assert!(!reaches(&machine, 9) && !reaches(&machine, 10));
    let ask = "ip netns exec container busybox nslookup good.example 172.31.7.1 || true";
    machine.sh(ask);
    assert!(reaches(&machine, 10) && !reaches(&machine, 9));
    let events = machine.sh("cat /var/log/synhold/events.jsonl");
    assert!(events.contains("\"reason\":\"never-resolved\""), "{events}");
    let status = machine.sh("synhold status");
    assert!(status.contains("enforcing") && status.contains("rules in the kernel"), "{status}");
    let denied = machine.sh("journalctl -u synhold --no-pager");
    for word in ["not permitted", "ermission denied", "Read-only"] {
        assert!(!denied.contains(word), "{denied}");
    }

    // An upgrade, to the same: started anew, still protecting, nothing of what was known lost.
    let before = shows(&machine, "MainPID");
    machine.sh("dpkg --install /root/synhold.deb 2>&1");
    assert_ne!(shows(&machine, "MainPID"), before);
    assert!(reaches(&machine, 10) && !reaches(&machine, 9));

    // Where services are not to be started or stopped by packages, this one is stopped all the same.
    machine.sh(
        "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d",
    );
    machine.sh("dpkg --remove synhold 2>&1; rm /usr/sbin/policy-rc.d");
    assert_eq!(machine.sh("nft list tables"), "");
    assert_eq!(machine.sh("pgrep -x synhold || true"), "");
    assert!(reaches(&machine, 9));
    machine.sh("test -e /etc/synhold/synhold.toml; test -d /var/lib/synhold/registry");
    machine.sh("dpkg --purge synhold 2>&1");
    let left = "find /etc /usr /var /run -xdev -name '*synhold*' -not -path '/var/tmp/systemd-private-*' -not -path '/var/cache/*'";
    assert_eq!(machine.sh(left), "");
    assert_eq!(machine.sh("getent group synhold || true"), "");
}

#[test]
fn a_daemon_that_stands_still_is_started_anew() {
    let machine = machine();
    machine.sh(WORLD);
    machine.sh("dpkg --install --force-confold /root/synhold.deb 2>&1");
    // Faster than for real, and with what the canary does first: a network namespace.
    machine.sh("mkdir -p /run/systemd/system/synhold.service.d
        printf '[Service]\\nWatchdogSec=3\\nExecStartPre=unshare --net true\\n' \
            >/run/systemd/system/synhold.service.d/test.conf
        systemctl daemon-reload; systemctl start synhold");
    let pid = shows(&machine, "MainPID");
    // Threads that move are told of in time, more than once.
    let watched = |than: &str| {
        retry_until(LATER, || {
            let now = shows(&machine, "WatchdogTimestampMonotonic");
            (now != than).then_some(now)
        })
    };
    let first = watched("0").expect("a first ping");
    watched(&first).expect("another");
    assert_eq!(shows(&machine, "MainPID"), pid);
    machine.sh(&format!("kill -STOP {pid}"));
    // Nobody judges, and the rules let nobody out.
    assert!(!reaches(&machine, 9));
    let again = retry_until(LATER, || {
        let now = shows(&machine, "MainPID");
        (now != pid && now != "0" && shows(&machine, "ActiveState") == "active").then_some(now)
    });
    assert!(again.is_some(), "{}", machine.sh("systemctl status synhold || true"));
    assert_eq!(shows(&machine, "NRestarts"), "1");
    assert!(!reaches(&machine, 9));
}
