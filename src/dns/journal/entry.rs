//! One entry of the journal as journalctl writes it, made into the line that dnsmasq would have written to a file.
//!
//! journald looks up the unit of who logs by its process, and a process of dnsmasq that answers over TCP may have ended
//! by then: its entries are of no unit. They are taken for the unit's if the user is that of the unit's own dnsmasq,
//! which the kernel tells with the entry: unless that is root or nobody, who may be anybody in a container that has the
//! journal's socket.

use serde::Deserialize;

use crate::engine::Wall;
use crate::engine::health::Skip;
use crate::engine::limits::LINE_BYTES_MAX;

use super::Place;

/// The name under which dnsmasq logs what is about DNS.
const DNSMASQ: &str = "dnsmasq";
/// Users that are anybody: root, and who dnsmasq becomes where it has no user of its own.
const ANYBODY: [&str; 2] = ["0", "65534"];

/// What is asked for of an entry. A field may be there several times, and be no text.
#[derive(Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "__CURSOR")]
    pub(super) cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    received: Micros,
    #[serde(rename = "_SOURCE_REALTIME_TIMESTAMP", default)]
    sent: Option<Micros>,
    #[serde(rename = "MESSAGE", default)]
    message: Field,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: Field,
    #[serde(rename = "_PID", default)]
    pid: Field,
    #[serde(rename = "_TRANSPORT", default)]
    transport: Field,
    #[serde(rename = "N_DROPPED", default)]
    dropped: Field,
    #[serde(rename = "_SYSTEMD_UNIT", default)]
    unit: Field,
    #[serde(rename = "_UID", default)]
    uid: Field,
}

/// Whose entries are wanted.
#[derive(Debug)]
pub(super) struct Whose<'a> {
    unit: &'a str,
    /// The user its dnsmasq runs as, once that is known.
    uid: Option<String>,
}

impl<'a> Whose<'a> {
    /// The unit's, whose user is not known yet.
    pub(super) fn unit(unit: &'a str) -> Whose<'a> {
        Whose { unit, uid: None }
    }

    /// Whether an entry is the unit's. Those in which journald names it tell the user for those in which it does not.
    pub(super) fn has(&mut self, entry: &Entry) -> bool {
        if entry.transport.text() == "driver" {
            return true;
        }
        let (unit, uid) = (entry.unit.text(), entry.uid.text());
        if unit == self.unit {
            if entry.identifier.text() == DNSMASQ && self.uid.as_deref() != Some(uid) {
                self.uid = Some(uid.to_owned());
            }
            return true;
        }
        matches!(entry.unit, Field::None)
            && entry.transport.text() == "syslog"
            && self.uid.as_deref() == Some(uid)
            && !ANYBODY.contains(&uid)
    }
}

/// A field's value: text, bytes that are none, nothing since it was too long, or several of these.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Field {
    Text(String),
    Bytes(#[expect(dead_code, reason = "it tells bytes from several texts")] Vec<u8>),
    /// journalctl's null.
    #[default]
    None,
    Other(serde::de::IgnoredAny),
}

/// Microseconds since the epoch, as text.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Micros(u64);

impl TryFrom<String> for Micros {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Micros, Self::Error> {
        text.parse().map(Micros)
    }
}

/// What an entry says.
pub(super) enum What {
    /// A line of the log.
    Line(Result<Vec<u8>, Skip>),
    /// journald dropped so many.
    Lost(u64),
}

impl Field {
    fn text(&self) -> &str {
        match self {
            Field::Text(text) => text,
            Field::Bytes(_) | Field::None | Field::Other(_) => "",
        }
    }
}

impl Entry {
    /// Reads a line of journalctl; none if it is no entry.
    pub(super) fn read(line: &[u8]) -> Option<Entry> {
        serde_json::from_slice(line).ok()
    }

    /// Its place in the journal.
    pub(super) fn place(&self) -> Place {
        Place { cursor: self.cursor.clone(), at: Wall(self.received.0) }
    }

    /// When its writer handed it over, where the kernel tells: journald may have come to it later.
    pub(super) fn logged(&self) -> Wall {
        Wall(self.sent.map_or(self.received.0, |sent| sent.0.min(self.received.0)))
    }

    /// What it says, as one line with the process that wrote it.
    pub(super) fn what(&self) -> What {
        if self.transport.text() == "driver" {
            return match self.dropped.text().parse() {
                Ok(count) => What::Lost(count),
                Err(_) => What::Line(Ok(Vec::new())),
            };
        }
        What::Line(match &self.message {
            Field::Text(text) => Ok(self.line(text).into_bytes()),
            Field::Bytes(_) => Err(Skip::NotUtf8),
            Field::None => Err(Skip::TooLong),
            Field::Other(_) => Err(Skip::Malformed),
        })
    }

    /// To its standard error dnsmasq writes its name before each line, and to syslog it gives that apart.
    fn line(&self, text: &str) -> String {
        let pid = self.pid.text();
        let pid = if pid.is_empty() { String::new() } else { format!("[{pid}]") };
        if let Some(rest) = text.strip_prefix("dnsmasq: ") {
            return format!("{DNSMASQ}{pid}: {rest}");
        }
        if text.starts_with(DNSMASQ) {
            return text.to_owned();
        }
        match self.identifier.text() {
            // Cut where it is too long for a line anyway, so that it is known as that.
            DNSMASQ => {
                let text: String = text.chars().take(LINE_BYTES_MAX + 1).collect();
                format!("{DNSMASQ}{pid}: {text}")
            }
            // Its DHCP part, or another program of the unit.
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &str) -> Entry {
        let text = format!(
            r#"{{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1700000000000009","_BOOT_ID":"x",{fields}}}"#
        );
        Entry::read(text.as_bytes()).expect(&text)
    }

    fn line(fields: &str) -> Result<String, Skip> {
        match entry(fields).what() {
            What::Line(line) => line.map(|line| String::from_utf8(line).unwrap()),
            What::Lost(count) => panic!("{count} lost"),
        }
    }

    #[test]
    fn what_dnsmasq_writes_becomes_the_line_of_a_file() {
        let asked = "1 172.17.0.2/40000 query[A] x.example from 172.17.0.2";
        for (fields, wanted) in [
            (format!(r#""MESSAGE":"{asked}","_PID":"7","SYSLOG_IDENTIFIER":"dnsmasq""#), format!("dnsmasq[7]: {asked}")),
            (format!(r#""MESSAGE":"{asked}","SYSLOG_IDENTIFIER":"dnsmasq""#), format!("dnsmasq: {asked}")),
            (format!(r#""MESSAGE":"dnsmasq: {asked}","_PID":"7","SYSLOG_IDENTIFIER":"sh""#), format!("dnsmasq[7]: {asked}")),
            (format!(r#""MESSAGE":"dnsmasq[9]: {asked}","_PID":"7""#), format!("dnsmasq[9]: {asked}")),
            (r#""MESSAGE":"DHCPACK(eth0) 10.0.0.9","_PID":"7","SYSLOG_IDENTIFIER":"dnsmasq-dhcp""#.to_owned(), String::new()),
            (format!(r#""MESSAGE":"{asked}","_PID":"7","SYSLOG_IDENTIFIER":"containerd""#), String::new()),
        ] {
            assert_eq!(line(&fields), Ok(wanted), "{fields}");
        }
    }

    #[test]
    fn an_entry_without_a_unit_is_the_units_if_its_user_is() {
        let mut whose = Whose::unit("dnsmasq.service");
        let of = |unit: &str, uid: u32, transport: &str| {
            let unit = match unit {
                "" => String::new(),
                unit => format!(r#""_SYSTEMD_UNIT":"{unit}","#),
            };
            entry(&format!(
                r#"{unit}"_UID":"{uid}","_TRANSPORT":"{transport}","SYSLOG_IDENTIFIER":"dnsmasq","MESSAGE":"x""#
            ))
        };
        assert!(!whose.has(&of("", 104, "syslog")), "whose user is not known");
        assert!(whose.has(&of("dnsmasq.service", 104, "syslog")));
        assert!(whose.has(&of("", 104, "syslog")));
        assert!(!whose.has(&of("", 1000, "syslog")));
        assert!(!whose.has(&of("", 104, "journal")));
        assert!(!whose.has(&of("libvirtd.service", 104, "syslog")));
    }

    #[test]
    fn what_is_no_text_is_skipped_and_what_was_dropped_is_counted() {
        assert_eq!(line(r#""MESSAGE":[255,10],"SYSLOG_IDENTIFIER":"dnsmasq""#), Err(Skip::NotUtf8));
        assert_eq!(line(r#""MESSAGE":null,"SYSLOG_IDENTIFIER":"dnsmasq""#), Err(Skip::TooLong));
        assert_eq!(
            line(r#""MESSAGE":["a","b"],"SYSLOG_IDENTIFIER":"dnsmasq""#),
            Err(Skip::Malformed)
        );
        assert_eq!(line(r#""SYSLOG_IDENTIFIER":["dnsmasq","x"],"MESSAGE":"a""#), Ok(String::new()));
        let dropped = entry(r#""_TRANSPORT":"driver","N_DROPPED":"17","MESSAGE":"Suppressed""#);
        assert!(matches!(dropped.what(), What::Lost(17)));
        // The unit itself cannot say so: its transport is another.
        assert_eq!(
            line(r#""_TRANSPORT":"journal","N_DROPPED":"17","MESSAGE":"x""#),
            Ok(String::new())
        );
        for text in ["", "{}", "[]", "7", r#"{"__CURSOR":"x","__REALTIME_TIMESTAMP":"-1"}"#] {
            assert!(Entry::read(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn the_time_is_the_writers_where_it_is_known_and_never_later_than_journalds() {
        let at = |sent: &str| {
            entry(&format!(r#""_SOURCE_REALTIME_TIMESTAMP":"{sent}","MESSAGE":"x""#)).logged()
        };
        assert_eq!(at("1700000000000001"), Wall(1_700_000_000_000_001));
        assert_eq!(at("1800000000000000"), Wall(1_700_000_000_000_009));
        assert_eq!(entry(r#""MESSAGE":"x""#).logged(), Wall(1_700_000_000_000_009));
    }
}
