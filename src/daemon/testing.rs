//! What tests of the daemon's own threads need: a network namespace of their own, and rules for it. Needs root.

use nix::sched::{CloneFlags, unshare};

use crate::config::RuleConfig;
use crate::nftables::{DnsRedirect, LocalPolicy, Posture, Refuse};

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
