//! Many address ranges of both families in little memory: merged, sorted, searched by halving.

use std::net::IpAddr;

use super::intervals::Span;
use super::net::{Family, number};

/// Disjoint, sorted ranges that do not touch: 8 bytes a range in IPv4, 32 in IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl RangeSet {
    /// The union of ranges in any order.
    pub fn new(ranges: impl IntoIterator<Item = (Family, Span)>) -> RangeSet {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (family, span) in ranges {
            match family {
                Family::V4 => v4.push((low(span.first()), low(span.last()))),
                Family::V6 => v6.push((span.first(), span.last())),
            }
        }
        RangeSet::from_ends(v4, v6)
    }

    /// The same from the two ends of each range, first before last. Sorted where they are, so that a million of them
    /// are never in memory twice.
    pub fn from_ends(mut v4: Vec<(u32, u32)>, mut v6: Vec<(u128, u128)>) -> RangeSet {
        union(&mut v4, |last| last.checked_add(1));
        union(&mut v6, |last| last.checked_add(1));
        RangeSet { v4, v6 }
    }

    /// Whether an address lies in one of the ranges.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => holds(&self.v4, u32::from(v4)),
            IpAddr::V6(v6) => holds(&self.v6, u128::from(v6)),
        }
    }

    /// Whether one of the ranges is this address and nothing else.
    pub fn has_single(&self, address: IpAddr) -> bool {
        let (family, number) = (Family::of(address), number(address));
        self.span(family, self.reaching(family, number)) == Some(Span::new(number, number))
    }

    /// Whether any address of `span` lies in one of the ranges.
    pub fn touches(&self, family: Family, span: Span) -> bool {
        let from = self.reaching(family, span.first());
        self.span(family, from).is_some_and(|found| found.first() <= span.last())
    }

    /// The parts of `span` outside all ranges, in order.
    pub fn outside(&self, family: Family, span: Span) -> Vec<Span> {
        let mut left = Vec::new();
        let mut next = Some(span.first());
        let mut place = self.reaching(family, span.first());
        while let (Some(first), Some(found)) = (next, self.span(family, place)) {
            if found.first() > span.last() {
                break;
            }
            if first < found.first() {
                left.push(Span::new(first, found.first() - 1));
            }
            next = found.last().checked_add(1).filter(|next| *next <= span.last());
            place += 1;
        }
        left.extend(next.map(|first| Span::new(first, span.last())));
        left
    }

    /// Ranges of one family.
    pub fn len(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.v4.len(),
            Family::V6 => self.v6.len(),
        }
    }

    /// True if there is no range at all.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The ranges of both families, IPv4 first.
    pub fn all(&self) -> impl Iterator<Item = (Family, Span)> {
        let of = |family: Family| self.spans(family).map(move |span| (family, span));
        of(Family::V4).chain(of(Family::V6))
    }

    /// The ranges of one family, lowest first.
    pub fn spans(&self, family: Family) -> impl DoubleEndedIterator<Item = Span> + Clone {
        (0..self.len(family)).filter_map(move |place| self.span(family, place))
    }

    /// The ranges of one family that are not, as they stand, in `other`.
    pub fn not_in<'a>(
        &'a self,
        other: &'a RangeSet,
        family: Family,
    ) -> impl Iterator<Item = Span> + 'a {
        // Both are sorted, so that one walk through both finds them.
        let mut others = other.spans(family).peekable();
        self.spans(family).filter(move |span| {
            while others.next_if(|other| other < span).is_some() {}
            others.peek() != Some(span)
        })
    }

    /// The range at a place among those of its family, lowest first.
    pub fn span(&self, family: Family, place: usize) -> Option<Span> {
        match family {
            Family::V4 => {
                self.v4.get(place).map(|(first, last)| Span::new((*first).into(), (*last).into()))
            }
            Family::V6 => self.v6.get(place).map(|(first, last)| Span::new(*first, *last)),
        }
    }

    /// The place of the first range that does not end before `address`.
    fn reaching(&self, family: Family, address: u128) -> usize {
        match family {
            Family::V4 => self.v4.partition_point(|(_, last)| u128::from(*last) < address),
            Family::V6 => self.v6.partition_point(|(_, last)| *last < address),
        }
    }
}

impl FromIterator<IpAddr> for RangeSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> RangeSet {
        RangeSet::new(
            addresses
                .into_iter()
                .map(|address| (Family::of(address), Span::new(number(address), number(address)))),
        )
    }
}

/// Sorts and merges in place.
fn union<A: Copy + Ord>(ranges: &mut Vec<(A, A)>, next: impl Fn(A) -> Option<A>) {
    ranges.sort_unstable();
    ranges.dedup_by(|later, before| {
        let joins = next(before.1).is_none_or(|next| later.0 <= next);
        if joins {
            before.1 = before.1.max(later.1);
        }
        joins
    });
    ranges.shrink_to_fit();
}

fn holds<A: Copy + Ord>(ranges: &[(A, A)], address: A) -> bool {
    let place = ranges.partition_point(|(_, last)| *last < address);
    ranges.get(place).is_some_and(|(first, _)| *first <= address)
}

/// The number of an IPv4 address; a span of that family has no higher bits.
fn low(number: u128) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::intervals::{merge, not_in, without};
    use proptest::prelude::*;

    fn spans() -> impl Strategy<Value = Vec<(Family, Span)>> {
        // Few addresses at either end of a family, so that ranges meet and the ends are reached.
        let near = |highest: u128| prop_oneof![0_u128..60, (highest - 60)..=highest];
        let span = |family: Family| {
            (near(family.highest()), 0_u128..7).prop_map(move |(first, more)| {
                let last = first.saturating_add(more).min(family.highest());
                (family, Span::new(first, last))
            })
        };
        prop::collection::vec(prop_oneof![span(Family::V4), span(Family::V6)], 0..24)
    }

    fn of(ranges: &[(Family, Span)], family: Family) -> Vec<Span> {
        merge(ranges.iter().filter(|(of, _)| *of == family).map(|(_, span)| *span))
    }

    proptest! {
        #[test]
        fn is_the_naive_union(ranges in spans(), probe in 0_u128..70, top: bool) {
            let set = RangeSet::new(ranges.clone());
            for family in Family::BOTH {
                let naive = of(&ranges, family);
                prop_assert_eq!(set.spans(family).collect::<Vec<_>>(), naive.clone());
                prop_assert_eq!(set.len(family), naive.len());
                let number = if top { family.highest() - probe } else { probe };
                let inside = naive.iter().any(|span| span.contains(number));
                prop_assert_eq!(set.contains(family.address(number)), inside);
            }
        }

        #[test]
        fn differences_and_holes_are_the_naive_ones(a in spans(), b in spans(), hole in spans()) {
            let (one, two) = (RangeSet::new(a.clone()), RangeSet::new(b.clone()));
            for family in Family::BOTH {
                let (naive, other) = (of(&a, family), of(&b, family));
                let gone: Vec<Span> = one.not_in(&two, family).collect();
                prop_assert_eq!(gone, not_in(&naive, &other));
                for (_, span) in hole.iter().filter(|(of, _)| *of == family) {
                    let left = naive.iter().fold(vec![*span], |left, cut| without(&left, *cut));
                    prop_assert_eq!(one.touches(family, *span), left != vec![*span]);
                    prop_assert_eq!(one.outside(family, *span), left);
                }
            }
        }
    }
}
