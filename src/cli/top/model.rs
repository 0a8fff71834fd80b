//! What is shown and selected, apart from how it is drawn.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::keys::Change;
use super::work::Outcome;
use crate::cli::status::{reason, to, who};
use crate::cli::words;
use crate::control::{Container, Refused, Status};
use crate::engine::Wall;

/// Lines of an answer that are kept: an explanation has some dozens.
const LINES_MAX: usize = 500;

/// One of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    Containers,
    Refusals,
}

/// In which order containers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Name,
    Refused,
    Held,
    Accepted,
    Last,
}

/// What lies above the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Popup {
    Help,
    /// A change to be agreed to.
    Question(Change),
    /// What is being asked.
    Waiting(String),
    /// An answer, from this line on.
    Text {
        title: String,
        lines: Vec<String>,
        top: usize,
    },
}

/// Everything there is to show.
#[derive(Debug)]
pub struct Model {
    /// What the daemon said last.
    pub status: Option<Status>,
    /// Why it does not answer any more.
    pub gone: Option<String>,
    /// Where keys go.
    pub pane: Pane,
    pub sort: Sort,
    /// Text that rows must have.
    pub filter: String,
    /// It is being typed.
    pub typing: bool,
    pub popup: Option<Popup>,
    /// A word about the last key.
    pub note: Option<String>,
    /// Whoever looks may change something.
    pub may_change: bool,
    places: [Place; 2],
}

/// What is selected in a table: it stays selected where it goes.
#[derive(Clone, Debug, Default)]
struct Place {
    row: usize,
    what: Option<String>,
}

impl Sort {
    pub fn next(self) -> Sort {
        match self {
            Sort::Name => Sort::Refused,
            Sort::Refused => Sort::Held,
            Sort::Held => Sort::Accepted,
            Sort::Accepted => Sort::Last,
            Sort::Last => Sort::Name,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Refused => "refused",
            Sort::Held => "held",
            Sort::Accepted => "accepted",
            Sort::Last => "last refusal",
        }
    }
}

impl Model {
    /// Nothing heard yet.
    pub fn new(may_change: bool) -> Model {
        Model {
            status: None,
            gone: None,
            pane: Pane::Refusals,
            sort: Sort::Refused,
            filter: String::new(),
            typing: false,
            popup: None,
            note: None,
            may_change,
            places: Default::default(),
        }
    }

    /// Takes in what was heard.
    pub fn hear(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Status(Ok(status)) => {
                (self.status, self.gone) = (Some(*status), None);
                self.settle();
            }
            Outcome::Status(Err(why)) => self.gone = Some(why),
            Outcome::Text { title, lines } => {
                let plain = lines.iter().take(LINES_MAX).map(|line| words::plain(line));
                let lines: Vec<String> = plain.collect();
                // Whoever went on meanwhile is not to be interrupted.
                match self.popup {
                    Some(Popup::Waiting(_)) => {
                        self.popup = Some(Popup::Text { title, lines, top: 0 })
                    }
                    _ => self.note = lines.into_iter().next(),
                }
            }
        }
    }

    /// Containers as they stand in the table.
    pub fn containers(&self) -> Vec<&Container> {
        let all = self.status.iter().flat_map(|status| &status.containers);
        let fits = |one: &&Container| {
            let addresses = one.addresses.iter().map(ToString::to_string);
            let mut texts = addresses.chain([words::plain(&one.name), words::plain(&one.image)]);
            texts.any(|text| self.has(&text))
        };
        let mut shown: Vec<&Container> = all.filter(fits).collect();
        let last = |one: &Container| one.last_refusal.as_ref().map_or(Wall(0), |last| last.at);
        match self.sort {
            Sort::Name => {}
            Sort::Refused => shown.sort_by_key(|one| Reverse(one.refused)),
            Sort::Held => shown.sort_by_key(|one| Reverse(one.held)),
            Sort::Accepted => shown.sort_by_key(|one| Reverse(one.accepted)),
            Sort::Last => shown.sort_by_key(|one| Reverse(last(one))),
        }
        shown
    }

    /// Refusals as they stand in the table.
    pub fn refusals(&self) -> Vec<&Refused> {
        let all = self.status.iter().flat_map(|status| &status.refusals);
        let fits = |one: &&Refused| {
            let names = one.names.iter().map(ToString::to_string);
            let mut texts = names.chain([who(one), to(one), reason(one)]);
            texts.any(|text| self.has(&text))
        };
        all.filter(fits).collect()
    }

    /// The selected row of a table, if it has any.
    pub fn row(&self, pane: Pane) -> Option<usize> {
        let count = self.keys(pane).len();
        (count > 0).then(|| self.place(pane).row.min(count - 1))
    }

    /// Destination and container that are selected, as far as there are such.
    pub fn selected(&self) -> (Option<IpAddr>, Option<String>) {
        let Some(row) = self.row(self.pane) else { return (None, None) };
        match self.pane {
            Pane::Refusals => self.refusals().get(row).map_or((None, None), |one| {
                let source = one.src.map(|src| src.to_string());
                (one.dst, one.container.clone().or(source))
            }),
            Pane::Containers => self.containers().get(row).map_or((None, None), |one| {
                (one.last_refusal.as_ref().map(|last| last.dst), Some(one.name.clone()))
            }),
        }
    }

    /// Moves the selection.
    pub fn step(&mut self, by: isize) {
        let Some(row) = self.row(self.pane) else { return };
        let row = row.saturating_add_signed(by);
        let what = None;
        *self.place_mut(self.pane) = Place { row, what };
    }

    /// Finds what is selected again, wherever it stands by now.
    pub fn settle(&mut self) {
        for pane in [Pane::Containers, Pane::Refusals] {
            let keys = self.keys(pane);
            let place = self.place(pane);
            let found =
                place.what.as_ref().and_then(|what| keys.iter().position(|key| key == what));
            let row = found.unwrap_or(place.row).min(keys.len().saturating_sub(1));
            let what = keys.into_iter().nth(row);
            *self.place_mut(pane) = Place { row, what };
        }
    }

    fn keys(&self, pane: Pane) -> Vec<String> {
        match pane {
            Pane::Containers => self.containers().iter().map(|one| one.id.clone()).collect(),
            Pane::Refusals => {
                let key = |one: &&Refused| format!("{} {:?}", who(one), one.dst);
                self.refusals().iter().map(key).collect()
            }
        }
    }

    fn has(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.filter.to_lowercase())
    }

    fn place(&self, pane: Pane) -> &Place {
        let [containers, refusals] = &self.places;
        if pane == Pane::Containers { containers } else { refusals }
    }

    fn place_mut(&mut self, pane: Pane) -> &mut Place {
        let [containers, refusals] = &mut self.places;
        if pane == Pane::Containers { containers } else { refusals }
    }
}

#[cfg(test)]
#[path = "model_test.rs"]
pub(super) mod tests;
