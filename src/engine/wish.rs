//! What one source asks for a container, as labels and configuration write it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::judge::Scope;
use super::limits::{ALLOW_PER_CONTAINER_MAX, HOLD_MAX};
use super::name::Name;
use super::net::Net;

/// How a container is treated. Ordered: what comes later is stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// Neither judged nor refused anything by a list; quarantine holds all the same.
    Off,
    /// Everything passes at once; events say what enforcing would have done.
    DryRun,
    /// Refusals are carried out.
    Enforce,
}

/// How a refusal is put to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// TCP reset or ICMP admin-prohibited.
    Reset,
    /// Silence.
    Drop,
}

/// What one source asks for; what it leaves out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// How it is treated.
    pub mode: Option<Treatment>,
    /// Whose look-ups count.
    pub scope: Option<Scope>,
    /// Destinations it may reach without a DNS record, beside those of the lists.
    pub allow: Vec<Allow>,
    /// How refusals are put to it.
    pub refuse: Option<Refusal>,
    /// How long its packets are held.
    pub hold: Option<Duration>,
}

/// A destination that is allowed to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// A network or an address.
    Net(Net),
    /// A domain and everything under it.
    Domain(Name),
}

/// Why a text is no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// The key is not one of ours.
    #[error("there is no such key; the keys are mode, scope, allow, refuse and hold-ms")]
    Unknown,
    /// The value is none of those it may be.
    #[error("`{0}` is not one of {1}")]
    Word(String, &'static str),
    /// The hold is no number or out of bounds.
    #[error("`{0}` is no number of milliseconds between 1 and {max}", max = HOLD_MAX.as_millis())]
    Hold(String),
    /// Neither a network nor a domain.
    #[error("`{0}` is neither an address, a network nor a domain")]
    Allow(String),
    /// More destinations than a container may be given.
    #[error("more than {ALLOW_PER_CONTAINER_MAX} destinations; use the allow list")]
    TooMany,
}

impl Treatment {
    /// The word in labels, configuration and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Treatment::Off => "off",
            Treatment::DryRun => "dry-run",
            Treatment::Enforce => "enforce",
        }
    }
}

impl Refusal {
    /// The word in labels, configuration and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Reset => "reset",
            Refusal::Drop => "drop",
        }
    }
}

impl Wish {
    /// Takes in one key as labels and configuration write it.
    ///
    /// # Errors
    /// [`WishError`]; nothing is taken in then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), WishError> {
        let value = value.trim();
        match key {
            "mode" => {
                self.mode = Some(match value {
                    "enforce" => Treatment::Enforce,
                    "dry-run" => Treatment::DryRun,
                    "off" => Treatment::Off,
                    _ => return Err(word(value, "enforce, dry-run, off")),
                });
            }
            "scope" => {
                self.scope = Some(match value {
                    "global" => Scope::Global,
                    "container" => Scope::Container,
                    _ => return Err(word(value, "global, container")),
                });
            }
            "refuse" => {
                self.refuse = Some(match value {
                    "reset" => Refusal::Reset,
                    "drop" => Refusal::Drop,
                    _ => return Err(word(value, "reset, drop")),
                });
            }
            "hold-ms" => self.hold = Some(hold(value)?),
            "allow" => {
                let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
                let allow = parts.map(str::parse).collect::<Result<Vec<Allow>, _>>()?;
                if allow.len() > ALLOW_PER_CONTAINER_MAX {
                    return Err(WishError::TooMany);
                }
                self.allow = allow;
            }
            _ => return Err(WishError::Unknown),
        }
        Ok(())
    }
}

fn word(value: &str, words: &'static str) -> WishError {
    WishError::Word(shown(value), words)
}

/// As much of a value as a person needs to know it again; whoever writes a label decides how long it is.
pub(super) fn shown(value: &str) -> String {
    const SHOWN_MAX: usize = 40;
    let mut shown: String = value.chars().take(SHOWN_MAX).collect();
    if shown.len() < value.len() {
        shown.push_str("...");
    }
    shown.replace(char::is_control, "?")
}

fn hold(value: &str) -> Result<Duration, WishError> {
    let ms = value.parse().ok().map(Duration::from_millis);
    let fits = |hold: &Duration| !hold.is_zero() && *hold <= HOLD_MAX;
    ms.filter(fits).ok_or_else(|| WishError::Hold(shown(value)))
}

impl FromStr for Allow {
    type Err = WishError;
    fn from_str(text: &str) -> Result<Allow, WishError> {
        if let Ok(net) = text.parse::<Net>() {
            return Ok(Allow::Net(net));
        }
        let wrong = || WishError::Allow(shown(text));
        let domain = text.strip_prefix("*.").unwrap_or(text);
        let name = Name::new(domain).map_err(|_| wrong())?;
        let fits = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c))
        };
        // A number of any form is no name: `10.0.0` is a mistyped address.
        let last = name.as_str().rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|c| c.is_ascii_digit());
        if numeric || !name.as_str().split('.').all(fits) {
            return Err(wrong());
        }
        Ok(Allow::Domain(name))
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allow::Net(net) => net.fmt(f),
            Allow::Domain(name) => name.fmt(f),
        }
    }
}
