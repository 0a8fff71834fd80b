//! What becomes of the packet in the end, in one sentence.

use crate::control::Explained;
use crate::daemon::inspect::{Tested, Verdict as Sets};
use crate::engine::{Grade, Mode, Reason, Verdict};

/// The kernel's sets come first; what they let go is the daemon's.
pub fn verdict(daemon: &Explained, kernel: Option<&Tested>) -> (bool, String) {
    let by_sets = kernel
        .filter(|tested| !tested.rules.is_active() || tested.steps.iter().any(|step| step.decides));
    let (refused, because) = match by_sets {
        Some(tested) => (tested.verdict == Sets::Refused, tested.because.clone()),
        None => (daemon.verdict == Verdict::Drop, by_daemon(daemon)),
    };
    // A quarantined container is refused everything, in a dry run of its own too.
    match daemon.mode {
        Mode::DryRun if refused && !because.ends_with("passes all the same") => {
            (true, format!("{because}; it is a dry run, so it passes all the same"))
        }
        Mode::DryRun => (true, because),
        // Lists are enforced all the same.
        Mode::Learn if refused => {
            (true, format!("{because}; synhold is still learning, so it passes"))
        }
        Mode::Enforce | Mode::Learn => (!refused, because),
    }
}

fn by_daemon(daemon: &Explained) -> String {
    let address = daemon.address;
    let domain = daemon.domain.as_ref().map(|domain| format!(", by the domain {domain}"));
    let domain = domain.unwrap_or_default();
    let held = match (daemon.held_ms, daemon.mode) {
        (0, _) => String::new(),
        (ms, Mode::Enforce) => format!("held for {ms} ms, and if no record comes, "),
        (ms, Mode::DryRun | Mode::Learn) => {
            format!("would be held for {ms} ms, and if no record comes, ")
        }
    };
    let word = daemon.reason.as_str();
    let why = match daemon.reason {
        Reason::Resolved | Reason::ResolvedAfterHold => match daemon.names.first() {
            Some(named) => format!("DNS named {address}: {}", named.name),
            None => format!("DNS named {address}"),
        },
        Reason::Allowlisted => format!("it is allowed{domain}"),
        Reason::Exempt => "the container's mode is off".to_owned(),
        Reason::Blocklisted if daemon.quarantined => "the container is in quarantine".to_owned(),
        Reason::Blocklisted => format!("the lists block it{domain}"),
        Reason::NeverResolved => format!("no DNS answer ever named {address}"),
        Reason::Stale => format!("the last DNS answer that named {address} is too old"),
        Reason::OutOfScope if daemon.grade == Grade::Static => {
            "only a hosts file or the resolver's configuration names it".to_owned()
        }
        Reason::OutOfScope => "only others asked for it, and its scope is `container`".to_owned(),
        Reason::Established => "it had a flow there when synhold started here first".to_owned(),
        Reason::Unhealthy => {
            let named = match daemon.grade {
                Grade::Stale => format!("the last DNS answer that named {address} is too old"),
                Grade::Other => "only others asked for it".to_owned(),
                Grade::Own | Grade::Static | Grade::Never => {
                    format!("no DNS answer named {address}")
                }
            };
            format!("{named}, but {}", daemon.evidence.why.join("; "))
        }
        Reason::HoldBudget | Reason::Malformed | Reason::Shutdown => String::new(),
    };
    match daemon.verdict {
        Verdict::Accept => format!("accepted ({word}): {why}"),
        Verdict::Drop => format!("{held}refused ({word}): {why}"),
    }
}
