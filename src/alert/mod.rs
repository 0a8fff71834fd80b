//! Alerts on their way to people: to a command, a webhook, a mailbox or syslog, as `[[alert]]` sections say.
//!
//! A sink sends one [`Notice`] at a time and says whether it is worth another try. Who is told what, how often, and what
//! happens to a sink that fails is the business of whoever calls. What a stranger may have written (names above all) is
//! made harmless here: one line, no control characters, bounded.

mod command;
mod mail;
mod notice;
mod secret;
mod section;
mod signature;
mod sink;
mod syslog;
#[cfg(test)]
mod testing;
mod tether;
mod text;
mod url;
mod webhook;

pub use notice::{Notice, Severity, VERSION};
pub use secret::SecretFile;
pub use section::{PER_HOUR_DEFAULT, REPEAT_DEFAULT, SINKS_MAX, all};
pub use signature::{HEADER, sign};
pub use sink::{Patience, SendError, Sink};
