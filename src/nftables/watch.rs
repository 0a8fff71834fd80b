//! Notices that others changed rules, by the number of transactions: that costs nobody anything.
//!
//! Listening to nf_tables would tell who did what. But while anybody on the machine listens, in whatever namespace, the
//! kernel makes a notice of some 5 KiB for every element that anybody changes, and keeps all until the transaction is
//! over: 200,000 ranges then took six seconds instead of one, and 2.4 GB of kernel memory.

use super::error::Error;
use super::kernel::generation_by;
use super::socket::Channel;

/// Counts transactions in a network namespace, of all tables. Asking takes a few microseconds and does nothing to others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// The generation up to which all is known; none before the first look, or where the kernel has none.
    seen: Option<u32>,
}

impl Watch {
    /// Whether there were transactions since the last look, ours included; the first look says no. Whose table they
    /// changed, only reading tells.
    ///
    /// # Errors
    /// If the kernel cannot be asked; then the next look sees what this one did not.
    pub fn look(&mut self, channel: &mut Channel) -> Result<bool, Error> {
        let now = generation_by(channel)?;
        let before = std::mem::replace(&mut self.seen, now);
        Ok(before.zip(now).is_some_and(|(before, now)| before != now))
    }
}
