//! What verdicts stand on: the kernel's rules and sets, lists, Docker, the canary, and where alerts go.

use std::sync::PoisonError;

use super::{label, real, seconds};
use crate::control::{CanaryState, DockerState, SinkState};
use crate::daemon::clock;
use crate::daemon::pulse::Lists;
use crate::daemon::shared::Shared;
use crate::lists::Kind;
use crate::metrics::{Family, Labels, Unit};
use crate::nftables::{Channel, names};

pub fn families(shared: &Shared) -> Vec<Family> {
    let pulse = &shared.pulse;
    let mut all = kernel(shared);
    all.extend(lists(&pulse.lists()));
    all.extend(neighbours(shared));
    all.extend(sinks(&pulse.sinks()));
    all
}

fn kernel(shared: &Shared) -> Vec<Family> {
    let drift = shared.pulse.drift();
    vec![
        Family::gauges(
            "set_elements",
            "Elements of each set as the kernel counts them, a range being one; where it does not say, as they were put in",
            sets(&shared.pulse.lists()),
        ),
        Family::flag(
            "drift",
            "The rules were not as wanted when they were compared last",
            drift.differs,
        ),
        Family::maybe(
            "compared_timestamp",
            "When the rules were compared last",
            drift.compared.map(seconds),
        )
        .in_unit(Unit::Seconds),
        Family::counter("mends", "Times rules or sets were put back", drift.mends),
    ]
}

/// The kernel says how many there are without showing them.
fn sets(lists: &Lists) -> Vec<(Labels, f64)> {
    let mut channel = Channel::open().ok();
    let count = |(pair, family): (names::Pair, _)| {
        let set = pair.of(family);
        let told = channel.as_mut().and_then(|channel| channel.set_count(set).ok().flatten());
        let put = || lists.sets.iter().find(|known| known.name == set).map(|known| known.wanted);
        Some((label("set", set), real(told.or_else(put)?)))
    };
    names::all().filter_map(count).collect()
}

fn lists(lists: &Lists) -> Vec<Family> {
    let all = || {
        lists.lists.iter().map(|list| {
            let kind = match list.report.kind {
                Kind::Allow => "allow",
                Kind::Block => "block",
                Kind::Quarantine => "quarantine",
            };
            let name = list.report.name.clone();
            (vec![("list", name.into()), ("kind", kind.into())], list)
        })
    };
    vec![
        Family::gauges(
            "list_entries",
            "Entries that hold, of each list and feed",
            all().map(|(labels, list)| (labels, real(list.report.entries))),
        ),
        Family::gauges(
            "list_bad_entries",
            "Lines that were not understood or are too dangerous to hold",
            all().map(|(labels, list)| (labels, real(list.report.bad + list.report.refused))),
        ),
        Family::gauges(
            "list_failed",
            "The last fetch or reading brought nothing",
            all().map(|(labels, list)| (labels, f64::from(u8::from(list.last_error.is_some())))),
        ),
        Family::gauges(
            "list_fetched_timestamp",
            "When the copy of the feed that holds was fetched",
            all().filter_map(|(labels, list)| Some((labels, seconds(list.fetched?)))),
        )
        .in_unit(Unit::Seconds),
    ]
}

/// Docker, the learning period and the canary.
fn neighbours(shared: &Shared) -> Vec<Family> {
    let docker = shared.docker.lock().unwrap_or_else(PoisonError::into_inner).state;
    let canary = shared.canary().clone();
    let states = [
        (CanaryState::Off, "off"),
        (CanaryState::Waiting, "waiting"),
        (CanaryState::Passing, "passing"),
        (CanaryState::Failing, "failing"),
    ];
    // Where none flies, that is so of both.
    let found = match &canary.families[..] {
        [] => vec![("ipv4".to_owned(), canary.state), ("ipv6".to_owned(), canary.state)],
        each => each.iter().map(|one| (one.family.to_ascii_lowercase(), one.state)).collect(),
    };
    let state = found.into_iter().flat_map(|(family, found)| {
        states.map(|(state, word)| {
            let labels = [label("family", family.clone()), label("state", word)].concat();
            (labels, f64::from(u8::from(state == found)))
        })
    });
    let learning = shared.learning.get().and_then(|learning| learning.state(clock::now()));
    let up = (docker != DockerState::Off).then_some(f64::from(u8::from(docker == DockerState::Up)));
    vec![
        Family::maybe("docker_up", "The container engine answers; nothing if it is not asked", up),
        Family::gauges("canary_state", "1 for what our own packet found last", state),
        Family::maybe(
            "canary_timestamp",
            "When our own packet was sent last",
            canary.at.map(seconds),
        )
        .in_unit(Unit::Seconds),
        Family::maybe(
            "learning_refused",
            "Packets that enforcing would have refused in the learning period so far",
            learning.map(|(_, refused)| real(refused)),
        ),
    ]
}

fn sinks(sinks: &[SinkState]) -> Vec<Family> {
    let alerts = sinks.iter().flat_map(|sink| {
        let outcomes = [
            ("sent", sink.sent),
            ("failed", sink.failed),
            ("dropped", sink.dropped),
            ("withheld", sink.withheld),
        ];
        outcomes.map(|(outcome, count)| {
            (vec![("sink", sink.name.clone().into()), ("outcome", outcome.into())], count)
        })
    });
    let ok =
        sinks.iter().map(|sink| (label("sink", sink.name.clone()), f64::from(u8::from(sink.ok))));
    vec![
        Family::counters("alerts", "Alerts of each sink by what became of them", alerts),
        Family::gauges("alert_sink_ok", "The sink took the last alert, or has had none", ok),
    ]
}
