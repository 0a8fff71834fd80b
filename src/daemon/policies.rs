//! What the kernel is told about containers beyond the lists: where they are, and what each may on its own.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use crate::engine::intervals::{Span, merge};
use crate::engine::net::{Family, Net, number};
use crate::nftables::Bridge;

/// Where the containers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Networks whose first packets are judged; all of them, those named by configuration too.
    pub containers: Vec<Net>,
    /// Bridges on which only sources that belong there get in.
    pub bridges: Vec<Bridge>,
}

/// What single containers may, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Not judged at all, unless in quarantine.
    pub exempt: Vec<IpAddr>,
    /// Refused nothing while the others are, unless in quarantine.
    pub dryrun: Vec<IpAddr>,
    /// Told of a refusal the other way than the others: a reset instead of silence, or silence.
    pub otherway: Vec<IpAddr>,
    /// What a container may reach whatever the lists say. Of the family of its address; overlaps are fine.
    pub permits: Vec<(IpAddr, Family, Span)>,
}

impl Policies {
    /// What each source may reach, as few ranges; a range of another family than its source's is none.
    pub fn reaches(&self) -> BTreeMap<IpAddr, Vec<Span>> {
        let mut reaches: BTreeMap<IpAddr, Vec<Span>> = BTreeMap::new();
        for (src, family, span) in &self.permits {
            if Family::of(*src) == *family {
                reaches.entry(*src).or_default().push(*span);
            }
        }
        reaches.into_iter().map(|(src, spans)| (src, merge(spans))).collect()
    }

    /// What they free from the lists, ready to be asked.
    pub fn freedom(&self) -> Freedom {
        Freedom {
            spared: self.exempt.iter().chain(&self.dryrun).copied().collect(),
            reaches: self.reaches(),
        }
    }

    /// Whether some container lost a freedom since `before`, so that what it opened may have to end.
    pub fn are_stricter_than(&self, before: &Policies) -> bool {
        let (now, before) = (self.freedom(), before.freedom());
        let spared = before.spared.iter().all(|address| now.spared.contains(address));
        let is_kept = |(src, spans): (&IpAddr, &Vec<Span>)| {
            now.reaches.get(src) == Some(spans) || now.spared.contains(src)
        };
        !spared || !before.reaches.iter().all(is_kept)
    }
}

/// Whom lists do not stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freedom {
    spared: HashSet<IpAddr>,
    reaches: BTreeMap<IpAddr, Vec<Span>>,
}

impl Freedom {
    /// Whether nothing but quarantine is enforced against it.
    pub fn spares(&self, src: IpAddr) -> bool {
        self.spared.contains(&src)
    }

    /// Whether lists do not keep a source from a destination.
    pub fn covers(&self, src: IpAddr, dst: IpAddr) -> bool {
        let same = Family::of(src) == Family::of(dst);
        let reaches = self.reaches.get(&src).filter(|_| same);
        self.spares(src)
            || reaches.is_some_and(|spans| spans.iter().any(|span| span.contains(number(dst))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn permit(src: &str, net: &str) -> (IpAddr, Family, Span) {
        let net: Net = net.parse().unwrap();
        (ip(src), net.family(), net.span())
    }

    #[test]
    fn permits_are_for_one_source_merged_and_of_its_family() {
        let permits = [
            permit("10.0.0.1", "192.0.2.0/25"),
            permit("10.0.0.1", "192.0.2.128/25"),
            permit("10.0.0.1", "192.0.2.9"),
            permit("10.0.0.1", "2001:db8::/32"),
            permit("10.0.0.2", "198.51.100.1"),
        ];
        let policies = Policies { permits: permits.into(), ..Policies::default() };
        let reaches = policies.reaches();
        assert_eq!(reaches[&ip("10.0.0.1")], [permit("10.0.0.1", "192.0.2.0/24").2]);
        let freedom = policies.freedom();
        assert!(freedom.covers(ip("10.0.0.1"), ip("192.0.2.255")));
        assert!(!freedom.covers(ip("10.0.0.1"), ip("2001:db8::1")));
        assert!(!freedom.covers(ip("10.0.0.2"), ip("192.0.2.1")));
        assert!(!freedom.spares(ip("10.0.0.1")));
    }

    #[test]
    fn only_a_freedom_lost_is_stricter() {
        let none = Policies::default();
        let exempt = Policies { exempt: vec![ip("10.0.0.1")], ..Policies::default() };
        let dryrun = Policies { dryrun: vec![ip("10.0.0.1")], ..Policies::default() };
        let permits = vec![permit("10.0.0.1", "192.0.2.0/24")];
        let permits = Policies { permits, ..Policies::default() };
        let other = Policies { otherway: vec![ip("10.0.0.1")], ..Policies::default() };
        for (now, before, stricter) in [
            (&exempt, &none, false),
            (&none, &exempt, true),
            (&dryrun, &exempt, false),
            (&exempt, &permits, false),
            (&permits, &exempt, true),
            (&none, &permits, true),
            (&none, &other, false),
        ] {
            assert_eq!(now.are_stricter_than(before), stricter, "{now:?} after {before:?}");
        }
    }
}
