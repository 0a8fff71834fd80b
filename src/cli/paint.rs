//! Red for what is wrong, green for what is right, where somebody looks at a terminal and has not asked for none.

use std::io::IsTerminal as _;

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// As standard output and `NO_COLOR` (any value but an empty one) want it.
    pub fn stdout() -> Paint {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Paint(wanted && std::io::stdout().is_terminal())
    }

    /// Text that is not to be overlooked.
    pub fn bad(self, text: &str) -> String {
        if self.0 { format!("\u{1b}[1;31m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Text that says that all is well.
    pub fn good(self, text: &str) -> String {
        if self.0 { format!("\u{1b}[1;32m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Whether there are colours at all.
    pub fn has_colours(self) -> bool {
        self.0
    }

    /// With or without colours, whatever standard output is.
    #[cfg(test)]
    pub fn always(colours: bool) -> Paint {
        Paint(colours)
    }
}
