//! One place alerts go to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::command::Command;
use super::mail::Mail;
use super::notice::Notice;
use super::syslog::Syslog;
use super::text::plain;
use super::webhook::Webhook;
use crate::engine::alert::{Pace, Topic};

/// Characters of a failure that are kept.
const FAILURE_CHARS_MAX: usize = 300;

/// A sink as the configuration says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Its name, unique.
    pub name: String,
    /// What it is told of.
    pub on: Vec<Topic>,
    /// How often.
    pub pace: Pace,
    /// How.
    pub(super) way: Way,
}

/// How a sink is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A program of the operator's.
    Command(Command),
    /// A server that takes JSON.
    Webhook(Webhook),
    /// A mailbox.
    Mail(Mail),
    /// This host's log.
    Syslog(Syslog),
}

/// How long one try may take.
#[derive(Clone, Debug)]
pub struct Patience {
    /// From its beginning to its end.
    pub total: Duration,
    /// Set when nobody waits for it any more, since the process ends.
    pub abandoned: Arc<AtomicBool>,
}

impl Patience {
    /// Whether to give up.
    pub(super) fn is_over(&self) -> bool {
        self.abandoned.load(Relaxed)
    }
}

/// Why an alert did not go out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    /// One line, without any secret.
    pub message: String,
    /// True if it may go out when it is tried again.
    pub again: bool,
}

impl SendError {
    /// A failure that may pass.
    pub(super) fn passing(message: impl AsRef<str>) -> SendError {
        SendError { message: plain(message.as_ref(), FAILURE_CHARS_MAX), again: true }
    }

    /// A failure that stays until somebody changes something.
    pub(super) fn lasting(message: impl AsRef<str>) -> SendError {
        SendError { again: false, ..SendError::passing(message) }
    }
}

impl Sink {
    /// The word for how it is told, as configured.
    pub fn kind(&self) -> &'static str {
        match &self.way {
            Way::Command(_) => "command",
            Way::Webhook(_) => "webhook",
            Way::Mail(_) => "mail",
            Way::Syslog(_) => "syslog",
        }
    }

    /// Whether it is told of this.
    pub fn wants(&self, topic: Topic) -> bool {
        // What was held back is of the kinds it asked for, and a test is meant for it.
        matches!(topic, Topic::Withheld | Topic::Test) || self.on.contains(&topic)
    }

    /// Sends one alert, and waits until it is taken.
    ///
    /// # Errors
    /// [`SendError`], in one line.
    pub fn send(&self, notice: &Notice, patience: &Patience) -> Result<(), SendError> {
        match &self.way {
            Way::Command(command) => command.send(notice, patience),
            Way::Webhook(webhook) => webhook.send(notice, patience),
            Way::Mail(mail) => mail.send(notice, patience),
            Way::Syslog(syslog) => syslog.send(notice, patience),
        }
    }

    /// Looks at files that sending needs, so that a mistake shows before the first alert.
    ///
    /// # Errors
    /// As [`Sink::send`].
    pub fn check(&self) -> Result<(), SendError> {
        match &self.way {
            Way::Command(command) => command.check(),
            Way::Webhook(webhook) => webhook.check(),
            Way::Mail(mail) => mail.check(),
            Way::Syslog(_) => Ok(()),
        }
    }
}
