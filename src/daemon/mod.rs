//! The daemon: wires the adapters to the engine, in a numbered order, and takes it apart in reverse.

mod again;
mod alerts;
mod background;
pub mod books;
mod canary;
pub mod check;
pub mod clock;
pub mod control;
mod denied;
mod desk;
pub mod edit;
mod evidence;
mod feeds;
pub mod findings;
mod glance;
mod hits;
mod inbox;
pub mod inspect;
mod lane;
mod lanes;
mod learn;
pub mod ledger;
mod library;
mod lock;
mod look;
mod mailbox;
mod marks;
pub mod measures;
mod metrics;
pub mod notices;
mod parts;
mod persist;
pub mod policies;
mod protected;
pub mod pulse;
mod records;
pub mod replay;
pub mod report;
mod reporter;
pub mod review;
mod revoke;
mod roster;
mod rules;
mod saver;
mod sets;
mod shared;
mod tell;
mod tenants;
#[cfg(test)]
mod testing;
mod told;
mod truth;
mod wants;
mod warm;
mod watch;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::SigSet;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Config, RuleConfig};
use crate::dns;
use crate::engine::event::{Body, Ready, Stop};
use crate::engine::health::SourceHealth;
use crate::engine::inventory::Inventory;
use crate::engine::limits::{HEALTH_INTERVAL, HOLD_MIN_INDIRECT};
use crate::engine::rebind::Rebinding;
use crate::engine::registry::Limits;
use crate::engine::{Engine, Verdict};
use crate::events::{EventWriter, Outputs};
use crate::nfq::Disposition;
use crate::nftables::{Posture, QueueVia, Refuse};
use again::Again;
use background::{Background, Running};
use denied::{Denied, Ear};
use evidence::{Readers, SourceState};
use lanes::Lanes;
use learn::Learning;
use lock::Lock;
pub use lock::{is_running, tell_rules_command};
use mailbox::Mailbox;
use marks::{Logs, Marks};
use persist::Keeper;
use roster::Roster;
use rules::{Left, Rules};
use saver::Saver;
use shared::Shared;
use tenants::TenantBook;
use truth::Truth;
use watch::Watch;
use watchdog::Watchdog;

/// How long our own dnsmasq may take to come up before that counts as a failed start.
const SOURCE_PATIENCE: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT; `on_ready` is told what holds once verdicts are being given.
///
/// # Errors
/// If the daemon cannot do its job: it then says why, and the rules are as they were.
pub fn run(config: &Config, on_ready: impl FnOnce(&Ready) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    // 1. Signals first, so that none ends us half-way.
    let mut signals = Signals::new()?;
    let members = control::Members::find(&config.desk.control_group)?;
    // 2. One instance.
    let _lock = Lock::acquire()?;
    // 3. The event log.
    let writer = EventWriter::start(outputs(config))?;
    // 4. The engine with what it knew before, and what the lists say.
    let sources = sources(config);
    let (shared, ear) = share(config, &sources, &writer)?;
    let shared = Arc::new(shared);
    let keeper = Keeper::load(config, &shared)?;
    begin(config, &shared, keeper.is_first_start());
    let marks = Arc::new(Marks::load(config, keeper.lacks_something(&shared)));
    let saver = Saver::start(keeper, Arc::clone(&marks), Arc::clone(&shared))?;
    let background = Background::open(config, &shared, ear)?;
    let roster = Roster::start(config, &shared)?;
    findings::start(config, &shared)?;
    // 5. Evidence before verdicts.
    let (states, changes) = channel();
    let outside: Arc<dyn dns::Outside> = Arc::new(Logs::new(config.docker.clone(), marks));
    let readers = Readers::start(&sources, &config.dnsmasq, &outside, &shared, &states)?;
    await_dnsmasq(config, &changes)?;
    drop(changes);
    // 6. Queues before rules: what the rules send must find somebody.
    let lanes = Lanes::start(config, &shared)?;
    // 7. Rules, and those who keep them. From here on nothing returns early.
    let wanted = canary::place(config, roster.rules(config), &shared);
    let left = Left::load(&config.state_dir, config.memory_only);
    let rules = Rules::install(&wanted, config.engine.mode, shared.engine.lists().hosts(), left)
        .context("cannot install the rules, so nothing is protected")?;
    let ready = ready(config, &wanted, &shared, &rules);
    let background = background.start(rules)?;
    let control = control::start(config, &members, &shared);
    let mut again = Again::new(config, &shared, &writer, notices::start(config, &shared));
    let metrics = metrics::start(config, &shared);
    if let Err(error) = on_ready(&ready) {
        tracing::warn!("{error:#}");
    }
    shared.event(Body::Ready(ready));
    if let Some(learning) = shared.learning.get().filter(|learning| learning.lasts()) {
        shared.event(Body::Learn(learning.body(false, clock::now())));
    }
    shared.pulse.serving.store(true, Relaxed);
    notify(&[sd_notify::NotifyState::Ready]);
    let canary = canary::start(&wanted, &shared);

    let served = runtime.block_on(serve(
        config,
        &shared,
        &lanes,
        &background,
        &roster,
        &mut signals,
        &mut again,
    ));

    // The reverse: nothing held, no rules, no queues, no evidence, everything saved, everything said.
    notify(&[sd_notify::NotifyState::Stopping]);
    shared.pulse.serving.store(false, Relaxed);
    drop(canary);
    drop(control);
    lanes.drain();
    let restored = background.stop(config.keep_rules);
    drop(metrics);
    drop(again);
    drop(lanes);
    drop(readers);
    drop(roster);
    drop(saver);
    if let Some(learning) = shared.learning.get() {
        learning.stop(clock::mono());
    }
    shared.event(Body::Stop(Stop { mode: config.engine.mode, totals: shared.totals() }));
    drop(writer);
    served.and(restored.context("the rules are not as they should be; run `synhold rules remove`"))
}

/// A first start: what runs resolved what it needs before we could see it.
fn begin(config: &Config, shared: &Shared, is_first: bool) {
    let now = clock::now();
    if is_first {
        shared.engine.begin_grace(now.mono);
        shared.engine.set_established(warm::established(&config.rules.containers), now.mono);
    }
    if let Some(learning) = Learning::load(config, now.mono) {
        shared.engine.set_learning(learning.lasts());
        // Nobody else sets it.
        let _ = shared.learning.set(learning);
    }
}

/// Signals and the look at the kernel's counters, until it is time to stop.
async fn serve(
    config: &Config,
    shared: &Arc<Shared>,
    lanes: &Lanes,
    background: &Running,
    roster: &Roster,
    signals: &mut Signals,
    again: &mut Again<'_>,
) -> Result<()> {
    let (mut watch, mut watchdog) = (Watch::default(), Watchdog::default());
    let mut tick = tokio::time::interval(HEALTH_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            _ = tick.tick() => {
                watch.look(shared, config.rules.queues);
                watchdog.look(shared);
                if let Some(learning) = shared.learning.get() {
                    learning.look(shared, clock::now());
                }
                if lanes.any_ended() {
                    break Err(anyhow::anyhow!("a verdict thread ended, so its queue is not served"));
                }
                if background.any_ended() || roster.has_ended() {
                    break Err(anyhow::anyhow!("a thread that keeps rules and lists ended"));
                }
            }
            _ = signals.reload.recv() => again.read(),
            _ = signals.terminate.recv() => break Ok(()),
            _ = signals.interrupt.recv() => break Ok(()),
        }
    };
    watch.look(shared, config.rules.queues);
    ended
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        // A parent may have left them blocked, and then nobody could stop us.
        SigSet::all().thread_unblock().context("cannot unblock signals")?;
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            reload: on(SignalKind::hangup())?,
        })
    }
}

fn outputs(config: &Config) -> Outputs {
    let level = crate::events::level();
    Outputs { stdout: Some(config.log_format), level, file: config.events.clone() }
}

fn sources(config: &Config) -> Vec<(dns::Spec, Arc<SourceHealth>)> {
    let with_health = |spec: &dns::Spec| {
        let health = SourceHealth::new(spec.to_string());
        if !spec.is_direct() {
            health.delays.set_floor(HOLD_MIN_INDIRECT);
        }
        (spec.clone(), Arc::new(health))
    };
    config.sources.iter().map(with_health).collect()
}

fn share(
    config: &Config,
    sources: &[(dns::Spec, Arc<SourceHealth>)],
    writer: &EventWriter,
) -> Result<(Shared, Ear)> {
    let healths = sources.iter().map(|(_, health)| Arc::clone(health)).collect();
    let engine = Engine::new(config.engine, healths);
    let Config { evidence, rules, .. } = config;
    engine.registry().set_limits(Limits { addresses: evidence.size, keep: evidence.keep });
    let own = rules.host.iter().map(|on| on.address).collect();
    let local_domains = evidence.local_domains.clone();
    engine.set_rebinding(Rebinding { own, local_domains });
    let mailboxes = (0..config.rules.queues).map(|_| Mailbox::new()).collect::<nix::Result<_>>()?;
    let unanswered = match config.rules.posture {
        Posture::Open => Verdict::Accept,
        Posture::Closed => Verdict::Drop,
    };
    // Silence needs no help from the rules, and works even if somebody took them away.
    let refuse = match config.rules.refuse {
        Refuse::Reset => Disposition::Refuse,
        Refuse::Drop => Disposition::Drop,
    };
    let (denied, ear) = Denied::new();
    let tenants = TenantBook::load(&config.state_dir, config.memory_only);
    let mut books = Inventory::new(config.policies.clone());
    books.remember(&tenants.tenants());
    let shared = Shared::new(
        engine,
        mailboxes,
        writer.sender(),
        Arc::new(denied),
        Truth::orders()?,
        (roster::notes()?, books, tenants),
        unanswered,
        refuse,
        config.rules.queue_num,
    );
    Ok((shared, ear))
}

/// Our own dnsmasq must come up: without it every name would fail to resolve, and every connection with it.
/// A file or FIFO may still appear, and the events say that it is missing.
fn await_dnsmasq(config: &Config, changes: &Receiver<SourceState>) -> Result<()> {
    let own = config
        .sources
        .iter()
        .find(|spec| matches!(spec, dns::Spec::Spawn))
        .map(ToString::to_string);
    let Some(own) = own else { return Ok(()) };
    let deadline = clock::mono() + SOURCE_PATIENCE;
    loop {
        match changes.recv_timeout(deadline.since(clock::mono())) {
            Ok(state) if state.label != own => {}
            Ok(SourceState { down: None, .. }) => return Ok(()),
            Ok(SourceState { down: Some(why), .. }) => {
                bail!("our own {why}")
            }
            Err(_) => {
                bail!("our own dnsmasq has not come up within {} s", SOURCE_PATIENCE.as_secs())
            }
        }
    }
}

fn ready(config: &Config, wanted: &RuleConfig, shared: &Shared, rules: &Rules) -> Ready {
    let word = |debug: String| debug.to_lowercase();
    Ready {
        mode: shared.present_mode(),
        posture: word(format!("{:?}", config.rules.posture)),
        refuse: word(format!("{:?}", config.rules.refuse)),
        queue_via: match rules.queue_via {
            QueueVia::Native => "queue".to_owned(),
            QueueVia::Compat => "compat".to_owned(),
        },
        queue_num: config.rules.queue_num,
        queues: config.rules.queues,
        settings: config::settings::describe(&config.engine),
        hold_ms: u64::try_from(config.engine.bounds.hold.as_millis()).unwrap_or(u64::MAX),
        containers: wanted.containers.iter().map(ToString::to_string).collect(),
        docker: shared.docker_heard(),
        sources: config.sources.iter().map(ToString::to_string).collect(),
        records: u64::try_from(shared.engine.registry().len()).unwrap_or(u64::MAX),
        own_rules: rules.own,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd does not listen: {error}");
    }
}
