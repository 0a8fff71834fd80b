//! What the engine tells as it happens: one line of its stream of events, understood.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::engine::time::Wall;

/// Actions we ask for, in Docker's words and in Podman's. What an engine has no word for, it leaves out.
pub(super) const ACTIONS: [&str; 13] = [
    "create",
    "init",
    "start",
    "die",
    "died",
    "cleanup",
    "destroy",
    "remove",
    "rename",
    "connect",
    "disconnect",
    "restore",
    "sync",
];
/// An id is 64 digits; names stand for ids in places, and may be as long as a domain name.
const ID_LENGTH_MAX: usize = 256;

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: Wall,
    pub(super) what: What,
}

/// What happened. Ids as the engine writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A container was created.
    Created(Arc<str>),
    /// A container runs, or is attached elsewhere; it has to be looked at.
    Stirred(Arc<str>),
    /// A container has another name.
    Renamed { id: Arc<str>, name: Arc<str> },
    /// A container runs no more.
    Died(Arc<str>),
    /// A container is no more.
    Removed(Arc<str>),
    /// A container was attached to a network.
    Attached { id: Arc<str>, network: Arc<str> },
    /// A container was detached from a network.
    Detached { id: Arc<str>, network: Arc<str> },
    /// A network was created.
    NetworkCreated(Arc<str>),
    /// A network is no more.
    NetworkRemoved(Arc<str>),
}

/// Reads a line. `None` if it is none of what is asked for, or not an event at all.
///
/// Only `Type`, `Action`, `Actor` and the time are looked at: the fields `id`, `status` and `from` of old are not
/// there from API 1.52 on.
pub(super) fn parse(line: &[u8]) -> Option<Event> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let (kind, action) = (text(&line, "/Type")?, text(&line, "/Action")?);
    let id = id(&line, "/Actor/ID")?;
    let what = match kind {
        "container" => container(&line, action, id)?,
        "network" => network(&line, action, id)?,
        _ => return None,
    };
    Some(Event { at: time(&line), what })
}

fn container(line: &Value, action: &str, id: Arc<str>) -> Option<What> {
    Some(match action {
        "create" => What::Created(id),
        // Podman: `init` when its network is there, before its process runs; `restore` from a checkpoint; `sync`
        // when Podman finds that what it knew of it is not so.
        "start" | "init" | "restore" | "sync" => What::Stirred(id),
        "rename" => {
            let name = text(line, "/Actor/Attributes/name")?.trim_start_matches('/');
            What::Renamed { id, name: name.into() }
        }
        // Podman: `cleanup` when what a container used is given back, also after a start that failed.
        "die" | "died" | "cleanup" => What::Died(id),
        "destroy" | "remove" => What::Removed(id),
        _ => return None,
    })
}

fn network(line: &Value, action: &str, network: Arc<str>) -> Option<What> {
    let container = || self::id(line, "/Actor/Attributes/container");
    Some(match action {
        "create" => What::NetworkCreated(network),
        "destroy" | "remove" => What::NetworkRemoved(network),
        "connect" => match container() {
            Some(id) => What::Attached { id, network },
            // Podman: the actor is the container, and the network is not told.
            None => What::Stirred(network),
        },
        "disconnect" => match container() {
            Some(id) => What::Detached { id, network },
            None => What::Stirred(network),
        },
        _ => return None,
    })
}

fn time(line: &Value) -> Wall {
    let number = |key: &str| line.get(key).and_then(Value::as_u64);
    let nanos = number("timeNano").map(|nanos| nanos / 1_000);
    let micros = nanos.or_else(|| Some(number("time")?.saturating_mul(1_000_000)));
    Wall(micros.unwrap_or_default())
}

fn text<'a>(line: &'a Value, pointer: &str) -> Option<&'a str> {
    line.pointer(pointer)?.as_str()
}

fn id(line: &Value, pointer: &str) -> Option<Arc<str>> {
    let id = text(line, pointer)?;
    (!id.is_empty() && id.len() <= ID_LENGTH_MAX).then(|| id.into())
}

/// Drops from what happened before a list was asked for that which a later event of it undoes: the container runs
/// again, or is attached again, and the list tells so already.
///
/// The rest is kept. A container is listed as running for a while after it died (some 150 ms with 20.10, since its
/// network is taken down first), and is not listed as attached before it runs, so that a list alone is not the truth.
pub(super) fn settle(events: &mut Vec<Event>, listed: Wall) {
    let (mut alive, mut attached) = (HashSet::new(), HashSet::new());
    let mut kept = Vec::new();
    for event in events.drain(..).rev() {
        let undone = match &event.what {
            What::Stirred(id) => {
                alive.insert(id.clone());
                false
            }
            What::Attached { id, network } => {
                alive.insert(id.clone());
                attached.insert((id.clone(), network.clone()));
                false
            }
            What::Died(id) => alive.contains(id),
            What::Detached { id, network } => attached.contains(&(id.clone(), network.clone())),
            _ => false,
        };
        if !undone || event.at >= listed {
            kept.push(event);
        }
    }
    kept.reverse();
    *events = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(line: &str) -> Option<What> {
        parse(line.as_bytes()).map(|event| event.what)
    }

    #[test]
    fn events_of_docker_are_understood_with_and_without_the_fields_of_old() {
        let lines = include_str!("testdata/events-docker-1.41.jsonl");
        let old: Vec<Event> = lines.lines().filter_map(|line| parse(line.as_bytes())).collect();
        let new: Vec<Event> = lines
            .lines()
            .filter_map(|line| {
                let mut line: Value = serde_json::from_str(line).unwrap();
                let fields = line.as_object_mut().unwrap();
                for gone in ["id", "status", "from"] {
                    fields.remove(gone);
                }
                parse(line.to_string().as_bytes())
            })
            .collect();
        assert_eq!(old, new);
        let told = |index: usize| format!("{:?}", old[index].what);
        assert!(told(0).starts_with("Created(\"5f0bf21b"), "{}", told(0));
        assert!(told(1).starts_with("Attached { id: \"5f0bf21b"), "{}", told(1));
        assert!(told(2).starts_with("Stirred(\"5f0bf21b"), "{}", told(2));
        assert_eq!(old[0].at, Wall(1_795_322_292_036_551));
        let renamed = old.iter().find_map(|event| match &event.what {
            What::Renamed { name, .. } => Some(name.clone()),
            _ => None,
        });
        assert_eq!(renamed.as_deref(), Some("deux"));
        let count = |of: fn(&What) -> bool| old.iter().filter(|event| of(&event.what)).count();
        assert_eq!(count(|what| matches!(what, What::Died(_))), 1);
        assert_eq!(count(|what| matches!(what, What::Removed(_))), 1);
        assert_eq!(count(|what| matches!(what, What::Detached { .. })), 4);
    }

    #[test]
    fn events_of_podman_are_understood() {
        let lines = include_str!("testdata/events-podman-4.3.jsonl");
        let told: Vec<What> = lines.lines().filter_map(what).collect();
        let words: Vec<String> = told
            .iter()
            .map(|what| format!("{what:?}").split('(').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(words, ["Created", "Stirred", "Stirred", "Died", "Removed"]);
        // Its networks' events name the container alone.
        let connect = r#"{"Type":"network","Action":"connect","Actor":{"ID":"079c","Attributes":{"name":"pp"}}}"#;
        assert_eq!(what(connect), Some(What::Stirred("079c".into())));
    }

    #[test]
    fn what_is_no_event_of_ours_is_none() {
        for line in [
            "",
            "{",
            "null",
            "[]",
            "{}",
            r#"{"Type":"container","Action":"create"}"#,
            r#"{"Type":"container","Action":"create","Actor":{"ID":""}}"#,
            r#"{"Type":"container","Action":"create","Actor":{"ID":7}}"#,
            r#"{"Type":"container","Action":["create"],"Actor":{"ID":"a"}}"#,
            r#"{"Type":"container","Action":"dream","Actor":{"ID":"a"}}"#,
            r#"{"Type":"sandbox","Action":"create","Actor":{"ID":"a"}}"#,
            r#"{"Type":"container","Action":"rename","Actor":{"ID":"a","Attributes":null}}"#,
            r#"{"status":"create","id":"a","from":"hbox"}"#,
        ] {
            assert_eq!(what(line), None, "{line}");
        }
    }

    #[test]
    fn a_moment_is_read_from_whichever_field_is_there() {
        let at = |time: &str| {
            let line =
                format!(r#"{{"Type":"container","Action":"die","Actor":{{"ID":"a"}}{time}}}"#);
            parse(line.as_bytes()).unwrap().at.0
        };
        assert_eq!(at(r#","time":5,"timeNano":5000007999"#), 5_000_007);
        assert_eq!(at(r#","time":5"#), 5_000_000);
        assert_eq!(at(r#","time":18446744073709551615"#), u64::MAX);
        assert_eq!(at(r#","time":-5"#), 0);
        assert_eq!(at(""), 0);
    }

    #[test]
    fn of_what_is_older_than_a_list_only_what_still_holds_is_kept() {
        let id = |id: &str| -> Arc<str> { id.into() };
        let attached = |c: &str| What::Attached { id: id(c), network: id("n") };
        let detached = |c: &str| What::Detached { id: id(c), network: id("n") };
        let mut events: Vec<Event> = [
            What::Died(id("restarted")),
            detached("restarted"),
            attached("restarted"),
            What::Stirred(id("restarted")),
            What::Died(id("dead")),
            detached("dead"),
            What::Created(id("starting")),
            attached("starting"),
        ]
        .into_iter()
        .zip(1..)
        .map(|(what, at)| Event { at: Wall(at), what })
        .collect();
        let all = events.clone();
        settle(&mut events, Wall(0));
        assert_eq!(events, all, "what came after the list is told as it was");
        settle(&mut events, Wall(100));
        let kept: Vec<u64> = events.iter().map(|event| event.at.0).collect();
        assert_eq!(kept, [3, 4, 5, 6, 7, 8]);
    }
}
