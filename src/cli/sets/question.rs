//! `synhold sets test`: the answer in one sentence, then how it came about.

use std::net::IpAddr;

use anyhow::Result;

use super::answer;
use crate::cli::lists::{Place, one};
use crate::cli::table::{Align, Table};
use crate::cli::{Answer, say, say_json, words};
use crate::control::Question;
use crate::daemon::inspect::{self, Step, Tested, Verdict};

/// Names shown.
const NAMES_SHOWN: usize = 5;

pub(super) fn run(place: &Place, address: IpAddr, from: Option<IpAddr>) -> Result<Answer> {
    let question = Question::SetsTest { address, from };
    let tested: Tested = answer(place, &question, |books| inspect::test(books, address, from))?;
    if place.json {
        say_json(&tested)?;
    } else {
        say(&tell(&tested))?;
    }
    Ok(if tested.verdict == Verdict::Refused { Answer::No } else { Answer::Fine })
}

fn tell(tested: &Tested) -> String {
    let mut lines = vec![tested.because.clone()];
    if !tested.steps.is_empty() {
        lines.push(String::new());
        lines.extend(steps(&tested.steps));
    }
    let mut after = Vec::new();
    if !tested.names.is_empty() {
        let shown: Vec<&str> = tested.names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
        let more = match tested.names.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        after.push(format!("names of {}: {}{more}", tested.address, shown.join(", ")));
    }
    after.extend(tested.domains.iter().map(one));
    after.extend(tested.notes.iter().cloned());
    if !after.is_empty() {
        lines.push(String::new());
        lines.extend(after);
    }
    lines.join("\n")
}

fn steps(steps: &[Step]) -> Vec<String> {
    let columns = [
        ("", Align::Left),
        ("SET", Align::Left),
        ("ASKED FOR", Align::Left),
        ("ANSWER", Align::Cut),
    ];
    let mut table = Table::new(&columns);
    for step in steps {
        let mark = if step.decides { ">" } else { "" };
        let answer = match &step.element {
            Some(element) => yes(step, element),
            None => "no".to_owned(),
        };
        table.row(vec![mark.to_owned(), step.set.clone(), step.asked.clone(), answer]);
    }
    table.lines()
}

/// An answer that is yes, with what matched and where that comes from.
pub(in crate::cli) fn yes(step: &Step, element: &str) -> String {
    let mut answer = match element == step.asked {
        true => "yes".to_owned(),
        false => format!("yes, {element}"),
    };
    if let Some(left) = step.expires_ms {
        answer += &format!(" for {} more", words::span(left));
    }
    if !step.entries.is_empty() {
        answer += &format!(", {}", inspect::comes_from(&step.entries));
    }
    answer
}
