//! The stand most tests share: the lab, servers behind the gateway, and the real daemon reading a log we write.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use synhold::nftables;

use super::lab::daemon::Daemon;
use super::lab::net::connect;
use super::lab::ns::Ns;
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Wire;
use super::lab::{CONTAINER_NETS, CT4, CT6, DEAD4, DEAD6, Lab, SRV4, SRV6, Side, at, eventually};

pub const SOON: Duration = Duration::from_secs(5);
/// For what several threads and the disk have to do, on a machine that is busy with other tests.
pub const LATER: Duration = Duration::from_secs(20);
pub const BIN: &str = env!("CARGO_BIN_EXE_synhold");
pub const PORT: u16 = 443;

/// One family's cast: the container, a server that answers, an address that does not.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    pub container: IpAddr,
    pub server: SocketAddr,
    pub dead: SocketAddr,
}

pub fn casts() -> [Cast; 2] {
    let cast = |container: IpAddr, server: IpAddr, dead: IpAddr| Cast {
        container,
        server: at(server, PORT),
        dead: at(dead, PORT),
    };
    [cast(CT4.into(), SRV4.into(), DEAD4.into()), cast(CT6.into(), SRV6.into(), DEAD6.into())]
}

pub struct Stand {
    pub daemon: Daemon,
    pub far: Wire,
    pub log: DnsLog,
    _servers: [Server; 2],
    pub lab: Lab,
}

/// dnsmasq's first line.
pub const STARTED: &str = "Nov 21 22:12:00 dnsmasq[77]: started, version 2.90 cachesize 150\n";

/// A dnsmasq log written by the test, line by line.
pub struct DnsLog {
    pub path: PathBuf,
    file: File,
    serial: u32,
}

impl DnsLog {
    pub fn create(path: &Path) -> DnsLog {
        let file = OpenOptions::new().create(true).append(true).open(path).expect("log file");
        DnsLog { path: path.to_owned(), file, serial: 0 }
    }

    /// Writes the lines of one query and its answer, in one write as dnsmasq's two would come.
    pub fn answer(&mut self, client: IpAddr, name: &str, address: IpAddr) {
        let lines = self.lines(client, name, address);
        self.write(&lines);
    }

    /// The lines of one query and its answer.
    pub fn lines(&mut self, client: IpAddr, name: &str, address: IpAddr) -> String {
        self.serial += 1;
        let (serial, qtype) = (self.serial, if address.is_ipv4() { "A" } else { "AAAA" });
        let head = format!("Nov 21 22:12:01 dnsmasq[77]: {serial} {client}/40000");
        format!("{head} query[{qtype}] {name} from {client}\n{head} reply {name} is {address}\n")
    }

    pub fn write(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).expect("write the log");
    }
}

impl Stand {
    /// Everything up, enforcing unless `args` say otherwise.
    pub fn new(name: &str, args: &[&str]) -> Stand {
        Stand::with_lists(name, args, &[])
    }

    /// The same with lists that were there before the daemon: file name and text.
    pub fn with_lists(name: &str, args: &[&str], lists: &[(&str, &str)]) -> Stand {
        let lab = Lab::new(name);
        let folder = lab.dir().join("state/lists");
        if !lists.is_empty() {
            std::fs::create_dir_all(&folder).expect("folder of lists");
        }
        for (file, text) in lists {
            std::fs::write(folder.join(file), text).expect("write the list");
        }
        let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
        // A log nobody ever wrote to proves nothing.
        log.write(STARTED);
        let at = everywhere(PORT);
        let servers = [Server::tcp(&lab.srv, &at), Server::udp(&lab.srv, &at)];
        let far = Wire::watch(&lab.srv, "eth0");
        let daemon = start(&lab, &log.path, args);
        daemon.ready();
        if !lists.is_empty() {
            let is = |e: &Value| e["event"] == "reload" && e["what"] == "lists";
            daemon.expect_event("the first load", is, LATER);
        }
        Stand { daemon, far, log, _servers: servers, lab }
    }

    /// Makes `name` resolve to `address` and waits until the daemon has read it.
    pub fn resolve(&mut self, client: IpAddr, name: &str, address: IpAddr) {
        self.log.answer(client, name, address);
        self.recorded(name, address);
    }

    /// Waits until the daemon has read a record.
    pub fn recorded(&self, name: &str, address: IpAddr) {
        let address = address.to_string();
        let is = |e: &Value| {
            e["event"] == "record" && e["name"] == name && e["address"] == address.as_str()
        };
        self.daemon.expect_event("record", is, SOON);
    }

    /// The verdict about a flow to `dst`, come already or still to come.
    pub fn verdict(&self, dst: SocketAddr) -> Value {
        self.daemon.expect_event(&format!("verdict on {dst}"), |e| is_verdict_on(e, dst), SOON)
    }

    /// Writes a list as a user would, and waits until the kernel has it; returns the event that says so.
    pub fn list(&self, file: &str, text: &str) -> Value {
        let mark = self.daemon.feed().mark();
        std::fs::write(self.lists().join(file), text).expect("write the list");
        self.reloaded_since(mark)
    }

    /// Where the daemon's lists are.
    pub fn lists(&self) -> PathBuf {
        self.lab.dir().join("state/lists")
    }

    /// Waits until changed lists are in the kernel.
    pub fn reloaded_since(&self, mark: u64) -> Value {
        let is = |e: &Value| e["event"] == "reload" && e["what"] == "lists";
        let found = self.daemon.feed().wait_after(mark, is, LATER);
        found.unwrap_or_else(|| panic!("the lists were not loaded\n{}", self.daemon.story()))
    }

    /// Does something that changes lists, and waits until the kernel has what they say then.
    pub fn reload(&self, act: impl FnOnce()) -> Value {
        let mark = self.daemon.feed().mark();
        act();
        self.reloaded_since(mark)
    }

    /// Waits for a word about the health of `what`, after a mark, that has all these parts.
    pub fn told(&self, mark: u64, what: &str, parts: &[&str]) -> Value {
        let is = |e: &Value| {
            let message = e["message"].as_str().unwrap_or_default();
            e["event"] == "health" && e["what"] == what && parts.iter().all(|p| message.contains(p))
        };
        let found = self.daemon.feed().wait_after(mark, is, LATER);
        found.unwrap_or_else(|| panic!("nobody told {parts:?}\n{}", self.daemon.story()))
    }

    /// What a set of the kernel holds.
    pub fn members(&self, set: &str) -> BTreeSet<String> {
        members(&self.lab, set)
    }

    /// Waits until a set of the kernel holds exactly this.
    pub fn wait_members(&self, set: &str, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(|text| (*text).to_owned()).collect();
        let same = || self.members(set) == wanted;
        if super::lab::retry_until(LATER, || same().then_some(())).is_none() {
            panic!("{set}: {:?}, not {wanted:?}\n{}", self.members(set), self.daemon.story());
        }
    }

    /// Verdicts given about flows to an address.
    pub fn verdicts_on(&self, address: IpAddr) -> Vec<Value> {
        let address = address.to_string();
        let is = |e: &Value| e["event"] == "verdict" && e["dst"] == address.as_str();
        self.daemon.events().into_iter().filter(is).collect()
    }

    /// Waits until `n` packets wait in the kernel's queues for their verdict.
    pub fn wait_held(&self, n: u64) {
        eventually(&format!("{n} packets are held"), SOON, || waiting(&self.lab) == n);
    }

    /// Packets to `dst` that the far side has seen, now that everything sent has arrived.
    pub fn passed(&self, dst: SocketAddr) -> usize {
        self.far.count_settled(&self.lab, Side::Srv, |p| p.is_syn_to(dst) || p.is_udp_to(dst))
    }
}

/// The lab behind rules that `synhold rules install` put in. No daemon, which would mend what a test does to the
/// sets: what no rule refuses passes, unless `args` say otherwise.
pub fn installed(name: &str, args: &[&str]) -> Lab {
    let lab = Lab::new(name);
    install(&lab, args);
    lab
}

/// Puts rules in, or changes them, as [`installed`] does.
pub fn install(lab: &Lab, args: &[&str]) {
    let nets = CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]);
    let all: Vec<&str> = ["rules", "install"].into_iter().chain(nets).collect();
    let posture = if args.contains(&"--fail") { &[][..] } else { &["--fail", "open"] };
    let (code, _, stderr) = synhold(lab, &[&all, posture, args].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
}

/// Puts an element into the set of its family.
pub fn add(lab: &Lab, set: &str, address: IpAddr) {
    let family = if address.is_ipv4() { 4 } else { 6 };
    lab.gw.nft(&format!("add element inet synhold {set}{family} {{ {address} }}\n"));
}

/// Packets from `src` to `dst` that met a list, as the kernel has noted them.
pub fn hits(lab: &Lab, src: IpAddr, dst: IpAddr) -> Option<u64> {
    let family = if dst.is_ipv4() { 4 } else { 6 };
    let listing = lab.gw.nft(&format!("list set inet synhold hits{family}\n"));
    let (_, element) = listing.split_once(&format!("{src} . {dst} "))?;
    let (_, count) = element.split_once("counter packets ")?;
    count.split_ascii_whitespace().next()?.parse().ok()
}

/// Starts the daemon on `log` without waiting for it.
pub fn start(lab: &Lab, log: &Path, args: &[&str]) -> Daemon {
    start_on(lab, &format!("file:{}", log.display()), args)
}

/// Starts the daemon on a DNS source without waiting for it.
pub fn start_on(lab: &Lab, source: &str, args: &[&str]) -> Daemon {
    let state = lab.dir().join("state").display().to_string();
    let mut all = vec!["--state-dir", &state, "--dns-source", source];
    for net in CONTAINER_NETS {
        all.extend(["--container-net", net]);
    }
    all.extend(args);
    Daemon::run(&lab.gw, Path::new(BIN), all)
}

/// The plainest daemon on the gateway that reads this log, as a command to be completed.
pub fn plain(lab: &Lab, log: &DnsLog, args: &[&str]) -> Command {
    let mut command = lab.gw.command(BIN);
    command.args(["run", "--no-docker", "--memory-only", "--dns-source"]);
    command.arg(format!("file:{}", log.path.display())).args(args);
    command
}

/// What a set of the gateway's kernel holds, as people write it.
pub fn members(lab: &Lab, set: &str) -> BTreeSet<String> {
    let (found, more) = lab.gw.run(|| nftables::dump(set, 100_000)).expect("the set is read");
    assert!(!more, "{set} has more than the test expects");
    found.iter().map(|found| found.element.key.to_string()).collect()
}

/// The first try passes.
#[track_caller]
pub fn assert_passes(ns: &Ns, dst: SocketAddr) {
    if let Err(error) = connect(ns, dst, SOON) {
        panic!("{} to {dst}: {error}", ns.name());
    }
}

/// The first try is refused, by a reset and not by silence.
#[track_caller]
pub fn assert_refused(ns: &Ns, dst: SocketAddr) {
    match connect(ns, dst, SOON) {
        Ok(_) => panic!("{} to {dst}: passed", ns.name()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{dst}: {error}"),
    }
}

pub fn is_verdict_on(event: &Value, dst: SocketAddr) -> bool {
    event["event"] == "verdict"
        && event["dst"] == dst.ip().to_string().as_str()
        && event["dport"] == dst.port()
}

/// What a verdict says, and why.
pub fn told(event: &Value) -> (&str, &str) {
    let word = |key| event[key].as_str().unwrap_or_default();
    (word("verdict"), word("reason"))
}

/// Packets waiting in all queues of the gateway.
pub fn waiting(lab: &Lab) -> u64 {
    let text = lab.gw.proc_net("netfilter/nfnetlink_queue").unwrap_or_default();
    text.lines().filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

/// Runs `synhold ARGS` in the gateway to its end: exit code, stdout, stderr.
pub fn synhold(lab: &Lab, args: &[&str]) -> (i32, String, String) {
    let output = lab.gw.command(BIN).args(args).output().expect("synhold runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
