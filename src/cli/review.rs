//! `synhold review`: refusals to be decided about, shown, asked about one by one, or taken as proposed.

mod ask;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use clap::Args;

use super::chosen::{Chosen, Found};
use super::lists::{tell_daemon, tell_others};
use super::paint::Paint;
use super::table::{Align, Table};
use super::{Answer, say, say_json, words};
use crate::daemon::edit::Edited;
use crate::daemon::findings::Proposal;
use crate::daemon::review::{Breaks, Desk, Item, Review};
use crate::engine::Wall;
use crate::engine::opinion::View;

/// Rows of one container that are shown: a scanner is not to fill the screen.
const OF_ONE_MAX: usize = 10;
/// Containers named in a heading.
const NAMED_MAX: usize = 5;

#[derive(Args, Debug)]
pub(super) struct ReviewArgs {
    /// Allow what is proposed to be allowed, without asking: to every container, from now on
    #[arg(long, conflicts_with = "accept")]
    yes: bool,
    /// Allow this address to every container, without asking, whatever is proposed; repeatable
    #[arg(long, value_name = "ADDRESS")]
    accept: Vec<IpAddr>,
    /// Show and ask also about what was kept refused in an earlier review
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    chosen: Chosen,
}

pub(super) fn run(args: &ReviewArgs) -> Result<Answer> {
    let Found { config, misread, sources, notes } = args.chosen.find()?;
    let mut desk = Desk::open(&config, misread);
    let mut review = desk.review(&sources, args.all)?;
    review.notes.extend(notes);
    if args.yes || !args.accept.is_empty() {
        return accept(args, &desk, &review);
    }
    if args.chosen.place.json {
        say_json(&review)?;
        return Ok(left(review.items.len()));
    }
    let can_ask = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    say(&tell(&review, desk.now(), Paint::stdout(), can_ask))?;
    if !can_ask || review.items.is_empty() {
        return Ok(left(review.items.len()));
    }
    let asked =
        ask::ask(&review.items, desk.now(), &mut std::io::stdin().lock(), &mut std::io::stdout())?;
    desk.keep(&asked.kept)?;
    if !asked.accepted.is_empty() {
        say(&tell_edited(&desk.accept(&asked.accepted)?, &desk))?;
    }
    Ok(left(review.items.len() - asked.accepted.len() - asked.kept.len()))
}

/// What is left to be looked at is a no.
fn left(items: usize) -> Answer {
    if items == 0 { Answer::Fine } else { Answer::No }
}

fn accept(args: &ReviewArgs, desk: &Desk, review: &Review) -> Result<Answer> {
    for address in &args.accept {
        ensure!(
            review.items.iter().any(|item| item.group.key.dst == *address),
            "nothing that was refused and is to be reviewed went to {address}; `synhold allow {address}` allows it all \
             the same"
        );
    }
    let wanted = |item: &&Item| match args.yes {
        true => item.proposed.proposal == Proposal::Accept,
        false => args.accept.contains(&item.group.key.dst),
    };
    let (accepted, rest): (Vec<&Item>, Vec<&Item>) = review.items.iter().partition(wanted);
    let edited = desk.accept(&accepted)?;
    if args.chosen.place.json {
        let notes = &review.notes;
        say_json(&serde_json::json!({ "accepted": edited, "left": rest, "notes": notes }))?;
        return Ok(left(rest.len()));
    }
    let mut lines: Vec<String> = noted(review).collect();
    lines.push(match accepted.is_empty() {
        true => "nothing is proposed to be allowed".to_owned(),
        false => tell_edited(&edited, desk),
    });
    if !rest.is_empty() {
        lines.push(format!("{} left to be looked at: `synhold review`", destinations(rest.len())));
    }
    say(&lines.join("\n"))?;
    Ok(left(rest.len()))
}

fn tell_edited(edited: &Edited, desk: &Desk) -> String {
    let mut lines: Vec<String> = Vec::new();
    for entry in &edited.entries {
        let entry_text = &entry.entry;
        lines.push(format!(
            "{entry_text} is allowed to every container from now on, by its line in allow.txt"
        ));
        let gone = |gone: &crate::daemon::edit::RemovedLine| {
            format!("  taken out of {}.txt: {}", gone.list, words::plain(&gone.line))
        };
        lines.extend(entry.removed.iter().map(gone));
        let others = tell_others(edited.action, entry);
        lines.extend(others.iter().map(|line| words::plain(line)));
    }
    lines.extend(edited.daemon.map(|daemon| tell_daemon(daemon, &desk.state_dir().display())));
    lines.join("\n")
}

fn destinations(count: usize) -> String {
    if count == 1 { "1 destination".to_owned() } else { format!("{count} destinations") }
}

fn tell(review: &Review, now: Wall, paint: Paint, can_ask: bool) -> String {
    let mut lines = vec![heading(review)];
    lines.extend(would_break(&review.would_break).map(|text| paint.bad(&text)));
    lines.push(second_view(review));
    lines.extend(noted(review));
    if review.items.is_empty() {
        return lines.join("\n");
    }
    lines.push(String::new());
    lines.extend(rows(&review.items, now));
    if !can_ask {
        lines.push(String::new());
        lines.push(next_step(&review.items));
    }
    lines.join("\n")
}

fn noted(review: &Review) -> impl Iterator<Item = String> {
    review.notes.iter().map(|note| format!("Note: {}.", words::plain(note)))
}

fn second_view(review: &Review) -> String {
    if let Some(why) = &review.opensnitch {
        return format!("OpenSnitch is not asked: {why}.");
    }
    let confirmed = |item: &&Item| item.opensnitch.view == View::Confirmed;
    match review.items.iter().filter(confirmed).count() {
        0 => "OpenSnitch has denied none of them.".to_owned(),
        1 => "OpenSnitch has denied 1 of them.".to_owned(),
        count => format!("OpenSnitch has denied {count} of them."),
    }
}

fn heading(review: &Review) -> String {
    let mut containers: Vec<&str> =
        review.items.iter().map(|item| &*item.group.key.container).collect();
    containers.sort_unstable();
    containers.dedup();
    let mut rest = Vec::new();
    if review.allowed > 0 {
        rest.push(format!("{} allowed since", review.allowed));
    }
    if review.kept > 0 {
        rest.push(format!("{} kept refused in an earlier review (--all)", review.kept));
    }
    if review.more > 0 {
        rest.push(format!("{} refusals beyond what is kept one by one", review.more));
    }
    let rest = if rest.is_empty() { String::new() } else { format!("; {}", rest.join(", ")) };
    if review.items.is_empty() {
        return format!("Nothing to review{rest}.");
    }
    let of = match containers.len() {
        1 => "1 container".to_owned(),
        count => format!("{count} containers"),
    };
    format!("To review: {} of {of}{rest}.", destinations(review.items.len()))
}

/// `If you enforce now, 2 containers break: web (3 destinations), db (1 destination).`
fn would_break(breaks: &[Breaks]) -> Option<String> {
    let containers = match breaks.len() {
        0 => return None,
        1 => "1 container breaks".to_owned(),
        count => format!("{count} containers break"),
    };
    let one = |one: &Breaks| {
        let count = usize::try_from(one.destinations).unwrap_or(usize::MAX);
        format!("{} ({})", words::plain(&one.container), destinations(count))
    };
    let named: Vec<String> = breaks.iter().take(NAMED_MAX).map(one).collect();
    let more = match breaks.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "If you enforce now, {containers}: {}{more}. Allow before what they need.",
        named.join(", ")
    ))
}

fn rows(items: &[Item], now: Wall) -> Vec<String> {
    let mut table = Table::new(&[
        ("CONTAINER", Align::Cut),
        ("DESTINATION", Align::Left),
        ("TIMES", Align::Right),
        ("LAST", Align::Left),
        ("WHY", Align::Left),
        ("PROPOSED", Align::Cut),
    ]);
    let mut lines_of = BTreeMap::new();
    for item in items {
        let group = &item.group;
        let shown = lines_of.entry(&group.key.container).or_insert(0_usize);
        *shown += 1;
        if *shown > OF_ONE_MAX {
            continue;
        }
        table.row(vec![
            words::plain(&group.key.container),
            group.destination(),
            group.count().to_string(),
            group.last.map_or_else(words::dash, |last| words::ago(last, now)),
            group.reason().to_owned(),
            format!("{}: {}", proposal(item), words::plain(&item.proposed.because)),
        ]);
    }
    let mut lines = table.lines();
    for (container, all) in lines_of {
        let more = all.saturating_sub(OF_ONE_MAX);
        if more > 0 {
            let container = words::plain(container);
            lines.push(format!("and {more} more of {container}: --container {container} --json"));
        }
    }
    lines
}

fn proposal(item: &Item) -> &'static str {
    match item.proposed.proposal {
        Proposal::Accept => "allow",
        Proposal::Keep => "keep",
    }
}

fn next_step(items: &[Item]) -> String {
    let is_accepted = |item: &&Item| item.proposed.proposal == Proposal::Accept;
    let proposed = items.iter().filter(is_accepted).count();
    let mut steps = vec!["On a terminal `synhold review` asks about each.".to_owned()];
    if proposed > 0 {
        steps.push(format!("--yes allows what is proposed to be ({proposed})."));
    }
    steps.push("--accept ADDRESS allows one.".to_owned());
    format!("{}\nWhat is allowed is allowed to every container from then on.", steps.join(" "))
}

#[cfg(test)]
#[path = "review_test.rs"]
mod tests;
