//! Charts as SVG in percent and pixels: they stretch with the page while their text keeps its size.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use maud::{Markup, html};

/// Steps of time a chart may have, in hours.
const STEPS: [u64; 12] = [1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2_160, 8_760];
/// Bars side by side: at 400 pixels each still has eight.
const BARS_MAX: u64 = 40;
/// And at least so many, so that one hour does not fill the page.
const BARS_MIN: u64 = 12;
/// Pixels of the plot, what is above it, and what is below it.
const PLOT: u64 = 180;
const ABOVE: u64 = 18;
const BELOW: u64 = 24;
/// Pixels of one bar of a ranking with its label.
const RANK: usize = 40;
/// Share of its place that a bar fills, in percent.
const FILLED: u64 = 82;
const HOUR_SECONDS: u64 = 3_600;

/// One bar of a ranking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// What it is.
    pub label: String,
    /// How much.
    pub count: u64,
    /// All that is beyond the ranking: it has no bar, which would be so long that the others showed nothing.
    pub is_rest: bool,
}

/// Refusals of one step, by reason.
struct Step {
    /// Hours since the Unix epoch.
    from: u64,
    counts: Vec<u64>,
}

/// The class that gives a reason its colour.
pub fn colour(reason: &str) -> &'static str {
    match reason {
        "never-resolved" => "c-never",
        "blocklisted" => "c-list",
        "unhealthy" => "c-unhealthy",
        "out-of-scope" => "c-scope",
        "stale" => "c-stale",
        _ => "c-other",
    }
}

/// Refusals over time, stacked by reason, with a legend.
pub fn over_time(hours: &BTreeMap<(u64, &'static str), u64>) -> Markup {
    let mut reasons: Vec<&'static str> = hours.keys().map(|(_, reason)| *reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let (Some(first), Some(last)) =
        (hours.keys().next().map(|(hour, _)| *hour), hours.keys().last().map(|(hour, _)| *hour))
    else {
        return html! { p.soft { "No event tells when." } };
    };
    let (hours_each, steps) = steps(hours, &reasons, first, last);
    let total = |step: &Step| step.counts.iter().sum::<u64>();
    let top = nice(steps.iter().map(total).max().unwrap_or(1));
    let wide = steps.len() as u64;
    let all: u64 = hours.values().sum();
    let marks = [(0, 0), (1, top / 2), (2, top)];
    let marks = marks.map(|(share, label)| (ABOVE + PLOT - PLOT * share / 2, label));
    let summary = format!("{all} refusals in steps of {}, at most {top} in one.", span(hours_each));
    html! {
        figure {
            svg role="img" aria-labelledby="t-time d-time" width="100%" height=(ABOVE + PLOT + BELOW) {
                title id="t-time" { "Refusals over time by reason" }
                desc id="d-time" { (summary) }
                @for (y, _) in marks {
                    line.grid x1="0" x2="100%" y1=(y) y2=(y) {}
                }
                @for (place, step) in steps.iter().enumerate() {
                    (stack(step, place as u64, wide, top, &reasons, hours_each))
                }
                @for (y, label) in marks {
                    text.tick x="0" y=(y - 4) { (label) }
                }
                @let labels = [("0", "start", 0), ("50%", "middle", wide / 2), ("100%", "end", wide - 1)];
                @for (x, anchor, place) in labels {
                    text.tick x=(x) y=(ABOVE + PLOT + 17) text-anchor=(anchor) {
                        @if let Some(step) = usize::try_from(place).ok().and_then(|place| steps.get(place)) {
                            (moment(step.from, hours_each))
                        }
                    }
                }
            }
            ul.legend {
                @for reason in &reasons { li { span class={ "key " (colour(reason)) } {} (reason) } }
            }
        }
    }
}

fn stack(
    step: &Step,
    place: u64,
    wide: u64,
    top: u64,
    reasons: &[&'static str],
    hours: u64,
) -> Markup {
    // Thousandths of a percent, so that bars stand in line.
    let x = 100_000 * place / wide + 100_000 * (100 - FILLED) / 200 / wide;
    let width = 100_000 * FILLED / 100 / wide;
    let mut below = 0;
    let parts = reasons.iter().zip(&step.counts).filter(|(_, count)| **count > 0);
    let parts: Vec<(&str, u64, u64, u64)> = parts
        .map(|(reason, count)| {
            let height = (PLOT.saturating_mul(*count) / top).max(1);
            below += height;
            (*reason, *count, (ABOVE + PLOT).saturating_sub(below), height)
        })
        .collect();
    html! {
        @for (reason, count, y, height) in parts {
            rect class=(colour(reason)) x=(percent(x)) width=(percent(width)) y=(y) height=(height) {
                title { (moment(step.from, hours)) ": " (count) " " (reason) }
            }
        }
    }
}

fn percent(thousandths: u64) -> String {
    format!("{}.{:03}%", thousandths / 1000, thousandths % 1000)
}

/// A ranking: a label above each bar, its number at the end.
pub fn bars(what: &str, bars: &[Bar]) -> Markup {
    let ranked = bars.iter().filter(|bar| !bar.is_rest);
    let top = ranked.map(|bar| bar.count).max().unwrap_or(1).max(1);
    let (title, about) = (format!("t-{what}"), format!("d-{what}"));
    let first =
        bars.first().map_or_else(String::new, |bar| format!("{} with {}", bar.label, bar.count));
    html! {
        figure {
            svg role="img" aria-labelledby={ (title) " " (about) } width="100%" height=(bars.len() * RANK) {
                title id=(title) { "Refusals by " (what) }
                desc id=(about) { "The most: " (first) "." }
                @for (place, bar) in bars.iter().enumerate() {
                    @let y = place * RANK;
                    text.label x="0" y=(y + 14) { (bar.label) }
                    text.count x="100%" y=(y + 14) text-anchor="end" { (bar.count) }
                    @if !bar.is_rest {
                        rect.track x="0" y=(y + 20) width="100%" height="10" rx="2" {}
                        rect.bar x="0" y=(y + 20) width=(percent((100_000 * bar.count / top).max(500))) height="10" rx="2" {
                            title { (bar.label) ": " (bar.count) }
                        }
                    }
                }
            }
        }
    }
}

/// Steps that are as short as fit, and how many hours each has.
fn steps(
    hours: &BTreeMap<(u64, &'static str), u64>,
    reasons: &[&'static str],
    first: u64,
    last: u64,
) -> (u64, Vec<Step>) {
    let fits = |step: &&u64| (last / **step - first / **step) < BARS_MAX;
    let each = STEPS.iter().find(fits).copied().unwrap_or(8_760);
    let end = last / each + 1;
    let start = (first / each).min(end.saturating_sub(BARS_MIN)).max(end.saturating_sub(BARS_MAX));
    let mut steps: Vec<Step> =
        (start..end).map(|at| Step { from: at * each, counts: vec![0; reasons.len()] }).collect();
    for ((hour, reason), count) in hours {
        let place = usize::try_from((hour / each).saturating_sub(start)).ok();
        let step = place.and_then(|place| steps.get_mut(place));
        let row = reasons.iter().position(|known| known == reason);
        if let Some(own) = step.zip(row).and_then(|(step, row)| step.counts.get_mut(row)) {
            *own += count;
        }
    }
    (each, steps)
}

/// The next number at least as large that halves well: 2, 4, 6, 8, 10, 20, 40 ...
fn nice(most: u64) -> u64 {
    let mut unit = 1_u64;
    loop {
        for factor in [2, 4, 6, 8, 10] {
            let top = unit.saturating_mul(factor);
            if top >= most {
                return top;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

fn span(hours: u64) -> String {
    match hours {
        1 => "an hour".to_owned(),
        hours if hours < 24 => format!("{hours} hours"),
        24 => "a day".to_owned(),
        hours => format!("{} days", hours / 24),
    }
}

/// `11-22 08:00`, or the day alone where steps are of days.
fn moment(hour: u64, each: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(hour.saturating_mul(HOUR_SECONDS));
    let text = humantime::format_rfc3339_seconds(at).to_string();
    let part = if each < 24 { text.get(5..16) } else { text.get(..10) };
    part.unwrap_or(&text).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_cover_everything_and_lose_nothing() {
        for span in [1, 11, 40, 41, 1_000, 10_000, 100_000] {
            let hours: BTreeMap<(u64, &'static str), u64> =
                [((400_000, "stale"), 1), ((400_000 + span, "stale"), 2), ((400_000, "other"), 4)]
                    .into();
            let (each, steps) = steps(&hours, &["other", "stale"], 400_000, 400_000 + span);
            let sum: u64 = steps.iter().flat_map(|step| &step.counts).sum();
            assert_eq!(sum, 7, "{span} {each}");
            assert!((BARS_MIN..=BARS_MAX).contains(&(steps.len() as u64)), "{span}");
        }
    }

    #[test]
    fn the_axis_ends_at_a_number_people_like() {
        assert_eq!([0, 1, 2, 3, 11, 99, 101].map(nice), [2, 2, 2, 4, 20, 100, 200]);
        assert!(nice(u64::MAX) > 0);
    }

    #[test]
    fn bars_stay_within_their_chart() {
        let count = |n: u64| n * 1_000_000_007;
        let bar = |n| Bar { label: format!("<b>{n}"), count: count(n), is_rest: n == 9 };
        let svg = bars("things", &[1, 2, 3, 9].map(bar)).into_string();
        assert!(svg.contains("width=\"100.000%\"") && svg.contains("&lt;b&gt;1"), "{svg}");
        assert_eq!(
            (svg.matches("rect class=\"bar\"").count(), svg.contains("&lt;b&gt;9")),
            (3, true)
        );
        assert!(over_time(&BTreeMap::new()).into_string().contains("No event"));
    }
}
