//! The thread that sets OpenSnitch's view beside each new finding, away from the packet path: one event each.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::Second;
use crate::config::Config;
use crate::daemon::clock;
use crate::daemon::shared::Shared;
use crate::engine::event::{AlertBody, Body, VerdictBody};
use crate::engine::repeats::{Repeats, Telling, Who};
use crate::engine::{Alarm, Reason, Verdict};

/// Refusals that wait for the database; more are a scan, and its first ones are told.
const ROOM: usize = 256;

/// Starts it. It ends with the event that says that everything has.
///
/// # Errors
/// If the system gives no thread.
pub fn start(config: &Config, shared: &Arc<Shared>) -> Result<()> {
    let (shared, mut second) = (Arc::clone(shared), Second::new(&config.desk.opensnitch_db));
    let tapped = shared.events.tap(ROOM, Box::new(|body| is_finding(body) || is_end(body)));
    let watch = move || {
        let mut told = Repeats::default();
        while let Ok(event) = tapped.events().recv() {
            match &event.body {
                Body::Verdict(verdict) => tell(verdict, &mut second, &mut told, &shared),
                Body::Stop(_) => return,
                _ => {}
            }
        }
    };
    let thread = std::thread::Builder::new().name("findings".to_owned()).spawn(watch);
    thread.map(drop).context("cannot start the thread of findings")
}

fn is_finding(body: &Body) -> bool {
    matches!(body, Body::Verdict(verdict)
        if verdict.verdict == Verdict::Drop && verdict.reason == Reason::NeverResolved)
}

fn is_end(body: &Body) -> bool {
    matches!(body, Body::Stop(_))
}

/// Tells of a container and address once, and then at most hourly. Where OpenSnitch is not installed nobody is told that
/// it cannot be asked.
fn tell(
    verdict: &VerdictBody,
    second: &mut Second,
    told: &mut Repeats<std::net::IpAddr>,
    shared: &Shared,
) {
    let (Some(src), Some(dst)) = (verdict.src, verdict.dst) else { return };
    if !second.is_there() {
        return;
    }
    let now = clock::now();
    let payer = shared.engine.owners().payer(src);
    let who = Who { client: Some(src), payer };
    let Some(Telling { count, .. }) = told.note(who, dst, now.wall.seconds()) else { return };
    let opinion = second.opinion(dst, now);
    let container = verdict.container.clone();
    let name = container.as_deref().map_or_else(|| src.to_string(), str::to_owned);
    let to = verdict
        .dport
        .map_or_else(|| dst.to_string(), |port| SocketAddr::from((dst, port)).to_string());
    let would = if verdict.enforced { "was" } else { "would have been" };
    let message = format!(
        "{name} → {to} {would} refused, nobody resolved it; {} ({})",
        opinion.view.as_str(),
        opinion.why
    );
    shared.event(Body::Alert(AlertBody {
        alert: Alarm::Finding,
        name: None,
        address: Some(dst),
        client: Some(src),
        container,
        count,
        opensnitch: Some(opinion.view),
        message,
    }));
}
