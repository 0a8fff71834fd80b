//! The correlator against a naive model: a made-up resolver writes its log, and only what it really answered counts.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::dns::line::parse;

use super::tests::feed;
use super::*;

/// One query and what is answered to it.
#[derive(Clone, Debug)]
struct Made {
    client: u8,
    name: u8,
    qtype: u8,
    aliases: u8,
    values: Vec<u8>,
    /// Whether another process (a TCP child) answers.
    child: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let values = prop::collection::vec(any::<u8>(), 0..4);
    (0u8..3, 0u8..4, 0u8..4, 0u8..4, values, any::<bool>()).prop_map(
        |(client, name, qtype, aliases, values, child)| Made {
            client,
            name,
            qtype,
            aliases,
            values,
            child,
        },
    )
}

impl Made {
    fn qtype(&self) -> &'static str {
        ["A", "AAAA", "TXT", "HTTPS"][usize::from(self.qtype)]
    }

    /// A TXT answer looks like an IPv4 address of its own range.
    fn value(&self, value: u8) -> String {
        match self.qtype() {
            "A" => format!("192.0.2.{value}"),
            "AAAA" => format!("2001:db8::{:x}", u16::from(value) + 1),
            "TXT" => format!("203.0.113.{value}"),
            _ => "<HTTPS>".to_owned(),
        }
    }

    fn question(&self) -> String {
        format!("query[{}] n{}.example from 10.0.0.{}", self.qtype(), self.name, self.client)
    }

    fn answer(&self) -> Vec<String> {
        let owner = |link: u8| match link {
            0 => format!("n{}.example", self.name),
            // Targets are names that are asked themselves, too.
            link => format!("n{}.example", (self.name + link) % 4),
        };
        let mut lines: Vec<String> =
            (0..self.aliases).map(|link| format!("reply {} is <CNAME>", owner(link))).collect();
        let last = owner(self.aliases);
        lines.extend(
            self.values.iter().map(|value| format!("reply {last} is {}", self.value(*value))),
        );
        lines
    }

    fn truth(&self) -> impl Iterator<Item = (String, String, String)> + '_ {
        let counts = self.qtype < 2;
        self.values.iter().filter(move |_| counts).map(|value| {
            let (name, client) =
                (format!("n{}.example", self.name), format!("10.0.0.{}", self.client));
            (self.value(*value), name, client)
        })
    }
}

/// Writes the log: an index in `order` is a question when it comes first, and its answer, whole, as dnsmasq writes it,
/// when it comes again.
fn log(all: &[Made], order: &[usize], extra: bool) -> String {
    let start = |at: usize| {
        let made = &all[at];
        let pid = if made.child { 100 + at } else { 1 };
        let serial = if extra {
            format!("{} 10.0.0.{}/{} ", at + 1, made.client, 1000 + at)
        } else {
            String::new()
        };
        format!("dnsmasq[{pid}]: {serial}")
    };
    let (mut lines, mut asked) = (Vec::new(), BTreeSet::new());
    for &at in order {
        if asked.insert(at) {
            lines.push(start(at) + &all[at].question());
        } else {
            lines.push(format!("{}forwarded x to 9.9.9.9", start(at)));
            lines.extend(all[at].answer().into_iter().map(|line| start(at) + &line));
        }
    }
    lines.join("\n")
}

fn made_log() -> impl Strategy<Value = (Vec<Made>, Vec<usize>)> {
    prop::collection::vec(made(), 1..12).prop_flat_map(|all| {
        let order: Vec<usize> = (0..all.len()).chain(0..all.len()).collect();
        (Just(all), Just(order).prop_shuffle())
    })
}

/// Indexes in the order of their answers.
fn answers(order: &[usize]) -> impl Iterator<Item = usize> + '_ {
    let mut asked = BTreeSet::new();
    order.iter().copied().filter(move |at| !asked.insert(*at))
}

/// One with room for so many queries, and as many again as a made-up log may leave unanswered.
fn small(slots: usize) -> Correlator {
    Correlator { serials: Serials::new(slots, 16), ..Correlator::default() }
}

proptest! {
    #[test]
    fn with_serials_exactly_the_address_answers_count((all, order) in made_log(), slots in 1usize..16) {
        let (seen, _) = feed(&mut small(slots), &log(&all, &order, true));
        let seen: Vec<_> =
            seen.into_iter().map(|seen| (seen.address, seen.name, seen.client)).collect();
        let truth: Vec<_> = answers(&order).flat_map(|at| all[at].truth()).collect();
        prop_assert_eq!(seen, truth);
    }

    #[test]
    fn a_flood_that_is_answered_changes_nothing((all, order) in made_log(), flood in 0u64..200, slots in 1usize..16) {
        let quiet = log(&all, &order, true);
        let mut lines: Vec<String> = quiet.lines().map(str::to_owned).collect();
        // After the first question, so that as many answers as possible are still to come.
        let spam = (1_000..1_000 + flood).flat_map(|serial| {
            let start = format!("dnsmasq[1]: {serial} 10.0.0.9/53");
            [format!("{start} query[A] spam.example from 10.0.0.9"), format!("{start} cached spam.example is 198.51.100.1")]
        });
        lines.splice(1..1, spam);
        let (quiet, _) = feed(&mut small(slots), &quiet);
        let (seen, _) = feed(&mut small(slots), &lines.join("\n"));
        let (spam, seen): (Vec<_>, Vec<_>) = seen.into_iter().partition(|seen| seen.name == "spam.example");
        prop_assert_eq!(seen, quiet);
        prop_assert_eq!(spam.len() as u64, flood);
    }

    #[test]
    fn without_serials_nothing_counts_that_was_no_address_answer((all, order) in made_log()) {
        let (seen, _) = feed(&mut Correlator::default(), &log(&all, &order, false));
        let truth: BTreeSet<_> = all.iter().flat_map(|made| made.truth().map(|(a, n, _)| (a, n))).collect();
        for seen in &seen {
            prop_assert!(truth.contains(&(seen.address.clone(), seen.name.clone())), "{:?}", seen);
        }
        // And with no text query about, everything counts.
        if all.iter().all(|made| made.qtype() != "TXT") {
            prop_assert_eq!(seen.len(), answers(&order).map(|at| all[at].truth().count()).sum::<usize>());
        }
    }

    #[test]
    fn no_lines_make_it_panic_or_grow(
        // None ends a line.
        words in prop::collection::vec(prop::option::weighted(0.75, prop::sample::select(&[
            "query[A]", "query[TXT]", "reply", "is", "from", "1", "10.0.0.2", "10.0.0.2/9", "a.example", "<CNAME>",
            "dnsmasq[3]:", "started, version", "duplicate", "query",
        ][..])), 0..800),
    ) {
        let mut correlator = Correlator::default();
        let words: Vec<&str> = words.into_iter().map(|word| word.unwrap_or("\n")).collect();
        for line in words.join(" ").lines() {
            if let Ok(line) = parse(line.trim().as_bytes()) {
                let _ = correlator.feed(&line, &mut |_| {});
            }
        }
        let (names, order) = correlator.names.len();
        prop_assert!(names <= order && order <= QUERIES_MAX);
    }
}

#[test]
fn a_flood_of_names_forgets_the_oldest_and_nothing_else() {
    let mut correlator = Correlator::default();
    let log: Vec<String> =
        (0..=QUERIES_MAX).map(|n| format!("query[A] n{n}.example from 10.0.0.2")).collect();
    feed(&mut correlator, &log.join("\n"));
    assert_eq!(correlator.names.len(), (QUERIES_MAX, QUERIES_MAX));
    let answers =
        format!("reply n0.example is 192.0.2.1\nreply n{QUERIES_MAX}.example is 192.0.2.2");
    let (seen, skipped) = feed(&mut correlator, &answers);
    assert_eq!((seen.len(), skipped), (1, 1));
    assert_eq!(seen[0].address, "192.0.2.2");
}
