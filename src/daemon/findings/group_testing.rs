//! Events and groups for tests.

use super::*;
use crate::engine::Mode;
use crate::engine::health::Evidence;

pub(crate) fn drop(container: &str, dst: &str, dport: u16, reason: Reason, enforced: bool) -> Body {
    let text = serde_json::json!({
        "mode": if enforced { Mode::Enforce } else { Mode::DryRun }, "verdict": "drop",
        "enforced": enforced, "reason": reason, "grade": "never", "held_us": 750, "container": container,
        "container_id": null, "proto": "tcp", "src": "172.17.0.2", "sport": 40_000, "dst": dst, "dport": dport,
        "names": [], "evidence": Evidence { healthy: true, ..Evidence::default() }, "queue": 0,
    });
    Body::Verdict(serde_json::from_value(text).unwrap())
}

pub(crate) fn block(container: &str, dst: &str, set: &str, count: u64) -> Body {
    let text = serde_json::json!({
        "mode": "enforce", "enforced": true, "set": set, "container": container, "container_id": null,
        "src": "172.17.0.2", "dst": dst, "count": count, "list": null, "entry": null, "names": [],
    });
    Body::Block(serde_json::from_value(text).unwrap())
}

pub(crate) fn refused(container: &str, dst: &str, reason: &'static str, at: u64) -> Group {
    let (container, dst) = (container.into(), dst.parse().unwrap());
    let key = Key { container, dst, dport: Some(443), proto: Some(Proto::Tcp) };
    let mut group = Group::new(key);
    group.refused = 1;
    group.because(reason, 1);
    group.seen(Wall(at));
    group
}
