//! What the user's lists say, compiled: the addresses, networks and domains that are allowed or blocked.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use super::confined::Confined;
use super::intervals::Span;
use super::name::Name;
use super::net::{Family, number};
use super::ranges::RangeSet;
use super::registry::{Naming, Registry};
use super::time::Wall;
use super::trace::{Basis, Finding, Trace, Untold};
use super::verdict::{Reason, Verdict};

/// All lists together. Allow always beats block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// What is accepted whatever else is said about it.
    pub allow: Side,
    /// What is refused.
    pub block: Side,
    /// Containers that are refused everything, each until a time or for good. Sorted, each once.
    pub quarantine: Vec<(IpAddr, Option<Wall>)>,
    /// The same for containers by name.
    pub confined: Confined,
    /// Source and destination refused for this source alone, each until a time or for good. Sorted, each once.
    pub pairs: Vec<((IpAddr, IpAddr), Option<Wall>)>,
}

/// One side: what is allowed, or what is blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Addresses for good.
    pub lasting: RangeSet,
    /// Addresses until a time; sorted, disjoint, and none of them in `lasting`.
    pub timed: Vec<Timed>,
    /// Domains; each stands for itself and everything under it.
    pub names: DomainSet,
}

/// A range until a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timed {
    /// Address family.
    pub family: Family,
    /// First to last address.
    pub span: Span,
    /// When it ends.
    pub until: Wall,
}

/// What the lists say about a flow, with the domain that says it where no address does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// It is to be accepted.
    Allowed(Option<Name>),
    /// It is to be refused.
    Blocked(Option<Name>),
}

/// Who opens a flow.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// The address it comes from.
    pub src: IpAddr,
    /// Every address whose look-ups are its own, that one among them.
    pub clients: &'a [IpAddr],
    /// What it is allowed beside what everybody is.
    pub own: Option<&'a Side>,
    /// The name of the container, where it is known.
    pub name: Option<&'a str>,
}

/// Domains, asked by walking up a name's parents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainSet(HashSet<Name>);

impl<'a> Party<'a> {
    /// One address of which nothing more is known.
    pub fn alone(src: &'a IpAddr) -> Party<'a> {
        Party { src: *src, clients: std::slice::from_ref(src), own: None, name: None }
    }
}

impl Listed {
    /// The verdict, its reason, and the domain that says so.
    pub fn verdict(self) -> (Verdict, Reason, Option<Name>) {
        match self {
            Listed::Allowed(domain) => (Verdict::Accept, Reason::Allowlisted, domain),
            Listed::Blocked(domain) => (Verdict::Drop, Reason::Blocklisted, domain),
        }
    }
}

impl Lists {
    /// What is said about a flow from `src` to `dst`, in the order of the kernel's rules: quarantine, allow, block.
    ///
    /// A domain is found by the names the registry has for `dst`. To allow, any name will do. To block, the names
    /// `src` asked for itself decide, CNAME targets included; if it asked for none, all names have to be blocked, so
    /// that nobody is cut off from a shared address because a neighbour looked up a blocked name.
    pub fn judge(&self, who: &Party<'_>, dst: IpAddr, registry: &Registry) -> Option<Listed> {
        self.judge_telling(who, dst, registry, &mut Untold)
    }

    /// The same, step by step.
    pub(super) fn judge_telling(
        &self,
        who: &Party<'_>,
        dst: IpAddr,
        registry: &Registry,
        trace: &mut impl Trace,
    ) -> Option<Listed> {
        const ALLOWED: Option<(Verdict, Reason)> = Some((Verdict::Accept, Reason::Allowlisted));
        const BLOCKED: Option<(Verdict, Reason)> = Some((Verdict::Drop, Reason::Blocklisted));
        let Party { src, own, .. } = *who;
        let confined = self.confines(src, who.name);
        trace.step(|| Finding::Quarantine { confined }, if confined { BLOCKED } else { None });
        if confined {
            return Some(Listed::Blocked(None));
        }
        if self.allow.has_address(dst) {
            trace.step(|| Finding::Allow { by: Some(Basis::Address) }, ALLOWED);
            return Some(Listed::Allowed(None));
        }
        if own.is_some_and(|own| own.has_address(dst)) {
            trace.step(|| Finding::Allow { by: Some(Basis::Policy) }, ALLOWED);
            return Some(Listed::Allowed(None));
        }
        let named = self.by_name(who, dst, registry);
        if let Some(Listed::Allowed(domain)) = &named {
            let by = || domain.clone().map(Basis::Domain);
            trace.step(|| Finding::Allow { by: by() }, ALLOWED);
            return named;
        }
        trace.step(|| Finding::Allow { by: None }, None);
        let by_address = self.block.has_address(dst);
        let listed = match by_address || self.has_pair(src, dst) {
            true => Some(Listed::Blocked(None)),
            false => named,
        };
        let by = || match &listed {
            Some(Listed::Blocked(Some(domain))) => Some(Basis::Domain(domain.clone())),
            Some(_) if by_address => Some(Basis::Address),
            Some(_) => Some(Basis::Pair),
            None => None,
        };
        trace.step(|| Finding::Block { by: by() }, listed.as_ref().and(BLOCKED));
        listed
    }

    /// Whether whoever has an address is in quarantine, as the kernel is told.
    pub fn has_quarantined(&self, address: IpAddr) -> bool {
        self.confines(address, None)
    }

    /// Whether a container is in quarantine: by its address, or by its name, which decides from its first packet on.
    pub fn confines(&self, address: IpAddr, name: Option<&str>) -> bool {
        let by_name = || match name {
            Some(name) => self.confined.has(name),
            None => self.confined.has_place(address),
        };
        self.quarantine.binary_search_by_key(&address, |(address, _)| *address).is_ok() || by_name()
    }

    /// Single addresses blocked for good, in the family that has more of them.
    pub fn hosts(&self) -> usize {
        let single = |family: Family| {
            self.block.lasting.spans(family).filter(|span| span.first() == span.last()).count()
        };
        Family::BOTH.map(single).into_iter().max().unwrap_or(0)
    }

    /// Whether `dst` has a name under an allowed domain.
    pub fn allows_by_name(&self, dst: IpAddr, registry: &Registry) -> bool {
        let allowed = |names: &mut dyn Iterator<Item = Naming<'_>>| {
            names.filter_map(|naming| self.allow.names.find(naming.name())).next().is_some()
        };
        !self.allow.names.is_empty() && registry.with_names(dst, allowed).unwrap_or(false)
    }

    /// Whether `dst` is refused to all or to one container by its address, so that a set of the kernel may have it.
    pub fn refuses_address(&self, dst: IpAddr) -> bool {
        self.block.has_address(dst) || self.pairs.iter().any(|((_, to), _)| *to == dst)
    }

    /// Whether `dst` is refused to `src` alone.
    pub fn has_pair(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.pairs.binary_search_by_key(&(src, dst), |(pair, _)| *pair).is_ok()
    }

    fn by_name(&self, who: &Party<'_>, dst: IpAddr, registry: &Registry) -> Option<Listed> {
        let own = who.own.is_some_and(|own| !own.names.is_empty());
        if self.allow.names.is_empty() && self.block.names.is_empty() && !own {
            return None;
        }
        registry.with_names(dst, |names| self.by_names(who, names)).flatten()
    }

    fn by_names(
        &self,
        who: &Party<'_>,
        names: &mut dyn Iterator<Item = Naming<'_>>,
    ) -> Option<Listed> {
        let (mut asked_any, mut asked, mut others) = (false, None, None);
        let mut all_blocked = true;
        for naming in names {
            let allowed = || who.own.and_then(|own| own.names.find(naming.name()));
            if let Some(domain) = self.allow.names.find(naming.name()).or_else(allowed) {
                return Some(Listed::Allowed(Some(domain.clone())));
            }
            let mut with_chain = std::iter::once(naming.name()).chain(naming.chain());
            let blocked = with_chain.find_map(|name| self.block.names.find(name));
            let is_own = naming.asked_by(who.clients);
            asked_any |= is_own;
            all_blocked &= blocked.is_some();
            let place = if is_own { &mut asked } else { &mut others };
            *place = place.take().or(blocked);
        }
        let others = others.filter(|_| !asked_any && all_blocked);
        asked.or(others).map(|domain| Listed::Blocked(Some(domain.clone())))
    }
}

impl Side {
    /// Compiles one side. Where ranges with a time overlap, the later time counts; for good beats any time.
    pub fn new(
        lasting: impl IntoIterator<Item = (Family, Span)>,
        timed: impl IntoIterator<Item = Timed>,
        names: impl IntoIterator<Item = Name>,
    ) -> Side {
        Side::around(RangeSet::new(lasting), timed, names)
    }

    /// The same around ranges that are merged already.
    pub fn around(
        lasting: RangeSet,
        timed: impl IntoIterator<Item = Timed>,
        names: impl IntoIterator<Item = Name>,
    ) -> Side {
        // Latest first: each then only keeps what no later one holds.
        let mut by_time: Vec<Timed> = timed.into_iter().collect();
        by_time.sort_unstable_by_key(|timed| std::cmp::Reverse(timed.until));
        let mut taken: Vec<Timed> = Vec::with_capacity(by_time.len());
        let (mut v4, mut v6) = (Covered::new(), Covered::new());
        for Timed { family, span, until } in by_time {
            let covered = match family {
                Family::V4 => &mut v4,
                Family::V6 => &mut v6,
            };
            for part in lasting.outside(family, span) {
                let left = cover(covered, part).into_iter();
                taken.extend(left.map(|span| Timed { family, span, until }));
            }
        }
        taken.sort_unstable();
        Side { lasting, timed: taken, names: names.into_iter().collect() }
    }

    /// Whether an address is on this side by itself.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let (family, number) = (Family::of(address), number(address));
        let ends_before = |timed: &Timed| (timed.family, timed.span.last()) < (family, number);
        let place = self.timed.partition_point(ends_before);
        let timed = self.timed.get(place);
        self.lasting.contains(address)
            || timed.is_some_and(|timed| timed.family == family && timed.span.contains(number))
    }

    /// True if nothing is on this side.
    pub fn is_empty(&self) -> bool {
        self.lasting.is_empty() && self.timed.is_empty() && self.names.is_empty()
    }
}

/// Disjoint ranges by their first address, with their last.
type Covered = BTreeMap<u128, u128>;

/// Covers a range and returns the parts of it that were not covered. A covered range is joined at most once, so that
/// many of them take hardly longer than sorting.
fn cover(covered: &mut Covered, span: Span) -> Vec<Span> {
    let reaching =
        covered.range(..=span.last()).rev().take_while(|(_, last)| **last >= span.first());
    let touching: Vec<Span> = reaching.map(|(first, last)| Span::new(*first, *last)).collect();
    let (mut left, mut next) = (Vec::new(), Some(span.first()));
    let (mut first, mut last) = (span.first(), span.last());
    for old in touching.into_iter().rev() {
        left.extend(next.filter(|n| *n < old.first()).map(|n| Span::new(n, old.first() - 1)));
        next = old.last().checked_add(1).filter(|next| *next <= span.last());
        covered.remove(&old.first());
        (first, last) = (first.min(old.first()), last.max(old.last()));
    }
    left.extend(next.map(|next| Span::new(next, span.last())));
    covered.insert(first, last);
    left
}

impl DomainSet {
    /// The domain that stands for this name: itself or the nearest parent that is in the set.
    pub fn find(&self, name: &Name) -> Option<&Name> {
        if self.0.is_empty() {
            return None;
        }
        let parents = name.as_str().match_indices('.').map(|(dot, _)| dot + 1);
        let suffixes = std::iter::once(0).chain(parents);
        suffixes.filter_map(|from| name.as_str().get(from..)).find_map(|suffix| self.0.get(suffix))
    }

    /// Domains in the set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The domains, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Name> {
        self.0.iter()
    }
}

impl FromIterator<Name> for DomainSet {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> DomainSet {
        DomainSet(names.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_domain_stands_for_everything_under_it_and_nothing_else() {
        let set: DomainSet =
            ["evil.example", "sub.evil.example", "zip"].map(name).into_iter().collect();
        let find = |text: &str| set.find(&name(text)).map(Name::as_str);
        assert_eq!(find("evil.example"), Some("evil.example"));
        assert_eq!(find("a.b.EVIL.example."), Some("evil.example"));
        assert_eq!(find("x.sub.evil.example"), Some("sub.evil.example"), "the nearest one");
        assert_eq!(find("files.zip"), Some("zip"));
        for other in ["notevil.example", "example", "evil.example.org", "zip.example"] {
            assert_eq!(find(other), None, "{other}");
        }
        assert_eq!(DomainSet::default().find(&name("evil.example")), None);
    }

    fn entries() -> impl Strategy<Value = Vec<(u128, u128, Option<u64>)>> {
        let until = prop_oneof![Just(None), (1_u64..4).prop_map(Some)];
        prop::collection::vec((0_u128..40, 0_u128..6, until), 0..16)
    }

    proptest! {
        #[test]
        fn the_latest_time_counts_and_for_good_beats_it(entries in entries()) {
            let span = |first: u128, more: u128| Span::new(first, first + more);
            let lasting = entries.iter().filter(|entry| entry.2.is_none());
            let timed = entries.iter().filter_map(|(first, more, until)| {
                Some(Timed { family: Family::V4, span: span(*first, *more), until: Wall((*until)?) })
            });
            let side = Side::new(
                lasting.map(|(first, more, _)| (Family::V4, span(*first, *more))),
                timed,
                [],
            );
            for number in 0..50_u128 {
                let at = entries.iter().filter(|(first, more, _)| span(*first, *more).contains(number));
                let untils: Vec<Option<u64>> = at.map(|entry| entry.2).collect();
                let address = Family::V4.address(number);
                prop_assert_eq!(side.has_address(address), !untils.is_empty());
                prop_assert_eq!(side.lasting.contains(address), untils.contains(&None));
                let found: Vec<Wall> = side.timed.iter().filter(|timed| timed.span.contains(number))
                    .map(|timed| timed.until).collect();
                let wanted = untils.iter().flatten().max().filter(|_| !untils.contains(&None));
                prop_assert_eq!(found, wanted.map(|until| Wall(*until)).into_iter().collect::<Vec<_>>());
            }
        }
    }
}
