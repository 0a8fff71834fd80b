//! The whole table as plain data.

use rustables::sys;

use super::element;
use super::expr::{Expr, Rule};
use crate::engine::intervals::Span;
use crate::engine::net::Family;

/// What the elements of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// One address.
    Address(Family),
    /// Source and destination; with [`INTERVAL`], source and a network.
    Pair(Family),
    /// An interface by its name.
    Interface,
    /// Interface and source network.
    Home(Family),
    /// Not one of ours: nft's type number and the length in bytes.
    Other {
        /// nft data type.
        kind: u32,
        /// Bytes.
        len: u32,
    },
}

/// The set takes ranges.
pub const INTERVAL: u32 = sys::NFT_SET_INTERVAL;
/// Elements are made of several values, of which the kernel is told; only with ranges.
pub const CONCAT: u32 = sys::NFT_SET_CONCAT;
/// Elements may expire.
pub const TIMEOUT: u32 = sys::NFT_SET_TIMEOUT;
/// Rules put elements in.
pub const DYNAMIC: u32 = sys::NFT_SET_EVAL;

/// A set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub key: Key,
    /// Kernel flags: [`INTERVAL`], [`CONCAT`], [`TIMEOUT`], [`DYNAMIC`], or others that are not ours.
    pub flags: u32,
    /// How long elements live that do not say; 0 is for ever.
    pub timeout_ms: u64,
    /// Time between the kernel's sweeps for expired elements in milliseconds; 0 is its own choice.
    pub gc_interval_ms: u32,
    /// Most elements it takes; 0 is no bound.
    pub size: u32,
    /// What every element carries: a counter, or nothing.
    pub each: Vec<Expr>,
    /// The elements, where they follow from the options ([`super::names::is_managed`]); `None` where they do not.
    /// Sorted; ranges do not touch.
    pub elements: Option<Vec<element::Key>>,
    /// Somebody added `*`, which holds every address. Only seen where the elements are.
    pub catch_all: bool,
}

/// How a base chain hangs in the packet path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Netfilter hook number.
    pub num: u32,
    /// Place among the chains of that hook.
    pub priority: i32,
    /// Drop what reaches the end.
    pub policy_drop: bool,
}

/// A chain and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Set for a base chain only.
    pub hook: Option<Hook>,
    /// Its rules, first one first.
    pub rules: Vec<Rule>,
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The table is there but asleep: somebody set its `dormant` flag.
    pub dormant: bool,
    /// Its sets.
    pub sets: Vec<Set>,
    /// Its chains.
    pub chains: Vec<Chain>,
}

impl Ruleset {
    /// The set of that name.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == name)
    }

    /// The chain of that name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

impl Set {
    /// Address ranges of a set that follows from the options.
    pub fn ranges(&self) -> impl Iterator<Item = (Family, Span)> {
        self.elements.iter().flatten().filter_map(|key| match key {
            element::Key::Span(family, span) => Some((*family, *span)),
            _ => None,
        })
    }
}
