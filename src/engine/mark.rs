//! What is suspicious about evidence that counts all the same, and what raises an alert.

use serde::{Deserialize, Serialize};

/// Something about an address's records that a person should see beside the verdict. It changes no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Every name of the address was resolved for the first time a few seconds ago.
    NewName,
    /// A name of the address has had more addresses than ordinary services have.
    ManyAddresses,
    /// The name was one of a flood of new names from one asker.
    NameFlood,
}

/// What an alert is about. The same word is event field, metric label and documentation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alarm {
    /// A public name answered with an address of this host or of a network that is not public.
    Rebinding,
    /// One name has had more addresses than ordinary services have.
    ManyAddresses,
    /// One asker resolves new names faster than programs do.
    NameFlood,
    /// A container went for an address nobody resolved, and another firewall of the host was asked about it.
    Finding,
}

impl Mark {
    /// Every mark, for tests and documentation.
    pub const ALL: [Mark; 3] = [Mark::NewName, Mark::ManyAddresses, Mark::NameFlood];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Mark::NewName => "new-name",
            Mark::ManyAddresses => "many-addresses",
            Mark::NameFlood => "name-flood",
        }
    }
}

impl Alarm {
    /// Every alarm, for tests and documentation.
    pub const ALL: [Alarm; 4] =
        [Alarm::Rebinding, Alarm::ManyAddresses, Alarm::NameFlood, Alarm::Finding];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Alarm::Rebinding => "rebinding",
            Alarm::ManyAddresses => "many-addresses",
            Alarm::NameFlood => "name-flood",
            Alarm::Finding => "finding",
        }
    }
}
