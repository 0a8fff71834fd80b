//! Blocked addresses as CSV, in the ancestor's sixteen columns.

use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;

use crate::engine::Net;
use crate::engine::text::harmless;

/// The columns, in their order.
pub const COLUMNS: [&str; 16] = [
    "ip",
    "domain",
    "subnet",
    "org_name",
    "country",
    "abuse_score",
    "total_reports",
    "usage_type",
    "is_tor",
    "last_reported",
    "emails",
    "phone",
    "description",
    "first_seen",
    "last_updated",
    "reported_to_abuseipdb",
];
/// Prefix of the networks that addresses may share.
const SUBNET4: u8 = 16;
/// The same for IPv6: what one customer usually has.
const SUBNET6: u8 = 48;
/// synhold reports nobody.
const REPORTED: &str = "no";

/// One blocked address; what is not known is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The address.
    pub ip: IpAddr,
    /// A name of it.
    pub domain: String,
    /// Whose it is.
    pub org_name: String,
    /// Country code.
    pub country: String,
    /// AbuseIPDB's confidence, 0 to 100.
    pub abuse_score: String,
    /// Reports there within 90 days.
    pub total_reports: String,
    /// What it is used for, as AbuseIPDB has it.
    pub usage_type: String,
    /// `true` or `false`.
    pub is_tor: String,
    /// When it was reported there last.
    pub last_reported: String,
    /// Whom to write to.
    pub emails: String,
    /// Whom to call.
    pub phone: String,
    /// What there is to say.
    pub description: String,
    /// When it was first seen here.
    pub first_seen: String,
    /// When this row changed last.
    pub last_updated: String,
}

/// The network of an address that others may share, as `203.0.0.0/16`.
pub fn network(address: IpAddr) -> String {
    let prefix = if address.is_ipv4() { SUBNET4 } else { SUBNET6 };
    Net::around(address, prefix).to_string()
}

/// Writes all rows, by address; a network is told where at least two of them share it.
///
/// # Errors
/// What `out` says.
pub fn write(mut rows: Vec<Row>, out: impl Write) -> Result<(), csv::Error> {
    rows.sort_by_key(|row| row.ip);
    let mut shared: HashMap<String, usize> = HashMap::new();
    for row in &rows {
        *shared.entry(network(row.ip)).or_default() += 1;
    }
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(COLUMNS)?;
    for row in rows {
        let subnet = network(row.ip);
        let is_shared = shared.get(&subnet).is_some_and(|count| *count >= 2);
        let cells = [
            row.ip.to_string(),
            row.domain,
            if is_shared { subnet } else { String::new() },
            row.org_name,
            row.country,
            row.abuse_score,
            row.total_reports,
            row.usage_type,
            row.is_tor,
            row.last_reported,
            row.emails,
            row.phone,
            row.description,
            row.first_seen,
            row.last_updated,
            REPORTED.to_owned(),
        ];
        csv.write_record(cells.iter().map(|cell| safe(cell)))?;
    }
    Ok(csv.flush()?)
}

/// A cell that no spreadsheet takes for a formula.
fn safe(cell: &str) -> String {
    let cell: String = cell.chars().map(harmless).collect();
    match cell.trim_start().chars().next() {
        Some('=' | '+' | '-' | '@') => format!("'{cell}"),
        _ => cell,
    }
}

#[cfg(test)]
pub(super) fn of(ip: &str) -> Row {
    let (domain, org_name, country, abuse_score, total_reports, usage_type) = Default::default();
    let (is_tor, last_reported, emails, phone, description) = Default::default();
    let (first_seen, last_updated) = Default::default();
    Row {
        ip: ip.parse().unwrap(),
        domain,
        org_name,
        country,
        abuse_score,
        total_reports,
        usage_type,
        is_tor,
        last_reported,
        emails,
        phone,
        description,
        first_seen,
        last_updated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(rows: Vec<Row>) -> String {
        let mut out = Vec::new();
        write(rows, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_come_by_address_and_share_a_network_only_if_they_do() {
        let all = ["203.0.113.9", "9.9.9.9", "203.0.7.1", "2001:db8:1::1", "2001:db8:1:2::1"];
        let text = written(all.map(of).into());
        let mut lines = text.lines();
        assert_eq!(
            lines.next().unwrap(),
            "ip,domain,subnet,org_name,country,abuse_score,total_reports,usage_type,is_tor,last_reported,emails,phone,\
             description,first_seen,last_updated,reported_to_abuseipdb"
        );
        let heads: Vec<String> =
            lines.map(|line| line.split(',').take(3).collect::<Vec<_>>().join(",")).collect();
        assert_eq!(
            heads,
            [
                "9.9.9.9,,",
                "203.0.7.1,,203.0.0.0/16",
                "203.0.113.9,,203.0.0.0/16",
                "2001:db8:1::1,,2001:db8:1::/48",
                "2001:db8:1:2::1,,2001:db8:1::/48"
            ]
        );
    }

    #[test]
    fn a_cell_of_strangers_is_no_formula_and_no_second_row() {
        let row = Row {
            domain: "=HYPERLINK(\"http://x\")".to_owned(),
            org_name: " +cmd|' /C calc'!A0".to_owned(),
            description: "@x\r\n-1,\"2\"\u{202e}".to_owned(),
            phone: "\t=1".to_owned(),
            ..of("203.0.113.9")
        };
        let text = written(vec![row]);
        assert_eq!(text.lines().count(), 2, "{text}");
        let read: Vec<csv::StringRecord> =
            csv::Reader::from_reader(text.as_bytes()).records().map(Result::unwrap).collect();
        let cells: Vec<&str> = read[0].iter().collect();
        assert_eq!(cells[1], "'=HYPERLINK(\"http://x\")");
        assert_eq!(cells[3], "' +cmd|' /C calc'!A0");
        assert_eq!((cells[11], cells[12]), ("' =1", "'@x  -1,\"2\" "));
    }
}
