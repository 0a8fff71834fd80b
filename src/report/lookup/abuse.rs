//! The fame of an address: AbuseIPDB, version 2 of its interface, `check`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::Endpoint;
use crate::report::plain;

/// Where it is.
pub const ABUSEIPDB: &str = "https://api.abuseipdb.com";
/// Reports that count, in days.
const DAYS: u32 = 90;
const VALUE_CHARS_MAX: usize = 160;

/// The fame of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reputation {
    /// Confidence that it is abusive, 0 to 100.
    pub abuse_score: String,
    /// Reports.
    pub total_reports: String,
    /// What it is used for.
    pub usage_type: String,
    /// `true` or `false`.
    pub is_tor: String,
    /// The last report.
    pub last_reported: String,
}

pub(super) fn ask(at: &Endpoint, key: &str, address: IpAddr) -> Result<Reputation, String> {
    let path = format!("/api/v2/check?ipAddress={address}&maxAgeInDays={DAYS}");
    let answer = at.get(&path, &[("Key", key), ("Accept", "application/json")])?;
    read(&answer).ok_or_else(|| "(the answer has no data)".to_owned())
}

fn read(answer: &Value) -> Option<Reputation> {
    let data = answer.get("data")?.as_object()?;
    let text = |key: &str| match data.get(key) {
        None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => String::new(),
        Some(Value::String(text)) => plain(text, VALUE_CHARS_MAX),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
    };
    Some(Reputation {
        abuse_score: text("abuseConfidenceScore"),
        total_reports: text("totalReports"),
        usage_type: text("usageType"),
        is_tor: text("isTor"),
        last_reported: text("lastReportedAt"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_becomes_text_and_what_is_missing_stays_empty() {
        let answer = json!({ "data": { "abuseConfidenceScore": 100, "totalReports": 7, "isTor": false,
            "usageType": null, "lastReportedAt": "2026-01-02T03:04:05+00:00" } });
        let found = read(&answer).unwrap();
        assert_eq!((&*found.abuse_score, &*found.is_tor, &*found.usage_type), ("100", "false", ""));
        assert_eq!(read(&json!({ "errors": [] })), None);
    }
}
