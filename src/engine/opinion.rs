//! What another firewall on the same host makes of a destination. It is told beside a finding and changes no verdict.

use serde::{Deserialize, Serialize};

/// The other's view in a word, the same in events, reports and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// It denied the same.
    Confirmed,
    /// It can be asked, and has denied nothing of the kind: a person should look.
    NeedsReview,
    /// It cannot be asked.
    Unknown,
}

impl View {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            View::Confirmed => "confirmed",
            View::NeedsReview => "needs-review",
            View::Unknown => "unknown",
        }
    }
}

/// A view with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// The view.
    pub view: View,
    /// Why, in one sentence for a person.
    pub why: String,
}
