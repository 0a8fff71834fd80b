//! The labelled scenarios of `tests/scenarios/`: what benign programs and malware do, and the verdict each of it gets.
//!
//! `UPDATE_SCENARIOS=1` writes their table anew.

mod play;
mod script;

use std::fmt::Write;
use std::{env, fs};

use crate::support::root;
use play::{Row, play};
use script::{Label, Script};

const FOLDER: &str = "tests/scenarios";
const TABLE: &str = "tests/scenarios/TABLE.md";

/// Every scenario with the rows it gives, by name.
fn played() -> Vec<(String, Vec<Row>)> {
    let folder = fs::read_dir(root().join(FOLDER)).unwrap();
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let played = paths.iter().map(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("# "), "{name} does not say what it is");
        (name, play(&Script::read(&text)))
    });
    played.collect()
}

#[test]
fn every_flow_gets_the_verdict_that_is_written_beside_it() {
    let mut wrong = String::new();
    for (name, rows) in played() {
        assert!(!rows.is_empty(), "{name} has no flow");
        for row in rows.iter().filter(|row| row.seen != row.expected) {
            let Row { flow, seen, expected, .. } = row;
            writeln!(wrong, "{name}: {flow}\n  seen:    {seen:?}\n  written: {expected:?}")
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn nobody_benign_is_refused_and_nobody_malicious_passes_but_by_a_known_limit() {
    for (name, rows) in played() {
        for Row { flow, label, seen, .. } in rows {
            let accepted = seen.verdict == "accept";
            let deserved = accepted == (label == Label::Benign);
            assert!(deserved || seen.limit.is_some(), "{name}: {flow} is {label:?}: {seen:?}");
            assert!(!deserved || seen.limit.is_none(), "{name}: {flow} is no limit: {seen:?}");
        }
    }
}

#[test]
fn the_table_is_what_the_scenarios_give() {
    let table = table(&played());
    let path = root().join(TABLE);
    if env::var_os("UPDATE_SCENARIOS").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == table, "{TABLE} is not up to date: run with UPDATE_SCENARIOS=1");
}

fn table(all: &[(String, Vec<Row>)]) -> String {
    let rows = || all.iter().flat_map(|(_, rows)| rows);
    let count = |label, limit: bool| {
        rows().filter(|row| row.label == label && row.seen.limit.is_some() == limit).count()
    };
    let mut text = format!(
        "# What each scenario gets\n\n\
        {} scenarios, {} flows: {} benign, none refused, and {} malicious, none accepted, but for {} known limits.\n\n\
        | scenario | flow | label | verdict | reason | grade | held | marks |\n|---|---|---|---|---|---|---|---|\n",
        all.len(),
        rows().count(),
        count(Label::Benign, false) + count(Label::Benign, true),
        count(Label::Malicious, false) + count(Label::Malicious, true),
        count(Label::Benign, true) + count(Label::Malicious, true),
    );
    for (name, Row { flow, label, seen, .. }) in
        all.iter().flat_map(|(name, rows)| rows.iter().map(move |row| (name, row)))
    {
        let label = match (label, &seen.limit) {
            (Label::Benign, None) => "benign".to_owned(),
            (Label::Malicious, None) => "malicious".to_owned(),
            (Label::Benign, Some(why)) => format!("benign, known limit: {why}"),
            (Label::Malicious, Some(why)) => format!("malicious, known limit: {why}"),
        };
        let held = match seen.held.as_micros() {
            0 => String::new(),
            us => format!("{} ms", us as f64 / 1000.0),
        };
        let (verdict, reason, grade) = (&seen.verdict, &seen.reason, &seen.grade);
        let marks = seen.marks.join(", ");
        writeln!(
            text,
            "| {name} | {flow} | {label} | {verdict} | {reason} | {grade} | {held} | {marks} |"
        )
        .unwrap();
    }
    text
}
