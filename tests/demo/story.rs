//! The story: a resolved connection passes, an unresolved one is refused, a late record releases a held one.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::lab::dns::{dns_query, qtype};
use super::lab::net::connect;
use super::lab::{CT4, DNS4, GW4, SRV4, at};
use super::signals::interrupted;
use super::stage::Stage;

const PORT: u16 = 443;
/// Longer than any hold.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the late question comes after its connection.
const LATE: Duration = Duration::from_millis(250);

/// Plays all of it; an error is an outcome that should not be.
pub fn tell(synhold: &Path) -> Result<(), String> {
    let start = Instant::now();
    let (shop, late, hardcoded) =
        (at(SRV4, PORT), at([203, 0, 113, 20], PORT), at([203, 0, 113, 66], PORT));
    step(1, "A small internet, and a firewall in its gateway");
    let stage = Stage::set(synhold, &[("shop.example", shop), ("late.example", late)], || {
        say(format!(
            "container {CT4} ── gateway {GW4} ── internet 203.0.113.0/24, where every address answers"
        ));
        say(format!(
            "up in {}; the internet's name server is {DNS4}; now synhold starts in the gateway:",
            ms(start.elapsed())
        ));
    })?;
    say(format!("ready {} after the demo began", ms(start.elapsed())));

    let asked = resolved(&stage, shop)?;
    let refused = hardcoded_address(&stage, hardcoded)?;
    let released = late_record(&stage, late)?;

    step(5, "What happened");
    row("resolved, then connected", "passed", &asked);
    row("hardcoded address", "refused", &refused);
    row("connected before its answer", "passed", &released);
    say("the firewall stops, and takes its rules away:");
    if !stage.stop() {
        return Err("synhold did not end well".to_owned());
    }
    stage.line("stopped: 2 accepted, 1 refused")?;
    let left = stage.lab.gw.ruleset();
    if !left.trim().is_empty() {
        return Err(format!("rules are left behind:\n{left}"));
    }
    drop(stage);
    say(format!("namespaces, processes and files are gone; {} in all", ms(start.elapsed())));
    Ok(())
}

/// A name is resolved, then connected to: the ordinary case.
fn resolved(stage: &Stage, shop: SocketAddr) -> Result<String, String> {
    step(2, "The container resolves shop.example and connects");
    let asked = ask(stage, "shop.example", shop)?;
    say(format!(
        "shop.example is {} (answered by synhold's own dnsmasq in {})",
        shop.ip(),
        ms(asked)
    ));
    let took = connect(&stage.lab.ct, shop, PATIENCE)
        .map_err(|error| format!("a resolved connection failed: {error}"))?;
    // On a busy machine the first packet may be there before the line about its name has been read.
    let line = stage.line(": shop.example")?;
    let known = line.contains(&format!("→ {shop} accepted"));
    let when = if known { "before its first packet" } else { "a moment after its first packet" };
    say(format!("connected in {}: the name was known {when}", ms(took)));
    Ok(format!("connect() took {}", ms(took)))
}

/// Nobody asked for this address; a server is there and would answer.
fn hardcoded_address(stage: &Stage, server: SocketAddr) -> Result<String, String> {
    goes_on()?;
    step(3, "The container connects to an address it never asked for");
    say(format!("connecting to {server}, where a server listens; no DNS answer ever named it ..."));
    let start = Instant::now();
    let result = connect(&stage.lab.ct, server, PATIENCE);
    let took = start.elapsed();
    match result {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) => return Err(format!("not refused by a reset, but: {error}")),
        Ok(_) => return Err("a connection nobody resolved was let through".to_owned()),
    }
    stage.line(&format!("→ {server} refused (never-resolved)"))?;
    let arrived = stage.arrived(server);
    if arrived > 0 {
        return Err(format!("{arrived} of its packets got out"));
    }
    say(format!("connection refused (reset) after {}; packets that got out: none", ms(took)));
    Ok(format!("held for its record, reset after {}", ms(took)))
}

/// The first packet is on its way before the question: it waits, and goes the moment the answer is there.
fn late_record(stage: &Stage, server: SocketAddr) -> Result<String, String> {
    goes_on()?;
    step(4, "A connection that is faster than its own DNS answer");
    let ct = stage.lab.ct.clone();
    let connecting = std::thread::spawn(move || {
        let result = connect(&ct, server, PATIENCE);
        (result, Instant::now())
    });
    stage.held()?;
    let start = Instant::now();
    say(format!("{}  connect to {server}: its first packet is held", clock(Duration::ZERO)));
    std::thread::sleep(LATE);
    if stage.arrived(server) > 0 {
        return Err("the packet was not held".to_owned());
    }
    let question = start.elapsed();
    say(format!("{}  another socket of the container asks for late.example", clock(question)));
    let asked = ask(stage, "late.example", server)?;
    let answer = question + asked;
    let (result, connected) = connecting.join().map_err(|_| "connecting failed".to_owned())?;
    result.map_err(|error| format!("the late record released nothing: {error}"))?;
    let connected = connected.duration_since(start);
    let seen = stage.first_seen(server).ok_or("its packet was not seen on the far side")?;
    let seen = seen.saturating_duration_since(start);
    stage.line(&format!("→ {server} released after"))?;
    let arrived = stage.arrived(server);
    if arrived != 1 {
        return Err(format!("{arrived} first packets got through, not one"));
    }
    say(format!("{}  the held packet is on the far side's wire", clock(seen)));
    say(format!("{}  the answer is with the container", clock(answer)));
    say(format!("{}  connected", clock(connected)));
    let late = connected.saturating_sub(question);
    say(format!("from the question to the connection: {}", ms(late)));
    Ok(format!("held {}, connected {} after the question", ms(seen), ms(late)))
}

/// Asks for a name and checks the answer; how long it took.
fn ask(stage: &Stage, name: &str, server: SocketAddr) -> Result<Duration, String> {
    let start = Instant::now();
    let reply = dns_query(&stage.lab.ct, GW4.into(), name, qtype::A)
        .map_err(|error| format!("{name} was not answered: {error}"))?;
    let took = start.elapsed();
    if reply.addresses() != [server.ip()] {
        return Err(format!("{name} is {:?}, not {}", reply.addresses(), server.ip()));
    }
    Ok(took)
}

fn goes_on() -> Result<(), String> {
    if interrupted() { Err("interrupted".to_owned()) } else { Ok(()) }
}

fn step(number: u32, title: &str) {
    println!("\n{number}. {title}");
}

fn say(text: impl AsRef<str>) {
    println!("          {}", text.as_ref());
}

fn row(what: &str, outcome: &str, detail: &str) {
    say(format!("{what:<28} {outcome:<8} {detail}"));
}

fn clock(time: Duration) -> String {
    format!("{:>8.2} ms", time.as_secs_f64() * 1_000.0)
}

/// A duration for a person.
fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}
