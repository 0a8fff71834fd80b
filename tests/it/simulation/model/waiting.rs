//! Packets that come, wait and are decided, as the contract has it.

use synhold::engine::{Flow, Grade, Mode, OnUnhealthy, Reason, Verdict, Weight};

use super::{LINGER, Model};
use crate::simulation::step::{Micros, Tenant};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Copy,
    Decided(Ruling),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ruling {
    pub verdict: Verdict,
    pub reason: Reason,
    pub grade: Grade,
    pub mode: Mode,
    pub held: Micros,
    pub bound: Micros,
    pub copies: u32,
    pub again: bool,
}

impl Ruling {
    pub fn new(verdict: Verdict, reason: Reason, grade: Grade, mode: Mode) -> Ruling {
        Ruling { verdict, reason, grade, mode, held: 0, bound: 0, copies: 0, again: false }
    }
}

/// A packet that waits.
pub struct Waiting {
    pub id: usize,
    pub flow: Flow,
    pub tenant: Option<Tenant>,
    since: Micros,
    bound: Micros,
    copies: u32,
    mode: Mode,
}

impl Waiting {
    /// What waited in the books alone is gone, whatever holds by now.
    pub fn ends(&self, now: Micros, ruling: Ruling) -> Fate {
        let mode = if self.mode == Mode::Enforce { ruling.mode } else { self.mode };
        let (held, bound, copies) = (now - self.since, self.bound, self.copies);
        Fate::Decided(Ruling { mode, held, bound, copies, ..ruling })
    }
}

impl Model {
    /// A packet comes; nothing if it waits.
    pub(super) fn packet(&mut self, flow: Flow, id: usize) -> Option<Fate> {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.flow == flow) {
            waiting.copies += 1;
            return Some(Fate::Copy);
        }
        if self
            .lingering
            .iter()
            .any(|(let_through, until)| *let_through == flow && self.now < *until)
        {
            return Some(Fate::Copy);
        }
        let tenant = self.tenant(flow.src.ip()).cloned();
        if let Some(ruling) = self.at_once(&flow, tenant.as_ref()) {
            return Some(Fate::Decided(ruling));
        }
        let longest = tenant.as_ref().map_or(self.settings.bounds.hold, |tenant| tenant.hold);
        let bound = longest.as_micros() as Micros;
        if self.on_unhealthy() == OnUnhealthy::Accept && self.is_doubtful(bound) {
            let ruling = self.ruling(&flow, tenant.as_ref(), Reason::Unhealthy);
            return Some(Fate::Decided(Ruling { verdict: Verdict::Accept, ..ruling }));
        }
        let same = self.waiting.iter().filter(|other| other.flow.src.ip() == flow.src.ip()).count();
        let bounds = &self.settings.bounds;
        if same >= bounds.budget || self.waiting.len() >= bounds.total {
            let ruling = self.ruling(&flow, tenant.as_ref(), Reason::HoldBudget);
            return Some(Fate::Decided(ruling));
        }
        let mode = self.mode(&flow, tenant.as_ref(), Reason::NeverResolved);
        self.waiting.push(Waiting { id, flow, tenant, since: self.now, bound, copies: 0, mode });
        None
    }

    fn at_once(&mut self, flow: &Flow, tenant: Option<&Tenant>) -> Option<Ruling> {
        let (verdict, reason) = self.quick(flow, tenant)?;
        let mode = self.mode(flow, tenant, reason);
        let grade = match reason {
            Reason::Resolved => self.admitted(flow, tenant)?,
            _ => self.grade(flow),
        };
        let ruling = Ruling::new(verdict, reason, grade, mode);
        if reason == Reason::Resolved {
            self.book.note_use(&self.clients(flow.src.ip()), flow.dst.ip(), self.now);
        }
        Some(ruling)
    }

    /// Time passes; whoever has waited long enough by then is refused when its time is up.
    pub(super) fn advance(&mut self, to: Micros) -> Vec<(usize, Fate)> {
        let mut fates = Vec::new();
        let deadline = |waiting: &Waiting| waiting.since + waiting.bound;
        while let Some(next) = self.waiting.iter().map(deadline).min().filter(|next| *next <= to) {
            self.now = self.now.max(next);
            let place = self.waiting.iter().position(|waiting| deadline(waiting) == next).unwrap();
            let waiting = self.waiting.remove(place);
            let tenant = waiting.tenant.clone().or(self.tenant(waiting.flow.src.ip()).cloned());
            let ruling = self.in_vain(&waiting.flow, tenant.as_ref(), waiting.bound);
            if ruling.verdict == Verdict::Accept {
                self.lingering.push((waiting.flow, self.now + LINGER));
            }
            fates.push((waiting.id, waiting.ends(self.now, ruling)));
        }
        self.now = to;
        fates
    }

    fn in_vain(&self, flow: &Flow, tenant: Option<&Tenant>, bound: Micros) -> Ruling {
        if !self.is_doubtful(bound) {
            let reason = match self.grade(flow) {
                Grade::Never => Reason::NeverResolved,
                Grade::Stale if self.settings.evidence.stale == Weight::Refuse => Reason::Stale,
                Grade::Own | Grade::Other | Grade::Static | Grade::Stale => Reason::OutOfScope,
            };
            return self.ruling(flow, tenant, reason);
        }
        let ruling = self.ruling(flow, tenant, Reason::Unhealthy);
        match self.on_unhealthy() {
            OnUnhealthy::Accept => Ruling { verdict: Verdict::Accept, ..ruling },
            OnUnhealthy::Hold => Ruling { again: true, ..ruling },
            OnUnhealthy::Refuse => ruling,
        }
    }

    /// Whoever waits and has not to, leaves at once.
    pub(super) fn release(&mut self) -> Vec<(usize, Fate)> {
        let mut fates = Vec::new();
        let mut place = 0;
        while let Some(waiting) = self.waiting.get(place) {
            let flow = waiting.flow;
            let present = self.tenant(flow.src.ip()).cloned();
            if self.quick(&flow, present.as_ref()).is_none() {
                place += 1;
                continue;
            }
            let waiting = self.waiting.remove(place);
            // Whose packet it was stays who is told, unless nobody knew.
            let tenant = match &waiting.tenant {
                Some(then) if present.as_ref().is_none_or(|now| now.id != then.id) => {
                    Some(then.clone())
                }
                _ => present,
            };
            let ruling = match self.at_once(&flow, tenant.as_ref()) {
                Some(ruling) if ruling.reason == Reason::Resolved => {
                    Ruling { reason: Reason::ResolvedAfterHold, ..ruling }
                }
                Some(ruling) => ruling,
                // Its address changed hands meanwhile: nobody is accused.
                None => self.ruling(&flow, tenant.as_ref(), Reason::Unhealthy),
            };
            self.lingering.push((flow, self.now + LINGER));
            fates.push((waiting.id, waiting.ends(self.now, ruling)));
        }
        fates
    }
}
