//! What decides about evidence, as pairs of a key and a value in the language of the configuration: so the event log tells
//! it, and so a replay is told what to change.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{DaemonOptions, EvidenceOptions};
use crate::engine::hold::Bounds;
use crate::engine::limits::{HELD_MAX, HOLD_BUDGET_DEFAULT, HOLD_DEFAULT, HOLD_MAX};
use crate::engine::{Mode, OnUnhealthy, Scope, Settings, Weight};

/// Every key that decides about evidence.
pub const KEYS: [&str; 10] = [
    "scope",
    "hold-ms",
    "hold-budget",
    "hold-fixed",
    "on-unhealthy",
    "evidence-max-age",
    "evidence-refresh",
    "evidence-stale",
    "evidence-static",
    "evidence-grace",
];

/// Settings as the configuration would write them. What is unset there is left out.
pub fn describe(settings: &Settings) -> BTreeMap<String, String> {
    let rules = &settings.evidence;
    let weight = |weight: Weight| match weight {
        Weight::Accept => "accept",
        Weight::Refuse => "refuse",
    };
    let scope = match settings.scope {
        Scope::Global => "global",
        Scope::Container => "container",
    };
    let on_unhealthy = rules.on_unhealthy.map(|what| match what {
        OnUnhealthy::Accept => "accept",
        OnUnhealthy::Hold => "hold",
        OnUnhealthy::Refuse => "refuse",
    });
    let time = |time: Duration| humantime::format_duration(time).to_string();
    let pairs = [
        ("scope", Some(scope.to_owned())),
        ("hold-ms", Some(settings.bounds.hold.as_millis().to_string())),
        ("hold-budget", Some(settings.bounds.budget.to_string())),
        ("hold-fixed", Some((!rules.adaptive).to_string())),
        ("on-unhealthy", on_unhealthy.map(str::to_owned)),
        ("evidence-max-age", rules.max_age.map(time)),
        ("evidence-refresh", Some(rules.refresh.to_string())),
        ("evidence-stale", Some(weight(rules.stale).to_owned())),
        ("evidence-static", Some(weight(rules.fixed).to_owned())),
        ("evidence-grace", Some(time(rules.grace))),
    ];
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Settings from such pairs; what is left out has its default. Refusals are carried out.
///
/// # Errors
/// In one line: a key that does not decide about evidence, or a value that cannot be.
pub fn from_pairs(pairs: &BTreeMap<String, String>) -> Result<Settings> {
    let mut table = toml::Table::new();
    for (key, text) in pairs {
        if !KEYS.contains(&key.as_str()) {
            bail!("{key} does not decide about evidence; what does is {}", KEYS.join(", "));
        }
        table.insert(key.clone(), value(text));
    }
    let parse = || -> Result<(DaemonOptions, EvidenceOptions)> {
        Ok((table.clone().try_into()?, table.clone().try_into()?))
    };
    let one_line = |error: anyhow::Error| anyhow::anyhow!(error.to_string().replace('\n', " "));
    let (daemon, evidence) = parse().map_err(one_line)?;
    let bounds = bounds(&daemon)?;
    let evidence = evidence.resolve()?.rules;
    let scope = daemon.scope.unwrap_or_default();
    Ok(Settings { mode: Mode::Enforce, scope, bounds, evidence })
}

/// `key=value` with commas between several.
///
/// # Errors
/// If a word has no `=`.
pub fn pairs(text: &str) -> Result<BTreeMap<String, String>> {
    let pair = |word: &str| {
        let (key, value) = word.split_once('=').context("write KEY=VALUE, as scope=container")?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    text.split(',').map(pair).collect()
}

/// How long and how much is held.
pub(super) fn bounds(options: &DaemonOptions) -> Result<Bounds> {
    let hold = options.hold_ms.map_or(HOLD_DEFAULT, Duration::from_millis);
    ensure!(
        hold <= HOLD_MAX && !hold.is_zero(),
        "--hold-ms must be between 1 and {}: a SYN is sent again after one second",
        HOLD_MAX.as_millis()
    );
    let budget = options.hold_budget.unwrap_or(HOLD_BUDGET_DEFAULT);
    ensure!((1..=HELD_MAX).contains(&budget), "--hold-budget must be between 1 and {HELD_MAX}");
    Ok(Bounds { hold, budget, total: HELD_MAX })
}

fn value(text: &str) -> toml::Value {
    match text {
        "true" => toml::Value::Boolean(true),
        "false" => toml::Value::Boolean(false),
        _ => {
            text.parse().map_or_else(|_| toml::Value::String(text.to_owned()), toml::Value::Integer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EvidenceRules;

    #[test]
    fn settings_come_back_from_their_own_words() {
        let evidence = EvidenceRules {
            max_age: Some(Duration::from_secs(86_400)),
            refresh: true,
            stale: Weight::Refuse,
            fixed: Weight::Refuse,
            on_unhealthy: Some(OnUnhealthy::Hold),
            grace: Duration::from_secs(7),
            adaptive: false,
        };
        let bounds = Bounds { hold: Duration::from_millis(123), budget: 9, ..Bounds::default() };
        let settings = Settings { mode: Mode::Enforce, scope: Scope::Container, bounds, evidence };
        for settings in [settings, Settings::default()] {
            let words = describe(&settings);
            assert!(words.keys().all(|key| KEYS.contains(&key.as_str())), "{words:?}");
            assert_eq!(from_pairs(&words).unwrap(), settings);
        }
    }

    #[test]
    fn what_cannot_be_is_one_line() {
        for text in ["scope=everybody", "hold-ms=5000", "queues=2", "evidence-max-age=soon"] {
            let error = format!("{:#}", from_pairs(&pairs(text).unwrap()).unwrap_err());
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(pairs("scope").is_err());
        assert_eq!(pairs("scope=container, hold-ms=5").unwrap().len(), 2);
    }
}
