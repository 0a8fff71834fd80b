//! The questions to the kernel about a first packet, one for each set that the rules ask, in their order.

use std::net::IpAddr;

use anyhow::Result;

use super::question::{Spoken, Step};
use crate::daemon::wants::time_left;
use crate::engine::Wall;
use crate::engine::intervals::Span;
use crate::engine::net::{Family, number};
use crate::nftables::names::{self, Pair};
use crate::nftables::ruleset::INTERVAL;
use crate::nftables::{Channel, Key};

/// What a set is for, when it has what was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Containers,
    Quarantine,
    Local,
    Allow,
    Block,
    Denied,
    /// What a container may on its own.
    Policy,
}

pub struct Question {
    pub(super) pair: Pair,
    role: Role,
    asked: Asked,
}

#[derive(Clone, Copy)]
enum Asked {
    One(IpAddr),
    Both(IpAddr, IpAddr),
}

/// In the order of the rules.
pub fn questions(address: IpAddr, from: Option<IpAddr>) -> Vec<Question> {
    let to = |pair, role| Some(Question { pair, role, asked: Asked::One(address) });
    let of = |pair, role| from.map(|from| Question { pair, role, asked: Asked::One(from) });
    let both =
        |pair, role| from.map(|from| Question { pair, role, asked: Asked::Both(from, address) });
    let all = [
        of(names::CONTAINERS, Role::Containers),
        of(names::QUARANTINE, Role::Quarantine),
        to(names::QUARANTINE, Role::Quarantine),
        of(names::EXEMPT, Role::Policy),
        to(names::LOCAL, Role::Local),
        to(names::ALLOW, Role::Allow),
        both(names::PERMITS, Role::Policy),
        to(names::BLOCK, Role::Block),
        to(names::BLOCKHOSTS, Role::Block),
        both(names::DENIED, Role::Denied),
        of(names::DRYRUN, Role::Policy),
    ];
    all.into_iter().flatten().collect()
}

impl Question {
    /// Asks the kernel, and the lists where an element comes from.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub(super) fn ask(&self, channel: &mut Channel, spoken: &Spoken, now: Wall) -> Result<Step> {
        let (subject, asked) = match self.asked {
            Asked::One(address) => (address, address.to_string()),
            Asked::Both(from, to) => (to, Key::Pair(from, to).to_string()),
        };
        let set = self.pair.of(Family::of(subject));
        let ranges = channel.set_info(set)?.is_some_and(|info| info.flags & INTERVAL != 0);
        let key = match self.asked {
            Asked::One(address) if ranges => Key::point(address),
            Asked::One(address) => Key::Address(address),
            Asked::Both(from, to) if ranges => Key::Reach(from, Span::new(number(to), number(to))),
            Asked::Both(from, to) => Key::Pair(from, to),
        };
        let found = channel.get(set, key)?;
        Ok(Step {
            set: set.to_owned(),
            asked,
            element: found.map(|found| found.element.key.to_string()),
            expires_ms: found.and_then(|found| time_left(found.expires_ms, now)),
            decides: false,
            entries: if found.is_some() { spoken.of(self.role, subject) } else { Vec::new() },
        })
    }
}
