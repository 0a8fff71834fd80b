//! `synhold check`: what stands in the way of a start, with what to do about it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::paint::Paint;
use super::{Answer, say, say_json, words};
use crate::config::{self, Options};
use crate::daemon::check::{self, Finding, State};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration file [default: /etc/synhold/synhold.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print an array of findings as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Box<Options>,
}

pub(super) fn run(args: &CheckArgs) -> Result<Answer> {
    let config = config::load(args.config.as_deref(), (*args.options).clone())?;
    let findings = check::run(&config);
    match args.json {
        true => say_json(&findings)?,
        false => say(&text(&findings, Paint::stdout()))?,
    }
    let fails = findings.iter().any(|finding| finding.state == State::Fail);
    Ok(if fails { Answer::No } else { Answer::Fine })
}

/// One line a finding, with one of advice below, and the sum.
fn text(findings: &[Finding], paint: Paint) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok  ".to_owned(),
            State::Warn => "warn".to_owned(),
            State::Fail => paint.bad("FAIL"),
        };
        lines.push(format!("{state}  {:<20}  {}", finding.id, words::plain(&finding.what)));
        if let Some(advice) = &finding.advice {
            lines.push(format!("{:26}-> {}", "", words::plain(advice)));
        }
    }
    lines.push(sum(findings));
    lines.join("\n")
}

fn sum(findings: &[Finding]) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (warnings, failures) = (count(State::Warn), count(State::Fail));
    let many = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    match (failures, warnings) {
        (0, 0) => format!("all {} are fine: `synhold run` can start", findings.len()),
        (0, _) => format!("{}: `synhold run` can start", many(warnings, "warning")),
        _ => format!(
            "{} and {}: `synhold run` does not start, or does not do its work",
            many(failures, "failure"),
            many(warnings, "warning")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_a_line_and_advice_another() {
        let finding = |state, advice: Option<&str>| Finding {
            id: "queue",
            state,
            what: "so\nit is".to_owned(),
            advice: advice.map(str::to_owned),
        };
        let findings = [finding(State::Ok, None), finding(State::Fail, Some("do this"))];
        let text = text(&findings, Paint::always(false));
        let wanted = "ok    queue                 so it is\n\
                      FAIL  queue                 so it is\n                          -> do this\n\
                      1 failure and 0 warnings: `synhold run` does not start, or does not do its work";
        assert_eq!(text, wanted);
        assert_eq!(sum(&findings[..1]), "all 1 are fine: `synhold run` can start");
    }
}
