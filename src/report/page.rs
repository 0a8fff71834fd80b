//! The page: one file that fetches nothing and runs nothing, for a screen of any width, for paper, and for ears.

mod chart;

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::engine::Wall;
use crate::engine::opinion::View;
use crate::engine::text::plain;
use chart::{Bar, bars, over_time};

const STYLE: &str = include_str!("page/style.css");
/// Nothing is fetched, run or sent, whatever a name of strangers may say.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
/// Bars of a ranking.
const RANKED_MAX: usize = 10;
/// Rows of the table; who wants all has the CSV.
const ROWS_MAX: usize = 200;

/// Everything the page shows.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// When it was made.
    pub made: Wall,
    /// The first and the last event it is about.
    pub span: Option<(Wall, Wall)>,
    /// How synhold runs, in a word.
    pub mode: Option<&'static str>,
    /// Refusals by the hour since the Unix epoch, and by reason.
    pub hours: BTreeMap<(u64, &'static str), u64>,
    /// Findings, the one to look at first first.
    pub findings: Vec<Finding>,
    /// Why OpenSnitch cannot be asked, if it cannot.
    pub opensnitch: Option<String>,
    /// What a reader should know before believing the rest.
    pub notes: Vec<String>,
}

/// One container and destination.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The container's name, or its address.
    pub container: String,
    /// `tcp 203.0.113.9:443`.
    pub destination: String,
    /// The network, with whose it is where that is known.
    pub network: String,
    /// Packets that were refused.
    pub refused: u64,
    /// Packets that enforcing would have refused.
    pub would_refuse: u64,
    /// The first time.
    pub first: Option<Wall>,
    /// The last time.
    pub last: Option<Wall>,
    /// Why.
    pub reason: &'static str,
    /// Names of the address, then or now.
    pub names: Vec<String>,
    /// What was known, and how long it was waited for.
    pub proof: String,
    /// OpenSnitch's view.
    pub view: View,
    /// Why that is its view.
    pub why: String,
    /// What is proposed, in a few words.
    pub proposed: String,
}

impl Finding {
    fn count(&self) -> u64 {
        self.refused + self.would_refuse
    }
}

/// The page as HTML.
pub fn render(page: &Page) -> String {
    let body = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { "synhold report " (day(page.made)) }
                style { (PreEscaped(STYLE)) }
            }
            body { main {
                (head(page))
                (tiles(page))
                (notes(page))
                @if page.findings.is_empty() {
                    p.empty { "Nothing was refused in this time, and nothing would have been." }
                } @else {
                    section { h2 { "Refusals over time" } (over_time(&page.hours)) }
                    div.pair {
                        section { h2 { "By container" }
                            (bars("containers", &ranked(page, |finding| finding.container.clone()))) }
                        section { h2 { "By network" }
                            (bars("networks", &ranked(page, |finding| finding.network.clone()))) }
                    }
                    (table(page))
                }
                footer { "Made by synhold " (env!("CARGO_PKG_VERSION")) " on " (moment(page.made))
                    ". All times are UTC. This page fetches nothing." }
            } }
        }
    };
    body.into_string()
}

fn head(page: &Page) -> Markup {
    html! {
        header {
            p.mark { "synhold" }
            h1 { "What containers were refused" }
            p.about {
                @match page.span {
                    Some((first, last)) => { (moment(first)) " to " (moment(last)) " UTC" }
                    None => { "No event log was read" }
                }
                @if let Some(mode) = page.mode { ", mode " (mode) }
            }
        }
    }
}

fn tiles(page: &Page) -> Markup {
    let sum = |of: fn(&Finding) -> u64| page.findings.iter().map(of).sum::<u64>();
    let mut containers: Vec<&str> =
        page.findings.iter().map(|finding| finding.container.as_str()).collect();
    containers.sort_unstable();
    containers.dedup();
    let confirmed = page.findings.iter().filter(|finding| finding.view == View::Confirmed).count();
    let all = [
        (sum(|finding| finding.refused), "refused"),
        (sum(|finding| finding.would_refuse), "would be refused"),
        (page.findings.len() as u64, "destinations"),
        (containers.len() as u64, "containers"),
    ];
    html! {
        dl.tiles {
            @for (number, what) in all { div { dt { (what) } dd { (number) } } }
            div { dt { "confirmed by OpenSnitch" }
                dd { @if page.opensnitch.is_some() { "–" } @else { (confirmed) } } }
        }
    }
}

fn notes(page: &Page) -> Markup {
    html! {
        @if page.opensnitch.is_some() || !page.notes.is_empty() {
            ul.notes {
                @if let Some(why) = &page.opensnitch { li { "OpenSnitch is not asked: " (why) "." } }
                @for note in &page.notes { li { (note) "." } }
            }
        }
    }
}

/// The longest bars first; what is beyond them is one more.
fn ranked(page: &Page, key: impl Fn(&Finding) -> String) -> Vec<Bar> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for finding in &page.findings {
        *sums.entry(plain(&key(finding)).into_owned()).or_default() += finding.count();
    }
    let mut all: Vec<Bar> = sums
        .into_iter()
        .map(|(label, count)| Bar { label, count, is_rest: false })
        .filter(|bar| bar.count > 0)
        .collect();
    all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.label.cmp(&b.label)));
    let rest = all.split_off(RANKED_MAX.min(all.len()));
    if !rest.is_empty() {
        let count = rest.iter().map(|bar| bar.count).sum();
        all.push(Bar { label: format!("{} others", rest.len()), count, is_rest: true });
    }
    all
}

fn table(page: &Page) -> Markup {
    let more = page.findings.len().saturating_sub(ROWS_MAX);
    html! {
        section {
            h2 { "Findings" }
            table {
                thead { tr {
                    @for head in ["Container", "Destination", "Times", "First and last", "Why, and its proof", "OpenSnitch", "Proposed"] {
                        th scope="col" { (head) }
                    }
                } }
                tbody { @for finding in page.findings.iter().take(ROWS_MAX) { (row(finding)) } }
            }
            @if more > 0 { p.more { "and " (more) " more: a report of a shorter time (--since) or of one container shows them" } }
        }
    }
}

/// An address is read as a whole; a name may be long.
fn is_address(container: &str) -> Option<&'static str> {
    container.parse::<std::net::IpAddr>().is_ok().then_some("address")
}

fn row(finding: &Finding) -> Markup {
    html! {
        tr {
            td data-head="Container" { b class=[is_address(&finding.container)] { (plain(&finding.container)) } }
            td data-head="Destination" {
                code.address { (finding.destination) }
                @for name in &finding.names { " " span.name { (name) } }
            }
            td.number data-head="Times" {
                (finding.count())
                @if finding.refused == 0 && finding.would_refuse > 0 { " " span.soft { "would be" } }
            }
            td.time data-head="First and last" {
                @match (finding.first, finding.last) {
                    (Some(first), Some(last)) => {
                        time datetime=(iso(first)) { (moment(first)) }
                        @if minute(first) != minute(last) { " – " time datetime=(iso(last)) { (moment(last)) } }
                    }
                    _ => { span.soft { "not told" } }
                }
            }
            td data-head="Why, and its proof" {
                span class={ "reason " (chart::colour(finding.reason)) } { (finding.reason) } " " (finding.proof)
            }
            td data-head="OpenSnitch" { span class={ "view " (finding.view.as_str()) } title=(finding.why) { (finding.view.as_str()) } }
            td data-head="Proposed" { (finding.proposed) }
        }
    }
}

fn iso(at: Wall) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_micros(at.0)).to_string()
}

fn minute(at: Wall) -> u64 {
    at.0 / 60_000_000
}

/// `2026-11-22 08:15`
fn moment(at: Wall) -> String {
    let text = iso(at);
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

fn day(at: Wall) -> String {
    let text = iso(at);
    text.get(..10).unwrap_or(&text).to_owned()
}

#[cfg(test)]
#[path = "page/page_test.rs"]
mod tests;
