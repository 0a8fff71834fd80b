//! Whose an address is: RDAP (RFC 9083), of which a few words are kept.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::Endpoint;
use crate::report::plain;

/// Sends whoever asks on to the registry that knows.
pub const RDAP: &str = "https://rdap.org";
/// Entities within entities that are looked into; registries nest two.
const DEPTH_MAX: u32 = 4;
/// Values kept of several, and characters of each.
const VALUES_MAX: usize = 4;
const VALUE_CHARS_MAX: usize = 160;

/// Whose an address is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The organisation, or the name of the network.
    pub org_name: String,
    /// Country code.
    pub country: String,
    /// Whom to write to about abuse, else to anybody.
    pub emails: String,
    /// Whom to call.
    pub phone: String,
    /// What the network says about itself.
    pub description: String,
}

/// What people of a registration say.
#[derive(Default)]
struct Contacts {
    registrant: Option<String>,
    abuse: Vec<String>,
    others: Vec<String>,
    phones: Vec<String>,
}

pub(super) fn ask(at: &Endpoint, address: IpAddr) -> Result<Registration, String> {
    let answer = at.get(&format!("/ip/{address}"), &[("Accept", "application/rdap+json")])?;
    Ok(read(&answer))
}

fn read(answer: &Value) -> Registration {
    let mut contacts = Contacts::default();
    look_at(answer, DEPTH_MAX, &mut contacts);
    let text = |key: &str| answer.get(key).and_then(Value::as_str).map(kept);
    let remarks = array(answer.get("remarks")).flat_map(|remark| array(remark.get("description")));
    let emails = match contacts.abuse.is_empty() {
        true => contacts.others,
        false => contacts.abuse,
    };
    Registration {
        org_name: contacts.registrant.or_else(|| text("name")).unwrap_or_default(),
        country: text("country").unwrap_or_default(),
        emails: joined(emails),
        phone: joined(contacts.phones),
        description: joined(remarks.filter_map(Value::as_str).map(kept).collect()),
    }
}

fn look_at(value: &Value, depth: u32, into: &mut Contacts) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for entity in array(value.get("entities")) {
        let has = |role: &str| array(entity.get("roles")).any(|own| own.as_str() == Some(role));
        for field in array(entity.get("vcardArray").and_then(|card| card.get(1))) {
            let name = field.get(0).and_then(Value::as_str);
            let Some(text) = field.get(3).and_then(Value::as_str).map(kept) else { continue };
            match name {
                Some("fn") if has("registrant") => {
                    into.registrant.get_or_insert(text);
                }
                Some("email") if has("abuse") => into.abuse.push(text),
                Some("email") => into.others.push(text),
                Some("tel") => into.phones.push(text.trim_start_matches("tel:").to_owned()),
                _ => {}
            }
        }
        look_at(entity, depth, into);
    }
}

fn array(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn kept(text: &str) -> String {
    plain(text, VALUE_CHARS_MAX)
}

fn joined(values: Vec<String>) -> String {
    let mut few: Vec<String> = Vec::new();
    for value in values {
        if few.len() < VALUES_MAX && !value.is_empty() && !few.contains(&value) {
            few.push(value);
        }
    }
    few.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_words_that_matter_are_found_wherever_a_registry_puts_them() {
        let card = |fields: Value| json!(["vcard", fields]);
        let answer = json!({
            "name": "EXAMPLE-NET", "country": "NL", "remarks": [{ "description": ["Example network", "second"] }],
            "entities": [
                { "roles": ["registrant"], "vcardArray": card(json!([["fn", {}, "text", "Example B.V."]])),
                  "entities": [{ "roles": ["abuse"], "vcardArray": card(json!([
                      ["email", {}, "text", "abuse@example.net"], ["tel", {}, "uri", "tel:+31-1"], ["adr", {}, "text", ["", ""]]])) }] },
                { "roles": ["technical"], "vcardArray": card(json!([["email", {}, "text", "noc@example.net"]])) }
            ]
        });
        let expected = Registration {
            org_name: "Example B.V.".to_owned(),
            country: "NL".to_owned(),
            emails: "abuse@example.net".to_owned(),
            phone: "+31-1".to_owned(),
            description: "Example network; second".to_owned(),
        };
        assert_eq!(read(&answer), expected);
        assert_eq!(read(&json!({ "name": "ONLY" })).org_name, "ONLY");
        let mut deep = json!({});
        (0..200).for_each(|_| deep = json!({ "entities": [deep] }));
        assert_eq!(read(&deep), Registration::default());
    }

    proptest! {
        #[test]
        fn no_answer_panics(text in ".{0,80}") {
            let value = json!({ "name": text, "entities": [{ "roles": text, "vcardArray": [text, [[text, 1, 2, text]]] }], "remarks": text });
            prop_assert!(read(&value).org_name.chars().count() <= VALUE_CHARS_MAX);
        }
    }
}
