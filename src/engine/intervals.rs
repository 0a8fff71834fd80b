//! Sets of address ranges: merged, disjoint, sorted, and with holes that stay holes.

/// An inclusive range of addresses as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    first: u128,
    last: u128,
}

impl Span {
    /// A range from its two ends, in either order.
    pub fn new(a: u128, b: u128) -> Span {
        Span { first: a.min(b), last: a.max(b) }
    }

    /// Lowest address.
    pub fn first(self) -> u128 {
        self.first
    }

    /// Highest address.
    pub fn last(self) -> u128 {
        self.last
    }

    /// Whether the address lies in this range.
    pub fn contains(self, address: u128) -> bool {
        self.first <= address && address <= self.last
    }
}

/// The union, as few sorted disjoint ranges that do not touch. The kernel refuses overlaps, and ranges that
/// touch would put two elements on one key.
pub fn merge(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut sorted: Vec<Span> = spans.into_iter().collect();
    sorted.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(sorted.len());
    for span in sorted {
        match merged.last_mut() {
            Some(before) if span.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(span.last)
            }
            _ => merged.push(span),
        }
    }
    merged
}

/// What is left of the ranges when a hole is cut out.
pub fn without(spans: &[Span], hole: Span) -> Vec<Span> {
    let mut left = Vec::with_capacity(spans.len() + 1);
    for span in spans {
        if span.first < hole.first {
            left.push(Span { first: span.first, last: span.last.min(hole.first - 1) });
        }
        if span.last > hole.last {
            left.push(Span { first: span.first.max(hole.last + 1), last: span.last });
        }
    }
    left
}

/// The ranges of `a` that are not, as they stand, in `b`. Both are sorted, as [`merge`] leaves them.
pub fn not_in(a: &[Span], b: &[Span]) -> Vec<Span> {
    a.iter().filter(|span| b.binary_search(span).is_err()).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // A small universe makes overlaps, touching ends and both extremes common.
    const HIGHEST: u128 = u128::MAX;

    fn address() -> impl Strategy<Value = u128> {
        prop_oneof![0_u128..40, (HIGHEST - 40)..=HIGHEST]
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let short = (address(), 0_u128..6)
            .prop_map(|(first, more)| Span::new(first, first.saturating_add(more)));
        let any = (address(), address()).prop_map(|(a, b)| Span::new(a, b));
        prop::collection::vec(prop_oneof![9 => short, 1 => any], 0..12)
    }

    fn covered(spans: &[Span], address: u128) -> bool {
        spans.iter().any(|span| span.contains(address))
    }

    fn universe() -> impl Iterator<Item = u128> {
        (0..50).chain((HIGHEST - 50)..=HIGHEST)
    }

    proptest! {
        #[test]
        fn merged_is_the_union_sorted_and_apart(spans in spans()) {
            let merged = merge(spans.clone());
            for address in universe() {
                prop_assert_eq!(covered(&merged, address), covered(&spans, address), "at {}", address);
            }
            for pair in merged.windows(2) {
                prop_assert!(pair[0].last() < pair[1].first() - 1, "{:?} touches {:?}", pair[0], pair[1]);
            }
            prop_assert_eq!(merge(merged.clone()), merged);
        }

        #[test]
        fn a_hole_is_cut_and_nothing_else(spans in spans(), a in address(), b in address()) {
            let (merged, hole) = (merge(spans), Span::new(a, b));
            let left = without(&merged, hole);
            for address in universe() {
                let wanted = covered(&merged, address) && !hole.contains(address);
                prop_assert_eq!(covered(&left, address), wanted, "at {}", address);
            }
            prop_assert_eq!(merge(left.clone()), left);
        }

        #[test]
        fn differences_turn_one_into_the_other(a in spans(), b in spans()) {
            let (old, new) = (merge(a), merge(b));
            let gone = not_in(&old, &new);
            let mut rebuilt: Vec<Span> = old.into_iter().filter(|span| !gone.contains(span)).collect();
            rebuilt.extend(not_in(&new, &rebuilt));
            rebuilt.sort_unstable();
            prop_assert_eq!(rebuilt, new);
        }
    }

    #[test]
    fn spans_put_their_ends_in_order() {
        assert_eq!(Span::new(9, 3), Span::new(3, 9));
        assert_eq!((Span::new(9, 3).first(), Span::new(9, 3).last()), (3, 9));
    }
}
