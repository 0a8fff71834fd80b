//! Questions about what the kernel holds: a set's size, one element, a limited dump, the rules' counters.

use std::ops::ControlFlow;

use rustables::sys;

use super::decode;
use super::element::{self, Count, Found, Key};
use super::encode;
use super::error::Error;
use super::ruleset::{self, INTERVAL};
use super::socket::{Answer, Channel};
use super::wire::{Attr, Attrs, Garbled, our_table};
use crate::engine::net::Family;

// linux/netfilter/nf_tables.h, newer than what rustables binds.
const NFTA_SET_TYPE: u16 = 19;
const NFTA_SET_COUNT: u16 = 20;

/// How often an element is asked for, or a dump begun, anew when it changes meanwhile.
const TRIES: usize = 8;

/// A set of our table without its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetInfo {
    /// What its elements are.
    pub key: ruleset::Key,
    /// Kernel flags, as [`ruleset::INTERVAL`] and [`ruleset::TIMEOUT`].
    pub flags: u32,
    /// The structure the kernel keeps it in, as `nft_set_rbtree`; kernels before 6.16 do not say.
    pub backend: Option<String>,
    /// Elements, a range being one, expired ones being there until the kernel sweeps them; old kernels do not say.
    pub count: Option<u64>,
    /// Most elements it takes; a range may be two.
    pub size: Option<u32>,
    /// Milliseconds elements live that do not say; 0 is for ever.
    pub timeout_ms: u64,
}

/// What a rule of our table has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCount {
    /// The chain it is in.
    pub chain: String,
    /// Its comment.
    pub rule: String,
    /// Packets and bytes.
    pub count: Count,
}

impl Channel {
    /// A set without its elements, in a few microseconds however many they are; `None` if there is none.
    ///
    /// # Errors
    /// Any [`Error`] but those of changes.
    pub fn set_info(&mut self, set: &str) -> Result<Option<SetInfo>, Error> {
        let mut info = None;
        self.ask(sys::NFT_MSG_GETSET, 0, &encode::set_name(set), |attrs| {
            info = read_info(attrs)?;
            Ok(())
        })?;
        Ok(info)
    }

    /// How many elements a set has; `None` if there is no such set, or the kernel does not say.
    ///
    /// # Errors
    /// As [`Channel::set_info`].
    pub fn set_count(&mut self, set: &str) -> Result<Option<u64>, Error> {
        Ok(self.set_info(set)?.and_then(|info| info.count))
    }

    /// Asks for one element, in some ten microseconds however many there are. In a set with `flags interval`
    /// ask for a [`Key::Span`], or of pairs for a [`Key::Reach`]: the whole range is given that holds its first address.
    ///
    /// # Errors
    /// [`Error::Busy`] if the range kept changing; any other but those of changes.
    pub fn get(&mut self, set: &str, key: Key) -> Result<Option<Found>, Error> {
        match key {
            Key::Span(family, span) => self.get_range(set, family, span.first()),
            _ => self.question(set, key, false),
        }
    }

    /// The kernel answers with the beginning of a range, or with its end, never with both.
    fn get_range(&mut self, set: &str, family: Family, at: u128) -> Result<Option<Found>, Error> {
        for _ in 0..TRIES {
            let Some(begun) = self.begin_of(set, family, at)? else { return Ok(None) };
            // Where ranges touch, an end lies on the beginning of the next, and kernels differ in which they
            // give. Past the beginning and inside the range nobody can mistake it.
            let next = at.checked_add(1).filter(|next| *next <= family.highest());
            let Some(next) = next else { return Ok(Some(element::up_to(begun, at))) };
            let inside = self.begin_of(set, family, next)?;
            if inside.map(|found| found.element.key) != Some(begun.element.key) {
                return Ok(Some(element::up_to(begun, at)));
            }
            let end = self.question(set, Key::point(family.address(next)), true)?;
            if let Some(Key::Span(_, end)) = end.map(|end| end.element.key) {
                return Ok(Some(element::up_to(begun, end.first().saturating_sub(1))));
            }
            // No end at all is right only for a range that reaches the highest address.
            let top = self.begin_of(set, family, family.highest())?;
            if top.map(|found| found.element.key) == Some(begun.element.key) {
                return Ok(Some(element::up_to(begun, family.highest())));
            }
        }
        Err(Error::Busy("the element kept changing"))
    }

    fn begin_of(&mut self, set: &str, family: Family, at: u128) -> Result<Option<Found>, Error> {
        self.question(set, Key::point(family.address(at)), false)
    }

    fn question(&mut self, set: &str, key: Key, end: bool) -> Result<Option<Found>, Error> {
        let mut request = encode::elements_of(set);
        let list = vec![element::question(key, end)];
        request.push(Attr::Nest(sys::NFTA_SET_ELEM_LIST_ELEMENTS, list));
        let (kind, ranges) = key.set();
        let mut found = None;
        self.ask(sys::NFT_MSG_GETSETELEM, 0, &request, |attrs| {
            for (_, bytes) in attrs.nest(sys::NFTA_SET_ELEM_LIST_ELEMENTS)?.iter() {
                found = found.or(element::read(bytes, kind, ranges)?);
            }
            Ok(())
        })?;
        Ok(found.map(|piece| piece.found))
    }
}

fn read_info(attrs: &Attrs<'_>) -> Result<Option<SetInfo>, Garbled> {
    let Some(set) = decode::set(attrs)? else { return Ok(None) };
    let description = attrs.nest(sys::NFTA_SET_DESC)?;
    let backend = attrs.get(NFTA_SET_TYPE).map(|_| attrs.text(NFTA_SET_TYPE, "set backend"));
    Ok(Some(SetInfo {
        key: set.key,
        flags: set.flags,
        backend: backend.transpose()?,
        count: attrs.be32(NFTA_SET_COUNT, "set count")?.map(u64::from),
        size: description.be32(sys::NFTA_SET_DESC_SIZE, "set size")?,
        timeout_ms: set.timeout_ms,
    }))
}

/// At most `limit` elements of a set, sorted, and whether there are more; which ones those are is up to the
/// kernel. It takes the kernel time by the square of what is read, so a large set is not to be dumped whole: 1 M
/// ranges took 83 s.
///
/// # Errors
/// [`Error::Stale`] if there is no such set; [`Error::Busy`] if rules kept changing; any other but those of changes.
pub fn dump(set: &str, limit: usize) -> Result<(Vec<Found>, bool), Error> {
    let Some(info) = Channel::open()?.set_info(set)? else { return Err(no_set(set)) };
    for _ in 0..TRIES {
        // One piece more than any whole dump of that many could have tells that something is left.
        let ranges = info.flags & INTERVAL != 0;
        let most = if ranges { limit.saturating_mul(2).saturating_add(2) } else { limit };
        let mut pieces = Vec::new();
        let request = encode::elements_of(set);
        let channel = Channel::open()?;
        let answer =
            channel.ask_until(sys::NFT_MSG_GETSETELEM, sys::NLM_F_DUMP, &request, |attrs| {
                for (_, bytes) in attrs.nest(sys::NFTA_SET_ELEM_LIST_ELEMENTS)?.iter() {
                    pieces.extend(element::read(bytes, info.key, ranges)?);
                }
                let enough = pieces.len() > most;
                Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        match answer {
            Answer::Torn => continue,
            Answer::Absent => return Err(no_set(set)),
            Answer::Complete | Answer::Stopped => {}
        }
        let cut = answer == Answer::Stopped;
        let mut found = element::join(pieces, cut);
        let more = cut || found.len() > limit;
        found.truncate(limit);
        return Ok((found, more));
    }
    Err(Error::Busy("no quiet moment to read the set"))
}

fn no_set(set: &str) -> Error {
    Error::Stale { what: format!("set {set}"), errno: "there is no such set".to_owned() }
}

/// What the rules of our table have counted, in their order; those that do not count are left out.
///
/// # Errors
/// [`Error::Busy`] if rules kept changing; any other but those of changes.
pub fn counters() -> Result<Vec<RuleCount>, Error> {
    let mut channel = Channel::open()?;
    for _ in 0..TRIES {
        let mut counts = Vec::new();
        let filter = [our_table(sys::NFTA_RULE_TABLE)];
        let answer = channel.ask(sys::NFT_MSG_GETRULE, sys::NLM_F_DUMP, &filter, |attrs| {
            counts.extend(read_counts(attrs)?);
            Ok(())
        })?;
        if answer != Answer::Torn {
            return Ok(counts);
        }
    }
    Err(Error::Busy("no quiet moment to read the counters"))
}

fn read_counts(attrs: &Attrs<'_>) -> Result<Option<RuleCount>, Garbled> {
    for (_, expr) in attrs.nest(sys::NFTA_RULE_EXPRESSIONS)?.iter() {
        if let Some(count) = element::read_counter(expr)? {
            let chain = attrs.text(sys::NFTA_RULE_CHAIN, "rule chain")?;
            let rule = attrs.get(sys::NFTA_RULE_USERDATA).map(decode::comment).unwrap_or_default();
            return Ok(Some(RuleCount { chain, rule, count }));
        }
    }
    Ok(None)
}
