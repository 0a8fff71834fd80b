//! Whether an entry holds: not expired, not in the wrong list, not one that would cut the host itself off.

use super::Kind;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::item::Item;
use super::source::Source;
use crate::engine::intervals::Span;
use crate::engine::net::Family;
use crate::engine::ranges::RangeSet;
use crate::engine::{Net, Wall};

/// IPv4 addresses that are handed out: all below multicast.
const UNICAST_V4: (u128, u128) = (0, 0xdfff_ffff);
/// IPv6 addresses that are handed out: `2000::/3`.
const UNICAST_V6: (u128, u128) = (0x2000 << 112, (0x4000 << 112) - 1);
/// Handed-out addresses that one entry may block: those of an IPv4 /4. The largest networks of real lists are /8 (and
/// parts that are not handed out, such as 224.0.0.0/3, which does not count); a wrong `/0` to `/3` is a cut-off host.
const WIDEST_V4: u128 = 1 << 28;
/// The same for IPv6: a /8. Registries get /12.
const WIDEST_V6: u128 = 1 << 120;

/// An address or network that no block list may take away unless it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protected {
    /// The addresses.
    #[serde(with = "net_text")]
    pub net: Net,
    /// What they are, for the message, as in `the gateway of docker0`.
    pub what: String,
}

/// Why an entry is too dangerous for a block list that does not say `force`; nothing if it is not.
pub fn danger(entry: &Entry, protected: &[Protected]) -> Option<String> {
    Guard::new(protected, Wall::default()).danger(entry)
}

/// What decides whether an entry holds.
pub(super) struct Guard<'a> {
    protected: &'a [Protected],
    /// The same addresses, so that most entries are let through by one look-up.
    ranges: RangeSet,
    now: Wall,
}

/// What becomes of an entry.
pub(super) enum Standing {
    Holds,
    Expired,
    /// Dangerous; the text says why.
    Refused(String),
    /// Not in this list; the text says why.
    Misplaced(&'static str),
}

impl<'a> Guard<'a> {
    pub(super) fn new(protected: &'a [Protected], now: Wall) -> Guard<'a> {
        let ranges = RangeSet::new(protected.iter().map(|p| (p.net.family(), p.net.span())));
        Guard { protected, ranges, now }
    }

    pub(super) fn judge(&self, source: &Source, item: &Item<'_>) -> Standing {
        match (source.kind, item.from) {
            (Kind::Quarantine, None) if !is_container(&item.entry) => {
                return Standing::Misplaced(
                    "a container in quarantine is a single address or container:NAME",
                );
            }
            (Kind::Allow | Kind::Block, _) if matches!(item.entry, Entry::Container(_)) => {
                return Standing::Misplaced("container: belongs in quarantine.txt");
            }
            (Kind::Quarantine | Kind::Allow, Some(_)) => {
                return Standing::Misplaced("from= belongs in a block list");
            }
            _ => {}
        }
        if item.until.is_some_and(|until| until <= self.now) {
            return Standing::Expired;
        }
        if source.kind == Kind::Block && !source.force && !item.force {
            return self.danger(&item.entry).map_or(Standing::Holds, Standing::Refused);
        }
        Standing::Holds
    }

    fn danger<D>(&self, entry: &Entry<D>) -> Option<String> {
        let Entry::Addresses(family, span) = *entry else { return None };
        if self.ranges.touches(family, span) {
            let hit = |p: &&Protected| p.net.family() == family && overlap(p.net.span(), span) > 0;
            let found = self.protected.iter().find(hit)?;
            let shown = match found.net.prefix() == family.bits() {
                true => found.net.address().to_string(),
                false => found.net.to_string(),
            };
            return Some(format!("it covers {shown}, {}", found.what));
        }
        let ((first, last), widest) = match family {
            Family::V4 => (UNICAST_V4, WIDEST_V4),
            Family::V6 => (UNICAST_V6, WIDEST_V6),
        };
        let wide = overlap(span, Span::new(first, last)) > widest;
        wide.then(|| "it covers a large part of the Internet".to_owned())
    }
}

/// Whether an entry can be in quarantine.
pub(super) fn is_container<D>(entry: &Entry<D>) -> bool {
    matches!(entry, Entry::Container(_)) || entry.single().is_some()
}

/// A network in JSON, as text.
mod net_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::engine::Net;

    pub(super) fn serialize<S: Serializer>(net: &Net, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(net)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Net, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// How many addresses two spans share.
fn overlap(a: Span, b: Span) -> u128 {
    let (first, last) = (a.first().max(b.first()), a.last().min(b.last()));
    last.checked_sub(first).map_or(0, |more| more.saturating_add(1))
}
