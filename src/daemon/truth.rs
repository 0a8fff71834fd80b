//! The thread that keeps the kernel true: loads the list sets, hears what others change, mends it, and tells of hits.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::hits::{Hit, Hits};
use super::inbox::Inbox;
use super::revoke::Revoker;
use super::rules::Rules;
use super::sets::{Loaded, Sets};
use super::shared::Shared;
use super::wants::Want;
use crate::engine::Mode;
use crate::engine::event::ListsReload;
use crate::engine::lists::Lists;
use crate::nftables::{Changes, Monitor, Who, names};

/// Orders waiting; each is the newest lists, or one address.
const ORDERS_MAX: usize = 1024;
/// Blocked addresses that an allowed domain admits, at most: they are put into `allow4/6` one by one.
const NAMED_MAX: usize = 4096;
/// How often hits are looked at.
const HITS_EVERY: Duration = Duration::from_secs(1);
/// How often the rules are compared with what is wanted, whatever was heard.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// Mends in a minute after which somebody else is at work: then only reports, until a minute is over.
const MENDS_A_MINUTE: usize = 10;

/// What the thread is told.
#[derive(Debug)]
pub enum Order {
    /// These lists hold from now on.
    Lists(Arc<Lists>),
    /// A blocked address that an allowed domain now admits.
    Named(IpAddr),
    /// Put the rules back, or leave them, and end.
    Stop {
        /// Leave them.
        keep: bool,
    },
}

/// What the thread tells of.
pub trait Listener: Send {
    /// The kernel has what the lists say.
    fn loaded(&mut self, reload: ListsReload, sets: Vec<(&'static str, u64)>);
    /// What the sets refused in the last second.
    fn hits(&mut self, hits: Vec<Hit>);
}

/// The running thread.
pub struct Truth {
    orders: Arc<Inbox<Order>>,
    thread: JoinHandle<Result<()>>,
}

/// Where orders go.
pub type Orders = Arc<Inbox<Order>>;

impl Truth {
    /// A place for orders, before there is a thread.
    ///
    /// # Errors
    /// If the kernel gives no descriptor.
    pub fn orders() -> Result<Orders> {
        Ok(Arc::new(Inbox::new(ORDERS_MAX)?))
    }

    /// Starts it. `denied_port` is by which the thread of refusals changes its set.
    ///
    /// # Errors
    /// If the system gives no thread or socket; the rules are then as they were.
    pub fn start(
        rules: Rules,
        shared: &Arc<Shared>,
        denied_port: u32,
        listener: impl Listener + 'static,
    ) -> Result<Truth> {
        let sets = Sets::open()?;
        let mut monitor = Monitor::open()?;
        monitor.is_ours(sets.port()?);
        monitor.is_ours(denied_port);
        let keeper = Keeper {
            revoker: Revoker::new(&rules),
            rules,
            sets,
            monitor,
            shared: Arc::clone(shared),
            orders: Arc::clone(&shared.orders),
            listener: Box::new(listener),
            hits: Hits::default(),
            hits_seen: false,
            named: BTreeSet::new(),
            lists: None,
            mends: VecDeque::new(),
            differs: false,
            users: false,
        };
        let thread = std::thread::Builder::new()
            .name("rules".to_owned())
            .spawn(move || keeper.run())
            .context("cannot start the thread that keeps the rules")?;
        Ok(Truth { orders: Arc::clone(&shared.orders), thread })
    }

    /// True if it ended although nobody told it to.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Takes the rules back, or with `keep` leaves them, and ends.
    ///
    /// # Errors
    /// If the kernel does not do it.
    pub fn stop(self, keep: bool) -> Result<()> {
        self.orders.put_always(Order::Stop { keep });
        self.thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread that keeps the rules panicked")))
    }
}

struct Keeper {
    rules: Rules,
    sets: Sets,
    monitor: Monitor,
    shared: Arc<Shared>,
    orders: Orders,
    listener: Box<dyn Listener>,
    revoker: Revoker,
    hits: Hits,
    hits_seen: bool,
    /// Blocked addresses that an allowed domain admits.
    named: BTreeSet<IpAddr>,
    /// What the sets are to say; none until the lists were read.
    lists: Option<Arc<Lists>>,
    mends: VecDeque<Instant>,
    /// The rules were not as wanted at the last look.
    differs: bool,
    /// A person changed the rules with `synhold rules`: they are theirs.
    users: bool,
}

impl Keeper {
    fn run(mut self) -> Result<()> {
        let (mut next_hits, mut next_check) = (Instant::now(), Instant::now() + CHECK_EVERY);
        loop {
            self.wait(next_hits.min(next_check));
            let orders = self.orders.take();
            let newest = orders.iter().rposition(|order| matches!(order, Order::Lists(_)));
            for (place, order) in orders.into_iter().enumerate() {
                match order {
                    Order::Lists(lists) if Some(place) == newest => self.set_lists(lists),
                    Order::Lists(_) => {}
                    Order::Named(address) => self.admit(address),
                    Order::Stop { keep } => {
                        return if keep { self.rules.keep() } else { self.rules.restore() };
                    }
                }
            }
            match self.monitor.read() {
                Ok(changes) => self.heard(&changes),
                Err(error) => tracing::debug!("cannot hear what others change: {error}"),
            }
            let now = Instant::now();
            if now >= next_hits {
                next_hits = now + HITS_EVERY;
                self.look_at_hits();
            }
            if now >= next_check {
                next_check = now + CHECK_EVERY;
                self.check(&[]);
                self.retry();
            }
        }
    }

    fn wait(&self, until: Instant) {
        let mut descriptors = [
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.orders.as_fd(), PollFlags::POLLIN),
        ];
        let left = until.saturating_duration_since(Instant::now());
        // A little late rather than a little early, and then again.
        let left =
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        // An interrupted wait is a short wait.
        let _ = poll(&mut descriptors, left);
    }

    fn set_lists(&mut self, lists: Arc<Lists>) {
        self.named = self.named_of(&lists);
        self.lists = Some(lists);
        self.load(true);
    }

    /// Blocked addresses that have a name under an allowed domain.
    fn named_of(&self, lists: &Lists) -> BTreeSet<IpAddr> {
        if lists.allow.names.is_empty() || (lists.block.is_empty() && lists.pairs.is_empty()) {
            return BTreeSet::new();
        }
        let registry = self.shared.engine.registry();
        let to_one: HashSet<IpAddr> = lists.pairs.iter().map(|((_, to), _)| *to).collect();
        let admitted = |address: &IpAddr| {
            (lists.block.has_address(*address) || to_one.contains(address))
                && lists.allows_by_name(*address, registry)
        };
        registry.addresses().into_iter().filter(admitted).take(NAMED_MAX).collect()
    }

    fn admit(&mut self, address: IpAddr) {
        if self.named.len() < NAMED_MAX && self.named.insert(address) {
            self.load(false);
        }
    }

    /// Brings the sets to what the lists say, ends what is open against them, and tells.
    fn load(&mut self, tell: bool) {
        let Some(lists) = self.lists.clone() else { return };
        match self.bring(&lists) {
            Ok(loaded) => {
                let ended_flows = self.revoke(&lists);
                let reload = ListsReload {
                    added: loaded.added,
                    removed: loaded.removed,
                    ended_flows,
                    took_ms: u64::try_from(loaded.took.as_millis()).unwrap_or(u64::MAX),
                };
                if tell || loaded.added + loaded.removed + ended_flows > 0 {
                    let sets = self
                        .wants(&lists)
                        .iter()
                        .map(|want| (want.set, want.len() as u64))
                        .collect();
                    self.listener.loaded(reload, sets);
                }
                self.shared.denied.look_again();
            }
            Err(error) => {
                self.sets.forget_all();
                let message = format!(
                    "the kernel's sets are not what the lists say, so the daemon judges by them alone: {error:#}"
                );
                self.shared.report_health("lists", false, message);
            }
        }
    }

    fn wants(&self, lists: &Lists) -> Vec<Want> {
        let named: Vec<IpAddr> = self.named.iter().copied().collect();
        let mut wants = Want::all(lists, &named);
        wants.extend(Want::pairs(lists));
        wants
    }

    fn bring(&mut self, lists: &Lists) -> Result<Loaded> {
        if self.rules.make_room(lists.hosts())? {
            [names::BLOCKHOSTS.v4, names::BLOCKHOSTS.v6]
                .iter()
                .for_each(|set| self.sets.forget(set));
        }
        let wants = self.wants(lists);
        self.sets.load(&wants, Some(&mut self.monitor))
    }

    fn revoke(&self, lists: &Lists) -> u64 {
        if self.shared.mode() == Mode::DryRun {
            return 0;
        }
        self.revoker.end_flows(lists, self.shared.engine.registry()).unwrap_or_else(|error| {
            tracing::warn!("open flows to blocked addresses may go on: {error:#}");
            0
        })
    }

    /// What others did to our table.
    fn heard(&mut self, changes: &Changes) {
        if !changes.is_ours_touched() {
            return;
        }
        if changes.overflow || changes.table_deleted {
            self.sets.forget_all();
        }
        changes.sets_touched.iter().for_each(|set| self.sets.forget(set));
        if changes.rules_touched || changes.table_deleted {
            self.users = changes.others.iter().any(is_synhold);
        }
        self.check(&changes.others);
        if !self.users && self.lists.is_some() {
            self.mend_sets(&changes.others);
        }
    }

    /// Compares the rules with what is wanted, and puts back what differs.
    fn check(&mut self, who: &[Who]) {
        let drift = match self.rules.drift() {
            Ok(drift) => drift,
            Err(error) => return tracing::warn!("cannot read the rules: {error:#}"),
        };
        let Some(drift) = drift else {
            if std::mem::take(&mut self.differs) {
                self.report(true, "the rules are as they should be again".to_owned());
            }
            return;
        };
        let already = std::mem::replace(&mut self.differs, true);
        let by = named(who);
        if self.users {
            let advice = "`synhold rules install` with the same options puts them back";
            return self
                .report(false, format!("`synhold rules` changed the rules: {drift}; {advice}"));
        }
        if !self.may_mend() {
            if !already {
                let message = format!(
                    "{by} keeps changing the rules: {drift}; they are not put back for a minute"
                );
                self.report(false, message);
            }
            return;
        }
        self.report(false, format!("{by} changed the rules: {drift}; they are put back"));
        match self.rules.mend() {
            Ok(()) => {
                self.sets.forget_all();
                self.check_again();
            }
            Err(error) => self.report(false, format!("the rules cannot be put back: {error:#}")),
        }
    }

    fn check_again(&mut self) {
        if matches!(self.rules.drift(), Ok(None)) {
            self.differs = false;
            self.report(true, "the rules are as they should be again".to_owned());
        }
    }

    fn may_mend(&mut self) -> bool {
        let now = Instant::now();
        self.mends.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
        let may = self.mends.len() < MENDS_A_MINUTE;
        if may {
            self.mends.push_back(now);
        }
        may
    }

    /// Brings sets that others touched back to what the lists say.
    fn mend_sets(&mut self, who: &[Who]) {
        let Some(lists) = self.lists.clone() else { return };
        if !self.sets.is_unsure(&self.wants(&lists)) {
            return;
        }
        match self.bring(&lists) {
            Ok(loaded) if loaded.added + loaded.removed > 0 => {
                let message = format!(
                    "{} changed the list sets: {} elements put back, {} taken out in {} ms",
                    named(who),
                    loaded.added,
                    loaded.removed,
                    loaded.took.as_millis()
                );
                self.report(false, message);
                self.report(true, "the list sets are what the lists say again".to_owned());
            }
            Ok(_) => {}
            Err(error) => {
                self.report(false, format!("the list sets cannot be put back: {error:#}"))
            }
        }
    }

    /// What could not be loaded is tried again.
    fn retry(&mut self) {
        if !self.users {
            self.mend_sets(&[]);
        }
    }

    fn look_at_hits(&mut self) {
        match self.hits.look(!std::mem::replace(&mut self.hits_seen, true)) {
            Ok(hits) if !hits.is_empty() => self.listener.hits(hits),
            Ok(_) => {}
            Err(error) => tracing::debug!("cannot read what the sets refused: {error:#}"),
        }
    }

    fn report(&self, healthy: bool, message: String) {
        self.shared.report_health("rules", healthy, message);
    }
}

/// A `synhold` of another process: a person at the command line.
fn is_synhold(who: &Who) -> bool {
    who.name == env!("CARGO_PKG_NAME") && !is_own_thread(who.pid)
}

fn is_own_thread(id: u32) -> bool {
    std::path::Path::new("/proc/self/task").join(id.to_string()).exists()
}

fn named(who: &[Who]) -> String {
    let names: Vec<String> = who
        .iter()
        .filter(|who| !is_own_thread(who.pid))
        .map(|who| format!("{} (process {})", who.name, who.pid))
        .collect();
    if names.is_empty() { "somebody".to_owned() } else { names.join(" and ") }
}
