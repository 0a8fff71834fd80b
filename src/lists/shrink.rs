//! When a list that became much shorter is believed.

use std::time::Duration;

/// Entries up to which a list may lose as many as it likes: short lists change a lot, and little is lost.
pub const SHRINK_ENTRIES_MIN: u64 = 20;
/// How long a list of the user's must stay short until that is what is meant. An editor that truncates and writes takes
/// milliseconds, a copy over a slow network seconds.
pub const SHRINK_SETTLE: Duration = Duration::from_secs(10);
/// A list is suspicious when less than one part in this many is left.
const LEFT_ONE_IN: u64 = 10;

/// True if a list that had `before` entries lost 90 % of them or more, as when it was cut off or emptied by mistake.
pub fn is_suspicious(before: u64, after: u64) -> bool {
    before > SHRINK_ENTRIES_MIN && after.saturating_mul(LEFT_ONE_IN) <= before
}

/// Whether a list of the user's own is taken as it is. A sudden loss is taken once the file has stayed as it is for
/// [`SHRINK_SETTLE`], so that a deliberate emptying works.
pub fn accept_shrink(before: u64, after: u64, unchanged_for: Duration) -> bool {
    !is_suspicious(before, after) || unchanged_for >= SHRINK_SETTLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sudden_loss_must_settle() {
        let soon = Duration::from_secs(1);
        for (before, after, accepted) in [
            (20, 0, true),
            (21, 0, false),
            (21, 3, true),
            (100, 10, false),
            (100, 11, true),
            (0, 0, true),
        ] {
            assert_eq!(accept_shrink(before, after, soon), accepted, "{before} to {after}");
            assert!(accept_shrink(before, after, SHRINK_SETTLE));
        }
    }
}
