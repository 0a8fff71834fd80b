//! Record to release: a SYN waits, its record comes, and the far side's wire says when the SYN got there.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Size;
use super::connect::start;
use super::lab::dns::{dns_query, qtype, upstream, zone};
use super::lab::net::{abort, connect_here};
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Wire;
use super::lab::{CT4, DNS4, GW4, Lab, at, eventually};
use super::report::{Bar, Report};
use super::stats::{median, quantile};

const PORT: u16 = 443;
/// The one packet that waits is to be ours.
const QUIET: [&str; 2] = ["--canary", "off"];
const PATIENCE: Duration = Duration::from_secs(3);
/// Long enough for a SYN to be held and the reader to sleep again, short against the hold of 750 ms.
const SETTLE: Duration = Duration::from_millis(4);

/// A lab with a guarded gateway and a view of the far side.
struct Stand {
    far: Wire,
    _server: Server,
    lab: Lab,
}

/// Where dnsmasq's lines are written by hand.
struct Log {
    file: File,
    serial: u32,
}

/// Measures and reports.
pub fn measure(synhold: &Path, size: Size, report: &mut Report) {
    eprintln!("release: {} held SYNs for each of file, fifo and our own dnsmasq", size.releases);
    for kind in ["file", "fifo"] {
        let times = written(kind, synhold, size.releases);
        add(report, kind, &format!("{kind}: log line written -> held SYN released"), &times);
    }
    let (asked, answered) = spawned(synhold, size.releases);
    report.add(
        "release_us.spawn_asked.median",
        "own dnsmasq: container asks -> held SYN released, median",
        (median(&asked), "us"),
        Bar::None,
        format!("p99 {:.0} us, an upstream query included", quantile(&asked, 0.99)),
    );
    add(report, "spawn", "own dnsmasq: answer leaves -> held SYN released", &answered);
}

fn add(report: &mut Report, key: &str, what: &str, times: &[f64]) {
    let (median, p99) = (median(times), quantile(times, 0.99));
    let worst = quantile(times, 1.0);
    report.add(
        &format!("release_us.{key}.median"),
        &format!("{what}, median"),
        (median, "us"),
        Bar::None,
        "",
    );
    report.add(
        &format!("release_us.{key}.p99"),
        &format!("{what}, p99"),
        (p99, "us"),
        Bar::AtMost(1_000.0),
        format!("worst {worst:.0} us of {}", times.len()),
    );
}

/// Microseconds from just before the write of the reply line to the SYN on the far wire.
fn written(kind: &str, synhold: &Path, count: usize) -> Vec<f64> {
    let stand = Stand::new(kind);
    let path: PathBuf = stand.lab.dir().join("dnsmasq.log");
    if kind == "fifo" {
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    } else {
        File::create(&path).expect("log");
    }
    let _program = start(&stand.lab, synhold, &format!("{kind}:{}", path.display()), &QUIET);
    let file = OpenOptions::new().append(true).open(&path).expect("log");
    let mut log = Log { file, serial: 0 };
    let times = (0..count + 10).map(|n| {
        let to = destination(n);
        log.ask(to);
        stand.held(to, || log.reply(to)).0
    });
    times.skip(10).collect()
}

/// The same with a real dnsmasq: from the query, and from its answer as it leaves for the container.
fn spawned(synhold: &Path, count: usize) -> (Vec<f64>, Vec<f64>) {
    let stand = Stand::new("spawn");
    let lab = &stand.lab;
    let hosts: String = (0..count + 10)
        .map(|n| {
            let ip = destination(n).ip();
            format!("{ip} {}\n", name(ip))
        })
        .collect();
    let file = lab.dir().join("hosts");
    std::fs::write(&file, hosts).expect("hosts");
    let _server = upstream(lab, [zone::hosts_file(&file)]);
    let upstream = DNS4.to_string();
    let args = [&QUIET[..], &["--dns-upstream", &upstream]].concat();
    let _program = start(lab, synhold, "spawn", &args);
    let near = Wire::watch(&lab.gw, "ct");
    let times = (0..count + 10).map(|n| {
        let to = destination(n);
        let mark = near.feed().mark();
        let (asked, seen) = stand.held(to, || {
            let start = Instant::now();
            let reply = dns_query(&lab.ct, GW4.into(), &name(to.ip()), qtype::A).expect("answered");
            assert_eq!(reply.addresses(), [to.ip()]);
            start
        });
        let left = near.feed().wait_after(mark, |p| p.outgoing && p.src == at(GW4, 53), PATIENCE);
        (asked, micros(left.expect("the answer").at, seen))
    });
    times.skip(10).unzip()
}

impl Stand {
    fn new(kind: &str) -> Stand {
        let lab = Lab::new(&format!("bench-{kind}"));
        lab.server_owns("198.19.0.0/16");
        let server = Server::tcp(&lab.srv, &everywhere(PORT));
        let far = Wire::watch(&lab.srv, "eth0");
        Stand { far, _server: server, lab }
    }

    /// Connects to `to`, lets `act` bring the record, and returns the microseconds from what `act` says was the start,
    /// with the moment the SYN was seen.
    fn held(&self, to: SocketAddr, act: impl FnOnce() -> Instant) -> (f64, Instant) {
        super::go_on();
        let mark = self.far.feed().mark();
        let client = self.lab.ct.spawn(move || {
            let (stream, _) = connect_here(None, to, PATIENCE).expect("released");
            abort(stream);
        });
        eventually("the SYN waits", PATIENCE, || waiting(&self.lab) == 1);
        std::thread::sleep(SETTLE);
        let start = act();
        let seen =
            self.far.feed().wait_after(mark, |p| p.is_syn_to(to), PATIENCE).expect("released");
        client.join().expect("connected");
        (micros(start, seen.at), seen.at)
    }
}

impl Log {
    /// The query's line, which comes before there is anything to wait for.
    fn ask(&mut self, to: SocketAddr) {
        self.serial += 1;
        let name = name(to.ip());
        let line = format!("{} query[A] {name} from {CT4}\n", self.head());
        self.file.write_all(line.as_bytes()).expect("write the log");
    }

    /// The reply's line; says when its write began.
    fn reply(&mut self, to: SocketAddr) -> Instant {
        let line = format!("{} reply {} is {}\n", self.head(), name(to.ip()), to.ip());
        let start = Instant::now();
        self.file.write_all(line.as_bytes()).expect("write the log");
        start
    }

    fn head(&self) -> String {
        format!("Nov 21 22:12:01 dnsmasq[77]: {} {CT4}/40000", self.serial)
    }
}

fn destination(n: usize) -> SocketAddr {
    let [high, low] = (n as u16).to_be_bytes();
    at([198, 19, 1 + high, low], PORT)
}

fn name(address: IpAddr) -> String {
    format!("host-{}.bench.example", address.to_string().replace('.', "-"))
}

/// Packets that wait in the gateway's queues.
fn waiting(lab: &Lab) -> u64 {
    let text = lab.gw.proc_net("netfilter/nfnetlink_queue").unwrap_or_default();
    text.lines().filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

/// From one moment to another, negative if it is the earlier one.
fn micros(from: Instant, to: Instant) -> f64 {
    let nanos = |span: Duration| span.as_nanos() as f64 / 1_000.0;
    nanos(to.saturating_duration_since(from)) - nanos(from.saturating_duration_since(to))
}
