//! What the kernel can do, by doing it: the rules themselves, a queue and a look at conntrack, in a network namespace that
//! is thrown away.

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::Finding;
use crate::config::Config;
use crate::conntrack;
use crate::nfq::{self, KernelLink};
use crate::nftables::{self, QueueVia, names};

/// The modules all of it is in.
const MODULES: &str =
    "modprobe -a nf_tables nfnetlink_queue nft_queue nft_ct nft_reject_inet nf_conntrack_netlink";
/// A kernel that has none of them.
const BUILT: &str = "a kernel with CONFIG_NF_TABLES, CONFIG_NFT_QUEUE (or CONFIG_NFT_COMPAT) and CONFIG_NETFILTER_NETLINK_QUEUE";

/// Looks. The thread it runs on is left in that namespace.
pub fn look(config: &Config) -> Vec<Finding> {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        let via = nftables::probe().map_err(|error| error.to_string());
        return vec![aside(&error.to_string(), via, geteuid().is_root())];
    }
    let via = nftables::probe();
    let mut found = vec![queueing(via.as_ref().copied().map_err(ToString::to_string))];
    if let Ok(via) = via {
        let applied = nftables::apply(&config.rules.ruleset(via), None);
        found.push(rules(applied.map(|_| ()).map_err(|error| error.to_string())));
    }
    let options = nfq::Options {
        number: config.rules.queue_num,
        fail_open: true,
        refuse_mark: names::REFUSE_MARK,
    };
    found.push(queue(KernelLink::open(options).map(|_| ()).map_err(|error| error.to_string())));
    found.push(flows(walk().map_err(|error| error.to_string())));
    found
}

/// Walks the flows of a namespace that has none, and would end none.
fn walk() -> Result<(), conntrack::Error> {
    conntrack::Channel::open()?.end_flows(|_| true).map(|_| ())
}

/// Without the right to a namespace: asked in ours, and taken back before anything happens.
fn aside(why: &str, via: Result<QueueVia, String>, is_root: bool) -> Finding {
    match via {
        Ok(via) => Finding::warn(
            "kernel-queueing",
            format!("{}, but rules cannot be tried: no network namespace ({why})", told(via)),
            "run `synhold check` as root with CAP_SYS_ADMIN",
        ),
        Err(error) if !is_root => Finding::fail(
            "kernel-queueing",
            format!("it cannot be tried whether packets can be queued: {error}"),
            "run it as root",
        ),
        Err(error) => queueing(Err(error)),
    }
}

fn told(via: QueueVia) -> &'static str {
    match via {
        QueueVia::Native => "packets are queued by nft_queue",
        QueueVia::Compat => {
            "packets are queued by xt_NFQUEUE through nft_compat (no nft_queue here)"
        }
    }
}

fn queueing(via: Result<QueueVia, String>) -> Finding {
    match via {
        Ok(via) => Finding::ok("kernel-queueing", told(via)),
        Err(error) => Finding::fail(
            "kernel-queueing",
            format!("nftables cannot queue packets: {error}"),
            format!("{MODULES}; else {BUILT}"),
        ),
    }
}

fn rules(applied: Result<(), String>) -> Finding {
    match applied {
        Ok(()) => Finding::ok("kernel-rules", "the kernel takes all rules and sets (tried aside)"),
        Err(error) => Finding::fail(
            "kernel-rules",
            format!("the kernel does not take the rules: {error}"),
            MODULES,
        ),
    }
}

fn queue(opened: Result<(), String>) -> Finding {
    match opened {
        Ok(()) => Finding::ok("kernel-nfqueue", "nfnetlink_queue hands packets over"),
        Err(error) => {
            Finding::fail("kernel-nfqueue", format!("no queue can be opened: {error}"), MODULES)
        }
    }
}

fn flows(walked: Result<(), String>) -> Finding {
    match walked {
        Ok(()) => Finding::ok("kernel-conntrack", "open flows can be listed and ended"),
        Err(error) => Finding::warn(
            "kernel-conntrack",
            format!("open flows cannot be ended when their address gets blocked: {error}"),
            "modprobe nf_conntrack_netlink",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn without_rights_no_module_is_missing() {
        let no = || Err("not permitted".to_owned());
        assert_eq!(aside("no", no(), false).advice.as_deref(), Some("run it as root"));
        assert!(aside("no", no(), true).advice.unwrap().contains("modprobe"));
    }

    #[test]
    fn what_the_kernel_lacks_comes_with_its_modules() {
        let no = || Err("not supported".to_owned());
        let via = Err("not supported".to_owned());
        for finding in [queueing(via), rules(no()), queue(no()), flows(no())] {
            assert_ne!(finding.state, State::Ok);
            assert!(finding.advice.unwrap().contains("modprobe"), "{}", finding.id);
        }
        assert_eq!(queueing(Ok(QueueVia::Compat)).state, State::Ok);
    }
}
