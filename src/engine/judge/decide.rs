//! What policy, lists and registry say about a destination, in this order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::engine::decision::Decision;
use crate::engine::flow::Flow;
use crate::engine::inquiry::Inquiry;
use crate::engine::lists::Party;
use crate::engine::name::Name;
use crate::engine::owner::{Owner, Owners};
use crate::engine::policy::Policy;
use crate::engine::registry::{Known, Sorts};
use crate::engine::settings::{EvidenceRules, Mode, OnUnhealthy, Scope, Weight};
use crate::engine::time::Now;
use crate::engine::trace::{Finding, Told, Trace, Traced, Untold};
use crate::engine::verdict::{Grade, Reason, Verdict};
use crate::engine::wish::Treatment;

impl<T> Engine<T> {
    /// The quick look: decided if policy or lists say something, accepted if the registry knows the destination well
    /// enough.
    pub fn quick(
        &self,
        flow: Flow,
        lane: u16,
        owner: Option<Arc<Owner>>,
        now: Now,
    ) -> Option<Decision> {
        self.quick_telling(flow, lane, owner, now, &mut Untold)
    }

    fn quick_telling(
        &self,
        flow: Flow,
        lane: u16,
        owner: Option<Arc<Owner>>,
        now: Now,
        trace: &mut impl Trace,
    ) -> Option<Decision> {
        let (src, dst) = (flow.src.ip(), flow.dst.ip());
        let owners = self.owners.load();
        let inquiry = self.inquiry(&owners, &src, now);
        let (grade, known) =
            self.registry.look_up_beside(&inquiry, &self.lists.load().block.names, dst);
        let (verdict, reason, domain, grade) =
            self.decide(src, dst, grade, owner.as_deref(), now, trace)?;
        let name = owner.as_ref().map(|owner| &*owner.name);
        let mode = match self.lists.load().confines(src, name) {
            // Quarantine beats a container's mode, as in the kernel.
            true => self.settings.mode,
            false => self.mode_for(owner.as_deref(), reason),
        };
        let decision = Decision::new(flow, lane, owner, (verdict, reason), mode, now);
        Some(Decision { grade, known, domain, ..decision })
    }

    /// A verdict without waiting: by policy, lists and registry, in this order; nothing if none of them decides. The grade
    /// is the one that decided, where one did.
    fn decide(
        &self,
        src: IpAddr,
        dst: IpAddr,
        grade: Grade,
        owner: Option<&Owner>,
        now: Now,
        trace: &mut impl Trace,
    ) -> Option<(Verdict, Reason, Option<Name>, Grade)> {
        let policy = self.policy_of(owner);
        let lists = self.lists.load();
        let name = owner.map(|owner| &*owner.name);
        let mode = policy.mode;
        if mode == Treatment::Off && !lists.confines(src, name) {
            trace.step(|| Finding::Mode { mode }, Some((Verdict::Accept, Reason::Exempt)));
            return Some((Verdict::Accept, Reason::Exempt, None, grade));
        }
        trace.step(|| Finding::Mode { mode }, None);
        let owners = self.owners.load();
        let clients = owners.clients(&src);
        let who = Party { src, clients, own: policy.allow.as_deref(), name };
        if let Some(listed) = lists.judge_telling(&who, dst, &self.registry, trace) {
            let (verdict, reason, domain) = listed.verdict();
            return Some((verdict, reason, domain, grade));
        }
        let sorts =
            || self.registry.sorts(&self.inquiry(&owners, &src, now), &lists.block.names, dst);
        let rules = &self.settings.evidence;
        let enough = admits(rules, policy.scope, grade, sorts);
        let evidence = || Finding::Evidence {
            grade,
            enough,
            scope: policy.scope,
            stale: rules.stale,
            fixed: rules.fixed,
            max_age_s: rules.max_age.map(|age| age.as_secs()),
        };
        trace.step(evidence, enough.and(Some((Verdict::Accept, Reason::Resolved))));
        if let Some(grade) = enough {
            return Some((Verdict::Accept, Reason::Resolved, None, grade));
        }
        let had = self.is_established(src, dst, now.mono);
        let ends = if had { Some((Verdict::Accept, Reason::Established)) } else { None };
        trace.step(|| Finding::Established { had }, ends);
        had.then_some((Verdict::Accept, Reason::Established, None, grade))
    }

    /// Accepted at once for want of evidence that could be trusted, where that is what such a packet would get in the end.
    pub(super) fn untrusted(
        &self,
        flow: Flow,
        lane: u16,
        owner: Option<&Arc<Owner>>,
        now: Now,
    ) -> Option<Decision> {
        let hold = self.bound(self.policy_of(owner.map(AsRef::as_ref)).hold, now.mono);
        let accepts = self.on_unhealthy(now.mono) == OnUnhealthy::Accept;
        if !accepts {
            return None;
        }
        let evidence = self.evidence_for(hold, now);
        if evidence.healthy {
            return None;
        }
        let decision = self.refuse(flow, lane, Reason::Unhealthy, owner.cloned(), now);
        let proof = Some(Box::new(evidence));
        Some(Decision { verdict: Verdict::Accept, proof, ..decision })
    }

    /// What a first packet from `src` to `dst` would meet without being held: a verdict, or nothing that decides.
    pub fn outlook(&self, src: IpAddr, dst: IpAddr, now: Now) -> Option<Verdict> {
        let owner = self.owner(src);
        let grade = self.grade(src, dst, now);
        self.decide(src, dst, grade, owner.as_deref(), now, &mut Untold)
            .map(|(verdict, ..)| verdict)
    }

    /// The grade of the evidence for a first packet from `src` to `dst`.
    pub fn grade(&self, src: IpAddr, dst: IpAddr, now: Now) -> Grade {
        let (owners, lists) = (self.owners.load(), self.lists.load());
        self.registry.grade_beside(&self.inquiry(&owners, &src, now), &lists.block.names, dst)
    }

    /// What a first packet of `flow` would meet in the end if no record came: nothing is held, counted or told.
    pub fn forecast(&self, flow: Flow, now: Now) -> Decision {
        self.forecast_telling(flow, now, &mut Untold)
    }

    /// The same with the steps that led there; the last one, and no other, says the verdict.
    pub fn explain(&self, flow: Flow, now: Now) -> (Decision, Vec<Traced>) {
        let mut told = Told::default();
        let decision = self.forecast_telling(flow, now, &mut told);
        (decision, told.0)
    }

    fn forecast_telling(&self, flow: Flow, now: Now, trace: &mut impl Trace) -> Decision {
        let owner = self.owner(flow.src.ip());
        if let Some(quick) = self.quick_telling(flow, 0, owner.clone(), now, trace) {
            return quick;
        }
        if let Some(at_once) = self.untrusted(flow, 0, owner.as_ref(), now) {
            self.tell_absence(&at_once, now, trace);
            return at_once;
        }
        let hold = self.bound(self.policy_of(owner.as_deref()).hold, now.mono);
        let ms = || u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
        trace.step(|| Finding::Hold { ms: ms() }, None);
        let mut decision = self.in_vain(flow, 0, owner, hold, now);
        (decision.held, decision.bound) = (hold, hold);
        self.tell_absence(&decision, now, trace);
        decision
    }

    /// What a decision made of there being no record that is enough.
    fn tell_absence(&self, decision: &Decision, now: Now, trace: &mut impl Trace) {
        let found = || {
            let proof = decision.proof.as_deref();
            Finding::Absence {
                proves: proof.is_some_and(|proof| proof.healthy),
                why: proof.map(|proof| proof.why.clone()).unwrap_or_default(),
                then: self.on_unhealthy(now.mono),
            }
        };
        trace.step(found, Some((decision.verdict, decision.reason)));
    }

    /// The decision about a packet that waited for `hold` in vain.
    pub(super) fn in_vain(
        &self,
        flow: Flow,
        lane: u16,
        owner: Option<Arc<Owner>>,
        hold: Duration,
        now: Now,
    ) -> Decision {
        let mut decision = self.refuse(flow, lane, Reason::Unhealthy, owner, now);
        let evidence = self.evidence_for(hold, now);
        let healthy = evidence.healthy;
        decision.proof = Some(Box::new(evidence));
        if healthy {
            decision.reason = match decision.grade {
                Grade::Never => Reason::NeverResolved,
                Grade::Stale if self.settings.evidence.stale == Weight::Refuse => Reason::Stale,
                _ => Reason::OutOfScope,
            };
            return decision;
        }
        match self.on_unhealthy(now.mono) {
            OnUnhealthy::Accept => decision.verdict = Verdict::Accept,
            OnUnhealthy::Hold => decision.again = true,
            OnUnhealthy::Refuse => {}
        }
        decision
    }

    /// A refusal with what is known.
    pub(super) fn refuse(
        &self,
        flow: Flow,
        lane: u16,
        reason: Reason,
        owner: Option<Arc<Owner>>,
        now: Now,
    ) -> Decision {
        let (grade, known) = self.look_up(flow.src.ip(), flow.dst.ip(), now);
        let mode = self.mode_for(owner.as_deref(), reason);
        let decision = Decision::new(flow, lane, owner, (Verdict::Drop, reason), mode, now);
        Decision { grade, known, ..decision }
    }

    /// Notes what an accepted flow rests on.
    pub(super) fn note_use(&self, decision: &Decision, now: Now) {
        if decision.reason == Reason::Resolved {
            let (src, dst) = (decision.flow.src.ip(), decision.flow.dst.ip());
            let owners = self.owners.load();
            let inquiry = self.inquiry(&owners, &src, now);
            self.registry.used(&inquiry, dst, self.settings.evidence.refresh);
        }
    }

    fn look_up(&self, src: IpAddr, dst: IpAddr, now: Now) -> (Grade, Known) {
        let owners = self.owners.load();
        let inquiry = self.inquiry(&owners, &src, now);
        self.registry.look_up_beside(&inquiry, &self.lists.load().block.names, dst)
    }

    pub(super) fn inquiry<'a>(&self, owners: &'a Owners, src: &'a IpAddr, now: Now) -> Inquiry<'a> {
        let max_age = self.settings.evidence.max_age;
        Inquiry { clients: owners.clients(src), at: now.wall, max_age }
    }

    /// What holds for an owner, or for nobody.
    pub(super) fn policy_of<'p>(&'p self, owner: Option<&'p Owner>) -> &'p Policy {
        owner.map_or(&self.base, |owner| &owner.policy)
    }

    /// Whether refusals of what comes from an address are carried out, whatever the evidence.
    pub fn mode_at(&self, address: IpAddr) -> Mode {
        self.mode_of(self.owner(address).as_deref())
    }

    /// Whether refusals are carried out. In a dry run nobody's are.
    fn mode_of(&self, owner: Option<&Owner>) -> Mode {
        match self.settings.mode {
            Mode::DryRun => Mode::DryRun,
            Mode::Enforce | Mode::Learn => self.policy_of(owner).verdicts(),
        }
    }

    /// The same for a refusal with this reason: while we learn, only lists refuse.
    pub(super) fn mode_for(&self, owner: Option<&Owner>, reason: Reason) -> Mode {
        match self.mode_of(owner) {
            Mode::Enforce if self.is_learning() && reason != Reason::Blocklisted => Mode::Learn,
            mode => mode,
        }
    }
}

/// The grade of the evidence that is enough, if any is: the best there is as a rule, or another where that one is not to
/// count. So more evidence never makes a verdict worse. What another one asked for does not come into scope by growing old.
fn admits(
    rules: &EvidenceRules,
    scope: Scope,
    best: Grade,
    sorts: impl FnOnce() -> Sorts,
) -> Option<Grade> {
    match (best, scope) {
        (Grade::Own, _) | (Grade::Other, Scope::Global) => return Some(best),
        (Grade::Never, _) => return None,
        (Grade::Other | Grade::Static | Grade::Stale, _) => {}
    }
    let sorts = sorts();
    if sorts.fixed && rules.fixed == Weight::Accept {
        return Some(Grade::Static);
    }
    let in_scope = sorts.own || (sorts.any && scope == Scope::Global);
    (in_scope && rules.stale == Weight::Accept).then_some(Grade::Stale)
}
