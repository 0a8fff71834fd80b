//! What tests of the daemon's own threads need: what all of them share; a network namespace of their own, which needs root, and
//! rules for it.

use std::sync::Arc;

use nix::sched::{CloneFlags, unshare};

use tracing::level_filters::LevelFilter;

use super::denied::Denied;
use super::mailbox::Mailbox;
use super::shared::{Shared, Ticket};
use super::truth::Truth;
use super::{library, roster};
use crate::config::RuleConfig;
use crate::engine::inventory::Inventory;
use crate::engine::policy::Policies;
use crate::engine::wish::Refusal;
use crate::engine::{Engine, Settings, Verdict};
use crate::events::{EventWriter, Outputs};
use crate::nfq::Disposition;
use crate::nftables::{DnsRedirect, LocalPolicy, Posture, Refuse};

/// What the threads of a daemon share, as far as tests want it to differ. By default: no queues, and drop what is not answered.
pub struct Parts {
    pub engine: Engine<Ticket>,
    pub mailboxes: Vec<Mailbox>,
    pub denied: Arc<Denied>,
    pub unanswered: Verdict,
    pub queue_num: u16,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            engine: Engine::new(Settings::default(), Vec::new()),
            mailboxes: Vec::new(),
            denied: Arc::new(Denied::new().0),
            unanswered: Verdict::Drop,
            queue_num: 0,
        }
    }
}

impl Parts {
    /// Put together, with a writer that writes nowhere what is told.
    pub fn shared(self) -> (Shared, EventWriter) {
        let Parts { engine, mailboxes, denied, unanswered, queue_num } = self;
        let outputs = Outputs { stdout: None, level: LevelFilter::OFF, file: None };
        let writer = EventWriter::start(outputs).unwrap();
        let inventory = Inventory::new(Policies::new(engine.settings(), Refusal::Reset));
        let shared = Shared::new(
            engine,
            mailboxes,
            writer.sender(),
            denied,
            Truth::orders().unwrap(),
            (roster::notes().unwrap(), inventory, Default::default()),
            unanswered,
            Disposition::Refuse,
            queue_num,
        );
        // Set once, here.
        let _ = shared.library.set(library::notes().unwrap());
        (shared, writer)
    }
}

/// Runs in a fresh network namespace, which goes with its threads.
pub fn in_netns(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The rules of a plain run.
pub fn rules() -> RuleConfig {
    RuleConfig {
        containers: vec!["172.16.0.0/12".parse().unwrap()],
        containers_named: false,
        bridges: Vec::new(),
        allow_spoofing: false,
        queue_num: 0,
        queues: 1,
        posture: Posture::Open,
        refuse: Refuse::Reset,
        dry_run: false,
        dns_redirect: DnsRedirect::Off,
        refuse_dot: false,
        local_policy: LocalPolicy::Allow,
        canary: Vec::new(),
        host: Vec::new(),
    }
}
