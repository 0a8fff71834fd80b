//! Families as OpenMetrics text.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit as InUnit};

use super::family::{Family, Samples, Unit};

/// What the text is, as HTTP says it.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Before every name.
const PREFIX: &str = "synhold";

/// All families, and the mark of the end.
///
/// # Errors
/// Never, as far as the library goes: a string takes everything.
pub fn encode(families: Vec<Family>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Families(families)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.0.iter().try_for_each(|family| write(family, &mut encoder))
    }
}

fn write(family: &Family, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let unit = family.unit.map(|unit| match unit {
        Unit::Seconds => InUnit::Seconds,
        Unit::Bytes => InUnit::Bytes,
    });
    let kind = match &family.samples {
        Samples::Counter(_) => MetricType::Counter,
        Samples::Gauge(_) => MetricType::Gauge,
        Samples::Histogram(_) => MetricType::Histogram,
        Samples::Info(_) => MetricType::Info,
    };
    let mut to = encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
    match &family.samples {
        Samples::Counter(samples) => {
            samples.iter().try_for_each(|(labels, value)| match labels.is_empty() {
                true => to.encode_counter::<NoLabelSet, _, u64>(value, None),
                false => ConstCounter::new(*value).encode(to.encode_family(labels)?),
            })
        }
        Samples::Gauge(samples) => {
            samples.iter().try_for_each(|(labels, value)| match labels.is_empty() {
                true => to.encode_gauge(value),
                false => ConstGauge::new(*value).encode(to.encode_family(labels)?),
            })
        }
        Samples::Histogram(spread) => {
            let count = spread.buckets.iter().map(|(_, count)| count).sum();
            to.encode_histogram::<NoLabelSet>(spread.sum, count, &spread.buckets, None)
        }
        Samples::Info(labels) => to.encode_info(labels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Spread;

    #[test]
    fn families_are_text_with_their_units_suffixes_and_end() {
        let spread = Spread { buckets: vec![(0.5, 2), (f64::INFINITY, 1)], sum: 3.25 };
        let strange = vec![("container", "a\"b\\c\nd".into())];
        let text = encode(vec![
            Family::info("build", "Which program this is", vec![("version", "1.2".into())]),
            Family::counters("verdicts", "Verdicts", [(strange, 7)]),
            Family::histogram("hold", "Waits", spread).in_unit(Unit::Seconds),
            Family::gauge("held", "Waiting", 2.0),
            Family::maybe("none", "Nothing", None),
        ])
        .unwrap();
        let wanted = "\
            # HELP synhold_build Which program this is\n# TYPE synhold_build info\n\
            synhold_build_info{version=\"1.2\"} 1\n\
            # HELP synhold_verdicts Verdicts\n# TYPE synhold_verdicts counter\n\
            synhold_verdicts_total{container=\"a\\\"b\\\\c\\nd\"} 7\n\
            # HELP synhold_hold_seconds Waits\n# TYPE synhold_hold_seconds histogram\n\
            # UNIT synhold_hold_seconds seconds\n\
            synhold_hold_seconds_sum 3.25\nsynhold_hold_seconds_count 3\n\
            synhold_hold_seconds_bucket{le=\"0.5\"} 2\nsynhold_hold_seconds_bucket{le=\"+Inf\"} 3\n\
            # HELP synhold_held Waiting\n# TYPE synhold_held gauge\nsynhold_held 2.0\n\
            # HELP synhold_none Nothing\n# TYPE synhold_none gauge\n# EOF\n";
        assert_eq!(text, wanted);
    }
}
