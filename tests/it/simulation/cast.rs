//! Who is in a simulated world: its settings, its containers, and the names there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use synhold::engine::hold::Bounds;
use synhold::engine::wish::Treatment;
use synhold::engine::{EvidenceRules, Kind, Mode, OnUnhealthy, Scope, Settings, Weight};

use super::rng::Rng;
use super::step::Tenant;

/// This host's own address.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// Addresses that no public name has any business with.
pub const INSIDE: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1)),
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5)),
];
/// Where malware goes that resolves nothing. No A or AAAA record has them; a TXT record may.
pub const HARDCODED: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 1)),
];
/// Names under it may have addresses of the inside.
pub const LOCAL_DOMAIN: &str = "corp.example";
/// What a block list may hold.
pub const BLOCKED_DOMAIN: &str = "ads.example";

/// What there is at the beginning.
pub struct Cast {
    pub settings: Settings,
    pub learning: bool,
    pub tenants: Vec<Tenant>,
    /// Addresses that nobody owns at first.
    pub spare: Vec<IpAddr>,
    pub zone: Vec<Entry>,
}

/// A name and what it leads to.
pub struct Entry {
    pub name: String,
    pub aliases: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub kind: Kind,
    /// What a TXT record of it holds.
    pub text: Option<IpAddr>,
    /// Each answer is one address of many.
    pub rotates: bool,
}

fn public(rng: &mut Rng) -> IpAddr {
    let host = rng.between(1, 8);
    match rng.chance(70) {
        true => IpAddr::from([203, 0, 113, u8::try_from(host).unwrap()]),
        false => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::try_from(host).unwrap()]),
    }
}

impl Cast {
    pub fn new(rng: &mut Rng) -> Cast {
        let settings = settings(rng);
        let count = rng.between(2, 4);
        let tenants = (0..count).map(|id| tenant(rng, &settings, u8::try_from(id).unwrap()));
        let tenants = tenants.collect();
        let spare = (0..2u8).map(|n| IpAddr::from([172, 17, 0, 20 + n])).collect();
        let names = rng.between(3, 7);
        let mut zone: Vec<Entry> = (0..names).map(|n| entry(rng, n)).collect();
        zone.push(Entry { name: "nas.lan".to_owned(), addresses: vec![INSIDE[0]], ..local(rng) });
        let name = format!("intra.{LOCAL_DOMAIN}");
        zone.push(Entry { name, addresses: vec![INSIDE[1]], ..local(rng) });
        Cast { settings, learning: rng.chance(8), tenants, spare, zone }
    }
}

fn local(rng: &mut Rng) -> Entry {
    let kind = *rng.pick(&[Kind::Hosts, Kind::Reply]);
    let (name, aliases, addresses) = Default::default();
    Entry { name, aliases, addresses, kind, text: None, rotates: false }
}

fn entry(rng: &mut Rng, n: u64) -> Entry {
    let domain = *rng.pick(&["example", "example", "Shop.Example", BLOCKED_DOMAIN]);
    let mut addresses: Vec<IpAddr> = (0..rng.between(1, 4)).map(|_| public(rng)).collect();
    if rng.chance(15) {
        addresses.push(if rng.chance(30) { HOST } else { *rng.pick(&INSIDE) });
    }
    let alias = |n: u64, rng: &mut Rng| match rng.chance(20) {
        true => format!("edge{n}.{BLOCKED_DOMAIN}"),
        false => format!("edge{n}.cdn.example"),
    };
    let aliases = (0..rng.below(4)).map(|n| alias(n, rng)).collect();
    let kind = *rng.pick(&[Kind::Reply, Kind::Reply, Kind::Reply, Kind::Hosts, Kind::Config]);
    let text = rng.chance(40).then(|| *rng.pick(&HARDCODED));
    let name = format!("n{n}.{domain}");
    Entry { name, aliases, addresses, kind, text, rotates: rng.chance(30) }
}

fn settings(rng: &mut Rng) -> Settings {
    let weight = |rng: &mut Rng| *rng.pick(&[Weight::Accept, Weight::Refuse]);
    let age = *rng.pick(&[0, 0, 3, 10, 60, 3600]);
    let unhealthy =
        [None, None, Some(OnUnhealthy::Accept), Some(OnUnhealthy::Hold), Some(OnUnhealthy::Refuse)];
    let evidence = EvidenceRules {
        max_age: (age > 0).then(|| Duration::from_secs(age)),
        refresh: rng.chance(50),
        stale: weight(rng),
        fixed: weight(rng),
        on_unhealthy: *rng.pick(&unhealthy),
        grace: Duration::from_secs(*rng.pick(&[0, 1, 300])),
        adaptive: rng.chance(50),
    };
    let bounds = Bounds {
        hold: Duration::from_millis(*rng.pick(&[50, 200, 750, 990])),
        budget: *rng.pick(&[1, 2, 4, 256]),
        total: *rng.pick(&[3, 8192, 8192]),
    };
    let mode = if rng.chance(8) { Mode::DryRun } else { Mode::Enforce };
    Settings { mode, scope: *rng.pick(&[Scope::Global, Scope::Container]), bounds, evidence }
}

/// A container, as it is when it is first seen.
pub fn tenant(rng: &mut Rng, settings: &Settings, id: u8) -> Tenant {
    let mut addresses = vec![IpAddr::from([172, 17, 0, 2 + id])];
    if rng.chance(40) {
        addresses.push(IpAddr::from([0xfd00, 0x17, 0, 0, 0, 0, 0, 2 + u16::from(id)]));
    }
    let policy = Tenant {
        id: u32::from(id),
        addresses,
        mode: Treatment::Enforce,
        scope: settings.scope,
        hold: settings.bounds.hold,
        allow_addresses: Vec::new(),
        allow_names: Vec::new(),
    };
    if rng.chance(60) {
        return policy;
    }
    let modes = [Treatment::Enforce, Treatment::Enforce, Treatment::DryRun, Treatment::Off];
    Tenant {
        mode: *rng.pick(&modes),
        scope: *rng.pick(&[Scope::Global, Scope::Container]),
        hold: Duration::from_millis(rng.between(20, 990)),
        allow_addresses: if rng.chance(20) { vec![public(rng)] } else { Vec::new() },
        allow_names: if rng.chance(20) { vec!["n1.example".to_owned()] } else { Vec::new() },
        ..policy
    }
}
