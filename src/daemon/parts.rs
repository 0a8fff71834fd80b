//! An exported registry on its way into a running daemon, in parts that fit a question.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::clock;
use crate::control::{Imported, QUESTION_BYTES_MAX};
use crate::engine::limits::NAMES_PER_ADDRESS_MAX;
use crate::engine::registry::{Asker, Saved};
use crate::store;

/// What a question is made of beside the part to be imported.
const QUESTION_BYTES: usize = 256;
/// What a part has room for.
const PART_BYTES: usize = QUESTION_BYTES_MAX - QUESTION_BYTES;
/// What stands around an address in a part.
const ADDRESS_BYTES: usize = 64;
/// Askers told at once of an address that has too many for one part: 22 KB with the longest of names.
const ASKERS_PER_PIECE: usize = 64;

/// Sends everything in a file in parts and adds up what becomes of them. Returns how many entries make no sense.
///
/// # Errors
/// If the file is none, or `send` fails. What was sent before that is `imported`.
pub(super) fn import_into(
    path: &Path,
    imported: &mut Imported,
    mut send: impl FnMut(Value) -> Result<Imported>,
) -> Result<u64> {
    let (mut parts, mut failed) = (Parts::default(), None);
    let mut send = |part: Value| -> Result<()> {
        imported.add(send(part)?);
        Ok(())
    };
    let skipped = store::read_json(path, clock::wall(), |address, saved| {
        if failed.is_none() {
            failed = parts.add(address, saved, &mut send).err();
        }
    });
    // What stands before damage is taken in.
    let sent = match failed {
        None => send(parts.take()),
        Some(error) => Err(error),
    };
    // An address in several pieces was known from the second on.
    let of_known = parts.repeats.min(imported.known);
    imported.known -= of_known;
    imported.skipped = imported.skipped.saturating_sub(parts.repeats - of_known);
    sent?;
    Ok(skipped?)
}

/// Addresses on their way to the daemon, as many as fit a question.
#[derive(Default)]
struct Parts {
    addresses: Map<String, Value>,
    bytes: usize,
    /// Pieces of addresses that others had been sent of.
    repeats: u64,
}

impl Parts {
    /// Adds one address, in pieces if it is too large, and sends what does not fit beside it.
    fn add(
        &mut self,
        address: IpAddr,
        mut saved: Saved,
        send: &mut impl FnMut(Value) -> Result<()>,
    ) -> Result<()> {
        keep_newest(&mut saved);
        let value = store::json_of(saved.clone());
        if value.to_string().len() + ADDRESS_BYTES <= PART_BYTES {
            return self.put(address, value, send);
        }
        for (index, piece) in pieces(&saved).into_iter().enumerate() {
            self.repeats += u64::from(index > 0);
            self.put(address, store::json_of(piece), send)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        address: IpAddr,
        value: Value,
        send: &mut impl FnMut(Value) -> Result<()>,
    ) -> Result<()> {
        let bytes = value.to_string().len() + ADDRESS_BYTES;
        let key = address.to_string();
        // A key stands in a part once, however its address was spelt.
        let is_there = self.addresses.contains_key(&key);
        if is_there || (!self.addresses.is_empty() && self.bytes + bytes > PART_BYTES) {
            send(self.take())?;
        }
        self.bytes += bytes;
        self.addresses.insert(key, value);
        Ok(())
    }

    fn take(&mut self) -> Value {
        self.bytes = 0;
        json!({ "version": store::JSON_VERSION, "addresses": std::mem::take(&mut self.addresses) })
    }
}

/// Leaves the names the daemon would keep.
fn keep_newest(saved: &mut Saved) {
    if saved.names.len() > NAMES_PER_ADDRESS_MAX {
        let mut places: Vec<usize> = (0..saved.names.len()).collect();
        places.sort_by_key(|at| Reverse(saved.names.get(*at).map(|seen| seen.last)));
        places.truncate(NAMES_PER_ADDRESS_MAX);
        saved.keep(&places);
    }
}

/// One name each with some of its askers, the newest name last.
fn pieces(saved: &Saved) -> Vec<Saved> {
    let mut pieces = Vec::new();
    for (at, seen) in saved.names.iter().enumerate().rev() {
        let is_last = at == 0;
        let own = |asker: &&Asker| {
            let of = usize::from(asker.name);
            of == at || (is_last && of >= saved.names.len())
        };
        let name = |asker: &Asker| if usize::from(asker.name) == at { 0 } else { Asker::UNNAMED };
        let askers: Vec<Asker> = saved
            .askers
            .iter()
            .filter(own)
            .map(|asker| Asker { name: name(asker), ..*asker })
            .collect();
        // A name nobody asked for is a piece, too.
        let chunks = askers.chunks(ASKERS_PER_PIECE).map(<[Asker]>::to_vec);
        let chunks = chunks.chain(askers.is_empty().then(Vec::new));
        pieces.extend(chunks.map(|askers| Saved {
            names: vec![seen.clone()],
            askers,
            used: saved.used,
        }));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::records;
    use crate::engine::Wall;
    use crate::engine::registry::Registry;
    use crate::engine::sieve::Sieve;

    const NOW: Wall = Wall(1_800_000_000_000_000);

    /// Imports a text as a daemon would; what became of it, and the registry.
    fn imported(text: &str) -> (Result<u64>, Imported, Registry) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.json");
        std::fs::write(&path, text).unwrap();
        let (registry, mut imported) = (Registry::default(), Imported::default());
        let done = import_into(&path, &mut imported, |part| {
            assert!(part.to_string().len() <= PART_BYTES, "it fits a question");
            Ok(records::import(&registry, &Sieve::new(None, NOW), &part, NOW)?)
        });
        (done, imported, registry)
    }

    fn row(name: &str, last: u32) -> Value {
        json!({ "name": name, "first": 1, "last": last, "kind": "reply" })
    }

    #[test]
    fn an_address_larger_than_a_question_is_taken_in() {
        let long = |n: u32| format!("n{n}.{}", [&"x".repeat(60)[..]; 3].join("."));
        let askers = |n: u32| {
            (0..14).map(move |asker| json!({ "address": format!("172.17.{n}.{asker}"), "last": n + 1, "name": long(n) }))
        };
        // The newest name in the middle, as no file of ours has it.
        let mut elements: Vec<Value> = (0..40).map(|n| row(&long(n), n + 1)).collect();
        elements.rotate_left(20);
        elements.push(json!({ "askers": (0..40).flat_map(askers).collect::<Vec<_>>() }));
        let chain: Vec<String> = (0..8).map(long).collect();
        for element in elements.iter_mut().take(40) {
            element["chain"] = json!(chain);
        }
        let text = json!({ "version": 2, "addresses": { "203.0.113.9": elements, "203.0.113.10": [row("b.example", 3)] } });
        let (done, counts, registry) = imported(&text.to_string());
        assert_eq!((done.unwrap(), counts), (0, Imported { new: 2, known: 0, skipped: 0 }));
        let saved = registry.saved("203.0.113.9".parse().unwrap()).unwrap();
        let newest: Vec<u32> = saved.names.iter().map(|seen| seen.last).collect();
        assert_eq!(newest, (25..=40).rev().collect::<Vec<u32>>());
        let of_newest = saved.askers.iter().filter(|asker| asker.name == 0).count();
        assert_eq!(of_newest, 14, "nobody who asked is forgotten");
    }

    #[test]
    fn two_spellings_of_an_address_are_both_taken_in() {
        let text = json!({ "version": 2, "addresses": {
            "2001:db8::1": [row("a.example", 1)], "2001:db8:0::1": [row("b.example", 2)] } });
        let (done, counts, registry) = imported(&text.to_string());
        assert_eq!((done.unwrap(), counts), (0, Imported { new: 1, known: 1, skipped: 0 }));
        assert_eq!(registry.names("2001:db8::1".parse().unwrap()).len(), 2);
    }

    #[test]
    fn what_was_taken_in_before_damage_is_counted() {
        let text =
            format!(r#"{{"addresses":{{"203.0.113.9":[{}]}},"version":9}}"#, row("a.example", 1));
        let (done, counts, registry) = imported(&text);
        assert!(done.unwrap_err().to_string().contains("version 9"));
        assert_eq!((counts.new, registry.len()), (1, 1));
    }
}
