//! What holds for one container: the host's settings, changed by what the operator and its labels ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::container::{Container, LABEL_PREFIX};
use super::judge::{Mode, Scope, Settings};
use super::limits::FAULTS_MAX;
use super::lists::Side;
use super::owner::{Owner, OwnerTally};
use super::wish::{Allow, Refusal, Treatment, Wish, shown};

/// A wish of the operator for the containers that fit. An absent pattern fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Pattern of names.
    pub name: Option<Pattern>,
    /// Pattern of images.
    pub image: Option<Pattern>,
    /// What they get.
    pub wish: Wish,
    /// Where a person finds it.
    pub origin: String,
    /// Labels change nothing.
    pub is_final: bool,
}

/// A text with `*` for any number of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// All there is to know to give every container its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    /// What holds where nobody asks for anything.
    pub base: Policy,
    /// The operator's sections; the first that fits counts.
    pub sections: Vec<Section>,
    /// Whether labels may loosen: whoever starts a container writes them.
    pub trust_labels: bool,
}

/// What holds for one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How it is treated.
    pub mode: Treatment,
    /// Whose look-ups count.
    pub scope: Scope,
    /// How long its packets are held.
    pub hold: Duration,
    /// How refusals are put to it.
    pub refuse: Refusal,
    /// What it may reach beside what the lists allow.
    pub allow: Option<Arc<Side>>,
    /// Where what is not the host's setting comes from, by key: for people.
    pub origins: BTreeMap<&'static str, String>,
    /// Labels that change nothing, and why.
    pub faults: Vec<String>,
}

impl Pattern {
    /// Takes the pattern as it is written.
    pub fn new(text: impl Into<String>) -> Pattern {
        Pattern(text.into())
    }

    /// Whether a text fits: everything between the stars is in it, in that order, and the ends are its ends.
    pub fn fits(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut left) = text.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            let Some(place) = left.find(part) else { return false };
            left = left.get(place + part.len()..).unwrap_or_default();
        }
        left.ends_with(last)
    }
}

impl Policies {
    /// The host's settings for every container.
    pub fn new(settings: &Settings, refuse: Refusal) -> Policies {
        Policies { base: Policy::new(settings, refuse), sections: Vec::new(), trust_labels: false }
    }

    /// A container as the owner of addresses, with the counters it has.
    pub fn owner(&self, container: &Container, tally: &Arc<OwnerTally>) -> Owner {
        Owner {
            id: Arc::clone(&container.id),
            name: Arc::clone(&container.name),
            image: Arc::clone(&container.image),
            policy: Arc::new(self.of(container)),
            tally: Arc::clone(tally),
        }
    }

    /// What holds for a container.
    pub fn of(&self, container: &Container) -> Policy {
        let mut policy = self.base.clone();
        let fits = |section: &&Section| {
            section.name.as_ref().is_none_or(|name| name.fits(&container.name))
                && section.image.as_ref().is_none_or(|image| image.fits(&container.image))
        };
        let section = self.sections.iter().find(fits);
        if let Some(section) = section {
            policy.grant(&section.wish, &section.origin);
        }
        for (label, value) in &container.labels {
            let Some(key) = label.strip_prefix(LABEL_PREFIX) else { continue };
            let mut wish = Wish::default();
            let refused = match wish.set(key, value) {
                Err(error) => Some(error.to_string()),
                Ok(()) if section.is_some_and(|section| section.is_final) => {
                    Some(format!("the operator decides: {}", section.map_or("", |s| &s.origin)))
                }
                Ok(()) if !self.trust_labels && policy.is_loosened_by(&wish) => {
                    Some("labels may only loosen with trust-labels".to_owned())
                }
                Ok(()) => None,
            };
            match refused {
                None => policy.grant(&wish, &format!("label {label}")),
                Some(why) => {
                    policy.faults.push(format!("label {} is not followed: {why}", shown(label)))
                }
            }
        }
        if let more @ 1.. = policy.faults.len().saturating_sub(FAULTS_MAX) {
            policy.faults.truncate(FAULTS_MAX);
            policy.faults.push(format!("{more} more labels are not followed"));
        }
        if self.base.mode == Treatment::DryRun && policy.mode == Treatment::Enforce {
            policy.mode = Treatment::DryRun;
            policy.faults.push("nothing is enforced: this host is in a dry run".to_owned());
        }
        policy
    }
}

impl Policy {
    /// What the host's settings say.
    pub fn new(settings: &Settings, refuse: Refusal) -> Policy {
        let mode = match settings.mode {
            Mode::Enforce | Mode::Learn => Treatment::Enforce,
            Mode::DryRun => Treatment::DryRun,
        };
        Policy {
            mode,
            scope: settings.scope,
            hold: settings.bounds.hold,
            refuse,
            allow: None,
            origins: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Whether refusals are carried out.
    pub fn verdicts(&self) -> Mode {
        match self.mode {
            Treatment::Enforce => Mode::Enforce,
            Treatment::DryRun | Treatment::Off => Mode::DryRun,
        }
    }

    /// Whether a wish would let through what is refused now. A longer hold does not: it asks for a record all the same.
    fn is_loosened_by(&self, wish: &Wish) -> bool {
        wish.mode.is_some_and(|mode| mode < self.mode)
            || (wish.scope == Some(Scope::Global) && self.scope == Scope::Container)
            || !wish.allow.is_empty()
    }

    fn grant(&mut self, wish: &Wish, origin: &str) {
        let mut from = |key| self.origins.insert(key, origin.to_owned());
        if let Some(mode) = wish.mode {
            from("mode");
            self.mode = mode;
        }
        if let Some(scope) = wish.scope {
            from("scope");
            self.scope = scope;
        }
        if let Some(refuse) = wish.refuse {
            from("refuse");
            self.refuse = refuse;
        }
        if let Some(hold) = wish.hold {
            from("hold-ms");
            self.hold = hold;
        }
        if !wish.allow.is_empty() {
            from("allow");
            self.allow_more(&wish.allow);
        }
    }

    fn allow_more(&mut self, allow: &[Allow]) {
        let nets = allow.iter().filter_map(|allow| match allow {
            Allow::Net(net) => Some((net.family(), net.span())),
            Allow::Domain(_) => None,
        });
        let names = allow.iter().filter_map(|allow| match allow {
            Allow::Domain(name) => Some(name.clone()),
            Allow::Net(_) => None,
        });
        let before = self.allow.take();
        let spans = before.iter().flat_map(|side| side.lasting.all());
        let side = Side::new(
            spans.chain(nets),
            [],
            before.iter().flat_map(|side| side.names.iter().cloned()).chain(names),
        );
        self.allow = Some(Arc::new(side));
    }
}

#[cfg(test)]
#[path = "policy_test.rs"]
mod tests;
