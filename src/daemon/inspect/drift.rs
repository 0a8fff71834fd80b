//! How a set of the kernel differs from what the lists say: exactly where it is small, by its size where it is not.

use anyhow::Result;

use crate::daemon::wants::Want;
use crate::engine::Wall;
use crate::engine::intervals::Span;
use crate::engine::lists::{Lists, Side};
use crate::engine::net::{Family, number};
use crate::engine::ranges::RangeSet;
use crate::nftables::ruleset::TIMEOUT;
use crate::nftables::{self, Channel, Found, Key, SetInfo, names};

/// Elements read to compare them one by one. The kernel takes time by the square of that; this many take some 20 ms.
pub const EXACT_MAX: u64 = 16_384;
/// Addresses of one range looked at to tell why it is there.
const SMALL: u128 = 256;

/// How a set differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Nothing if it cannot be told.
    pub differs: Option<bool>,
    /// Ranges that are to be there and are not; at least so many where only sizes were compared.
    pub missing: u64,
    /// Ranges that are there and are not to be; likewise.
    pub extra: u64,
}

impl Drift {
    /// Compares one set with what it is to hold.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn of(want: &Want, info: &SetInfo, lists: &Lists, now: Wall) -> Result<Drift> {
        let wanted = want.len() as u64;
        if wanted > EXACT_MAX || info.count.is_some_and(|count| count > EXACT_MAX) {
            let may_expire = info.flags & TIMEOUT != 0;
            return Ok(Drift::by_size(wanted, info.count, may_expire));
        }
        let limit = usize::try_from(EXACT_MAX).unwrap_or(usize::MAX);
        let (found, more) = nftables::dump(want.set, limit)?;
        Ok(match more {
            true => Drift { differs: Some(true), missing: 0, extra: EXACT_MAX - wanted },
            false => Drift::exact(want, &found, lists, now),
        })
    }

    /// A set that is not there.
    pub fn absent(want: &Want) -> Drift {
        let missing = want.len() as u64;
        Drift { differs: Some(missing > 0), missing, extra: 0 }
    }

    /// Asks for each pair of source and destination; what else the set holds is not the lists' business.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn of_pairs(want: &Want, channel: &mut Channel, now: Wall) -> Result<Drift> {
        let most = usize::try_from(EXACT_MAX).unwrap_or(usize::MAX);
        let mut missing = 0;
        for element in want.elements(now).take(most) {
            missing += u64::from(channel.get(want.set, element.key)?.is_none());
        }
        Ok(Drift { differs: Some(missing > 0), missing, extra: 0 })
    }

    fn by_size(wanted: u64, count: Option<u64>, may_expire: bool) -> Drift {
        let Some(count) = count else { return Drift::default() };
        let (missing, extra) = (wanted.saturating_sub(count), count.saturating_sub(wanted));
        // The kernel goes on counting what has expired until it sweeps.
        let unsure = extra > 0 && may_expire;
        Drift { differs: (!unsure).then_some(missing + extra > 0), missing, extra }
    }

    fn exact(want: &Want, found: &[Found], lists: &Lists, now: Wall) -> Drift {
        let wanted = want.coverage(now);
        let is = RangeSet::new(found.iter().filter_map(|found| match found.element.key {
            Key::Span(family, span) => Some((family, span)),
            Key::Address(address) => {
                Some((Family::of(address), Span::new(number(address), number(address))))
            }
            Key::Pair(..) | Key::Reach(..) | Key::Interface(_) | Key::Home(..) => None,
        }));
        let outside = |some: &RangeSet, other: &RangeSet| {
            let of = |family| {
                some.spans(family).flat_map(move |span| {
                    other.outside(family, span).into_iter().map(move |span| (family, span))
                })
            };
            Family::BOTH.into_iter().flat_map(of).collect::<Vec<(Family, Span)>>()
        };
        let missing = outside(&wanted, &is);
        let mut extra = outside(&is, &wanted);
        if names::ALLOW.has(want.set) && !lists.allow.names.is_empty() {
            // A blocked address is let in while it has a name under an allowed domain.
            extra.retain(|(family, span)| !all_on(&lists.block, *family, *span));
        }
        let (missing, extra) = (missing.len() as u64, extra.len() as u64);
        Drift { differs: Some(missing + extra > 0), missing, extra }
    }
}

fn all_on(side: &Side, family: Family, span: Span) -> bool {
    let few = span.last() - span.first() < SMALL;
    few && (span.first()..=span.last()).all(|number| side.has_address(family.address(number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Name;
    use crate::nftables::Element;

    const NOW: Wall = Wall(1_000_000);

    fn span(text: &str) -> (Family, Span) {
        let net: nftables::Net = text.parse().unwrap();
        (net.family(), net.span())
    }

    fn lists(allow: &[&str], block: &[&str], domains: &[&str]) -> Lists {
        let side = |nets: &[&str], names: &[&str]| {
            Side::new(
                nets.iter().map(|net| span(net)),
                [],
                names.iter().map(|n| Name::new(n).unwrap()),
            )
        };
        Lists { allow: side(allow, domains), block: side(block, &[]), ..Lists::default() }
    }

    fn drift(set: &str, lists: &Lists, kernel: &[&str]) -> (Option<bool>, u64, u64) {
        let wants = Want::all(lists, &[]);
        let want = wants.iter().find(|want| want.set == set).unwrap();
        let found = |net: &&str| {
            let (family, span) = span(net);
            let element = Element::new(Key::Span(family, span));
            Found { element, expires_ms: None, count: None }
        };
        let found: Vec<Found> = kernel.iter().map(found).collect();
        let drift = Drift::exact(want, &found, lists, NOW);
        (drift.differs, drift.missing, drift.extra)
    }

    #[test]
    fn addresses_count_not_how_ranges_are_cut() {
        let lists = lists(&[], &["10.0.0.0/24", "10.9.0.0/24"], &[]);
        let same = drift("block4", &lists, &["10.0.0.0/25", "10.0.0.128/25", "10.9.0.0/24"]);
        assert_eq!(same, (Some(false), 0, 0));
        let differs = drift("block4", &lists, &["10.0.0.0/25", "10.9.0.0/24", "11.0.0.0/8"]);
        assert_eq!(differs, (Some(true), 1, 1));
    }

    #[test]
    fn a_blocked_address_in_allow_is_right_while_a_domain_may_admit_it() {
        let kernel = ["10.0.0.7/32"];
        let with =
            |domains: &[&str]| drift("allow4", &lists(&[], &["10.0.0.0/24"], domains), &kernel);
        assert_eq!(with(&["good.example"]), (Some(false), 0, 0));
        assert_eq!(with(&[]), (Some(true), 0, 1));
        let other = lists(&[], &["10.1.0.0/24"], &["good.example"]);
        assert_eq!(drift("allow4", &other, &kernel), (Some(true), 0, 1), "not a blocked one");
    }

    #[test]
    fn sizes_tell_what_they_can() {
        let by = |wanted, count, may_expire| Drift::by_size(wanted, count, may_expire).differs;
        assert_eq!(by(5, None, false), None);
        assert_eq!(by(5, Some(5), true), Some(false));
        assert_eq!(by(5, Some(4), true), Some(true));
        assert_eq!(by(5, Some(6), false), Some(true));
        assert_eq!(by(5, Some(6), true), None, "one may have expired");
    }
}
