//! Brings a set to what is wanted: by difference where the set is small enough to look at, else all anew.

use std::collections::HashMap;

use super::bulk::Bulk;
use super::element::{Element, Found, Key};
use super::error::Error;
use super::inspect::dump;
use super::socket::Channel;

/// Elements up to which a set is read to find what differs. Reading takes the kernel time by the square: 1 M
/// ranges 83 s, these 20,000 about as long as writing all anew.
pub const DUMP_MAX: usize = 20_000;
/// How far the remaining life of an element may be off: the time between reading a clock and the kernel's own.
const TIMEOUT_SLACK_MS: u64 = 2_000;

/// What [`replace`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Elements added.
    pub added: u64,
    /// Elements removed.
    pub removed: u64,
    /// Only what differed was touched. Otherwise the set was emptied and filled again in one transaction, and what
    /// differed is not known: it was too large to look at, or changed meanwhile.
    pub exact: bool,
    /// Transactions made: 0 or 1.
    pub transactions: u32,
}

/// Makes a set hold the elements wanted and no others, in one transaction or not at all. Ranges have to be
/// disjoint, lowest first; a timeout is what an element has left to live. All in the network namespace of the channel,
/// which has to be the calling thread's.
///
/// # Errors
/// Any [`Error`]; then nothing was changed.
pub fn replace<I>(channel: &mut Channel, set: &str, wanted: I) -> Result<Replaced, Error>
where
    I: IntoIterator<Item = Element> + Clone,
{
    let count = channel.set_count(set)?;
    if count.is_none_or(|count| count <= DUMP_MAX as u64) {
        let (found, more) = dump(set, DUMP_MAX)?;
        if !more {
            match send_difference(channel, set, &found, wanted.clone()) {
                // Something expired, or somebody else was there, since we looked.
                Err(Error::Stale { .. }) => {}
                done => return done,
            }
        }
    }
    let mut added = 0_u64;
    let mut bulk = Bulk::new();
    bulk.flush(set);
    bulk.add(set, wanted.into_iter().inspect(|_| added += 1));
    channel.send_bulk(bulk)?;
    Ok(Replaced { added, removed: count.unwrap_or(0), exact: false, transactions: 1 })
}

fn send_difference(
    channel: &mut Channel,
    set: &str,
    found: &[Found],
    wanted: impl IntoIterator<Item = Element>,
) -> Result<Replaced, Error> {
    let (gone, new) = difference(found, wanted);
    let mut bulk = Bulk::new();
    // Removals first: a range that grew would overlap itself.
    bulk.remove(set, gone.iter().map(|key| Element::new(*key)));
    bulk.add(set, new.iter().copied());
    let transactions = u32::from(!bulk.is_empty());
    channel.send_bulk(bulk)?;
    Ok(Replaced { added: new.len() as u64, removed: gone.len() as u64, exact: true, transactions })
}

/// What has to go and what has to come; both lowest first if the elements were.
pub(super) fn difference(
    found: &[Found],
    wanted: impl IntoIterator<Item = Element>,
) -> (Vec<Key>, Vec<Element>) {
    let mut have: HashMap<Key, &Found> =
        found.iter().map(|found| (found.element.key, found)).collect();
    let mut new = Vec::new();
    for element in wanted {
        if have.get(&element.key).is_some_and(|found| lives_alike(found, &element)) {
            have.remove(&element.key);
        } else {
            new.push(element);
        }
    }
    let mut gone: Vec<Key> = have.into_keys().collect();
    gone.sort_unstable();
    (gone, new)
}

fn lives_alike(found: &Found, wanted: &Element) -> bool {
    match (found.expires_ms, wanted.timeout_ms) {
        // Without a time of its own it has the set's, whatever is left of it.
        (_, None) => found.element.timeout_ms.is_none(),
        (Some(left), Some(wanted)) => left.abs_diff(wanted) <= TIMEOUT_SLACK_MS,
        (None, Some(_)) => false,
    }
}
