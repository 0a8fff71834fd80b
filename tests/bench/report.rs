//! What was measured: a table with the contract's bar beside each figure, and the same as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// The contract's demand on a figure.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// No demand.
    None,
    /// Met up to this value.
    AtMost(f64),
    /// Met from this value on.
    AtLeast(f64),
}

struct Row {
    key: String,
    what: String,
    value: f64,
    unit: &'static str,
    bar: Bar,
    note: String,
}

/// Everything measured in one run.
pub struct Report {
    quick: bool,
    rows: Vec<Row>,
}

impl Report {
    /// An empty report.
    pub fn new(quick: bool) -> Report {
        Report { quick, rows: Vec::new() }
    }

    /// Adds a figure: its JSON key, what it is for a person, value, unit, the bar, and a remark.
    pub fn add(
        &mut self,
        key: &str,
        what: &str,
        (value, unit): (f64, &'static str),
        bar: Bar,
        note: impl Into<String>,
    ) {
        let (key, what, note) = (key.to_owned(), what.to_owned(), note.into());
        self.rows.push(Row { key, what, value, unit, bar, note });
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut out = String::new();
        if self.quick {
            out.push_str("QUICK RUN: too few samples to judge by\n");
        }
        let _ = writeln!(out, "{:<58} {:>14}  {:<21} remark", "", "measured", "bar");
        for row in &self.rows {
            let measured = format!("{} {}", number(row.value), row.unit);
            let line = format!(
                "{:<58} {:>14}  {:<21} {}",
                row.what,
                measured.trim_end(),
                row.verdict(),
                row.note
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }

    /// The same for a machine.
    pub fn json(&self) -> String {
        let figures: serde_json::Map<String, Value> =
            self.rows.iter().map(|row| (row.key.clone(), row.json())).collect();
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "quick": self.quick,
            "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
            "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "figures": figures,
        });
        serde_json::to_string_pretty(&report).expect("plain data") + "\n"
    }
}

impl Row {
    fn met(&self) -> Option<bool> {
        match self.bar {
            Bar::None => None,
            Bar::AtMost(bar) => Some(self.value <= bar),
            Bar::AtLeast(bar) => Some(self.value >= bar),
        }
    }

    fn verdict(&self) -> String {
        let word = match self.met() {
            None => return String::new(),
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        match self.bar {
            Bar::AtMost(bar) => format!("{word} (<= {})", number(bar)),
            Bar::AtLeast(bar) => format!("{word} (>= {})", number(bar)),
            Bar::None => String::new(),
        }
    }

    fn json(&self) -> Value {
        let mut value = json!({ "value": self.value, "unit": self.unit, "what": self.what });
        match self.bar {
            Bar::AtMost(bar) => value["at_most"] = bar.into(),
            Bar::AtLeast(bar) => value["at_least"] = bar.into(),
            Bar::None => return value,
        }
        value["met"] = self.met().into();
        value
    }
}

/// Three significant digits or whole numbers.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
