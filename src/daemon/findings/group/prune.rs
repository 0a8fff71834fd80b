//! What goes when there are more groups than are kept: the oldest, and of each container alike.

use std::sync::Arc;

use super::{GROUPS_MAX, Groups, Key};
use crate::engine::Wall;

impl Groups {
    /// Leaves each container its part, and where there are more containers than groups are kept, the latest.
    pub(super) fn prune_all(&mut self) {
        self.prune(GROUPS_MAX / self.each.len().max(1));
        let mut by_age: Vec<(Option<Wall>, Key)> =
            self.groups.iter().map(|(key, group)| (group.last, key.clone())).collect();
        by_age.sort_unstable_by(|a, b| b.cmp(a));
        for (_, key) in by_age.into_iter().skip(GROUPS_MAX) {
            let group = self.groups.remove(&key);
            self.more += group.map_or(0, |group| group.count());
            self.each.remove(&key.container);
        }
        self.forget();
    }

    /// Leaves each container so many of its groups, at least one: the latest. The rest is counted.
    pub(super) fn prune(&mut self, share: usize) {
        let share = share.max(1);
        let mut by_age: Vec<(Arc<str>, Option<Wall>, Key)> = Vec::new();
        for (key, group) in &self.groups {
            by_age.push((Arc::clone(&key.container), group.last, key.clone()));
        }
        by_age.sort_unstable_by(|a, b| b.cmp(a));
        self.each.clear();
        for (container, _, key) in by_age {
            let kept = self.each.entry(container).or_default();
            if *kept < share {
                *kept += 1;
            } else if let Some(group) = self.groups.remove(&key) {
                self.more += group.count();
            }
        }
        self.forget();
    }

    /// What is known of addresses that no group has.
    fn forget(&mut self) {
        self.refused = self.groups.keys().map(|key| key.dst).collect();
        self.later.retain(|address, _| self.refused.contains(address));
    }
}
