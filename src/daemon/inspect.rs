//! What is enforced and why: the kernel's sets, asked one by one and joined with the entries of the lists.

mod drift;
mod known;
mod overview;
mod question;
mod state;

pub use overview::{ListLine, Overview, SetLine, overview};
pub use question::{Step, Tested, Verdict, test};
pub use state::RulesState;
