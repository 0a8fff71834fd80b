//! The logs: our own events, dnsmasq's log, and flows as JSON Lines or as `conntrack -E -o timestamp` prints them.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::timeline::{Item, Packet, Timeline};
use crate::dns::stamp::Stamps;
use crate::engine::event::{Body, Event, RecordBody};
use crate::engine::{Flow, Proto, Record, Wall};
use crate::events::{read_json, read_timestamp};

/// Bytes of a line that is read; an event of ours has a few kilobytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A flow as a program of the user's may log it; a verdict event is one, too.
#[derive(Deserialize)]
struct LoggedFlow {
    ts: String,
    proto: Proto,
    src: IpAddr,
    sport: u16,
    dst: IpAddr,
    dport: u16,
    #[serde(default)]
    container: Option<std::sync::Arc<str>>,
}

/// Hands over each line of a file without its end. One that is longer than any line of such a log is left out.
fn each_line(path: &Path, mut take: impl FnMut(&[u8])) -> Result<()> {
    let what = || format!("cannot read {}", path.display());
    let mut input = BufReader::with_capacity(1 << 16, File::open(path).with_context(what)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.with_context(what)? == 0 {
            return Ok(());
        }
        match line.strip_suffix(b"\n") {
            Some(line) => take(line),
            None if line.len() as u64 == LINE_BYTES_MAX => {
                input.skip_until(b'\n').with_context(what)?;
            }
            None => take(&line),
        }
    }
}

/// Reads an event log of ours. `records` says whether its records are to be taken.
///
/// # Errors
/// If it cannot be read, or holds no event at all.
pub fn events(path: &Path, into: &mut Timeline) -> Result<()> {
    let mut known = 0_u64;
    each_line(path, |line| match event(line) {
        Some((at, body)) => {
            known += 1;
            take(at, body, into);
        }
        None => into.skip("lines that are no event"),
    })?;
    ensure!(known > 0, "{} holds no event of synhold", path.display());
    Ok(())
}

fn event(line: &[u8]) -> Option<(Wall, Body)> {
    let Event { time, body } = read_json(line)?;
    Some((time, body))
}

fn take(at: Wall, body: Body, into: &mut Timeline) {
    match body {
        Body::Ready(ready) => into.add(at, Item::Ready(Box::new(ready))),
        Body::Verdict(verdict) => into.add_verdict(at, verdict),
        Body::Record(record) => into.add(at, Item::Record(Box::new(at_time(record, at)))),
        Body::Container(container) => into.add(at, Item::Container(Box::new(container))),
        Body::Block(_) => into.skip("packets that the kernel's sets refused"),
        Body::Alert(_) | Body::Learn(_) | Body::Health(_) | Body::Reload(_) | Body::Stop(_) => {}
    }
}

fn at_time(body: RecordBody, time: Wall) -> Record {
    let RecordBody { address, name, client, kind, chain } = body;
    Record { address, name, client, kind, chain, time }
}

/// Reads a log of dnsmasq's. Its lines need a time, as syslog, the journal or Docker put before them.
///
/// # Errors
/// If it cannot be read, or none of its lines has a time.
pub fn dns_log(path: &Path, into: &mut Timeline) -> Result<()> {
    let mut stamps = Stamps::of(path)?;
    let mut undated = Vec::new();
    each_line(path, |line| match stamps.time(line) {
        Some(at) => into.add(at, Item::Line(line.into())),
        None => undated.push(()),
    })?;
    let dated = stamps.seen();
    ensure!(
        dated > 0 || undated.is_empty(),
        "the lines of {} have no time: a replay needs to know when each was written",
        path.display()
    );
    undated.iter().for_each(|()| into.skip("lines of a DNS log without a time"));
    Ok(())
}

/// Reads a log of flows.
///
/// # Errors
/// If it cannot be read, or holds no flow.
pub fn flows(path: &Path, into: &mut Timeline) -> Result<()> {
    let mut known = 0_u64;
    each_line(path, |line| match json(line).or_else(|| conntrack(line)) {
        Some((at, packet)) => {
            known += 1;
            into.add(at, Item::Packet(Box::new(packet)));
        }
        None => into.skip("lines that are no new TCP or UDP flow"),
    })?;
    ensure!(
        known > 0,
        "{} holds no flow: write JSON Lines with ts, proto, src, sport, dst and dport, or what \
         `conntrack -E -e NEW -o timestamp` prints",
        path.display()
    );
    Ok(())
}

fn json(line: &[u8]) -> Option<(Wall, Packet)> {
    let logged: LoggedFlow = serde_json::from_slice(line).ok()?;
    let LoggedFlow { ts, proto, src, sport, dst, dport, container } = logged;
    let flow = Flow::new(proto, (src, sport), (dst, dport));
    Some((read_timestamp(&ts)?, Packet { flow, container, said: None }))
}

/// `[1700000000.123456]     [NEW] tcp      6 120 SYN_SENT src=172.17.0.2 dst=203.0.113.9 sport=40000 dport=443 [UNREPLIED] src=..`
fn conntrack(line: &[u8]) -> Option<(Wall, Packet)> {
    let text = std::str::from_utf8(line).ok()?;
    let (stamp, rest) = text.trim_start().strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = stamp.split_once('.')?;
    let micros = format!("{micros:0<6}").get(..6)?.parse::<u64>().ok()?;
    let at = Wall(seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)?);
    let rest = rest.trim_start().strip_prefix("[NEW]")?;
    let mut words = rest.split_ascii_whitespace();
    let proto = match words.next()? {
        "tcp" => Proto::Tcp,
        "udp" => Proto::Udp,
        _ => return None,
    };
    // The first of each is the direction in which it was opened.
    let value = |key: &str| rest.split_ascii_whitespace().find_map(|word| word.strip_prefix(key));
    let ip = |key: &str| value(key)?.parse::<IpAddr>().ok();
    let port = |key: &str| value(key)?.parse::<u16>().ok();
    let flow = Flow::new(proto, (ip("src=")?, port("sport=")?), (ip("dst=")?, port("dport=")?));
    Some((at, Packet { flow, container: None, said: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flow_is_read_from_json_and_from_conntrack() {
        let line = b"[1700000000.5]\t    [NEW] tcp      6 120 SYN_SENT src=172.17.0.2 dst=203.0.113.9 sport=40000 \
            dport=443 [UNREPLIED] src=203.0.113.9 dst=192.0.2.1 sport=443 dport=40000";
        let (at, packet) = conntrack(line).unwrap();
        assert_eq!(at, Wall(1_700_000_000_500_000));
        assert_eq!(packet.flow.to_string(), "tcp 172.17.0.2:40000 -> 203.0.113.9:443");
        let line = br#"{"ts":"2023-11-14T22:13:20.500Z","proto":"udp","src":"fd00::2","sport":1,"dst":"2001:db8::9","dport":53}"#;
        let (at, packet) = json(line).unwrap();
        assert_eq!((at, packet.flow.proto), (Wall(1_700_000_000_500_000), Proto::Udp));
        for line in
            ["", "{}", "[1] [NEW] tcp", "[1.0] [UPDATE] tcp src=1.2.3.4", "[1.é] [NEW] icmp"]
        {
            assert!(
                json(line.as_bytes()).or_else(|| conntrack(line.as_bytes())).is_none(),
                "{line}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..120), text in "\\[[0-9.é]{0,12}\\] *\\[NEW\\] (tcp|udp).{0,40}") {
            let _ = (json(&line), conntrack(&line), event(&line), conntrack(text.as_bytes()));
        }
    }
}
