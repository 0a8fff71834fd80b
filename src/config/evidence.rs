//! What a user can set about evidence: how long it counts, what if it cannot be trusted, and how much of it is kept.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::engine::limits::{REGISTRY_SIZE_DEFAULT, REGISTRY_SIZE_MAX, REGISTRY_SIZE_MIN};
use crate::engine::lists::DomainSet;
use crate::engine::{EvidenceRules, Name, OnUnhealthy, Weight};

/// Longest time that is taken for one: what is longer is for ever, and says nothing.
const TIME_MAX: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);

/// Whether evidence of a grade is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enough {
    /// It is.
    Accept,
    /// It is not.
    Refuse,
}

/// What becomes of a packet that waits in vain while the evidence is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Untrusted {
    /// It passes at once.
    Accept,
    /// It goes in silence, and its sender tries again.
    Hold,
    /// It is refused.
    Refuse,
}

/// Options about evidence; the table `[evidence]` of the file has those that begin with the word.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EvidenceOptions {
    /// How long after it was seen last a DNS record is fresh, as 30d; stale after that [default: for ever]
    #[arg(long, value_name = "TIME")]
    pub evidence_max_age: Option<String>,
    /// An accepted flow makes the record it rests on fresh again
    #[arg(long)]
    #[serde(default)]
    pub evidence_refresh: bool,
    /// Whether a stale record is enough [default: accept]
    #[arg(long, value_name = "WEIGHT")]
    pub evidence_stale: Option<Enough>,
    /// Whether a record of a hosts file or of dnsmasq's configuration is enough [default: accept]
    #[arg(long, value_name = "WEIGHT")]
    pub evidence_static: Option<Enough>,
    /// What becomes of unresolved destinations while the evidence is not to be trusted: accept, hold (dropped in silence,
    /// to be tried again) or refuse [default: accept within the grace of a first start, refuse later]
    #[arg(long, value_name = "WHAT")]
    pub on_unhealthy: Option<Untrusted>,
    /// How long after a start with an empty registry the evidence is not to be trusted [default: 5m]
    #[arg(long, value_name = "TIME")]
    pub evidence_grace: Option<String>,
    /// Accept for this long from the first start on, and tell what enforcing would have refused, as 24h [default: 0s]
    #[arg(long, value_name = "TIME")]
    pub learn: Option<String>,
    /// Hold packets for the whole of --hold-ms, however fast the DNS sources are
    #[arg(long)]
    #[serde(default)]
    pub hold_fixed: bool,
    /// Domain whose names may answer with private addresses; repeatable [default: names without a public ending]
    #[arg(long, value_name = "DOMAIN")]
    #[serde(default)]
    pub local_domain: Vec<String>,
    /// Addresses remembered at most [default: 1000000]
    #[arg(long, value_name = "N")]
    pub registry_size: Option<usize>,
    /// How long an address is remembered that is neither resolved nor used, as 180d [default: for ever]
    #[arg(long, value_name = "TIME")]
    pub registry_max_age: Option<String>,
}

/// What is set, checked, with every default filled in.
#[derive(Clone, Debug)]
pub struct EvidenceConfig {
    /// What counts.
    pub rules: EvidenceRules,
    /// How long is learned from the first start on; not at all if it is zero.
    pub learn: Duration,
    /// Domains whose names may answer with private addresses.
    pub local_domains: DomainSet,
    /// Addresses remembered at most.
    pub size: usize,
    /// How long an address is remembered that is neither resolved nor used; for ever if nothing.
    pub keep: Option<Duration>,
}

impl EvidenceOptions {
    /// The command line before the file.
    pub fn or(self, file: EvidenceOptions) -> EvidenceOptions {
        let local_domain =
            if self.local_domain.is_empty() { file.local_domain } else { self.local_domain };
        EvidenceOptions {
            evidence_max_age: self.evidence_max_age.or(file.evidence_max_age),
            evidence_refresh: self.evidence_refresh || file.evidence_refresh,
            evidence_stale: self.evidence_stale.or(file.evidence_stale),
            evidence_static: self.evidence_static.or(file.evidence_static),
            on_unhealthy: self.on_unhealthy.or(file.on_unhealthy),
            evidence_grace: self.evidence_grace.or(file.evidence_grace),
            learn: self.learn.or(file.learn),
            hold_fixed: self.hold_fixed || file.hold_fixed,
            local_domain,
            registry_size: self.registry_size.or(file.registry_size),
            registry_max_age: self.registry_max_age.or(file.registry_max_age),
        }
    }

    /// Checks everything.
    ///
    /// # Errors
    /// In one line that names the option.
    pub fn resolve(self) -> Result<EvidenceConfig> {
        let defaults = EvidenceRules::default();
        let time = |flag: &'static str, text: Option<&str>| {
            text.map(|text| time(text).with_context(|| format!("{flag} {text}"))).transpose()
        };
        let rules = EvidenceRules {
            max_age: time("--evidence-max-age", self.evidence_max_age.as_deref())?,
            refresh: self.evidence_refresh,
            stale: self.evidence_stale.map_or(defaults.stale, Weight::from),
            fixed: self.evidence_static.map_or(defaults.fixed, Weight::from),
            on_unhealthy: self.on_unhealthy.map(OnUnhealthy::from),
            grace: time("--evidence-grace", self.evidence_grace.as_deref())?
                .unwrap_or(defaults.grace),
            adaptive: !self.hold_fixed,
        };
        let domain = |text: &String| {
            Name::new(text).with_context(|| format!("--local-domain {text}: no domain name"))
        };
        let size = self.registry_size.unwrap_or(REGISTRY_SIZE_DEFAULT);
        ensure!(
            (REGISTRY_SIZE_MIN..=REGISTRY_SIZE_MAX).contains(&size),
            "--registry-size must be between {REGISTRY_SIZE_MIN} and {REGISTRY_SIZE_MAX}"
        );
        Ok(EvidenceConfig {
            rules,
            learn: time("--learn", self.learn.as_deref())?.unwrap_or_default(),
            local_domains: self.local_domain.iter().map(domain).collect::<Result<_>>()?,
            size,
            keep: time("--registry-max-age", self.registry_max_age.as_deref())?,
        })
    }
}

/// A time as `12h` or `30d`.
fn time(text: &str) -> Result<Duration> {
    let time = humantime::parse_duration(text).context("write a time as 12h or 30d")?;
    ensure!(time <= TIME_MAX, "it must be no longer than ten years");
    Ok(time)
}

impl From<Enough> for Weight {
    fn from(enough: Enough) -> Weight {
        match enough {
            Enough::Accept => Weight::Accept,
            Enough::Refuse => Weight::Refuse,
        }
    }
}

impl From<Untrusted> for OnUnhealthy {
    fn from(untrusted: Untrusted) -> OnUnhealthy {
        match untrusted {
            Untrusted::Accept => OnUnhealthy::Accept,
            Untrusted::Hold => OnUnhealthy::Hold,
            Untrusted::Refuse => OnUnhealthy::Refuse,
        }
    }
}
