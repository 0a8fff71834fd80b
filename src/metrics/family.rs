//! What is measured, as plain data: families of samples that share a name and a meaning.

use std::borrow::Cow;

/// Labels of one sample: names and values.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// One family. Its name has neither the prefix `synhold_`, nor its unit, nor `_total`: those are added.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// One sentence about it.
    pub help: &'static str,
    /// What it is measured in.
    pub unit: Option<Unit>,
    /// The samples.
    pub samples: Samples,
}

/// What values are measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Times.
    Seconds,
    /// Sizes.
    Bytes,
}

/// Samples of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// Counts that only grow.
    Counter(Vec<(Labels, u64)>),
    /// Values that come and go.
    Gauge(Vec<(Labels, f64)>),
    /// How often what was measured lay below which bound.
    Histogram(Spread),
    /// Words about ourselves.
    Info(Labels),
}

/// A histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Upper bounds in the family's unit, with how many lay below that and not below the one before. The last bound is
    /// infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all.
    pub sum: f64,
}

impl Family {
    /// Counters, each with its labels.
    pub fn counters(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Family {
        let samples = Samples::Counter(samples.into_iter().collect());
        Family { name, help, unit: None, samples }
    }

    /// One counter.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Family {
        Family::counters(name, help, [(Labels::new(), value)])
    }

    /// Values, each with its labels.
    pub fn gauges(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Family {
        let samples = Samples::Gauge(samples.into_iter().collect());
        Family { name, help, unit: None, samples }
    }

    /// One value.
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Family {
        Family::gauges(name, help, [(Labels::new(), value)])
    }

    /// Yes or no.
    pub fn flag(name: &'static str, help: &'static str, value: bool) -> Family {
        Family::gauge(name, help, f64::from(u8::from(value)))
    }

    /// A value that may not be there.
    pub fn maybe(name: &'static str, help: &'static str, value: Option<f64>) -> Family {
        Family::gauges(name, help, value.map(|value| (Labels::new(), value)))
    }

    /// A histogram.
    pub fn histogram(name: &'static str, help: &'static str, spread: Spread) -> Family {
        Family { name, help, unit: None, samples: Samples::Histogram(spread) }
    }

    /// Words about ourselves.
    pub fn info(name: &'static str, help: &'static str, labels: Labels) -> Family {
        Family { name, help, unit: None, samples: Samples::Info(labels) }
    }

    /// The same in a unit.
    #[must_use]
    pub fn in_unit(self, unit: Unit) -> Family {
        Family { unit: Some(unit), ..self }
    }
}
