//! What of the registry is kept on disk: one address in its whole saved form, merged back in whatever order it is read.

use std::net::IpAddr;

use super::Seen;

/// Everything that is known of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Its names, the one seen last first.
    pub names: Vec<Seen>,
    /// Who asked for which of them.
    pub askers: Vec<Asker>,
    /// When a flow to it was let through, roughly, in seconds since the Unix epoch.
    pub used: Option<u32>,
}

/// One client's look-ups of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Who asked.
    pub address: IpAddr,
    /// When it last did, in seconds since the Unix epoch.
    pub last: u32,
    /// Which of [`Saved::names`]; what is beyond them is a name that is no longer kept.
    pub name: u16,
}

impl Asker {
    /// The look-up of a name that is no longer kept.
    pub const UNNAMED: u16 = u16::MAX;
}
