//! What is enforced and why: the kernel's sets, asked one by one and joined with the entries of the lists.

mod contents;
mod drift;
mod known;
mod overview;
mod question;
mod state;
mod steps;

pub use contents::{Asked, Contents, ElementLine, SHOWN_MAX, SetContents, contents};
pub use overview::{ListLine, Overview, SetLine, overview};
pub use question::{Step, Tested, Verdict, test};
pub use state::{Queue, RulesState};

use crate::lists::Found;

/// Where an element comes from: `from list drop: SBL123`, or which line it is where that says nothing.
pub fn comes_from(entries: &[Found]) -> String {
    let Some(first) = entries.first() else {
        return "which none of the lists read here has: `synhold sets` compares them".to_owned();
    };
    let why = match &first.note {
        Some(note) => format!("from list {}: {note}", first.list),
        None => format!("from list {}, line {}", first.list, first.line),
    };
    match entries.len() - 1 {
        0 => why,
        1 => format!("{why}; another entry says the same"),
        more => format!("{why}; {more} other entries say the same"),
    }
}
