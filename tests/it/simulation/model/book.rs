//! What is known of addresses: a list of facts, one for each address, name and client.

use std::net::IpAddr;

use synhold::engine::{EvidenceRules, Grade};

use super::log::Record;
use crate::simulation::step::Micros;

/// A use of an address is noted once an hour, or when its evidence has come by an eighth of the age it may have.
const USED_STEP: u64 = 3600;

struct Fact {
    address: IpAddr,
    name: String,
    client: Option<IpAddr>,
    is_static: bool,
    /// Whole seconds: that is how finely the registry tells ages apart.
    last: u64,
}

/// All that was ever resolved.
pub struct Book {
    max_age: Option<u64>,
    refresh: bool,
    facts: Vec<Fact>,
    /// The aliases an address was last found through, by name.
    chains: Vec<(IpAddr, String, Vec<String>)>,
    used: Vec<(IpAddr, u64)>,
}

/// The clock of the registry. The world begins with a whole second.
fn seconds(at: Micros) -> u64 {
    crate::simulation::START.0 / 1_000_000 + at / 1_000_000
}

fn is_under(name: &str, domains: &[String]) -> bool {
    domains.iter().any(|domain| name == domain || name.ends_with(&format!(".{domain}")))
}

impl Book {
    pub fn new(rules: &EvidenceRules) -> Book {
        let max_age = rules.max_age.map(|age| age.as_secs());
        let (facts, chains, used) = Default::default();
        Book { max_age, refresh: rules.refresh, facts, chains, used }
    }

    pub fn addresses(&self) -> usize {
        let mut addresses: Vec<IpAddr> = self.facts.iter().map(|fact| fact.address).collect();
        addresses.sort();
        addresses.dedup();
        addresses.len()
    }

    pub fn add(&mut self, record: Record, at: Micros) {
        let Record { address, name, client, is_static, chain } = record;
        match self.chains.iter_mut().find(|(a, n, _)| (*a, n) == (address, &name)) {
            // A name leads where its latest answer says.
            Some((.., before)) if !is_static => *before = chain,
            Some(_) => {}
            None => self.chains.push((address, name.clone(), chain)),
        }
        self.facts.push(Fact { address, name, client: Some(client), is_static, last: seconds(at) });
    }

    /// These addresses are somebody else's now: what was asked from them is known, and not by whom.
    pub fn forget(&mut self, gone: &[IpAddr]) {
        for fact in &mut self.facts {
            fact.client = fact.client.filter(|client| !gone.contains(client));
        }
    }

    fn of(&self, address: IpAddr) -> impl Iterator<Item = &Fact> {
        self.facts.iter().filter(move |fact| fact.address == address)
    }

    /// A reply outranks a hosts file.
    fn is_static(&self, fact: &Fact) -> bool {
        self.of(fact.address).filter(|other| other.name == fact.name).all(|other| other.is_static)
    }

    /// A name with the aliases between it and the address.
    fn words<'a>(&'a self, fact: &'a Fact) -> impl Iterator<Item = &'a String> {
        let of_fact = |chain: &&(IpAddr, String, Vec<String>)| {
            (chain.0, chain.1.as_str()) == (fact.address, fact.name.as_str())
        };
        let chain = self.chains.iter().filter(of_fact).flat_map(|(.., chain)| chain);
        std::iter::once(&fact.name).chain(chain)
    }

    fn is_fresh(&self, fact: &Fact, now: Micros) -> bool {
        self.max_age.is_none_or(|most| seconds(now) - fact.last <= most)
    }

    /// The best grade of what `counts`, given its grade and whether these clients asked. Names under blocked domains are
    /// nothing.
    pub fn best(
        &self,
        clients: &[IpAddr],
        address: IpAddr,
        blocked: &[String],
        now: Micros,
        counts: impl Fn(Grade, bool) -> bool,
    ) -> Option<Grade> {
        let unblocked = |fact: &&Fact| !self.words(fact).any(|word| is_under(word, blocked));
        let graded = self.of(address).filter(unblocked).map(|fact| {
            let own = fact.client.is_some_and(|client| clients.contains(&client));
            let grade = match (self.is_static(fact), self.is_fresh(fact, now)) {
                (true, _) => Grade::Static,
                (false, false) => Grade::Stale,
                (false, true) if own => Grade::Own,
                (false, true) => Grade::Other,
            };
            (grade, own)
        });
        graded.filter(|(grade, own)| counts(*grade, *own)).map(|(grade, _)| grade).min()
    }

    /// Whether an address has a name under one of these domains.
    pub fn is_named(&self, address: IpAddr, domains: &[String]) -> bool {
        self.of(address).any(|fact| is_under(&fact.name, domains))
    }

    /// Whether what these clients asked for is blocked; or, if they asked for nothing, everything there is.
    pub fn is_blocked(&self, clients: &[IpAddr], address: IpAddr, domains: &[String]) -> bool {
        let is_blocked = |fact: &Fact| self.words(fact).any(|word| is_under(word, domains));
        let is_own = |fact: &&Fact| fact.client.is_some_and(|client| clients.contains(&client));
        let mut own = self.of(address).filter(is_own).peekable();
        match own.peek() {
            Some(_) => own.any(is_blocked),
            None => self.of(address).count() > 0 && self.of(address).all(is_blocked),
        }
    }

    /// A flow was accepted: its evidence may be as good as new.
    pub fn note_use(&mut self, clients: &[IpAddr], address: IpAddr, now: Micros) {
        let at = seconds(now);
        let before = self.used.iter().find(|used| used.0 == address).map_or(0, |used| used.1);
        let step = self.max_age.map_or(USED_STEP, |most| (most / 8).min(USED_STEP));
        let replies = || self.of(address).filter(|fact| !self.is_static(fact));
        let is_own = |fact: &&Fact| fact.client.is_some_and(|client| clients.contains(&client));
        let own = replies().filter(is_own).max_by_key(|fact| fact.last);
        let basis = own.or_else(|| replies().max_by_key(|fact| fact.last));
        let basis = basis.map(|basis| (basis.name.clone(), basis.last));
        let aged = self.refresh && basis.as_ref().is_some_and(|(_, last)| at > last + step);
        if at / USED_STEP <= before / USED_STEP && !aged {
            return;
        }
        self.used.retain(|used| used.0 != address);
        self.used.push((address, at));
        let Some((name, _)) = basis.filter(|_| self.refresh) else { return };
        let (mut facts, mut any) = (std::mem::take(&mut self.facts), false);
        for fact in facts.iter_mut().filter(|fact| (fact.address, &fact.name) == (address, &name)) {
            if fact.client.is_some_and(|client| clients.contains(&client)) {
                (fact.last, any) = (at, true);
            }
        }
        if !any {
            // Nobody of them asked: it is somebody's, as it was.
            facts.push(Fact { address, name, client: None, is_static: false, last: at });
        }
        self.facts = facts;
    }
}
