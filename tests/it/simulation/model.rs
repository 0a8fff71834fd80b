//! The naive reference model: what the contract says about every packet, with plain lists gone through from end to end.

mod book;
mod health;
mod log;
mod waiting;

use std::net::IpAddr;

use synhold::engine::wish::Treatment;
use synhold::engine::{Flow, Grade, Mode, OnUnhealthy, Reason, Scope, Settings, Verdict, Weight};

use super::step::{Listing, Micros, Step, Tenant};
use book::Book;
use health::Health;
use log::Log;
use waiting::Waiting;

pub use waiting::{Fate, Ruling};

/// How long an accepted flow's copies are told from a new flow.
const LINGER: Micros = 250_000;
/// How long flows that stood at a first start may be opened again.
const ESTABLISHED_FOR: Micros = 3_600_000_000;

/// Everything the contract needs to know.
pub struct Model {
    settings: Settings,
    now: Micros,
    tenants: Vec<Tenant>,
    listing: Listing,
    log: Log,
    book: Book,
    health: Health,
    learning: bool,
    established: Vec<(IpAddr, IpAddr)>,
    established_until: Micros,
    waiting: Vec<Waiting>,
    lingering: Vec<(Flow, Micros)>,
}

/// A verdict at once, or nothing.
type Quick = Option<(Verdict, Reason)>;

impl Model {
    pub fn new(settings: Settings, learning: bool) -> Model {
        let mut model = Model {
            settings,
            now: 0,
            tenants: Vec::new(),
            listing: Listing::default(),
            log: Log::default(),
            book: Book::new(&settings.evidence),
            health: Health::default(),
            learning,
            established: Vec::new(),
            established_until: 0,
            waiting: Vec::new(),
            lingering: Vec::new(),
        };
        model.begin();
        model
    }

    /// A start with nothing in the registry begins a grace.
    fn begin(&mut self) {
        if self.book.addresses() == 0 {
            let grace = self.settings.evidence.grace.as_micros() as Micros;
            self.health.grace_until = self.now + grace;
        }
    }

    /// What becomes of which packet until `at` and by what happens then.
    pub fn step(&mut self, at: Micros, step: &Step, id: usize) -> Vec<(usize, Fate)> {
        let mut fates = self.advance(at);
        match step {
            Step::Packet(flow, _) => fates.extend(self.packet(*flow, id).map(|fate| (id, fate))),
            Step::Line(line) => {
                if let Some(record) = self.log.read(&line.says) {
                    self.book.add(record, at);
                }
            }
            Step::Owners { tenants, gone } => {
                self.book.forget(gone);
                self.tenants = tenants.clone();
            }
            Step::Lists(listing) => self.listing = listing.clone(),
            Step::Source(fault) => self.health.suffer(*fault, at),
            Step::Trouble(on) => self.health.trouble = *on,
            Step::Learning(on) => self.learning = *on,
            Step::Established(pairs) => {
                (self.established, self.established_until) = (pairs.clone(), at + ESTABLISHED_FOR);
            }
            Step::Restart => fates.extend(self.restart()),
            Step::Pause => {}
        }
        fates.extend(self.release());
        fates
    }

    /// Packets that wait.
    pub fn waiting(&self) -> impl Iterator<Item = usize> {
        self.waiting.iter().map(|waiting| waiting.id)
    }

    /// Addresses anything is known of.
    pub fn addresses(&self) -> usize {
        self.book.addresses()
    }

    /// Whether nobody may be accused who waited for `hold`.
    pub fn is_doubtful(&self, hold: Micros) -> bool {
        !self.health.is_sound(self.now, hold)
    }

    fn restart(&mut self) -> Vec<(usize, Fate)> {
        let waiting = std::mem::take(&mut self.waiting);
        let fates = waiting.into_iter().map(|waiting| {
            let ruling = self.ruling(&waiting.flow, waiting.tenant.as_ref(), Reason::Shutdown);
            (waiting.id, waiting.ends(self.now, ruling))
        });
        let fates = fates.collect();
        self.lingering.clear();
        self.log = Log::default();
        self.health = self.health.anew();
        self.established.clear();
        self.begin();
        fates
    }

    fn tenant(&self, address: IpAddr) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.addresses.contains(&address))
    }

    /// Whose look-ups are a source's own.
    fn clients(&self, src: IpAddr) -> Vec<IpAddr> {
        self.tenant(src).map_or(vec![src], |tenant| tenant.addresses.clone())
    }

    fn grade(&self, flow: &Flow) -> Grade {
        let (src, dst) = (flow.src.ip(), flow.dst.ip());
        let best = |_, _| true;
        let grade =
            self.book.best(&self.clients(src), dst, &self.listing.block_names, self.now, best);
        grade.unwrap_or(Grade::Never)
    }

    /// Policy, lists, evidence, in this order.
    fn quick(&self, flow: &Flow, tenant: Option<&Tenant>) -> Quick {
        let (src, dst) = (flow.src.ip(), flow.dst.ip());
        let confined = self.listing.quarantine.contains(&src);
        if !confined && tenant.is_some_and(|tenant| tenant.mode == Treatment::Off) {
            return Some((Verdict::Accept, Reason::Exempt));
        }
        if let Some(allows) = self.listed(src, dst, tenant) {
            let (verdict, reason) = match allows {
                true => (Verdict::Accept, Reason::Allowlisted),
                false => (Verdict::Drop, Reason::Blocklisted),
            };
            return Some((verdict, reason));
        }
        let stood = self.now < self.established_until && self.established.contains(&(src, dst));
        match (self.admitted(flow, tenant), stood) {
            (Some(_), _) => Some((Verdict::Accept, Reason::Resolved)),
            (None, true) => Some((Verdict::Accept, Reason::Established)),
            (None, false) => None,
        }
    }

    /// The best grade of what counts for a container, if anything does.
    fn admitted(&self, flow: &Flow, tenant: Option<&Tenant>) -> Option<Grade> {
        let (src, dst) = (flow.src.ip(), flow.dst.ip());
        let rules = &self.settings.evidence;
        let for_all = tenant.map_or(self.settings.scope, |tenant| tenant.scope) == Scope::Global;
        let counts = |grade: Grade, own: bool| match grade {
            Grade::Own | Grade::Other => own || for_all,
            Grade::Static => rules.fixed == Weight::Accept,
            Grade::Stale => rules.stale == Weight::Accept && (own || for_all),
            Grade::Never => false,
        };
        self.book.best(&self.clients(src), dst, &self.listing.block_names, self.now, counts)
    }

    /// Whether the lists allow or block; nothing if they say nothing. Allow beats block, quarantine beats both.
    fn listed(&self, src: IpAddr, dst: IpAddr, tenant: Option<&Tenant>) -> Option<bool> {
        let lists = &self.listing;
        if lists.quarantine.contains(&src) {
            return Some(false);
        }
        let (mut addresses, mut names) = (lists.allow_addresses.clone(), lists.allow_names.clone());
        if let Some(tenant) = tenant {
            addresses.extend(&tenant.allow_addresses);
            names.extend(tenant.allow_names.iter().cloned());
        }
        if addresses.contains(&dst) || self.book.is_named(dst, &names) {
            return Some(true);
        }
        let blocked = lists.block_addresses.contains(&dst)
            || lists.pairs.contains(&(src, dst))
            || self.book.is_blocked(&self.clients(src), dst, &lists.block_names);
        blocked.then_some(false)
    }

    fn mode(&self, flow: &Flow, tenant: Option<&Tenant>, reason: Reason) -> Mode {
        if self.listing.quarantine.contains(&flow.src.ip()) && reason == Reason::Blocklisted {
            return self.settings.mode;
        }
        let enforced = tenant.is_none_or(|tenant| tenant.mode == Treatment::Enforce);
        match (self.settings.mode == Mode::DryRun || !enforced, self.learning) {
            (true, _) => Mode::DryRun,
            (false, true) if reason != Reason::Blocklisted => Mode::Learn,
            (false, _) => Mode::Enforce,
        }
    }

    /// A refusal for this reason.
    fn ruling(&self, flow: &Flow, tenant: Option<&Tenant>, reason: Reason) -> Ruling {
        let mode = self.mode(flow, tenant, reason);
        Ruling::new(Verdict::Drop, reason, self.grade(flow), mode)
    }

    fn on_unhealthy(&self) -> OnUnhealthy {
        let default = match self.now < self.health.grace_until {
            true => OnUnhealthy::Accept,
            false => OnUnhealthy::Refuse,
        };
        self.settings.evidence.on_unhealthy.unwrap_or(default)
    }
}
