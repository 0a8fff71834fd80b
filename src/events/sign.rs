//! The signs that stand before a line for people: one list, which README explains.

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A DNS record was read.
    Dns,
    /// A connection was looked at.
    Connection,
    /// Every name of a destination.
    Names,
    /// A container skipped by policy.
    Skipped,
    /// A hardcoded address.
    Hardcoded,
    /// Refused by a list or a set of the kernel.
    Blocked,
    /// Put on a list.
    Added,
    /// The registry is on disk.
    Saved,
    /// As it should be.
    Fine,
    /// Somebody should look at it.
    Review,
    /// Files were read again.
    Reload,
    /// How things are.
    Info,
    /// A container came, changed or went.
    Container,
    /// Counts.
    Stats,
    /// Something failed.
    Failed,
    /// For whoever looks for a fault.
    Detail,
}

impl Sign {
    /// All of them, in the order README has them.
    pub const ALL: [Sign; 16] = [
        Sign::Dns,
        Sign::Connection,
        Sign::Names,
        Sign::Skipped,
        Sign::Hardcoded,
        Sign::Blocked,
        Sign::Added,
        Sign::Saved,
        Sign::Fine,
        Sign::Review,
        Sign::Reload,
        Sign::Info,
        Sign::Container,
        Sign::Stats,
        Sign::Failed,
        Sign::Detail,
    ];

    /// The sign itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Sign::Dns => "🍯",
            Sign::Connection => "🔍",
            Sign::Names => "↳",
            Sign::Skipped => "🔓",
            Sign::Hardcoded => "🚨",
            Sign::Blocked => "🚫",
            Sign::Added => "➕",
            Sign::Saved => "💾",
            Sign::Fine => "✅",
            Sign::Review => "⚠️",
            Sign::Reload => "🔄",
            Sign::Info => "📋",
            Sign::Container => "🐳",
            Sign::Stats => "📊",
            Sign::Failed => "❌",
            Sign::Detail => "🔧",
        }
    }
}

impl std::fmt::Display for Sign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
