//! Where DNS evidence is to come from: whether it can be read, and whether it is worth anything.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::Command;

use super::dnsmasq::{self, LogAt};
use super::program::{self, PROGRAM_PATIENCE};
use super::{Finding, host, processes};
use crate::config::Config;
use crate::dns::line::{self, Message};
use crate::dns::{SpawnConfig, Spec};
use crate::host as machine;

/// Bytes at the end of a log that are looked at: some 800 lines.
const TAIL_BYTES: u64 = 64 << 10;

/// Looks at each source.
pub fn look(config: &Config) -> Vec<Finding> {
    config.sources.iter().flat_map(|spec| one(spec, config)).collect()
}

fn one(spec: &Spec, config: &Config) -> Vec<Finding> {
    match spec {
        Spec::Spawn => spawned(&config.dnsmasq),
        Spec::File(path) => [log(path), configured(LogAt::Path(path))].concat(),
        Spec::Fifo(path) => [fifo(path), configured(LogAt::Path(path))].concat(),
        Spec::Journal(unit) => [journal(unit), configured(LogAt::Journal)].concat(),
        Spec::Stdin => vec![Finding::ok("dns-source", "the log is read from standard input")],
        // Docker's own area looks at it.
        Spec::Docker(_) => Vec::new(),
    }
}

fn configured(log: LogAt<'_>) -> Vec<Finding> {
    match dnsmasq::find(log) {
        Some(dnsmasq) => dnsmasq::judge(&dnsmasq, log),
        None => vec![Finding::warn(
            "dnsmasq-log-queries",
            "no dnsmasq is found whose settings could be looked at",
            "see that whoever writes the log runs with log-queries=extra and without log-async",
        )],
    }
}

/// Our own dnsmasq.
fn spawned(config: &SpawnConfig) -> Vec<Finding> {
    let mut found = vec![match config.check() {
        Ok(()) => {
            Finding::ok("dns-dnsmasq", format!("a dnsmasq of our own can be run: {}", version()))
        }
        Err(fault) => {
            let text = fault.to_string();
            let (what, advice) =
                text.split_once(": ").unwrap_or((&text, "see `synhold run --help`"));
            Finding::fail("dns-dnsmasq", what, advice)
        }
    }];
    let ours = host::running();
    for (address, port) in &config.listen {
        let at = SocketAddr::new(*address, *port);
        found.push(port_free(at, UdpSocket::bind(at).err().map(|e| e.kind()), ours.as_ref()));
    }
    let upstreams: Vec<IpAddr> = match config.upstreams.as_slice() {
        [] => machine::resolvers(),
        some => some.iter().filter_map(|text| text.split('#').next()?.parse().ok()).collect(),
    };
    let listens: Vec<IpAddr> = config.listen.iter().map(|(address, _)| *address).collect();
    found.push(upstream(&upstreams, &listens));
    found
}

/// The first line of what dnsmasq says of itself.
fn version() -> String {
    let mut command = Command::new("dnsmasq");
    let asked = program::ask(command.arg("--version").env("LC_ALL", "C"), PROGRAM_PATIENCE);
    let text =
        asked.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let words: Vec<&str> = text.split_ascii_whitespace().take(3).collect();
    if words.is_empty() { "its version is not told".to_owned() } else { words.join(" ") }
}

fn port_free(
    at: SocketAddr,
    error: Option<ErrorKind>,
    ours: Option<&processes::Process>,
) -> Finding {
    let id = "dns-port";
    match error {
        None => Finding::ok(id, format!("{at} is free for our own dnsmasq")),
        Some(ErrorKind::AddrNotAvailable) => {
            Finding::ok(id, format!("{at} is not there yet, and is taken up when it appears"))
        }
        Some(ErrorKind::AddrInUse) => match (processes::listener(at), ours) {
            (_, Some(running)) => Finding::ok(id, format!("{at} is served by {}", running.shown())),
            (Some(process), None) => Finding::fail(
                id,
                format!("{at} is taken by {}", process.shown()),
                format!("stop it, or say --dns-listen {}:5353", at.ip()),
            ),
            (None, None) => Finding::fail(
                id,
                format!("{at} is taken by another program"),
                format!("stop it (ss -lunp shows which), or say --dns-listen {}:5353", at.ip()),
            ),
        },
        Some(kind) => {
            Finding::fail(id, format!("{at} cannot be listened on: {kind}"), "run it as root")
        }
    }
}

fn upstream(servers: &[IpAddr], listens: &[IpAddr]) -> Finding {
    let shown: Vec<String> = servers.iter().map(ToString::to_string).collect();
    if servers.is_empty() {
        return Finding::fail(
            "dns-upstream",
            "our own dnsmasq has no server to ask: /etc/resolv.conf names none",
            "say --dns-upstream ADDRESS",
        );
    }
    if let Some(own) = servers.iter().find(|server| listens.contains(server)) {
        return Finding::fail(
            "dns-upstream",
            format!("our own dnsmasq would ask itself at {own}"),
            "say --dns-upstream ADDRESS with another server",
        );
    }
    Finding::ok("dns-upstream", format!("our own dnsmasq asks {}", shown.join(", ")))
}

fn log(path: &Path) -> Vec<Finding> {
    let shown = path.display();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) => {
            return vec![Finding::fail(
                "dns-source",
                format!("{shown} cannot be read: {error}"),
                format!("write log-facility={shown} into dnsmasq's configuration, and restart it"),
            )];
        }
    };
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return vec![Finding::fail(
            "dns-source",
            format!("{shown} is no file"),
            format!("say --dns-source fifo:{shown} if it is a FIFO"),
        )];
    }
    let mut bytes = Vec::new();
    let length = file.metadata().map_or(0, |meta| meta.len());
    // The tail begins within a line, which is dropped.
    let start = length.saturating_sub(TAIL_BYTES);
    let read = file
        .seek(SeekFrom::Start(start))
        .and_then(|_| file.take(TAIL_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => vec![tail(&shown.to_string(), &bytes, start > 0)],
        Err(error) => vec![Finding::fail(
            "dns-source",
            format!("{shown} cannot be read: {error}"),
            "see the disk it is on: dmesg | tail",
        )],
    }
}

/// What the last lines of a log are.
fn tail(shown: &str, bytes: &[u8], cut: bool) -> Finding {
    let id = "dns-source";
    let lines = bytes.split(|byte| *byte == b'\n').skip(usize::from(cut));
    let (mut all, mut known, mut asked, mut with_client) = (0_u32, 0_u32, 0_u32, 0_u32);
    for text in lines.filter(|line| !line.is_empty()) {
        all += 1;
        let Ok(line) = line::parse(text) else { continue };
        let of_query = matches!(line.message, Message::Query { .. } | Message::Answer { .. });
        known += u32::from(line.pid.is_some() || line.message != Message::Other);
        asked += u32::from(of_query);
        with_client += u32::from(of_query && line.client.is_some());
    }
    match (all, known, asked, with_client) {
        (0, ..) => Finding::ok(id, format!("{shown} can be read, and is empty so far")),
        (_, 0, ..) => Finding::fail(
            id,
            format!("{shown} has no line of dnsmasq's among its last {all}"),
            "name the file that dnsmasq's log-facility names",
        ),
        (_, _, 0, _) => {
            Finding::ok(id, format!("{shown} is dnsmasq's, and has no query in its last lines"))
        }
        (.., 0) => Finding::warn(
            id,
            format!("{shown} does not say whose its last queries are"),
            "write log-queries=extra into dnsmasq's configuration, and restart it",
        ),
        _ => Finding::ok(
            id,
            format!(
                "{shown} has {asked} lines of queries and answers at its end, with their clients"
            ),
        ),
    }
}

fn fifo(path: &Path) -> Vec<Finding> {
    let shown = path.display();
    vec![match std::fs::metadata(path) {
        Ok(meta) if meta.file_type().is_fifo() => {
            Finding::ok("dns-source", format!("{shown} is a FIFO"))
        }
        Ok(_) => Finding::fail(
            "dns-source",
            format!("{shown} is no FIFO"),
            format!("say --dns-source file:{shown}"),
        ),
        Err(error) => Finding::fail(
            "dns-source",
            format!("{shown}: {error}"),
            format!("mkfifo -m 0620 {shown} && chgrp dnsmasq {shown}"),
        ),
    }]
}

fn journal(unit: &str) -> Vec<Finding> {
    let words = ["--quiet", "--no-pager", "--lines=1", "--output=cat", "--unit", unit];
    let asked = program::ask(Command::new("journalctl").args(words), PROGRAM_PATIENCE);
    vec![match asked {
        Err(error) if error.kind() == ErrorKind::TimedOut => Finding::warn(
            "dns-source",
            format!("the journal of {unit} does not show its last line: {error}"),
            "journalctl --verify",
        ),
        Err(error) => Finding::fail(
            "dns-source",
            format!("journalctl cannot be run: {error}"),
            "apt-get install systemd, or say --dns-source file:PATH",
        ),
        Ok(out) if !out.status.success() => {
            let why =
                String::from_utf8_lossy(&out.stderr).lines().next().unwrap_or_default().to_owned();
            Finding::fail(
                "dns-source",
                format!("the journal of {unit} cannot be read: {why}"),
                "run it as root, or as a member of systemd-journal",
            )
        }
        Ok(out) if out.stdout.is_empty() => Finding::warn(
            "dns-source",
            format!("the journal has no line of {unit}"),
            format!("systemctl status {unit}"),
        ),
        Ok(_) => Finding::ok("dns-source", format!("the journal has lines of {unit}")),
    }]
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    const EXTRA: &str =
        "Nov 21 22:12:01 dnsmasq[77]: 1 172.17.0.2/40000 query[A] a.example from 172.17.0.2\n";
    const PLAIN: &str = "Nov 21 22:12:01 dnsmasq[77]: query[A] a.example from 172.17.0.2\n";

    #[test]
    fn a_log_is_judged_by_its_last_lines() {
        let state = |text: &str, cut| tail("log", text.as_bytes(), cut).state;
        assert_eq!(state(EXTRA, false), State::Ok);
        assert_eq!(state("", false), State::Ok);
        let started = "Nov 21 22:12:00 dnsmasq[77]: started, version 2.90 cachesize 150\n";
        assert_eq!(state(&started.repeat(3), false), State::Ok, "nobody has asked yet");
        assert_eq!(state("half a line\n", true), State::Ok, "nothing whole");
        assert_eq!(state("GET / HTTP/1.1\n", false), State::Fail);
        assert_eq!(state(&PLAIN.repeat(3), false), State::Warn);
    }

    #[test]
    fn nobody_asks_himself() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(upstream(&[ip("9.9.9.9")], &[ip("172.17.0.1")]).state, State::Ok);
        assert_eq!(upstream(&[ip("172.17.0.1")], &[ip("172.17.0.1")]).state, State::Fail);
        assert_eq!(upstream(&[], &[]).state, State::Fail);
    }

    #[test]
    fn a_port_that_is_taken_comes_with_its_holder() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let error = UdpSocket::bind(at).err().map(|e| e.kind());
        let finding = port_free(at, error, None);
        assert_eq!(finding.state, State::Fail);
        assert!(
            finding.what.contains(&format!("(process {})", std::process::id())),
            "{}",
            finding.what
        );
        assert_eq!(port_free(at, None, None).state, State::Ok);
        assert_eq!(port_free(at, Some(ErrorKind::AddrNotAvailable), None).state, State::Ok);
    }
}
