//! What enforcing would have refused during the learning period, in bounded books.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::decision::Decision;
use super::event::WouldRefuse;
use super::flow::Proto;
use super::verdict::Reason;

/// Containers and destinations remembered. Who dials more is a scanner, and the rest is a count.
pub const LEARNED_MAX: usize = 4096;
/// Destinations remembered of one container, so that a scanner leaves room for the others.
const OF_ONE_MAX: usize = LEARNED_MAX / 16;

/// Who went where, and why that would have been refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    container: Arc<str>,
    dst: IpAddr,
    dport: u16,
    proto: Proto,
    reason: Reason,
}

/// Counts of what would have been refused.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    counts: HashMap<Key, u64>,
    /// Destinations remembered of each container.
    each: HashMap<Arc<str>, usize>,
    total: u64,
}

impl Learned {
    /// Books saved earlier.
    pub fn from_rows(total: u64, rows: Vec<WouldRefuse>) -> Learned {
        let key = |row: WouldRefuse| {
            let WouldRefuse { container, dst, dport, proto, reason, count } = row;
            (Key { container, dst, dport, proto, reason }, count)
        };
        let counts: HashMap<Key, u64> = rows.into_iter().take(LEARNED_MAX).map(key).collect();
        let mut each: HashMap<Arc<str>, usize> = HashMap::new();
        for key in counts.keys() {
            *each.entry(Arc::clone(&key.container)).or_default() += 1;
        }
        Learned { counts, each, total }
    }

    /// Counts a first packet that enforcing would have refused.
    pub fn count(&mut self, decision: &Decision) {
        self.total += 1;
        let (src, dst) = (decision.flow.src, decision.flow.dst);
        let container = match &decision.owner {
            Some(owner) => Arc::clone(&owner.name),
            None => src.ip().to_string().into(),
        };
        let (proto, reason) = (decision.flow.proto, decision.reason);
        let key = Key { container, dst: dst.ip(), dport: dst.port(), proto, reason };
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
            return;
        }
        let of_it = self.each.get(&key.container).copied().unwrap_or(0);
        if self.counts.len() < LEARNED_MAX && of_it < OF_ONE_MAX {
            self.each.insert(Arc::clone(&key.container), of_it + 1);
            self.counts.insert(key, 1);
        }
    }

    /// First packets counted, remembered one by one or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What was counted: of each container in turn, most first.
    pub fn rows(&self) -> Vec<WouldRefuse> {
        let row = |(key, count): (&Key, &u64)| WouldRefuse {
            container: Arc::clone(&key.container),
            dst: key.dst,
            dport: key.dport,
            proto: key.proto,
            reason: key.reason,
            count: *count,
        };
        let mut rows: Vec<WouldRefuse> = self.counts.iter().map(row).collect();
        rows.sort_by(|one, other| {
            let key = |row: &WouldRefuse| (Reverse(row.count), row.dst, row.dport);
            key(one).cmp(&key(other)).then_with(|| one.container.cmp(&other.container))
        });
        let mut turns: HashMap<Arc<str>, usize> = HashMap::new();
        rows.sort_by_cached_key(|row| {
            let turn = turns.entry(Arc::clone(&row.container)).or_default();
            *turn += 1;
            *turn
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::Flow;
    use crate::engine::judge::Mode;
    use crate::engine::time::Now;
    use crate::engine::verdict::Verdict;

    fn decision(src: &str, dst: &str, reason: Reason) -> Decision {
        let flow = Flow { proto: Proto::Tcp, src: src.parse().unwrap(), dst: dst.parse().unwrap() };
        Decision::new(flow, 0, None, (Verdict::Drop, reason), Mode::Learn, Now::default())
    }

    #[test]
    fn what_is_counted_comes_back_most_first_and_whole_after_a_save() {
        let mut learned = Learned::default();
        learned.count(&decision("172.17.0.2:1", "203.0.113.1:443", Reason::NeverResolved));
        for port in [1, 2] {
            let src = format!("172.17.0.2:{port}");
            learned.count(&decision(&src, "203.0.113.2:443", Reason::NeverResolved));
        }
        let rows = learned.rows();
        assert_eq!(rows.iter().map(|row| row.count).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((&*rows[0].container, rows[0].dport), ("172.17.0.2", 443));
        let again = Learned::from_rows(learned.total(), rows.clone());
        assert_eq!((again.rows(), again.total()), (rows, 3));
    }

    #[test]
    fn a_scanner_fills_no_memory_and_is_counted_all_the_same() {
        let mut learned = Learned::default();
        for host in 0..2 * LEARNED_MAX {
            let dst = format!("203.0.{}.{}:443", host / 256, host % 256);
            learned.count(&decision("172.17.0.2:1", &dst, Reason::NeverResolved));
        }
        assert_eq!(learned.rows().len(), OF_ONE_MAX);
        assert_eq!(learned.total(), 2 * u64::try_from(LEARNED_MAX).unwrap());
        // Its neighbour is remembered, and comes second at the latest.
        learned.count(&decision("172.17.0.3:1", "203.0.113.1:443", Reason::NeverResolved));
        assert!(learned.rows()[..2].iter().any(|row| &*row.container == "172.17.0.3"));
    }
}
