//! The thread that keeps the kernel true: loads the list sets, notices what others change, mends it, and tells of hits.

mod follow;
mod mend;
mod order;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock;
use super::hits::Hits;
use super::inbox::Inbox;
use super::policies::{Freedom, Networks, Policies};
use super::revoke::Revoker;
use super::roster::books;
use super::rules::Rules;
use super::sets::{Loaded, Sets};
use super::shared::Shared;
use super::wants::Want;
use crate::engine::event::ListsReload;
use crate::engine::lists::Lists;
use crate::engine::{Mode, Wall};
use crate::nftables::{Channel, Watch, names};

pub use order::{Held, Listener, Order};

/// Orders waiting; each is the newest lists, or one address.
const ORDERS_MAX: usize = 1024;
/// Blocked addresses that an allowed domain admits, at most: they are put into `allow4/6` one by one.
const NAMED_MAX: usize = 4096;
/// How often hits are looked at.
const HITS_EVERY: Duration = Duration::from_secs(1);
/// How often the kernel is asked whether any rules changed. Where somebody took ours away, new flows pass unjudged until
/// they are put back, so soon; asking takes some microseconds. Being told by the kernel would cost every program on the
/// machine 5 KiB of kernel memory for each set element it loads.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Shortest time between two comparisons, each about a millisecond: other programs change their own rules all the time.
const COMPARE_PAUSE: Duration = Duration::from_millis(200);
/// First and longest pause before lists that the kernel did not take are loaded again.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often the rules are compared with what is wanted, whatever changed.
const CHECK_EVERY: Duration = Duration::from_secs(60);

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

    /// Starts it.
    ///
    /// # Errors
    /// If the system gives no thread or socket; the rules are then as they were.
    pub fn start(
        rules: Rules,
        shared: &Arc<Shared>,
        listener: impl Listener + 'static,
    ) -> Result<Truth> {
        let sets = Sets::open()?;
        let keeper = Keeper {
            revoker: Revoker::new(&rules, Freedom::default()),
            rules,
            sets,
            channel: Channel::open()?,
            watch: Watch::default(),
            shared: Arc::clone(shared),
            orders: Arc::clone(&shared.orders),
            listener: Box::new(listener),
            hits: Hits::default(),
            hits_at: None,
            named: BTreeSet::new(),
            lists: None,
            wants: Vec::new(),
            policies: Arc::default(),
            networks: None,
            unnamed: HashSet::new(),
            pending: None,
            changed: true,
            applied_at: SystemTime::now(),
            mends: VecDeque::new(),
            differs: false,
            sets_left: false,
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
    /// Asks whether any rules changed.
    channel: Channel,
    watch: Watch,
    shared: Arc<Shared>,
    orders: Orders,
    listener: Box<dyn Listener>,
    revoker: Revoker,
    hits: Hits,
    /// When hits were looked at last.
    hits_at: Option<Wall>,
    /// Blocked addresses that an allowed domain admits.
    named: BTreeSet<IpAddr>,
    /// What the sets are to say; none until the lists were read.
    lists: Option<Arc<Lists>>,
    /// The same, set by set.
    wants: Vec<Want>,
    /// What single containers may.
    policies: Arc<Policies>,
    /// Networks that the kernel did not take, and when to try again.
    networks: Option<(Instant, Networks)>,
    /// Bridges with names no set takes that were told of.
    unnamed: HashSet<String>,
    /// The kernel did not take them: when to try again, and how long to wait after that.
    pending: Option<(Instant, Duration)>,
    /// Some rules changed somewhere since ours were compared.
    changed: bool,
    /// Commands of before this moment have changed no more than is wanted.
    applied_at: SystemTime,
    mends: VecDeque<Instant>,
    /// The rules were not as wanted at the last look.
    differs: bool,
    /// It was told that sets are left as somebody changed them.
    sets_left: bool,
    /// A person took the rules away with `synhold rules`.
    users: bool,
}

impl Keeper {
    fn run(mut self) -> Result<()> {
        let (mut next_hits, mut next_check) = (Instant::now(), Instant::now() + CHECK_EVERY);
        let mut compared = Instant::now();
        // Rules that were there before may have those of an earlier run.
        self.load_policies();
        loop {
            self.wait(Instant::now() + LOOK_EVERY);
            if let Some(keep) = self.take_orders() {
                return self.stop(keep);
            }
            let now = Instant::now();
            self.follow_due(now);
            self.changed |= self.watch.look(&mut self.channel).unwrap_or(true);
            self.note_calm();
            if self.changed && now.duration_since(compared) >= COMPARE_PAUSE {
                self.changed = false;
                self.compare(false);
                compared = Instant::now();
            }
            if self.pending.is_some_and(|(at, _)| at <= now) {
                self.load(true, 0);
            }
            if now >= next_hits {
                next_hits = now + HITS_EVERY;
                self.look_at_hits();
            }
            if now >= next_check {
                next_check = now + CHECK_EVERY;
                self.compare(true);
            }
        }
    }

    /// Does as told; what a later order of its kind replaces is left out. Whether to keep the rules, if it is to end.
    fn take_orders(&mut self) -> Option<bool> {
        let orders = self.orders.take();
        let last = |is: fn(&Order) -> bool| orders.iter().rposition(is);
        let lists = last(|order| matches!(order, Order::Lists(_)));
        let networks = last(|order| matches!(order, Order::Networks(_)));
        let policies = last(|order| matches!(order, Order::Policies(_)));
        let mut left = HashSet::new();
        for (place, order) in orders.into_iter().enumerate() {
            let place = Some(place);
            match order {
                Order::Lists(newest) if place == lists => self.set_lists(newest),
                Order::Networks(newest) if place == networks => self.follow(newest),
                Order::Policies(newest) if place == policies => self.set_policies(newest),
                Order::Lists(_) | Order::Networks(_) | Order::Policies(_) => {}
                Order::Named(address) => self.admit(address),
                Order::Left(addresses) => left.extend(addresses),
                Order::Stop { keep } => return Some(keep),
            }
        }
        // All of them by one walk through conntrack, and behind what the next owners' first packets wait for.
        self.leave(&left);
        None
    }

    fn stop(mut self, keep: bool) -> Result<()> {
        // Who has an address tomorrow is to have no freedom of today's.
        self.policies = Arc::default();
        self.load_policies();
        if keep { self.rules.keep() } else { self.rules.restore() }
    }

    fn wait(&self, until: Instant) {
        let mut descriptors = [PollFd::new(self.orders.as_fd(), PollFlags::POLLIN)];
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
        self.load(true, 0);
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
        if self.named.len() >= NAMED_MAX || !self.named.insert(address) {
            return;
        }
        // Its first packet may be on its way: before anything else.
        match self.sets.admit(address) {
            Ok(added) => self.load(added, added.into()),
            Err(error) => {
                tracing::debug!("not let through yet: {address}");
                tracing::warn!(
                    "an address is let through late, though an allowed domain names it: {error:#}"
                );
                self.load(false, 0);
            }
        }
    }

    /// Brings the sets to what the lists say, ends what is open against them, and tells; `added_before` were added for it
    /// already.
    fn load(&mut self, tell: bool, added_before: u64) {
        let Some(lists) = self.lists.clone() else { return };
        let named: Vec<IpAddr> = self.named.iter().copied().collect();
        self.wants = Want::all(&lists, &named);
        self.wants.extend(Want::pairs(&lists));
        self.wants.extend(Want::policies(&self.policies));
        match self.make_room(&lists).and_then(|()| self.bring()) {
            Ok(loaded) => {
                self.pending = None;
                let ended_flows = self.revoke(&lists);
                let reload = ListsReload {
                    added: loaded.added + added_before,
                    removed: loaded.removed,
                    ended_flows,
                    took_ms: u64::try_from(loaded.took.as_millis()).unwrap_or(u64::MAX),
                };
                if tell || loaded.added + loaded.removed + ended_flows > 0 {
                    let sets =
                        self.wants.iter().map(|want| (want.set, want.len() as u64)).collect();
                    self.listener.loaded(&lists, reload, Held { sets, named });
                }
                self.shared.denied.look_again();
            }
            Err(error) => {
                self.sets.forget_all();
                let pause = self.pending.map_or(RETRY_MIN, |(_, pause)| (pause * 2).min(RETRY_MAX));
                if self.pending.is_none() {
                    let message = format!(
                        "the kernel's sets are not what the lists say, which is tried again: {error:#}"
                    );
                    self.shared.report_health("lists", false, message);
                }
                self.pending = Some((Instant::now() + pause, pause));
            }
        }
    }

    fn make_room(&mut self, lists: &Lists) -> Result<()> {
        if self.rules.make_room(lists.hosts())? {
            [names::BLOCKHOSTS.v4, names::BLOCKHOSTS.v6]
                .iter()
                .for_each(|set| self.sets.forget(set));
        }
        Ok(())
    }

    fn bring(&mut self) -> Result<Loaded> {
        self.shared.denied.set_loading(true);
        let loaded = self.sets.load(&self.wants);
        self.shared.denied.set_loading(false);
        loaded
    }

    fn revoke(&self, lists: &Lists) -> u64 {
        if self.shared.mode() == Mode::DryRun {
            return 0;
        }
        let registry = self.shared.engine.registry();
        let ended = self.revoker.end_flows(lists, registry, &self.shared.denied);
        ended.unwrap_or_else(|error| {
            tracing::warn!("open flows to blocked addresses may go on: {error:#}");
            0
        })
    }

    fn look_at_hits(&mut self) {
        let now = clock::wall();
        let before = self.hits_at.replace(now);
        match self.hits.look(before.is_none()) {
            Ok(mut hits) if !hits.is_empty() => {
                let books = books(&self.shared);
                let since = before.unwrap_or(now);
                hits.iter_mut().for_each(|hit| hit.name(&books, since, now));
                drop(books);
                self.listener.hits(hits);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("cannot read what the sets refused: {error:#}"),
        }
    }

    fn report(&self, healthy: bool, message: String) {
        // Whoever hears of it is not to be told beside it what the rules were before.
        self.shared.rules.forget();
        self.shared.report_health("rules", healthy, message);
    }
}
