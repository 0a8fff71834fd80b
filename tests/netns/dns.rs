//! `spawn` with a real dnsmasq: each test in a network namespace of its own, with a small resolver of ours above it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use synhold::dns::{Answer, Nowhere, Sink, SpawnConfig, Spec, Stop, run};
use synhold::engine::health::Batch;

/// A passing test never waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const A: u16 = 1;
const TXT: u16 = 16;
const AAAA: u16 = 28;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Answer { name: String, address: IpAddr, client: Option<IpAddr>, chain: Vec<String> },
    Up,
    Down(String),
    Unanswered(u32),
}

struct Teller(Sender<Heard>);

impl Sink for Teller {
    fn behind(&mut self) {}
    fn answer(&mut self, answer: Answer<'_>) {
        let _ = self.0.send(Heard::Answer {
            name: answer.name.to_owned(),
            address: answer.address,
            client: answer.client,
            chain: answer.chain.to_vec(),
        });
    }
    fn lines(&mut self, _: Batch) {}
    fn caught_up(&mut self) {}
    fn up(&mut self) {
        let _ = self.0.send(Heard::Up);
    }
    fn unanswered(&mut self, questions: u32) {
        let _ = self.0.send(Heard::Unanswered(questions));
    }
    fn down(&mut self, why: &str) {
        let _ = self.0.send(Heard::Down(why.to_owned()));
    }
}

struct Source {
    stop: Stop,
    heard: Receiver<Heard>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    fn start(listen: IpAddr) -> Source {
        let (stop, (teller, heard)) = (Stop::new().unwrap(), channel());
        let raised = stop.clone();
        let config = SpawnConfig {
            listen: vec![(listen, 53)],
            interfaces: Vec::new(),
            upstreams: vec!["127.0.0.1#5300".to_owned()],
        };
        config.check().unwrap();
        let thread = std::thread::spawn(move || {
            run(&Spec::Spawn, &config, &Nowhere, &raised, &mut Teller(teller))
        });
        Source { stop, heard, thread: Some(thread) }
    }

    /// What is heard next, but for what becomes of questions of our own.
    fn next(&self) -> Heard {
        loop {
            match self.heard.recv_timeout(PATIENCE).unwrap() {
                Heard::Unanswered(_) => {}
                heard => return heard,
            }
        }
    }

    fn unanswered(&self) -> u32 {
        loop {
            if let Heard::Unanswered(questions) = self.heard.recv_timeout(PATIENCE).unwrap() {
                return questions;
            }
        }
    }

    fn up(&self) {
        while self.next() != Heard::Up {}
    }

    fn down(&self) -> String {
        loop {
            if let Heard::Down(why) = self.next() {
                return why;
            }
        }
    }

    fn finish(mut self) {
        self.stop.raise();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Runs `test` in a fresh network namespace with its loopback up.
fn isolated(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        ip(&["link", "set", "lo", "up"]);
        test();
        assert_eq!(dnsmasqs(), [0; 0], "no dnsmasq is left behind");
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().unwrap().success());
}

/// The processes called dnsmasq in our network namespace.
fn dnsmasqs() -> Vec<i32> {
    let net = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let ours = fs::read_link("/proc/thread-self/ns/net").ok();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.file_name().into_string().ok()?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let alive = !fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.contains(") Z ");
        (alive && name.trim() == "dnsmasq" && net(&pid) == ours).then(|| pid.parse().ok())?
    });
    pids.collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A resolver that answers A with two addresses behind a CNAME, AAAA with one, and TXT with text like an address.
fn upstream() {
    let socket = UdpSocket::bind("127.0.0.1:5300").unwrap();
    // Ends with the test process; it holds nothing but its socket.
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&reply(&buffer[..count]), from);
        }
    });
}

fn reply(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap();
    let qtype = u16::from_be_bytes([query[end + 1], query[end + 2]]);
    let alias = b"\x03cdn\x07example\0";
    let mut records = Vec::new();
    match qtype {
        A => {
            records.push(record(&query[12..=end], 5, alias));
            records.push(record(alias, A, &[192, 0, 2, 1]));
            records.push(record(alias, A, &[192, 0, 2, 2]));
        }
        AAAA => {
            let address: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
            records.push(record(&query[12..=end], AAAA, &address.octets()));
        }
        _ => records.push(record(&query[12..=end], TXT, b"\x076.6.6.6")),
    }
    let mut out = query[..2].to_vec();
    out.extend([0x85, 0x80, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    out.extend(&query[12..end + 5]);
    out.extend(records.concat());
    out
}

fn record(owner: &[u8], rtype: u16, data: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend(rtype.to_be_bytes());
    out.extend([0, 1, 0, 0, 0, 60]);
    out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    out.extend(data);
    out
}

fn question(name: &str, qtype: u16) -> Vec<u8> {
    let mut out = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(qtype.to_be_bytes());
    out.extend([0, 1]);
    out
}

fn ask(server: IpAddr, client: &str, name: &str, qtype: u16) {
    let socket = UdpSocket::bind((client, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&question(name, qtype), SocketAddr::from((server, 53))).unwrap();
    assert!(socket.recv(&mut [0; 1500]).unwrap() > 12);
}

fn ask_by_tcp(server: IpAddr, name: &str, qtype: u16) {
    let mut stream = TcpStream::connect(SocketAddr::from((server, 53))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let question = question(name, qtype);
    stream.write_all(&u16::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&question).unwrap();
    assert!(stream.read(&mut [0; 1500]).unwrap() > 0);
}

fn answer(name: &str, address: &str, client: &str, chain: &[&str]) -> Heard {
    Heard::Answer {
        name: name.to_owned(),
        address: address.parse().unwrap(),
        client: Some(client.parse().unwrap()),
        chain: chain.iter().map(|link| (*link).to_owned()).collect(),
    }
}

#[test]
fn answers_come_with_their_client_and_text_is_no_evidence() {
    isolated(|| {
        upstream();
        let source = Source::start(HERE);
        source.up();
        ask(HERE, "127.0.0.2", "WWW.Example", A);
        for address in ["192.0.2.1", "192.0.2.2"] {
            assert_eq!(
                source.next(),
                answer("www.example", address, "127.0.0.2", &["cdn.example"])
            );
        }
        ask(HERE, "127.0.0.3", "txt.example", TXT);
        ask(HERE, "127.0.0.3", "six.example", AAAA);
        // Nothing came between: the text of the TXT record was not taken for an address.
        assert_eq!(source.next(), answer("six.example", "2001:db8::1", "127.0.0.3", &[]));
        ask_by_tcp(HERE, "www.example", A);
        for _ in 0..2 {
            let Heard::Answer { name, client, .. } = source.next() else { panic!() };
            assert_eq!((&*name, client), ("www.example", Some(HERE)));
        }
        source.finish();
    });
}

#[test]
fn dnsmasq_runs_with_no_more_rights_than_it_needs() {
    isolated(|| {
        let source = Source::start(HERE);
        source.up();
        let [pid] = dnsmasqs()[..] else { panic!("one dnsmasq") };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len() + 1..].trim().to_owned()
        };
        assert!(!field("Uid").split_whitespace().any(|uid| uid == "0"));
        assert!(!field("Gid").split_whitespace().any(|gid| gid == "0"));
        assert_eq!((field("Groups"), field("NoNewPrivs")), (String::new(), "1".to_owned()));
        for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            // CAP_NET_BIND_SERVICE and nothing else.
            assert_eq!(field(set), "0000000000000400", "{set}");
        }
        source.finish();
    });
}

#[test]
fn a_killed_dnsmasq_is_reported_and_started_again() {
    isolated(|| {
        upstream();
        let source = Source::start(HERE);
        source.up();
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            let [pid] = dnsmasqs()[..] else { panic!("one dnsmasq") };
            kill(Pid::from_raw(pid), signal).unwrap();
            let why = source.down();
            assert!(why.starts_with("dnsmasq ended"), "{why}");
            source.up();
            ask(HERE, "127.0.0.2", "again.example", AAAA);
            assert_eq!(source.next(), answer("again.example", "2001:db8::1", "127.0.0.2", &[]));
        }
        source.finish();
    });
}

#[test]
fn a_port_that_is_taken_is_named_and_taken_up_once_free() {
    isolated(|| {
        let other =
            (UdpSocket::bind("127.0.0.1:53").unwrap(), TcpListener::bind("127.0.0.1:53").unwrap());
        let source = Source::start(HERE);
        let why = source.down();
        for part in ["127.0.0.1", "Address already in use", "--dns-listen"] {
            assert!(why.contains(part), "{why}");
        }
        assert!(!why.contains('\n'));
        drop(other);
        source.up();
        source.finish();
    });
}

#[test]
fn an_address_that_appears_later_is_taken_up() {
    isolated(|| {
        upstream();
        let later: IpAddr = "10.9.9.9".parse().unwrap();
        ip(&["link", "add", "br-test", "type", "bridge"]);
        ip(&["link", "set", "br-test", "up"]);
        let source = Source::start(later);
        source.up();
        ip(&["addr", "add", "10.9.9.9/24", "dev", "br-test"]);
        let probe = UdpSocket::bind("10.9.9.9:0").unwrap();
        probe.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        eventually("dnsmasq answers on the new address", || {
            let _ = probe.send_to(&question("late.example", AAAA), (later, 53));
            probe.recv(&mut [0; 1500]).is_ok()
        });
        assert_eq!(source.next(), answer("late.example", "2001:db8::1", "10.9.9.9", &[]));
        source.finish();
    });
}

#[test]
fn a_stop_before_dnsmasq_is_up_leaves_nothing() {
    isolated(|| Source::start(HERE).finish());
}

#[test]
fn a_dnsmasq_that_hangs_is_told_and_started_again_and_asking_it_is_no_evidence() {
    isolated(|| {
        upstream();
        let source = Source::start(HERE);
        source.up();
        // The first question is answered at once; who asked nothing has answered nothing.
        assert_eq!(source.unanswered(), 0);
        let [pid] = dnsmasqs()[..] else { panic!("one dnsmasq") };
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        assert_eq!((source.unanswered(), source.unanswered()), (1, 2));
        assert_eq!(source.down(), "dnsmasq hangs: it answered none of 3 questions");
        source.up();
        assert_eq!(source.unanswered(), 0);
        assert!(!dnsmasqs().contains(&pid), "it is gone, stopped as it was");
        ask(HERE, "127.0.0.2", "again.example", AAAA);
        assert_eq!(source.next(), answer("again.example", "2001:db8::1", "127.0.0.2", &[]));
        source.finish();
    });
}
