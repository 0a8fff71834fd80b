//! What each list set of the kernel is to hold, and what has to change when the lists do.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::policies::Policies;
use crate::engine::Wall;
use crate::engine::intervals::Span;
use crate::engine::lists::{Lists, Side};
use crate::engine::net::{Family, number};
use crate::engine::ranges::RangeSet;
use crate::nftables::element::highest_first;
use crate::nftables::names::{self, Pair};
use crate::nftables::{Element, Key};

/// A pair that is refused for good needs a time in a set whose elements expire by themselves: the year 2100.
const PAIRS_END: Wall = Wall(4_102_444_800_000_000);

/// How much earlier than that an element may seem to end and still be one for good: clocks are set.
const PAIRS_SLACK_MS: u64 = 365 * 24 * 60 * 60 * 1000;

/// The time a person is told that an element has left; nothing for one that is there for good.
pub fn time_left(expires_ms: Option<u64>, now: Wall) -> Option<u64> {
    let for_good = (PAIRS_END.0.saturating_sub(now.0) / 1000).saturating_sub(PAIRS_SLACK_MS);
    expires_ms.filter(|left| *left < for_good)
}

/// What one set is to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// The set.
    pub set: &'static str,
    family: Family,
    /// Its type takes single addresses only.
    exact: bool,
    /// For good.
    ranges: Arc<RangeSet>,
    /// Each until a time, or for good.
    timed: Vec<(Key, Option<Wall>)>,
}

impl Want {
    /// What all list sets are to hold. `named` are blocked addresses that an allowed domain admits.
    pub fn all(lists: &Lists, named: &[IpAddr]) -> Vec<Want> {
        let admitted = named.iter().filter(|address| !lists.allow.has_address(**address));
        let admitted: RangeSet = admitted.copied().collect();
        let (hosts, nets) = split(&lists.block.lasting);
        let (hosts, nets) = (Arc::new(hosts), Arc::new(nets));
        let allow = if admitted.is_empty() {
            lists.allow.lasting.clone()
        } else {
            let spans = |set: &RangeSet| {
                let of =
                    |family| set.spans(family).map(move |span| (family, span)).collect::<Vec<_>>();
                Family::BOTH.map(of).concat()
            };
            RangeSet::new([spans(&lists.allow.lasting), spans(&admitted)].concat())
        };
        let allow = Arc::new(allow);
        let none = Arc::new(RangeSet::default());
        Family::BOTH
            .into_iter()
            .flat_map(|family| {
                let want = |pair: Pair, exact, ranges: &Arc<RangeSet>, timed| Want {
                    set: pair.of(family),
                    family,
                    exact,
                    ranges: Arc::clone(ranges),
                    timed,
                };
                [
                    want(names::QUARANTINE, true, &none, quarantine(lists, family)),
                    want(names::ALLOW, false, &allow, timed(&lists.allow, family)),
                    want(names::BLOCK, false, &nets, timed(&lists.block, family)),
                    want(names::BLOCKHOSTS, true, &hosts, Vec::new()),
                ]
            })
            .collect()
    }

    /// Source and destination refused for one source alone.
    pub fn pairs(lists: &Lists) -> Vec<Want> {
        let none = Arc::new(RangeSet::default());
        let of = |family: Family| {
            let here = lists.pairs.iter().filter(move |((src, _), _)| Family::of(*src) == family);
            let until = |until: &Option<Wall>| Some(until.unwrap_or(PAIRS_END));
            let timed = here.map(|((src, dst), end)| (Key::Pair(*src, *dst), until(end))).collect();
            let set = names::DENIED.of(family);
            Want { set, family, exact: true, ranges: Arc::clone(&none), timed }
        };
        Family::BOTH.map(of).into()
    }

    /// What the sets of policies are to hold.
    pub fn policies(policies: &Policies) -> Vec<Want> {
        let none = Arc::new(RangeSet::default());
        let plain = [
            (names::EXEMPT, &policies.exempt),
            (names::DRYRUN, &policies.dryrun),
            (names::OTHERWAY, &policies.otherway),
        ];
        let plain = plain.map(|(pair, addresses)| {
            let unique: BTreeSet<IpAddr> = addresses.iter().copied().collect();
            (pair, unique.into_iter().map(Key::Address).collect::<Vec<Key>>())
        });
        let reach = |(src, spans): (IpAddr, Vec<Span>)| {
            spans.into_iter().map(move |span| Key::Reach(src, span))
        };
        let permits = policies.reaches().into_iter().flat_map(reach).collect();
        let all = plain.into_iter().chain([(names::PERMITS, permits)]);
        let of = |(pair, keys): (Pair, Vec<Key>)| {
            Family::BOTH.map(|family| {
                let here = keys.iter().filter(|key| key.family() == Some(family));
                let timed = here.map(|key| (*key, None)).collect();
                let (set, ranges) = (pair.of(family), Arc::clone(&none));
                Want { set, family, exact: true, ranges, timed }
            })
        };
        all.flat_map(of).collect()
    }

    /// Whether it is known at a glance to want the same, without a look at each range.
    pub fn is_plainly(&self, other: &Want) -> bool {
        Arc::ptr_eq(&self.ranges, &other.ranges) && self.timed == other.timed
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.ranges.len(self.family) + self.timed.len()
    }

    /// All addresses in it that have not expired.
    pub fn coverage(&self, now: Wall) -> RangeSet {
        RangeSet::new(self.elements(now).filter_map(|element| match element.key {
            Key::Span(family, span) => Some((family, span)),
            Key::Address(address) => {
                Some((self.family, Span::new(number(address), number(address))))
            }
            Key::Pair(..) | Key::Reach(..) | Key::Interface(_) | Key::Home(..) => None,
        }))
    }

    /// Whether an element with a time of its own is wanted.
    pub fn has(&self, key: Key) -> bool {
        self.timed.iter().any(|(wanted, _)| *wanted == key)
    }

    /// How many elements the kernel may count: what has expired is counted until it is swept up.
    pub fn counts(&self, now: Wall) -> RangeInclusive<u64> {
        let lasting = self.ranges.len(self.family);
        let living = self.timed.iter().filter(|timed| living(timed, now).is_some()).count();
        (lasting + living) as u64..=self.len() as u64
    }

    /// All elements that have not expired, in the order the kernel takes them fastest. A range up to the highest
    /// address has no end there and has to come last.
    pub fn elements(&self, now: Wall) -> impl Iterator<Item = Element> + Clone + '_ {
        let places = 0..self.ranges.len(self.family);
        let lasting = places.filter_map(|place| self.ranges.span(self.family, place));
        let lasting = highest_first(lasting.map(|span| self.lasting(span)));
        let timed = self.timed.iter().filter_map(move |timed| living(timed, now));
        let ended = timed.clone().filter(|element| !element.key.is_open());
        ended.chain(lasting).chain(timed.filter(|element| element.key.is_open()))
    }

    /// What has to go and what has to come, from `before`, which is what the set holds. What has expired since went by
    /// itself.
    pub fn difference<'a>(
        &'a self,
        before: &'a Want,
        now: Wall,
    ) -> (impl Iterator<Item = Element> + 'a, impl Iterator<Item = Element> + 'a) {
        let (old, new): (HashMap<Key, Option<Wall>>, HashMap<Key, Option<Wall>>) =
            (before.timed.iter().copied().collect(), self.timed.iter().copied().collect());
        let differs = |timed: &&(Key, Option<Wall>), other: &HashMap<Key, Option<Wall>>| {
            other.get(&timed.0) != Some(&timed.1)
        };
        let gone: Vec<Element> = before
            .timed
            .iter()
            .filter(|timed| differs(timed, &new))
            .filter_map(|timed| living(timed, now))
            .collect();
        let come: Vec<Element> = self
            .timed
            .iter()
            .filter(|timed| differs(timed, &old))
            .filter_map(|timed| living(timed, now))
            .collect();
        (
            before
                .ranges
                .not_in(&self.ranges, self.family)
                .map(|span| before.lasting(span))
                .chain(gone),
            self.ranges
                .not_in(&before.ranges, self.family)
                .map(|span| self.lasting(span))
                .chain(come),
        )
    }

    fn lasting(&self, span: Span) -> Element {
        Element::new(if self.exact {
            Key::Address(self.family.address(span.first()))
        } else {
            Key::Span(self.family, span)
        })
    }
}

/// Single addresses, and the rest. Ranges that were merged from neighbours are ranges.
fn split(set: &RangeSet) -> (RangeSet, RangeSet) {
    let pick = |single: bool| {
        let of = |family: Family| {
            let spans =
                set.spans(family).filter(move |span| (span.first() == span.last()) == single);
            spans.map(move |span| (family, span))
        };
        RangeSet::new(of(Family::V4).chain(of(Family::V6)))
    };
    (pick(true), pick(false))
}

fn quarantine(lists: &Lists, family: Family) -> Vec<(Key, Option<Wall>)> {
    let all = lists.quarantine.iter().chain(lists.confined.places());
    let mut here: Vec<(IpAddr, Option<Wall>)> =
        all.filter(|(address, _)| Family::of(*address) == family).copied().collect();
    // For good beats any time, and the later of two times the other.
    here.sort_unstable_by_key(|(address, until)| (*address, until.is_some(), Reverse(*until)));
    here.dedup_by_key(|(address, _)| *address);
    here.into_iter().map(|(address, until)| (Key::Address(address), until)).collect()
}

fn timed(side: &Side, family: Family) -> Vec<(Key, Option<Wall>)> {
    let here = side.timed.iter().filter(|timed| timed.family == family);
    here.map(|timed| (Key::Span(family, timed.span), Some(timed.until))).collect()
}

fn living((key, until): &(Key, Option<Wall>), now: Wall) -> Option<Element> {
    let Some(until) = until else { return Some(Element::new(*key)) };
    let left = until.0.checked_sub(now.0).filter(|left| *left > 0)?;
    Some(Element { key: *key, timeout_ms: Some((left / 1000).max(1)) })
}
