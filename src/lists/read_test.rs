//! Reading: line numbers, line ends, bounds, and what is no list at all.

use super::*;
use crate::lists::text::excerpt;
use proptest::prelude::*;

/// Every line as `number: entry` or `number! why`.
fn lines(input: &[u8], own: bool) -> Vec<String> {
    let mut out = Vec::new();
    let dialect = Dialect { format: &Format::Plain, own };
    let counts = read(&mut &*input, dialect, &mut |line| out.push(shown(&line))).unwrap();
    assert_eq!(counts.items + counts.bad, out.len() as u64);
    out
}

fn shown(line: &Line<'_>) -> String {
    match line {
        Line::Item(item) => format!("{}: {}", item.line, item.entry),
        Line::Bad { line, why } => format!("{line}! {}", excerpt(&why.to_string())),
    }
}

#[test]
fn line_ends_and_a_byte_order_mark_do_not_matter() {
    let text = b"\xef\xbb\xbf192.0.2.1\r\n\r\n# c\r\n192.0.2.2\n  192.0.2.3  \n192.0.2.4";
    assert_eq!(lines(text, true), ["1: 192.0.2.1", "4: 192.0.2.2", "5: 192.0.2.3", "6: 192.0.2.4"]);
}

#[test]
fn a_line_that_is_too_long_is_one_bad_line_and_the_next_is_read() {
    for length in [LINE_BYTES_MAX + 1, LINE_BYTES_MAX + 2, LINE_BYTES_MAX + 3, 100_000] {
        for end in ["\n", "\r\n"] {
            let text = format!("192.0.2.1 #{}{end}192.0.2.2{end}", "x".repeat(length - 11));
            let bad = format!("1! line longer than {LINE_BYTES_MAX} bytes");
            assert_eq!(lines(text.as_bytes(), true), [bad, "2: 192.0.2.2".to_owned()], "{length}");
        }
    }
    let fits = format!("192.0.2.1 #{}\r\n192.0.2.2", "x".repeat(LINE_BYTES_MAX - 11));
    assert_eq!(lines(fits.as_bytes(), true), ["1: 192.0.2.1", "2: 192.0.2.2"]);
    let marked = format!("\u{feff}{}\n192.0.2.2", "x".repeat(LINE_BYTES_MAX + 1));
    assert!(lines(marked.as_bytes(), true)[0].starts_with("1! line longer"));
}

#[test]
fn bytes_that_are_no_text_are_one_bad_line() {
    assert_eq!(lines(b"\xff\xfe\n192.0.2.2\n", true), ["1! not UTF-8 text", "2: 192.0.2.2"]);
}

#[test]
fn a_web_page_is_no_list_but_the_user_s_own_file_is_always_one() {
    for page in ["<!DOCTYPE html>\n", "\r\n \n  <html>", "<?xml version='1.0'?>"] {
        let dialect = Dialect { format: &Format::Plain, own: false };
        let error = read(&mut page.as_bytes(), dialect, &mut |_| {}).unwrap_err();
        assert!(matches!(error, ReadError::Html), "{error}");
        assert!(lines(page.as_bytes(), true).iter().all(|line| line.contains('!')), "{page}");
    }
    // Not at the start, it is a bad line like any other.
    assert_eq!(lines(b"192.0.2.1\n<html>\n", false).len(), 2);
}

#[test]
fn options_are_read_and_mistakes_told() {
    let text = "\
        192.0.2.1 until=2030-01-01T00:00:00Z from=172.17.0.2 force # why not\n\
        192.0.2.2 until=soon\n\
        192.0.2.3 from=web-1\n\
        192.0.2.0/24 from=172.17.0.2\n\
        192.0.2.4 from=fd00::2\n\
        192.0.2.5 force force\n\
        192.0.2.6 permanently\n\
        192.0.2.7 until=2030-01-01T00:00:00Z until=2031-01-01T00:00:00Z\n\
        192.0.2.8#glued\n\
        evil.example force=yes\n";
    let found = lines(text.as_bytes(), true);
    let wanted = [
        "1: 192.0.2.1",
        "2! `soon` is no time",
        "3! `web-1` is no address",
        "4! from= goes with a single",
        "5! from= goes with a single",
        "6! force is given twice",
        "7! `permanently` is no option",
        "8! until= is given twice",
        "9: 192.0.2.8",
        "10! `force=yes` is no option",
    ];
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(wanted), "{found} instead of {wanted}");
    }
    let mut items = 0;
    let dialect = Dialect { format: &Format::Plain, own: true };
    read(&mut text.as_bytes(), dialect, &mut |line| {
        if let Line::Item(item) = line
            && item.line == 1
        {
            items += 1;
            assert_eq!(item.until, crate::lists::text::time("2030-01-01T00:00:00Z"));
            assert_eq!(item.from, "172.17.0.2".parse().ok());
            assert_eq!((item.force, item.note), (true, Some("why not")));
        }
    })
    .unwrap();
    assert_eq!(items, 1);
}

#[test]
fn a_feed_cannot_force_or_name_containers() {
    let text =
        b"192.0.2.1 force\n192.0.2.2 from=172.17.0.2\n192.0.2.3 until=2030-01-01T00:00:00Z\n";
    let found = lines(text, false);
    assert!(found[0].starts_with("1! `force` is not taken from a feed"), "{found:?}");
    assert!(found[1].starts_with("2! `from=172.17.0.2` is not taken"), "{found:?}");
    assert_eq!(found[2], "3: 192.0.2.3");
}

proptest! {
    #[test]
    fn any_bytes_are_read_with_the_right_numbers(
        parts in prop::collection::vec(prop_oneof![
            Just(b"192.0.2.1".to_vec()),
            Just(b"\r".to_vec()),
            prop::collection::vec(any::<u8>(), 0..30),
            Just(vec![b'x'; LINE_BYTES_MAX]),
        ], 0..12),
    ) {
        let bytes = parts.join(&b'\n');
        let mut last = 0;
        let dialect = Dialect { format: &Format::Plain, own: true };
        let total = bytes.split(|byte| *byte == b'\n').count();
        read(&mut &*bytes, dialect, &mut |line| {
            let number = match &line {
                Line::Item(item) => item.line,
                Line::Bad { line, .. } => *line,
            };
            assert!(number > last && number as usize <= total);
            if let Line::Item(item) = line {
                let text = bytes.split(|byte| *byte == b'\n').nth(number as usize - 1).unwrap();
                assert!(String::from_utf8_lossy(text).contains(item.text));
            }
            last = number;
        }).unwrap();
    }
}
