//! Every format: a sample of each, and whatever a stranger's server may send.

use super::*;
use crate::lists::read::{Counts, read};
use proptest::prelude::*;

/// Every line as `number: entry (note)` or `number! why`.
fn try_lines(text: &[u8], format: &Format) -> Result<Vec<String>, ReadError> {
    let mut out = Vec::new();
    let mut each = |line: Line<'_>| {
        out.push(match line {
            Line::Item(item) => match item.note {
                Some(note) => format!("{}: {} ({note})", item.line, item.entry),
                None => format!("{}: {}", item.line, item.entry),
            },
            Line::Bad { line, why } => format!("{line}! {why}"),
        });
    };
    let Counts { items, bad } = read(&mut &*text, Dialect { format, own: false }, &mut each)?;
    assert_eq!(items + bad, out.len() as u64);
    Ok(out)
}

#[track_caller]
fn check(text: &str, format: &Format, wanted: &[&str]) {
    let found = try_lines(text.as_bytes(), format).unwrap();
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        // Of a bad line, the beginning is enough.
        let fits = if wanted.contains('!') { found.starts_with(wanted) } else { found == wanted };
        assert!(fits, "{found}\ninstead of\n{wanted}");
    }
}

const NETSET: &str = "\
#
# sample_netset
#
# ipv4 hash:net ipset
#
192.0.2.0/24
198.51.100.7
198.51.100.1/24
evil.example
";

const SPAMHAUS: &str = "\
; Sample DROP list 2026/01/02
; Last-Modified: Fri, 02 Jan 2026 03:04:05 GMT
192.0.2.0/24 ; SBL1
2001:db8::/32 ; SBL2
203.0.113.0/24
nonsense ; SBL3
";

const SPAMHAUS_JSON: &str = r#"{"cidr":"192.0.2.0/24","sblid":"SBL1","rir":"arin"}
{"cidr":"2001:db8::/32","sblid":"SBL2","rir":"ripencc"}
{"cidr":"192.0.2.1/24","sblid":"SBL3","rir":"arin"}
{"asn":64496,"rir":"arin"}
not json

{"type":"metadata","timestamp":1767323045,"size":120,"records":3}
"#;

const HOSTS: &str = "\
# Sample hosts file
127.0.0.1 localhost
127.0.0.1 localhost.localdomain
255.255.255.255 broadcasthost
::1 ip6-localhost ip6-loopback
fe80::1%lo0 localhost
0.0.0.0 0.0.0.0
0.0.0.0 ads.example tracker.example # both
127.0.0.1\tother.example
:: six.example
192.168.1.7 nas.example
0.0.0.0 lonely
bare.example
0.0.0.0 192.0.2.1
";

const CSV: &str = r#"################################################
# Sample of an abuse.ch list                   #
################################################
#
# "first_seen_utc","dst_ip","dst_port","c2_status","malware"
"2026-01-02 03:04:05","192.0.2.1","443","online","A, ""quoted"""
"2026-01-02 03:04:06","192.0.2.2:8080","443","online","B"
2026-01-02 03:04:07, "2001:db8::1", "443", "online", "C"
"2026-01-02 03:04:08","[2001:db8::2]:443","443","online","D"
"2026-01-02 03:04:09","evil.example:443","443","online","E"
"2026-01-02 03:04:10","http://evil.example/x","443","online","F"
"2026-01-02 03:04:11"
"2026-01-02 03:04:12","word","443"
"#;

const HOST_PORT: &str = "\
# Sample
192.0.2.1:443
192.0.2.2
[2001:db8::1]:443 # six
2001:db8::2
[2001:db8::3]
evil.example:8443
192.0.2.3:99999
192.0.2.4:
";

#[test]
fn netset() {
    let wanted = [
        "6: 192.0.2.0/24",
        "7: 198.51.100.7",
        "8! 198.51.100.1/24 has host bits",
        "9! this format holds",
    ];
    check(NETSET, &Format::Netset, &wanted);
}

#[test]
fn spamhaus() {
    let wanted = [
        "3: 192.0.2.0/24 (SBL1)",
        "4: 2001:db8::/32 (SBL2)",
        "5: 203.0.113.0/24",
        "6! this format holds",
    ];
    check(SPAMHAUS, &Format::Spamhaus, &wanted);
}

#[test]
fn spamhaus_json() {
    let wanted = [
        "1: 192.0.2.0/24 (SBL1)",
        "2: 2001:db8::/32 (SBL2)",
        "3! 192.0.2.1/24 has host bits",
        "4! not a JSON object with a `cidr`",
        "5! not a JSON object with a `cidr`",
    ];
    check(SPAMHAUS_JSON, &Format::SpamhausJson, &wanted);
}

#[test]
fn hosts() {
    let wanted = [
        "8: ads.example (both)",
        "8: tracker.example (both)",
        "9: other.example",
        "10: six.example",
        "11! maps to a real address",
        "12! a name without a dot",
        "13! a line of a hosts file starts with an address",
        "14! a hosts file sends names",
    ];
    check(HOSTS, &Format::Hosts, &wanted);
}

#[test]
fn csv_by_name_and_by_number() {
    let wanted = [
        "6: 192.0.2.1",
        "7: 192.0.2.2",
        "8: 2001:db8::1",
        "9: 2001:db8::2",
        "10: evil.example",
        "11! `http:` is not an IP address",
        "12! the line has too few columns",
        "13! the column holds a word",
    ];
    check(CSV, &Format::Csv(Column::Name("DST_IP".to_owned())), &wanted);
    check(CSV, &Format::Csv(Column::Number(2)), &wanted);
}

#[test]
fn csv_with_a_bare_header() {
    let text = "seen,ip\n2026,192.0.2.1\n2026,x\n";
    let wanted = ["2: 192.0.2.1", "3! the column holds a word"];
    check(text, &Format::Csv(Column::Name("ip".to_owned())), &wanted);
    check(text, &Format::Csv(Column::Number(2)), &wanted);
    check(
        "192.0.2.1\n192.0.2.2\n",
        &Format::Csv(Column::Number(1)),
        &["1: 192.0.2.1", "2: 192.0.2.2"],
    );
    let missing = try_lines(text.as_bytes(), &Format::Csv(Column::Name("address".to_owned())));
    assert!(matches!(missing, Err(ReadError::NoColumn(name)) if name == "address"));
}

#[test]
fn host_port() {
    let wanted = [
        "2: 192.0.2.1",
        "3: 192.0.2.2",
        "4: 2001:db8::1 (six)",
        "5: 2001:db8::2",
        "6: 2001:db8::3",
        "7: evil.example",
        "8! `192.0.2.3:99999` is neither",
        "9! `192.0.2.4:` is neither",
    ];
    check(HOST_PORT, &Format::HostPort, &wanted);
}

#[test]
fn the_ancestor_s_files_read_as_they_are() {
    let text = "# Blacklisted outbound IPs\n192.0.2.1\n192.0.2.2 # evil.example, seen twice\n\n#192.0.2.3\n";
    check(text, &Format::Plain, &["2: 192.0.2.1", "3: 192.0.2.2 (evil.example, seen twice)"]);
}

#[test]
fn the_list_that_comes_with_the_program_has_no_bad_line() {
    let text = include_str!("../../data/doh-servers.txt");
    let found = try_lines(text.as_bytes(), &Format::Plain).unwrap();
    assert!(found.len() > 150, "{}", found.len());
    for line in &found {
        assert!(!line.contains('!') && line.ends_with(')'), "{line}");
    }
    let mut entries: Vec<&str> = found.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    entries.sort_unstable();
    for pair in entries.windows(2) {
        assert_ne!(pair[0], pair[1], "twice");
    }
}

fn formats() -> impl Strategy<Value = (Format, &'static str)> {
    let column = Format::Csv(Column::Name("dst_ip".to_owned()));
    prop::sample::select(vec![
        (Format::Plain, NETSET),
        (Format::Netset, NETSET),
        (Format::Spamhaus, SPAMHAUS),
        (Format::SpamhausJson, SPAMHAUS_JSON),
        (Format::Hosts, HOSTS),
        (column, CSV),
        (Format::Csv(Column::Number(2)), CSV),
        (Format::HostPort, HOST_PORT),
    ])
}

/// Numbers rise, entries are where they are said to be, and messages are short.
fn sound(text: &[u8], format: &Format) {
    let total = text.split(|byte| *byte == b'\n').count();
    let mut last = 0;
    let each = &mut |line: Line<'_>| {
        let number = match &line {
            Line::Item(item) => {
                let row = text.split(|byte| *byte == b'\n').nth(item.line as usize - 1).unwrap();
                let row = String::from_utf8_lossy(row);
                // JSON may escape what it holds.
                assert!(
                    row.contains(item.text) || row.contains('\\'),
                    "{row} has no {}",
                    item.text
                );
                item.line
            }
            Line::Bad { line, why } => {
                assert!(why.to_string().chars().count() < 400, "{why}");
                *line
            }
        };
        assert!(number >= last && number as usize <= total, "{number} after {last} of {total}");
        last = number;
    };
    let _ = read(&mut &*text, Dialect { format, own: false }, each);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        (format, _) in formats(), text in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        sound(&text, &format);
    }

    #[test]
    fn mutated_samples_never_panic(
        (format, sample) in formats(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..12),
    ) {
        let mut text = sample.as_bytes().to_vec();
        for (place, what, byte) in changes {
            let place = place.index(text.len().max(1));
            match what {
                0 if !text.is_empty() => text[place] = byte,
                1 => text.insert(place.min(text.len()), byte),
                2 if !text.is_empty() => drop(text.remove(place)),
                _ => {}
            }
        }
        sound(&text, &format);
    }

    #[test]
    fn a_sample_cut_anywhere_has_the_same_lines_before_the_cut(
        (format, sample) in formats(), cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(sample.len());
        let whole = try_lines(sample.as_bytes(), &format).unwrap();
        if let Ok(part) = try_lines(&sample.as_bytes()[..cut], &format) {
            let complete = part.len().saturating_sub(2);
            prop_assert_eq!(&part[..complete], &whole[..complete]);
        }
    }
}
