//! Finding: which entry speaks about what was asked.

use super::*;
use crate::lists::{Content, Own};
use proptest::prelude::*;

fn list(own: Own, text: &str) -> Source {
    Source::own_from(own, Content::Memory(text.as_bytes().into()))
}

const BLOCK: &str = "\
# head
192.0.2.0/24 # the whole net
192.0.2.7 until=2020-01-01T00:00:00Z # over
192.0.2.7 until=2030-01-01T00:00:00Z from=172.17.0.2 # for one
evil.example
*.sub.Evil.example # nearer
0.0.0.0/0 # refused
";

fn sources() -> [Source; 2] {
    [list(Own::Allow, "192.0.2.7 # ours\n"), list(Own::Block, BLOCK)]
}

fn run(sources: &[Source], wanted: &[Query]) -> Vec<(usize, String)> {
    let now = crate::lists::text::time("2026-01-01T00:00:00Z").unwrap();
    let findings = find(sources, wanted, &[], now);
    assert!(findings.errors.is_empty());
    let show = |f: Found| {
        let note = f.note.unwrap_or_default();
        (f.query, format!("{} {}:{} {note}", f.list, f.entry, f.line))
    };
    findings.found.into_iter().map(show).collect()
}

fn name(text: &str) -> Query {
    Query::Name(Name::new(text).unwrap())
}

#[test]
fn every_entry_that_holds_is_found_with_its_list_line_and_note() {
    let wanted = [
        Query::Address("192.0.2.7".parse().unwrap()),
        name("www.sub.evil.example"),
        name("notevil.example"),
        Query::from(&"192.0.2.255-192.0.3.16".parse::<Entry>().unwrap()),
        Query::Address("2001:db8::1".parse().unwrap()),
        Query::Address("192.0.2.8".parse().unwrap()),
    ];
    let found = run(&sources(), &wanted);
    let expected = [
        (0, "allow 192.0.2.7:1 ours"),
        (0, "block 192.0.2.0/24:2 the whole net"),
        (0, "block 192.0.2.7:4 for one"),
        (1, "block evil.example:5 "),
        (1, "block *.sub.Evil.example:6 nearer"),
        (3, "block 192.0.2.0/24:2 the whole net"),
        (5, "block 192.0.2.0/24:2 the whole net"),
    ];
    let found: Vec<(usize, &str)> = found.iter().map(|(q, text)| (*q, text.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn times_and_sources_come_along_and_survive_json() {
    let now = crate::lists::text::time("2026-01-01T00:00:00Z").unwrap();
    let query = [Query::Address("192.0.2.7".parse().unwrap())];
    let found = find(&sources()[1..], &query, &[], now).found;
    let one = &found[1];
    assert_eq!(one.until, crate::lists::text::time("2030-01-01T00:00:00Z"));
    assert_eq!(one.from, Some("172.17.0.2".parse().unwrap()));
    let json = serde_json::to_string(one).unwrap();
    assert!(json.contains(r#""until":"2030-01-01T00:00:00Z""#), "{json}");
    assert_eq!(&serde_json::from_str::<Found>(&json).unwrap(), one);
}

#[test]
fn answers_are_bounded_for_each_query() {
    let text = "192.0.2.1\n".repeat(100) + "192.0.2.2\n";
    let wanted = ["192.0.2.1", "192.0.2.2"].map(|text| Query::Address(text.parse().unwrap()));
    let found = run(&[list(Own::Block, &text)], &wanted);
    assert_eq!(found.len(), FOUND_PER_QUERY_MAX + 1);
    assert_eq!(found.last(), Some(&(1, "block 192.0.2.2:101 ".to_owned())));
}

#[test]
fn a_thousand_ranges_cost_a_line_no_more_than_a_few() {
    let span = |n: u16| Span::new(10 * u128::from(n), 10 * u128::from(n) + 5);
    let spans: Vec<_> = (0..1_000).map(|n| (Family::V4, span(n), usize::from(n))).collect();
    let ranges = Ranges::new(Family::V4, &spans);
    let line = Span::new(5_005, 5_010);
    assert_eq!((ranges.sharing(line), ranges.near(line).len()), (vec![500, 501], 2));
    assert_eq!(ranges.near(Span::new(5_006, 5_009)).len(), 0, "between two");
    assert_eq!(Ranges::new(Family::V6, &spans).sharing(line), Vec::<usize>::new());
}

#[test]
fn an_unreadable_list_is_told_and_a_stranger_s_text_is_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let mut broken = list(Own::Block, "");
    broken.content = Content::File(folder.path().to_owned());
    let note = list(Own::Allow, "192.0.2.1 # \u{1b}[31mred\n");
    let query = [Query::Address("192.0.2.1".parse().unwrap())];
    let findings = find(&[broken, note], &query, &[], Wall(0));
    assert!(findings.errors[0].starts_with("block.txt: "), "{findings:?}");
    assert_eq!(findings.found[0].note.as_deref(), Some(" [31mred"));
}

proptest! {
    #[test]
    fn what_is_found_is_what_the_compiled_list_holds(
        lines in prop::collection::vec((0_u8..32, 0_u8..6), 0..10),
        asked in prop::collection::vec(0_u8..40, 1..6),
    ) {
        let net = |low: u8, more: u8| crate::engine::Net::around(IpAddr::from([192, 0, 2, low]), 32 - more);
        let text: String = lines.iter().map(|(low, more)| format!("{}\n", net(*low, *more))).collect();
        let source = [list(Own::Block, &text)];
        let wanted: Vec<Query> =
            asked.iter().map(|low| Query::Address(IpAddr::from([192, 0, 2, *low]))).collect();
        let compiled = crate::lists::compile(&source, &[], Wall(0));
        let found = run(&source, &wanted);
        let ranges: Vec<Query> = asked.iter().zip(lines.iter().cycle()).map(|(low, (_, more))| {
            let net = net(*low, *more);
            Query::Range(net.family(), net.span())
        }).collect();
        let shared = run(&source, &ranges);
        for (place, range) in ranges.iter().enumerate() {
            let Query::Range(_, span) = range else { unreachable!() };
            let meets = |(low, more): &&(u8, u8)| {
                let other = net(*low, *more).span();
                other.first() <= span.last() && span.first() <= other.last()
            };
            let hits = shared.iter().filter(|(query, _)| *query == place).count();
            prop_assert_eq!(hits, lines.iter().filter(meets).count());
        }
        for (place, low) in asked.iter().enumerate() {
            let address = IpAddr::from([192, 0, 2, *low]);
            let hits = found.iter().filter(|(query, _)| *query == place).count();
            let naive = lines.iter().filter(|(low, more)| net(*low, *more).contains(address)).count();
            prop_assert_eq!(hits, naive);
            prop_assert_eq!(hits > 0, compiled.lists.block.has_address(address));
        }
    }
}
