//! Alerts on their way to whoever writes the event log: each thing once an hour, with its count.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::engine::abuse::ALERTS_WAITING;
use crate::engine::mark::Alarm;
use crate::engine::name::Name;
use crate::engine::repeats::{Repeats, Who};
use crate::engine::time::Wall;

/// Something about records that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What it is about.
    pub alarm: Alarm,
    /// The name asked last, when it was raised.
    pub name: Name,
    /// The address in the answer.
    pub address: IpAddr,
    /// Who asked, where the log says so.
    pub client: Option<IpAddr>,
    /// Times since this was told last.
    pub count: u64,
    /// Others of the same container's that were not told before it.
    pub withheld: u64,
    /// When it was raised.
    pub at: Wall,
}

#[derive(Debug, Default)]
pub(super) struct Alarms(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// A flood is the asker's, whatever the name.
    told: Repeats<(Alarm, Option<Name>)>,
    alerts: Vec<Alert>,
}

impl Alarms {
    /// Called under the lock of a part of the registry; never takes one.
    pub(super) fn raise(&self, alert: Alert, payer: Option<IpAddr>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.alerts.len() >= ALERTS_WAITING {
            return;
        }
        let name = (alert.alarm != Alarm::NameFlood).then(|| alert.name.clone());
        let what = (alert.alarm, name);
        let who = Who { client: alert.client, payer };
        if let Some(told) = waiting.told.note(who, what, alert.at.seconds()) {
            let (count, withheld) = (told.count, told.withheld);
            waiting.alerts.push(Alert { count, withheld, ..alert });
        }
    }

    pub(super) fn take(&self) -> Vec<Alert> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).alerts)
    }
}
