//! Diagnostics: lines on standard error, apart from the events, in the same shape; `RUST_LOG` chooses what.

use std::fmt;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::daemon::clock;
use crate::events::{Sign, timestamp};

/// The variable that chooses.
const VARIABLE: &str = "RUST_LOG";
/// What is shown of our own if it says nothing about them.
const OURS: &str = "synhold=warn";
/// The same of events, where people read them.
const EVENTS: &str = "synhold::events=info";

/// From now on diagnostics are written.
pub(super) fn start() {
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    let parsed = EnvFilter::try_new(directives(&asked));
    let fault = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new(directives("")));
    tracing_subscriber::fmt()
        .event_format(Lines)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    if let Some(why) = fault {
        tracing::warn!("{VARIABLE}={asked:?} is not understood ({why}): the defaults hold");
    }
}

/// Defaults for what `asked` does not speak of, and what it asks for behind them.
fn directives(asked: &str) -> String {
    let targets = |wanted: &[&str]| {
        asked.split(',').map(str::trim).filter(|one| !one.is_empty()).any(|one| {
            let target = one.split(['=', '[']).next().unwrap_or_default();
            let is_level = !one.contains(['=', '[']) && one.parse::<LevelFilter>().is_ok();
            is_level || wanted.contains(&target)
        })
    };
    let mut all = Vec::new();
    if !targets(&["synhold"]) {
        all.push(OURS);
    }
    if !targets(&["synhold", "synhold::events"]) {
        all.push(EVENTS);
    }
    all.extend(Some(asked).filter(|asked| !asked.trim().is_empty()));
    all.join(",")
}

/// `[TIMESTAMP] LEVEL: EMOJI MESSAGE`
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        let level = *event.metadata().level();
        let sign = match level {
            // A message may know better.
            _ if Sign::ALL.iter().any(|sign| text.starts_with(sign.as_str())) => "",
            Level::ERROR => Sign::Failed.as_str(),
            Level::WARN => Sign::Review.as_str(),
            Level::INFO => Sign::Info.as_str(),
            Level::DEBUG | Level::TRACE => Sign::Detail.as_str(),
        };
        let gap = if sign.is_empty() { "" } else { " " };
        writeln!(writer, "[{}] {level}: {sign}{gap}{text}", timestamp(clock::wall()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_spoken_of_has_its_default() {
        assert_eq!(directives(""), "synhold=warn,synhold::events=info");
        assert_eq!(directives("hyper=debug"), "synhold=warn,synhold::events=info,hyper=debug");
        assert_eq!(directives("synhold::dns=trace"), format!("{OURS},{EVENTS},synhold::dns=trace"));
        assert_eq!(directives("synhold::events=debug"), format!("{OURS},synhold::events=debug"));
        for whole in ["debug", "synhold=trace", "warn,hyper=debug", "hyper=debug, info"] {
            assert_eq!(directives(whole), whole);
        }
        // A word that is no level is somebody's module.
        assert_eq!(directives("hyper"), format!("{OURS},{EVENTS},hyper"));
    }
}
