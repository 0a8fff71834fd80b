//! What the registry is asked: for whom, when, and how old evidence may be.

use std::net::IpAddr;
use std::time::Duration;

use super::time::Wall;

/// Who asks the registry about an address.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// Every address of the container: a look-up by any of them is its own.
    pub clients: &'a [IpAddr],
    /// The moment it is asked for.
    pub at: Wall,
    /// How long after it was seen last evidence is fresh; for ever if nothing.
    pub max_age: Option<Duration>,
}

impl Inquiry<'_> {
    /// Whether evidence last seen in this second since the Unix epoch is fresh. What the future holds is.
    pub fn is_fresh(&self, last: u32) -> bool {
        let age = || Duration::from_secs(self.at.seconds().saturating_sub(last).into());
        self.max_age.is_none_or(|most| age() <= most)
    }
}

/// For tests that care about neither time nor age.
#[cfg(test)]
pub(crate) fn asked(clients: &[IpAddr]) -> Inquiry<'_> {
    Inquiry { clients, at: Wall(0), max_age: None }
}
