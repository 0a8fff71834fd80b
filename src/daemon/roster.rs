//! The thread that keeps the books on containers, and passes on what follows: owners to the engine, networks and policies
//! to the kernel, names to what was judged before its container was known.

mod admitted;
mod follow;
mod memory;
mod note;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock;
use super::library;
use super::policies::{Networks, Policies};
use super::shared::Shared;
use super::truth::Order;
use crate::config::{Config, RuleConfig};
use crate::docker;
use crate::engine::container::Change;
use crate::engine::event::Body;
use crate::engine::inventory::{Effects, Inventory};
use crate::engine::lists::Lists;
use crate::engine::owner::Owner;
use crate::engine::policy::Policy;
use crate::engine::{Mono, Net};
use crate::host;
use admitted::Admitted;
use follow::Ground;
use memory::Memory;
use note::{Ear, UNNAMED_MAX};
pub use note::{Note, Notes, Unnamed, notes};

/// How long a verdict waits for the name of its container. An engine tells of a start within milliseconds.
const NAME_PATIENCE: Duration = Duration::from_secs(1);
/// How often those that wait are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often bridges are looked for while the engine was never heard. It makes them a few hundred milliseconds before
/// the first process of a container runs.
const SEARCH_EVERY: Duration = Duration::from_millis(100);
/// How often bridges of others and default routes are looked for from then on: nobody tells of those.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(2);
/// How long a start waits for the engine's first word, so that containers that run are known before their packets. It
/// takes some milliseconds; without an engine it is known at once that there is none. Where systemd listens for an engine
/// that waits for us, nobody answers, and all of this passes.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// The running thread, and the watch on the engine, if there is to be one.
pub struct Roster {
    shared: Arc<Shared>,
    /// Networks that an earlier run heard of; none where no engine is asked, as nobody would take them away again.
    remembered: Vec<Net>,
    watch: Option<docker::Watch>,
    thread: Option<JoinHandle<()>>,
}

struct Keeper {
    shared: Arc<Shared>,
    notes: Notes,
    rules: RuleConfig,
    /// Gateways of this host.
    gateways: Vec<IpAddr>,
    /// When this host's addresses and gateways are looked at next; never where no engine is asked.
    look_at: Option<Mono>,
    base: Policy,
    waiting: VecDeque<Unnamed>,
    admitted: BTreeSet<Admitted>,
    /// Containers that may reach something by name.
    named: Vec<(IpAddr, Arc<Owner>)>,
    /// The lists that were passed on last.
    lists: Option<Arc<Lists>>,
    networks: Option<Networks>,
    memory: Memory,
    /// Bridges that were told to lead out.
    uplinks: BTreeSet<Arc<str>>,
    policies: Policies,
    /// Addresses whose last container's look-ups are to be forgotten.
    new_tenants: BTreeSet<IpAddr>,
    /// The tenants changed.
    moved: bool,
    /// The engine was never heard.
    searches: bool,
    /// Told once the engine was heard, or is known to be away.
    first: Option<Sender<()>>,
}

impl Roster {
    /// Starts it, and waits for the engine's first word if one is to be asked.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(config: &Config, shared: &Arc<Shared>) -> Result<Roster> {
        let (first, heard) = channel();
        let memory = Memory::load(&config.state_dir, config.memory_only);
        let remembered = match config.docker {
            Some(_) => memory.nets().to_vec(),
            None => Vec::new(),
        };
        let keeper = Keeper {
            shared: Arc::clone(shared),
            notes: Arc::clone(&shared.roster),
            rules: config.rules.clone(),
            gateways: host::gateways(),
            look_at: config.docker.is_some().then(clock::mono),
            base: config.policies.base.clone(),
            waiting: VecDeque::new(),
            admitted: BTreeSet::new(),
            named: Vec::new(),
            lists: None,
            networks: None,
            memory,
            uplinks: BTreeSet::new(),
            policies: Policies::default(),
            new_tenants: BTreeSet::new(),
            moved: false,
            searches: config.docker.is_some(),
            first: Some(first),
        };
        let mut roster =
            Roster { shared: Arc::clone(shared), remembered, watch: None, thread: None };
        let thread = std::thread::Builder::new()
            .name("containers".to_owned())
            .spawn(move || keeper.run())
            .context("cannot start the thread that knows the containers")?;
        roster.thread = Some(thread);
        if let Some(address) = &config.docker {
            let watch = docker::watch(address.clone(), Ear(Arc::clone(&shared.roster)));
            roster.watch = Some(watch.context("cannot watch the container engine")?);
            await_first(&heard);
        }
        Ok(roster)
    }

    /// What the rules are to be at start, by what is known of networks.
    pub fn rules(&self, config: &Config) -> RuleConfig {
        let (remembered, gateways) = (&self.remembered, host::gateways());
        let (gateways, uplinks) = (&gateways, &BTreeSet::new());
        let ground = Ground { rules: &config.rules, remembered, gateways, uplinks };
        let Networks { containers, bridges } = ground.networks(&books(&self.shared));
        RuleConfig { containers, bridges, ..config.rules.clone() }
    }

    /// True if it ended although nobody told it to.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

fn await_first(heard: &Receiver<()>) {
    // Whoever heard has nothing to send; it drops the other end.
    if heard.recv_timeout(FIRST_PATIENCE) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!(
            "the container engine has not answered yet; containers get their names later"
        );
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.stop();
        }
        self.shared.roster.put_always(Note::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that knows the containers panicked");
        }
    }
}

impl Keeper {
    fn run(mut self) {
        loop {
            self.wait();
            for note in self.notes.take() {
                match note {
                    Note::Change(dated) => {
                        let all = matches!(dated.change, Change::All { .. });
                        let effects = books(&self.shared).apply(dated);
                        self.follow(effects, all);
                    }
                    Note::Sections(sections) => {
                        let effects = books(&self.shared).set_sections(sections, clock::wall());
                        self.follow(effects, false);
                    }
                    Note::Up(who) => {
                        self.shared.report_docker(true, who);
                    }
                    Note::Down(why) => self.down(&why),
                    Note::Unnamed(unnamed) if self.waiting.len() < UNNAMED_MAX => {
                        self.waiting.push_back(*unnamed);
                    }
                    Note::Unnamed(unnamed) => self.shared.tell(*unnamed),
                    Note::Lists(lists) => self.pass_on(lists),
                    Note::Admitted(pair) => self.admit(pair),
                    Note::Stop => {
                        self.hand_over();
                        self.name(Mono(u64::MAX));
                        return;
                    }
                }
            }
            self.hand_over();
            self.name(clock::mono());
            self.search();
        }
    }

    /// Looks for bridges and gateways that came or went without a word of the engine. Until it is heard for the first time
    /// it makes its bridges, and starts containers on them, before it answers.
    fn search(&mut self) {
        let now = clock::mono();
        if self.look_at.is_none_or(|at| at > now) {
            return;
        }
        let pause = if self.searches { SEARCH_EVERY } else { LOOK_AROUND_EVERY };
        self.look_at = Some(now + pause);
        if self.look_around() {
            let (networks, uplinks) = self.networks(&books(&self.shared));
            self.tell_uplinks(uplinks);
            if !self.searches {
                self.memory.set(&networks.containers);
            }
            self.order_networks(networks);
        }
    }

    /// Whether this host's addresses or gateways are others than at the last look.
    fn look_around(&mut self) -> bool {
        let host = host::addresses().unwrap_or_else(|_| self.rules.host.clone());
        let gateways = host::gateways();
        let differs = (&host, &gateways) != (&self.rules.host, &self.gateways);
        (self.rules.host, self.gateways) = (host, gateways);
        if differs {
            let own: Vec<IpAddr> = self.rules.host.iter().map(|on| on.address).collect();
            self.shared.engine.set_own(&own);
        }
        differs
    }

    fn order_networks(&mut self, networks: Networks) {
        if self.networks.as_ref() != Some(&networks) {
            self.networks = Some(networks.clone());
            self.shared.orders.put_always(Order::Networks(networks));
        }
    }

    fn wait(&self) {
        let mut descriptors = [PollFd::new(self.notes.as_fd(), PollFlags::POLLIN)];
        let look = self.look_at.map(|at| at.since(clock::mono()));
        let name = (!self.waiting.is_empty()).then_some(LOOK_EVERY);
        let patience = look.into_iter().chain(name).min().map_or(PollTimeout::NONE, |patience| {
            // A little late rather than a little early, and then again.
            PollTimeout::try_from(patience + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        // An interrupted wait is a short wait.
        let _ = poll(&mut descriptors, patience);
    }

    fn down(&mut self, why: &str) {
        self.first = None;
        let inventory = books(&self.shared);
        let known = if inventory.is_heard() {
            "what it told before still holds".to_owned()
        } else {
            let judged = self.networks(&inventory).0.containers;
            let nets: Vec<String> = judged.iter().map(ToString::to_string).collect();
            format!("containers have no names, and {} is judged", nets.join(", "))
        };
        drop(inventory);
        let message = format!("the container engine is not heard: {why}; {known}");
        self.shared.report_docker(false, message);
    }

    /// Passes on what a change led to; `all` if it was everything there is.
    fn follow(&mut self, effects: Effects, all: bool) {
        if all || effects.networks {
            self.look_around();
        }
        let inventory = books(&self.shared);
        // A network whose containers are still to come tells which addresses wait for a name.
        let owners = (effects.owners || effects.networks).then(|| inventory.owners());
        let networks = (all || effects.networks).then(|| self.networks(&inventory));
        drop(inventory);
        // A container is treated otherwise from now on, where it is.
        let treated = effects.owners && effects.left.is_empty() && effects.new_tenants.is_empty();
        let Effects { new_tenants, news, left, .. } = effects;
        self.new_tenants.extend(new_tenants);
        self.moved |= owners.is_some();
        let (networks, uplinks) = networks.unzip();
        self.tell_uplinks(uplinks.unwrap_or_default());
        if let Some(networks) = networks {
            self.memory.set(&networks.containers);
            self.order_networks(networks);
        }
        let are_new = owners.is_some();
        if let Some(owners) = owners {
            let answers = self.shared.engine.set_owners(owners, clock::now());
            self.shared.deliver(answers);
        }
        // Behind the owners: what is refused to one that is gone is noted no more once its notes are taken away.
        if !left.is_empty() {
            self.admitted.retain(|(src, _)| !left.contains(src));
            self.shared.orders.put_always(Order::Left(left));
        }
        if are_new {
            if let Some(library) = self.shared.library.get() {
                library.put_always(library::Note::Owners);
            }
            if treated {
                self.shared.denied.look_again();
            }
            let named = self.shared.engine.owners().with_domains().to_vec();
            if named != std::mem::replace(&mut self.named, named.clone()) {
                self.find_admitted(&self.shared.engine.lists());
            }
            self.follow_policies();
        }
        for news in news {
            self.shared.event(Body::Container(news.into()));
        }
        if all {
            self.first = None;
            self.searches = false;
        }
    }

    /// Where containers are now, and the bridges that lead out.
    fn networks(&self, books: &Inventory) -> (Networks, BTreeSet<Arc<str>>) {
        let Keeper { rules, gateways, uplinks, memory, .. } = self;
        let ground = Ground { rules, remembered: memory.nets(), gateways, uplinks };
        let uplinks = ground.uplinks(books).map(|network| Arc::clone(&network.name)).collect();
        (ground.networks(books), uplinks)
    }

    fn tell_uplinks(&mut self, uplinks: BTreeSet<Arc<str>>) {
        for name in uplinks {
            let message = format!(
                "network {name} is on the bridge by which this host reaches the outside: forged sources get in there"
            );
            if self.uplinks.insert(name) {
                self.shared.report_health("docker", false, message);
            }
        }
    }

    /// Nobody is credited with what the last container on its address asked for. Going through a large registry takes a
    /// while, so it is done once for all that came together, and long before the process of a new container runs.
    fn hand_over(&mut self) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        let gone = std::mem::take(&mut self.new_tenants);
        if !gone.is_empty() {
            self.shared.engine.forget_clients(&gone);
        }
        let tenants = books(&self.shared).tenants().clone();
        self.shared.tenants.set(tenants);
    }

    /// Tells what has its name by now, or has waited long enough.
    fn name(&mut self, now: Mono) {
        if self.waiting.is_empty() {
            return;
        }
        let inventory = books(&self.shared);
        for mut unnamed in std::mem::take(&mut self.waiting) {
            let src = unnamed.decision.flow.src.ip();
            match inventory.owner_at(src, unnamed.now.wall) {
                Some(owner) => {
                    owner.tally.count(&unnamed.decision, unnamed.now.wall);
                    unnamed.decision.owner = Some(owner);
                    self.shared.tell(unnamed);
                }
                None if now.since(unnamed.now.mono) >= NAME_PATIENCE => self.shared.tell(unnamed),
                None => self.waiting.push_back(unnamed),
            }
        }
    }
}

/// The books; a panic elsewhere leaves them sound, since each change is taken in whole.
pub fn books(shared: &Shared) -> MutexGuard<'_, Inventory> {
    shared.inventory.lock().unwrap_or_else(PoisonError::into_inner)
}
