//! A small internet of network namespaces: container, neighbour, gateway under test, server.
#![allow(
    dead_code,
    reason = "shared by three binaries (netns tests, demo, bench), each of which uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a lab that cannot be set up must stop the test loudly"
)]

pub mod daemon;
pub mod dial;
pub mod dns;
pub mod engine;
pub mod feed;
pub mod journal;
pub mod machine;
pub mod net;
pub mod ns;
pub mod proc;
pub mod raw;
pub mod serve;
pub mod wire;

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ns::Ns;
use tempfile::TempDir;

/// The container's first address; it also owns `172.31.7.128/25` and `fd07:7::1:0/112` (see [`Side::source4`]).
pub const CT4: Ipv4Addr = Ipv4Addr::new(172, 31, 7, 2);
/// The container's first IPv6 address.
pub const CT6: Ipv6Addr = Ipv6Addr::new(0xfd07, 7, 0, 0, 0, 0, 0, 2);
/// The gateway as the container sees it.
pub const GW4: Ipv4Addr = Ipv4Addr::new(172, 31, 7, 1);
/// The gateway's IPv6 address on the container's link.
pub const GW6: Ipv6Addr = Ipv6Addr::new(0xfd07, 7, 0, 0, 0, 0, 0, 1);
/// The neighbour container, on a link of its own to the same gateway.
pub const CT2_4: Ipv4Addr = Ipv4Addr::new(172, 31, 8, 2);
/// The neighbour's IPv6 address.
pub const CT2_6: Ipv6Addr = Ipv6Addr::new(0xfd07, 8, 0, 0, 0, 0, 0, 2);
/// The gateway as the neighbour sees it.
pub const GW2_4: Ipv4Addr = Ipv4Addr::new(172, 31, 8, 1);
/// The gateway's IPv6 address on the neighbour's link.
pub const GW2_6: Ipv6Addr = Ipv6Addr::new(0xfd07, 8, 0, 0, 0, 0, 0, 1);
/// A server; the server namespace answers for all of `203.0.113.0/24` and `2001:db8:113::/64`.
pub const SRV4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The same server on IPv6.
pub const SRV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10);
/// Where an upstream DNS server listens.
pub const DNS4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// Where an upstream DNS server listens on IPv6.
pub const DNS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x53);
/// Routed to the server side, owned by nobody: packets arrive on the wire and are never answered.
pub const DEAD4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same on IPv6.
pub const DEAD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 1);
/// The two container networks of the lab, as `--container-net` wants them.
pub const CONTAINER_NETS: [&str; 4] =
    ["172.31.7.0/24", "fd07:7::/64", "172.31.8.0/24", "fd07:8::/64"];

/// One of the gateway's three links; fixed MAC addresses let hand-made frames skip address resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The container (gateway interface `ct`).
    Ct,
    /// The neighbour container (gateway interface `ct2`).
    Ct2,
    /// The server (gateway interface `srv`).
    Srv,
}

impl Side {
    fn byte(self) -> u8 {
        match self {
            Side::Ct => 7,
            Side::Ct2 => 8,
            Side::Srv => 9,
        }
    }

    /// The name of the gateway's interface on this link; the other end is always `eth0`.
    pub fn gw_if(self) -> &'static str {
        match self {
            Side::Ct => "ct",
            Side::Ct2 => "ct2",
            Side::Srv => "srv",
        }
    }

    /// MAC of the gateway's end.
    pub fn gw_mac(self) -> [u8; 6] {
        [2, 0, 0, 0, self.byte(), 1]
    }

    /// MAC of the far end (`eth0`).
    pub fn end_mac(self) -> [u8; 6] {
        [2, 0, 0, 0, self.byte(), 2]
    }

    /// The n-th of the 128 extra IPv4 source addresses a container owns (bind to it, answers come back).
    pub fn source4(self, n: u8) -> IpAddr {
        IpAddr::from([172, 31, self.byte(), 128 | n])
    }

    /// The n-th of the 65536 extra IPv6 source addresses a container owns.
    pub fn source6(self, n: u16) -> IpAddr {
        Ipv6Addr::new(0xfd07, self.byte().into(), 0, 0, 0, 0, 1, n).into()
    }
}

/// The lab; dropping it ends its processes and removes its namespaces and files.
pub struct Lab {
    /// The container whose traffic is judged.
    pub ct: Ns,
    /// A neighbour container behind the same gateway.
    pub ct2: Ns,
    /// The host under test.
    pub gw: Ns,
    /// The internet.
    pub srv: Ns,
    prefix: String,
    tmp: Option<TempDir>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);
static LIMITS: Once = Once::new();

impl Lab {
    /// Sets up a fresh small internet; `name` only makes the namespaces' names readable.
    ///
    /// # Panics
    /// When not root, or when any step fails: with the failing command and what it said.
    pub fn new(name: &str) -> Lab {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests need root: they make network namespaces and load nftables rules in them \
             (run them with sudo, or in a privileged container); they are never skipped"
        );
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "lab name {name:?}: use a-z 0-9 -"
        );
        LIMITS.call_once(|| proc::raise_open_files(20_000));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("synlab-{}-{number}-{name}", std::process::id());
        let tmp = tempfile::Builder::new().prefix(&prefix).tempdir().expect("lab temp dir");

        let names = ["ct", "ct2", "gw", "srv"].map(|end| format!("{prefix}-{end}"));
        let undo = Undo(&names);
        proc::ip_batch(&names.each_ref().map(|n| format!("netns add {n}\n")).concat());
        let [ct, ct2, gw, srv] = names.each_ref().map(|n| Ns::open(n));
        for ns in [&ct, &ct2, &gw, &srv] {
            ns.run(|| sysctls(ns));
        }
        let veth = |side: Side, end: &Ns| {
            format!(
                "link add {} netns {} address {} type veth peer name eth0 netns {} address {}\n",
                side.gw_if(),
                gw.name(),
                mac(side.gw_mac()),
                end.name(),
                mac(side.end_mac())
            )
        };
        proc::ip_batch(
            &[veth(Side::Ct, &ct), veth(Side::Ct2, &ct2), veth(Side::Srv, &srv)].concat(),
        );
        thread::scope(|s| {
            s.spawn(|| ct.ip(&container_end(Side::Ct)));
            s.spawn(|| ct2.ip(&container_end(Side::Ct2)));
            s.spawn(|| srv.ip(&server_end()));
            gw.ip(&gateway());
        });
        std::mem::forget(undo);
        Lab { ct, ct2, gw, srv, prefix, tmp: Some(tmp) }
    }

    /// A folder that goes away with the lab.
    pub fn dir(&self) -> &Path {
        self.tmp.as_ref().expect("lab is alive").path()
    }

    /// What all namespace names of this lab begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Makes the server side answer for a whole range, as `198.51.100.0/24` or `2001:db8:55::/48`.
    pub fn server_owns(&self, cidr: &str) {
        self.srv.ip(&format!("route replace local {cidr} dev lo\n"));
    }

    /// Gives a container one more real address on its link (outside its `.128/25` range).
    pub fn add_address(&self, side: Side, address: IpAddr) {
        let (end, prefix) = (self.end(side), if address.is_ipv4() { 24 } else { 64 });
        let nodad = if address.is_ipv4() { "" } else { " nodad" };
        end.ip(&format!("addr add {address}/{prefix} dev eth0{nodad}\n"));
        self.gw.ip(&neighbour(address, side.end_mac(), side.gw_if()));
    }

    /// The namespace at the far end of one of the gateway's links.
    pub fn end(&self, side: Side) -> &Ns {
        match side {
            Side::Ct => &self.ct,
            Side::Ct2 => &self.ct2,
            Side::Srv => &self.srv,
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let all = [&self.ct, &self.ct2, &self.gw, &self.srv];
        for ns in all {
            ns.end_processes();
        }
        // Whatever those processes left running in namespaces nobody else knows of (a daemon's own dnsmasq).
        end_stragglers(&all.iter().map(|ns| ns.inode()).collect());
        for ns in all {
            // What a daemon that was killed could not remove itself; mostly there is none.
            for kind in ["lock", "rules", "sock"] {
                let _ = std::fs::remove_file(format!("/run/synhold/net-{}.{kind}", ns.inode()));
            }
        }
        drop(Undo(&all.map(|ns| ns.name().to_owned())));
        drop(self.tmp.take());
    }
}

/// Removes namespaces by name; runs when set-up fails half-way, and at the end of every lab.
struct Undo<'a>(&'a [String]);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let there = self.0.iter().filter(|n| Path::new(ns::DIR).join(n).exists());
        let batch: String = there.map(|n| format!("netns del {n}\n")).collect();
        if batch.is_empty() {
            return;
        }
        if thread::panicking() {
            let _ = proc::try_ip_batch(&batch);
        } else {
            proc::ip_batch(&batch);
        }
    }
}

/// Ends every process that lives in the given namespaces, but never this one.
fn end_stragglers(inodes: &HashSet<u64>) {
    let me = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for pid in entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok()) {
        let inside =
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| inodes.contains(&m.ino()));
        if inside && pid != me {
            let pid = nix::unistd::Pid::from_raw(pid.try_into().expect("pid fits"));
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

fn sysctls(ns: &Ns) {
    let set = |path: &str, value: &str| {
        let file = format!("/proc/sys/net/{path}");
        fs::write(&file, value).unwrap_or_else(|e| panic!("{}: {file} = {value}: {e}", ns.name()));
    };
    for scope in ["all", "default"] {
        set(&format!("ipv4/conf/{scope}/rp_filter"), "0"); // spoofed sources must get as far as the firewall
        set(&format!("ipv6/conf/{scope}/accept_dad"), "0"); // addresses work at once
        set(&format!("ipv6/conf/{scope}/accept_ra"), "0");
        set(&format!("ipv6/conf/{scope}/router_solicitations"), "0"); // a quiet wire
    }
    set("ipv6/ip_nonlocal_bind", "1"); // bind inside a `local` range, which IPv4 allows by itself
    set("ipv4/ip_local_port_range", "1024 65535");
    if ns.name().ends_with("-gw") {
        set("ipv4/ip_forward", "1");
        set("ipv6/conf/all/forwarding", "1");
    } else {
        set("core/somaxconn", "65535"); // the lab's server is never the bottleneck
        set("ipv4/tcp_max_syn_backlog", "65535");
    }
}

fn mac(m: [u8; 6]) -> String {
    m.map(|b| format!("{b:02x}")).join(":")
}

fn neighbour(address: IpAddr, at: [u8; 6], dev: &str) -> String {
    format!("neigh replace {address} lladdr {} dev {dev} nud permanent\n", mac(at))
}

fn container_end(side: Side) -> String {
    let n = side.byte();
    let (gw4, gw6) = (IpAddr::from([172, 31, n, 1]), format!("fd07:{n}::1"));
    format!(
        "link set lo up\nlink set eth0 up\n\
         addr add 172.31.{n}.2/24 dev eth0\naddr add fd07:{n}::2/64 dev eth0 nodad\n\
         route add local 172.31.{n}.128/25 dev lo\nroute add local fd07:{n}::1:0/112 dev lo\n\
         route add default via {gw4}\nroute add default via {gw6}\n{}{}",
        neighbour(gw4, side.gw_mac(), "eth0"),
        neighbour(gw6.parse().expect("address"), side.gw_mac(), "eth0")
    )
}

fn server_end() -> String {
    let (gw4, gw6) = ("192.0.2.1", "2001:db8:ffff::1");
    let by_hand = |a: &str| neighbour(a.parse().expect("address"), Side::Srv.gw_mac(), "eth0");
    format!(
        "link set lo up\nlink set eth0 up\n\
         addr add 192.0.2.2/30 dev eth0\naddr add 2001:db8:ffff::2/64 dev eth0 nodad\n\
         addr add {SRV4}/32 dev lo\naddr add {DNS4}/32 dev lo\n\
         addr add {SRV6}/128 dev lo nodad\naddr add {DNS6}/128 dev lo nodad\n\
         route add local 203.0.113.0/24 dev lo\nroute add local 2001:db8:113::/64 dev lo\n\
         route add default via {gw4}\nroute add default via {gw6}\n{}{}",
        by_hand(gw4),
        by_hand(gw6)
    )
}

fn gateway() -> String {
    let mut batch = String::from("link set lo up\n");
    for side in [Side::Ct, Side::Ct2] {
        let (n, dev) = (side.byte(), side.gw_if());
        let (end4, end6) = (format!("172.31.{n}.2"), format!("fd07:{n}::2"));
        batch += &format!(
            "link set {dev} up\naddr add 172.31.{n}.1/24 dev {dev}\n\
             addr add fd07:{n}::1/64 dev {dev} nodad\n\
             route add 172.31.{n}.128/25 via {end4}\nroute add fd07:{n}::1:0/112 via {end6}\n{}{}",
            neighbour(end4.parse().expect("address"), side.end_mac(), dev),
            neighbour(end6.parse().expect("address"), side.end_mac(), dev)
        );
    }
    let (end4, end6) = ("192.0.2.2", "2001:db8:ffff::2");
    let by_hand = |a: &str| neighbour(a.parse().expect("address"), Side::Srv.end_mac(), "srv");
    batch
        + &format!(
            "link set srv up\naddr add 192.0.2.1/30 dev srv\n\
             addr add 2001:db8:ffff::1/64 dev srv nodad\n\
             route add default via {end4}\nroute add default via {end6}\n{}{}",
            by_hand(end4),
            by_hand(end6)
        )
}

/// Address and port, for tables of test cases.
pub fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// Asks again until there is an answer or the time is up; for things that report no event.
pub fn retry_until<T>(timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(found) = ask() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Like [`retry_until`], for a condition that must come true.
///
/// # Panics
/// With `what`, when the time is up.
pub fn eventually(what: &str, timeout: Duration, mut holds: impl FnMut() -> bool) {
    let came = retry_until(timeout, || holds().then_some(()));
    assert!(came.is_some(), "not within {timeout:?}: {what}");
}
