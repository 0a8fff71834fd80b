//! What a person or a program had the running daemon change.

use serde::{Deserialize, Serialize};

/// See [`super::Reload::asked`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedBody {
    /// The user who asked, by the kernel's word.
    pub uid: u32,
    /// The process, likewise; nothing where it cannot be seen from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What that process calls itself, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What is to be changed, as lists write it; an address or a name that is to be forgotten. The first of many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<String>,
    /// Entries beyond those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// More about that, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What came of a change that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The lists have it, and the kernel too.
    InForce,
    /// The lists have it, and the kernel had it not in time.
    Unconfirmed,
    /// Everything was so already.
    Unchanged,
    /// The registry has it.
    Done,
    /// It could not be done.
    Failed,
}

impl Outcome {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Outcome::InForce => "in force",
            Outcome::Unconfirmed => "written, but not in force in time",
            Outcome::Unchanged => "it was so already",
            Outcome::Done => "done",
            Outcome::Failed => "FAILED",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
