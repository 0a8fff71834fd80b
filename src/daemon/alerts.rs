//! Alerts about records: answers that are no evidence, and what the registry finds suspicious.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::shared::Shared;
use crate::engine::event::{AlertBody, Body};
use crate::engine::rebind::Inside;
use crate::engine::registry::Alert;
use crate::engine::repeats::{Repeats, Telling, Who};
use crate::engine::{Alarm, Name, Record, abuse};

/// Answers that were no evidence, each told once an hour.
#[derive(Debug, Default)]
pub struct Alerts(Mutex<Repeats<(Name, IpAddr)>>);

impl Alerts {
    /// Tells of an answer that is no evidence, unless it is an ordinary one.
    pub fn rejected(&self, record: &Record, inside: Inside, shared: &Shared) {
        if !inside.is_alarming() {
            return;
        }
        let what = (record.name.clone(), record.address);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let payer = record.client.and_then(|client| shared.engine.owners().payer(client));
        let telling = told.note(Who { client: record.client, payer }, what, record.time.seconds());
        drop(told);
        let Some(Telling { count, withheld }) = telling else { return };
        let message = format!(
            "{} answers with {}, {}: no evidence for anybody{}",
            record.name,
            record.address,
            inside.phrase(),
            besides(withheld)
        );
        let (name, address) = (Some(record.name.clone()), Some(record.address));
        let client = record.client;
        let alert = Alarm::Rebinding;
        let opensnitch = None;
        tell(
            shared,
            AlertBody { alert, name, address, client, container: None, count, opensnitch, message },
        );
    }
}

/// Tells what the registry found since this was called last.
pub fn tell_waiting(shared: &Shared) {
    for alert in shared.engine.registry().take_alarms() {
        let message = message(&alert) + &besides(alert.withheld);
        let Alert { alarm, name, address, client, count, .. } = alert;
        // A flood is of many names: the one that came last says nothing.
        let one = (alarm != Alarm::NameFlood).then_some((name, address));
        let (name, address) = one.unzip();
        let (container, opensnitch) = (None, None);
        let body = AlertBody {
            alert: alarm,
            name,
            address,
            client,
            container,
            count,
            opensnitch,
            message,
        };
        tell(shared, body);
    }
}

fn message(alert: &Alert) -> String {
    match alert.alarm {
        Alarm::NameFlood => {
            let (names, seconds) = (abuse::NAMES_PER_ASKER, abuse::NAMES_WINDOW);
            format!("more than {names} new names within {seconds} s, {} the last", alert.name)
        }
        Alarm::ManyAddresses | Alarm::Rebinding | Alarm::Finding => {
            let most = abuse::ADDRESSES_PER_NAME;
            format!("{} has had more than {most} new addresses within a day", alert.name)
        }
    }
}

fn besides(withheld: u64) -> String {
    match withheld {
        0 => String::new(),
        _ => format!("; {withheld} more of the same container's, or of nobody's, were withheld"),
    }
}

fn tell(shared: &Shared, body: AlertBody) {
    let owner = body.client.and_then(|client| shared.engine.owner(client));
    let container = owner.map(|owner| Arc::clone(&owner.name));
    shared.event(Body::Alert(AlertBody { container, ..body }));
}
