//! What happens in a simulated world: programs that resolve and connect, malware that does not, and faults.

use std::net::{IpAddr, SocketAddr};

use synhold::engine::{Flow, Proto};

use super::cast::{BLOCKED_DOMAIN, Cast, Entry, HARDCODED, INSIDE, tenant};
use super::resolver::Resolver;
use super::rng::Rng;
use super::step::{Dated, Fault, Listing, Micros, Step, Tenant};

/// A world as it will be.
pub struct Plot {
    pub cast: Cast,
    pub steps: Vec<Dated>,
}

struct Author<'r> {
    rng: &'r mut Rng,
    cast: Cast,
    tenants: Vec<Tenant>,
    resolver: Resolver,
    steps: Vec<Dated>,
    /// Where programs have been.
    known: Vec<IpAddr>,
    now: Micros,
    next_id: u8,
}

/// How much time may pass between two things: within a hold, within a retransmission, within ages.
const PAUSES: [Micros; 9] =
    [0, 1_000, 20_000, 150_000, 700_000, 1_100_000, 8_000_000, 70_000_000, 4_000_000_000];

impl Plot {
    /// The plot that a seed stands for.
    pub fn new(seed: u64) -> Plot {
        let rng = &mut Rng::new(seed);
        let cast = Cast::new(rng);
        let tenants = cast.tenants.clone();
        let (resolver, known) = Default::default();
        let first = Step::Owners { tenants: tenants.clone(), gone: Vec::new() };
        let steps = vec![Dated { at: 0, step: first }];
        let mut author = Author { rng, cast, tenants, resolver, steps, known, now: 0, next_id: 10 };
        author.write();
        let Author { rng, cast, resolver, mut steps, .. } = author;
        steps.extend(resolver.log(rng));
        steps.sort_by_key(|dated| dated.at);
        Plot { cast, steps }
    }
}

impl Author<'_> {
    fn write(&mut self) {
        if self.rng.chance(50) {
            self.resolver.lost = *self.rng.pick(&[20, 100]);
            self.resolver.doubled = *self.rng.pick(&[0, 50]);
        }
        self.begin();
        for _ in 0..self.rng.between(6, 30) {
            let longest = *self.rng.pick(&PAUSES);
            self.now += self.rng.below(longest + 1);
            match self.rng.below(100) {
                0..45 => self.program(),
                45..57 => self.again(),
                57..77 => self.malware(),
                77..84 => self.fault(),
                84..91 => self.owners(),
                91..97 => self.lists(),
                _ => {
                    self.push(0, Step::Restart);
                    self.begin();
                }
            }
        }
    }

    fn push(&mut self, later: Micros, step: Step) {
        self.steps.push(Dated { at: self.now + later, step });
    }

    /// An address packets come from, nearly always a container's.
    fn source(&mut self) -> IpAddr {
        if self.tenants.is_empty() || self.rng.chance(5) {
            return *self.rng.pick(&self.cast.spare);
        }
        let tenant = self.rng.pick(&self.tenants);
        *self.rng.pick(&tenant.addresses)
    }

    /// Another address of the same container, or the same.
    fn sibling(&mut self, of: IpAddr) -> IpAddr {
        let same = self.tenants.iter().find(|tenant| tenant.addresses.contains(&of));
        same.map_or(of, |tenant| *self.rng.pick(&tenant.addresses))
    }

    /// A first packet, and perhaps copies of it.
    fn connect(&mut self, later: Micros, src: IpAddr, dst: IpAddr, why: &'static str) {
        let proto = *self.rng.pick(&[Proto::Tcp, Proto::Tcp, Proto::Udp]);
        let port = u16::try_from(self.rng.between(40_000, 40_006)).unwrap();
        let flow = Flow { proto, src: SocketAddr::new(src, port), dst: SocketAddr::new(dst, 443) };
        self.push(later, Step::Packet(flow, why));
        if self.rng.chance(30) {
            let again = *self.rng.pick(&[1_000, 30_000, 249_000, 400_000, 1_000_000, 3_000_000]);
            self.push(later + again, Step::Packet(flow, "again"));
        }
    }

    /// Resolves a name and connects to what it gets, as soon as it has it or later.
    fn program(&mut self) {
        let (src, place) = (self.source(), self.rng.below(self.cast.zone.len() as u64));
        let asker = self.sibling(src);
        let (asked, wait) = (self.now, *self.rng.pick(&[100, 5_000, 40_000, 300_000]));
        let answered = asked + 1 + self.rng.below(wait);
        let entry = &self.cast.zone[usize::try_from(place).unwrap()];
        let mut addresses = Vec::new();
        for qtype in *self.rng.pick(&[&["A", "AAAA"][..], &["A"], &["A", "HTTPS"], &["AAAA"]]) {
            addresses.extend(self.resolver.ask(self.rng, entry, qtype, asker, (asked, answered)));
        }
        self.known.extend(&addresses);
        let Some(first) = addresses.first() else { return };
        let first = if self.rng.chance(80) { *first } else { *self.rng.pick(&addresses) };
        // Before its line is read, just after, or when it has been told long ago.
        let delay = *self.rng.pick(&[0, 1, 2_000, 900_000, 9_000_000]);
        let early = self.rng.chance(25).then(|| self.rng.below(answered - asked + 1));
        let later = early.unwrap_or(answered - asked + delay);
        self.connect(later, src, first, "program");
    }

    /// Uses an address that somebody resolved once.
    fn again(&mut self) {
        let src = self.source();
        if !self.known.is_empty() {
            let dst = *self.rng.pick(&self.known);
            self.connect(0, src, dst, "reuse");
        }
    }

    fn malware(&mut self) {
        let src = self.source();
        match self.rng.below(5) {
            0 | 1 => {
                let dst = *self.rng.pick(&HARDCODED);
                self.connect(0, src, dst, "hardcoded");
            }
            2 => {
                for dst in HARDCODED.iter().chain(&INSIDE[..2]).chain(&HARDCODED) {
                    self.connect(0, src, *dst, "scan");
                }
            }
            3 => {
                let place = self.rng.below(self.cast.zone.len() as u64);
                let entry = &self.cast.zone[usize::try_from(place).unwrap()];
                let times = (self.now, self.now + 900);
                self.resolver.ask(self.rng, entry, "TXT", src, times);
                let text = entry.text.unwrap_or(HARDCODED[0]);
                self.connect(2_000, src, text, "txt");
            }
            _ => self.flood(src),
        }
    }

    /// Many names of a domain of its own, with addresses others use too.
    fn flood(&mut self, src: IpAddr) {
        for n in 0..self.rng.between(3, 9) {
            let (name, kind) = (format!("x{n}.dga.example"), synhold::engine::Kind::Reply);
            let host = u8::try_from(self.rng.between(1, 12)).unwrap();
            let addresses = vec![IpAddr::from([203, 0, 113, host]), *self.rng.pick(&INSIDE)];
            let (aliases, text, rotates) = (Vec::new(), None, false);
            let entry = Entry { name, aliases, addresses, kind, text, rotates };
            let times = (self.now + n * 10, self.now + n * 10 + 5);
            self.resolver.ask(self.rng, &entry, "A", src, times);
        }
        let dst = *self.rng.pick(&INSIDE);
        self.connect(5_000, src, dst, "rebinding");
    }

    fn fault(&mut self) {
        let long = *self.rng.pick(&[10_000, 300_000, 2_000_000, 90_000_000]);
        let end = self.rng.between(1, long);
        match self.rng.below(6) {
            0 => {
                self.push(0, Step::Source(Fault::Down));
                self.push(end, Step::Source(Fault::Up));
                self.resolver.lags.push((self.now, self.now + end));
            }
            1 => self.resolver.lags.push((self.now, self.now + end)),
            2 => self.push(0, Step::Source(Fault::Lost)),
            3 => {
                self.push(0, Step::Trouble(true));
                self.push(end, Step::Trouble(false));
            }
            4 => {
                let told = self.rng.chance(80);
                self.resolver.restarts.push((self.now, told));
            }
            _ => {
                let on = self.rng.chance(30);
                self.push(0, Step::Learning(on));
            }
        }
    }

    fn owners(&mut self) {
        let mut gone = Vec::new();
        if !self.tenants.is_empty() && self.rng.chance(70) {
            let place = usize::try_from(self.rng.below(self.tenants.len() as u64)).unwrap();
            let old = self.tenants.remove(place);
            if self.rng.chance(70) {
                let id = self.next_id;
                self.next_id += 1;
                let fresh = tenant(self.rng, &self.cast.settings, id);
                gone.clone_from(&old.addresses);
                self.tenants.push(Tenant { addresses: old.addresses, ..fresh });
            }
        } else if let Some(of) = self.tenants.first_mut() {
            // The same container, treated otherwise.
            let other = tenant(self.rng, &self.cast.settings, 0);
            *of = Tenant { id: of.id, addresses: of.addresses.clone(), ..other };
        }
        let tenants = self.tenants.clone();
        self.push(0, Step::Owners { tenants, gone });
    }

    fn lists(&mut self) {
        let mut listing = Listing::default();
        let rng = &mut *self.rng;
        let public =
            |rng: &mut Rng| IpAddr::from([203, 0, 113, u8::try_from(rng.between(1, 8)).unwrap()]);
        if rng.chance(25) {
            listing.allow_addresses.push(*rng.pick(&HARDCODED));
        }
        if rng.chance(20) {
            listing.allow_names.push((*rng.pick(&["shop.example", "n0.example"])).to_owned());
        }
        if rng.chance(20) {
            listing.block_addresses.push(public(rng));
        }
        if rng.chance(50) {
            listing.block_names.push((*rng.pick(&[BLOCKED_DOMAIN, "n2.example"])).to_owned());
        }
        if rng.chance(10) {
            listing.quarantine.push(IpAddr::from([172, 17, 0, 2]));
        }
        if rng.chance(20) {
            listing.pairs.push((IpAddr::from([172, 17, 0, 3]), public(rng)));
        }
        self.push(0, Step::Lists(listing));
    }

    /// We start: flows may stand by then.
    fn begin(&mut self) {
        if self.rng.chance(20) {
            let pairs = vec![(self.source(), *self.rng.pick(&HARDCODED))];
            self.push(0, Step::Established(pairs));
        }
    }
}
