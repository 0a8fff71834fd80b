//! connect() through no firewall, a bare accept-all queue program, and synhold: latency one at a time, rate with 64 at once.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt};

use super::Size;
use super::lab::dial::{Dial, connect_many_here};
use super::lab::net::abort;
use super::lab::proc::{self, Proc};
use super::lab::serve::{Server, everywhere};
use super::lab::{CONTAINER_NETS, CT4, Lab, at, eventually};
use super::report::{Bar, Report};
use super::stats::{median, quantile, spread};

const PORT: u16 = 443;
/// Destinations, so that a destination address and port is not the only thing ports are counted for.
const DESTINATIONS: u8 = 100;
const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two variants: what one leaves behind (a server's closing, an event writer's last lines) is not the next one's.
const SETTLE: Duration = Duration::from_millis(8);
/// Connects of a turn that only wake everything up.
const WAKE: usize = 20;
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1], [2, 0, 1], [1, 0, 2]];

/// A lab whose gateway does one of the three things.
struct Variant {
    lab: Lab,
    _server: Server,
    program: Option<Proc>,
    medians: Vec<f64>,
    p99s: Vec<f64>,
    rates: Vec<f64>,
    /// Processor time of the program, microseconds a connection, settling included.
    costs: Vec<f64>,
}

/// Measures and reports.
pub fn measure(synhold: &Path, size: Size, report: &mut Report) {
    eprintln!("connect: {} rounds through no firewall, the bare program, synhold", size.rounds);
    let mut variants = [none(), bare(synhold), guarded(synhold)];
    let daemon = variants[2].program.as_ref().expect("started").pid();
    let idle = rss_mb(daemon);
    for variant in &mut variants {
        variant.round(size.singles / 2, size.burst / 2); // warm-up
        variant.forget();
    }
    for round in 0..size.rounds {
        // Every variant comes in every place, and after every other one, equally often.
        for variant in ORDERS[round % ORDERS.len()] {
            variants[variant].round(size.singles, size.burst);
        }
    }
    let busy = rss_mb(daemon);
    report_connects(&variants, report);
    check(&variants[2], size);
    report.add(
        "idle_rss_mb",
        "synhold resident, idle",
        (idle, "MB"),
        Bar::AtMost(25.0),
        format!("{busy:.1} MB after the run"),
    );
}

fn report_connects(variants: &[Variant; 3], report: &mut Report) {
    let names = ["no firewall", "bare program", "synhold"];
    let [none, bare, guarded] = variants;
    for (name, variant) in names.iter().zip(variants) {
        let key = name.replace(' ', "_");
        report.add(
            &format!("connect_median_us.{key}"),
            &format!("connect() one at a time, median, {name}"),
            (median(&variant.medians), "us"),
            Bar::None,
            format!("p99 {:.0} us", median(&variant.p99s)),
        );
        report.add(
            &format!("connect_p99_us.{key}"),
            &format!("connect() one at a time, p99, {name}"),
            (median(&variant.p99s), "us"),
            Bar::None,
            "",
        );
    }
    report.add(
        "connect_ratio.bare_to_none",
        "connect() median, bare program / no firewall",
        (ratio(&bare.medians, &none.medians), "x"),
        Bar::None,
        "",
    );
    report.add(
        "connect_ratio.synhold_to_bare",
        "connect() median, synhold / bare program",
        (ratio(&guarded.medians, &bare.medians), "x"),
        Bar::AtMost(1.15),
        format!(
            "by the rounds' median; {:.2} x by their best quarter",
            ratio_of(&guarded.medians, &bare.medians, 0.25)
        ),
    );
    for (name, variant) in names.iter().zip(variants) {
        report.add(
            &format!("rate.{}", name.replace(' ', "_")),
            &format!("connections a second, {AT_ONCE} at once, {name}"),
            (median(&variant.rates), "/s"),
            Bar::None,
            format!(
                "deviation {:.0} %, worst {:.0}, best {:.0}",
                spread(&variant.rates) * 100.0,
                quantile(&variant.rates, 0.0),
                quantile(&variant.rates, 1.0)
            ),
        );
    }
    for (name, variant) in names.iter().zip(variants).skip(1) {
        report.add(
            &format!("cpu_us.{}", name.replace(' ', "_")),
            &format!("processor time of the program a connection, {name}"),
            (median(&variant.costs), "us"),
            Bar::None,
            "the kernel's forwarding of the packet included",
        );
    }
    report.add(
        "rate_ratio.bare_to_none",
        "connections a second, bare program / no firewall",
        (ratio(&bare.rates, &none.rates), "x"),
        Bar::None,
        "",
    );
    report.add(
        "rate_ratio.synhold_to_bare",
        "connections a second, synhold / bare program",
        (ratio(&guarded.rates, &bare.rates), "x"),
        Bar::AtLeast(0.9),
        format!(
            "by the rounds' median; {:.2} x by their best quarter",
            ratio_of(&guarded.rates, &bare.rates, 0.75)
        ),
    );
}

/// The median of the rounds' own ratios: what disturbs a round disturbs both.
fn ratio(these: &[f64], those: &[f64]) -> f64 {
    let ratios: Vec<f64> = these.iter().zip(those).map(|(this, that)| this / that).collect();
    median(&ratios)
}

/// The ratio of two quantiles: of the rounds that nothing else on the machine disturbed.
fn ratio_of(these: &[f64], those: &[f64], share: f64) -> f64 {
    quantile(these, share) / quantile(those, share)
}

impl Variant {
    fn new(name: &str) -> Variant {
        let lab = Lab::new(name);
        let server = Server::tcp(&lab.srv, &everywhere(PORT));
        Variant {
            lab,
            _server: server,
            program: None,
            medians: Vec::new(),
            p99s: Vec::new(),
            rates: Vec::new(),
            costs: Vec::new(),
        }
    }

    fn round(&mut self, singles: usize, burst: usize) {
        super::go_on();
        let before = self.program.as_ref().map_or(0.0, |program| cpu_us(program.pid()));
        let (times, rate) = self.lab.ct.run(|| {
            one_by_one(WAKE);
            (one_by_one(singles), many(burst))
        });
        std::thread::sleep(SETTLE);
        let after = self.program.as_ref().map_or(0.0, |program| cpu_us(program.pid()));
        self.costs.push((after - before) / (WAKE + singles + burst) as f64);
        self.medians.push(median(&times));
        self.p99s.push(quantile(&times, 0.99));
        self.rates.push(rate);
    }

    fn forget(&mut self) {
        self.medians.clear();
        self.p99s.clear();
        self.rates.clear();
        self.costs.clear();
    }
}

/// Nothing at all in the gateway.
fn none() -> Variant {
    Variant::new("bench-none")
}

/// The same rules as synhold's, served by the bare program.
fn bare(synhold: &Path) -> Variant {
    let mut variant = Variant::new("bench-bare");
    let mut command = variant.lab.gw.command(std::env::current_exe().expect("own path"));
    command.args(["bare", "0"]).stdout(Stdio::piped());
    let (pipes, program) = variant.lab.gw.start(command);
    let mut said = String::new();
    let mut stdout = std::io::BufReader::new(pipes.stdout.expect("piped"));
    std::io::BufRead::read_line(&mut stdout, &mut said).expect("read");
    assert_eq!(said, "ready\n", "the bare program");
    install(&variant.lab, synhold);
    variant.program = Some(program);
    variant
}

/// synhold, which knows every destination; it writes its event file and prints its human lines.
fn guarded(synhold: &Path) -> Variant {
    let mut variant = Variant::new("bench-synhold");
    let lab = &variant.lab;
    install(lab, synhold);
    let log = lab.dir().join("dnsmasq.log");
    let lines: String = (1..=DESTINATIONS)
        .map(|n| {
            let head = format!("Nov 21 22:12:01 dnsmasq[77]: {n} {CT4}/40000");
            let name = format!("host-{n}.bench.example");
            format!(
                "{head} query[A] {name} from {CT4}\n{head} reply {name} is {}\n",
                destination(n)
            )
        })
        .collect();
    std::fs::write(&log, lines).expect("write the log");
    let program = start(lab, synhold, &format!("file:{}", log.display()), &[]);
    variant.program = Some(program);
    variant
}

/// Starts synhold as a service would, and waits for its ready event.
pub fn start(lab: &Lab, synhold: &Path, source: &str, args: &[&str]) -> Proc {
    let mut command = lab.gw.command(synhold);
    command.args(["run", "--evidence-grace", "0s", "--state-dir"]).arg(lab.dir().join("state"));
    command.args(["--dns-source", source, "--events"]).arg(events(lab)).args(args);
    command.args(CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let (_, program) = lab.gw.start(command);
    let is_ready = || {
        std::fs::read_to_string(events(lab)).is_ok_and(|text| text.contains(r#""event":"ready""#))
    };
    eventually("synhold is ready", Duration::from_secs(5), is_ready);
    program
}

/// Where [`start`] makes synhold write its events.
pub fn events(lab: &Lab) -> std::path::PathBuf {
    lab.dir().join("events.jsonl")
}

fn install(lab: &Lab, synhold: &Path) {
    let mut command = lab.gw.command(synhold);
    command.args(["rules", "install"]);
    command.args(CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]));
    proc::run(command, "");
}

fn destination(n: u8) -> IpAddr {
    IpAddr::from([203, 0, 113, 100 + n])
}

fn destinations() -> impl Iterator<Item = SocketAddr> {
    (1..=DESTINATIONS).cycle().map(|n| at(destination(n), PORT))
}

/// One blocking connect() after the other; microseconds each took.
fn one_by_one(count: usize) -> Vec<f64> {
    destinations()
        .take(count)
        .map(|to| {
            let socket = nix::sys::socket::socket(
                AddressFamily::Inet,
                SockType::Stream,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
            .expect("socket");
            // It bounds connect() too.
            setsockopt(&socket, sockopt::SendTimeout, &nix::sys::time::TimeVal::new(3, 0))
                .expect("time out");
            let address = SockaddrStorage::from(to);
            let start = Instant::now();
            let connected = nix::sys::socket::connect(socket.as_raw_fd(), &address);
            let took = start.elapsed();
            connected.unwrap_or_else(|error| panic!("connect to {to}: {error}"));
            abort(TcpStream::from(socket));
            took.as_nanos() as f64 / 1_000.0
        })
        .collect()
}

/// Connects with [`AT_ONCE`] under way; how many a second.
fn many(count: usize) -> f64 {
    let dials: Vec<Dial> = destinations().take(count).map(Dial::from).collect();
    let start = Instant::now();
    let done = connect_many_here(&dials, AT_ONCE, PATIENCE);
    let took = start.elapsed();
    for one in done {
        abort(one.result.unwrap_or_else(|error| panic!("connect to {}: {error}", one.dial.dst)));
    }
    count as f64 / took.as_secs_f64()
}

/// Resident memory of a process.
fn rss_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number")
        / 1024.0
}

/// Processor time all threads of a process have used.
fn cpu_us(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("tasks").flatten();
    let used = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    tasks.filter_map(used).sum::<f64>() / 1_000.0
}

/// Every connection measured was one synhold judged, and by its registry: else the figures are of something else.
fn check(variant: &Variant, size: Size) {
    let program = variant.program.as_ref().expect("started");
    program.signal(Signal::SIGTERM);
    program.wait(Duration::from_secs(10)).expect("synhold stops");
    let text = std::fs::read_to_string(events(&variant.lab)).expect("events");
    let resolved = text.lines().filter(|line| line.contains(r#""reason":"resolved""#)).count();
    let turn = WAKE + size.singles + size.burst;
    let connects = turn * size.rounds + WAKE + size.singles / 2 + size.burst / 2;
    let last = text.lines().last().unwrap_or_default();
    let stop: serde_json::Value = serde_json::from_str(last).expect("an event");
    let shed = stop["events_shed"].as_u64().expect("the stop event");
    let (judged, made) = (resolved as u64 + shed, connects as u64);
    // A few more than connections: a SYN that was sent twice. A few less: a port used again while conntrack still
    // knew its last, accepted connection.
    let some = made / 1_000;
    assert!((made - some..=made + some).contains(&judged), "{judged} judged of {made}: {last}");
    assert_eq!(stop["refused"], 0, "{last}");
}
