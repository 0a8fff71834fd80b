//! Answers about containers that are known.

use serde_json::Value;

use super::*;
use crate::control::parse;
use crate::daemon::inspect::RulesState;
use crate::daemon::testing::Parts;
use crate::engine::container::{Change, Container as Told, Dated, Endpoint, Network, NetworkMode};
use crate::engine::limits::FAULTS_MAX;
use crate::engine::registry::Registry;
use crate::engine::{Kind, Name, Reason, Record, Verdict};
use crate::events::EventWriter;

struct Bench {
    answers: Answers,
    lists: tempfile::TempDir,
    _writer: EventWriter,
}

/// A daemon that knows `web` with two addresses, and `db` on a network that is not judged.
fn bench() -> Bench {
    let (shared, writer) = Parts::default().shared();
    let daemon = Daemon {
        pid: 7,
        version: "1".to_owned(),
        state_dir: "/state".into(),
        config: None,
        events: None,
        memory_only: false,
        netns: 1,
        since: Wall(0),
    };
    let shared = Arc::new(shared);
    let (posture, refuse) = ("closed", RefusedBy::Reset);
    // The kernel is not asked here.
    shared.rules.say(RulesState::Absent);
    let bell = Bell::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let lists = Arc::new(ListConfig {
        state_dir: folder.path().into(),
        refuse_doh: false,
        feeds: Vec::new(),
        host: Vec::new(),
        upstreams: Vec::new(),
    });
    let changes = Changes::start(&lists, &shared, &bell).unwrap();
    let (runs, imports) = (Runs::start(&bell).unwrap(), BTreeMap::new());
    let answers = Answers { shared, daemon, bell, runs, lists, imports, changes, posture, refuse };
    let bench = Bench { answers, lists: folder, _writer: writer };
    for (id, driver) in [("net1", "bridge"), ("net2", "macvlan")] {
        bench.apply(Change::Network(Network {
            id: id.into(),
            name: format!("{id}-name").into(),
            driver: driver.into(),
            interface: None,
            subnets: vec!["172.18.0.0/16".parse().unwrap()],
        }));
    }
    bench.run("web", "a1b2c3d4e5f6", "net1", &["172.18.0.2", "fd00::2"], &[("mode", "off")]);
    bench.run("db", "00ffeeddccbb", "net2", &["172.18.0.3"], &[]);
    bench
}

impl Bench {
    fn apply(&self, change: Change) {
        let mut books = books(&self.answers.shared);
        books.apply(Dated { at: Wall(1_000_000), change });
        let owners = books.owners();
        self.answers.shared.engine.set_owners(owners, clock::now());
    }

    fn run(&self, name: &str, id: &str, net: &str, addresses: &[&str], labels: &[(&str, &str)]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let label = |(key, value): &(&str, &str)| (format!("synhold.{key}"), (*value).to_owned());
        self.apply(Change::Container(Told {
            id: id.into(),
            name: name.into(),
            image: "image:1".into(),
            labels: labels.iter().map(label).collect(),
            network: NetworkMode::Own,
            running: true,
            endpoints: vec![Endpoint { network: net.into(), addresses }],
        }));
    }

    fn ask(&mut self, line: &str) -> Result<Value, Fault> {
        let peer = Peer { connection: 7, uid: 0, pid: std::process::id(), may_change: true };
        match self.answers.answer(&peer, parse(line.as_bytes()).unwrap())? {
            Said::Value(value) => Ok(value),
            Said::Later(pending) => pending.wait(),
            Said::Lines { answer, .. } => Ok(answer),
        }
    }

    fn explain(&mut self, address: &str, container: &str) -> Result<Explained, Fault> {
        self.answers.explain(address.parse().unwrap(), Some(container))
    }
}

#[test]
fn status_lists_what_runs_with_what_is_not_covered() {
    let mut bench = bench();
    bench.answers.shared.report_docker(true, "Docker 29".to_owned());
    let status: Status =
        serde_json::from_value(bench.ask(r#"{"v":1,"ask":"status"}"#).unwrap()).unwrap();
    let names: Vec<&str> = status.containers.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["db", "web"]);
    let [db, web] = &status.containers[..] else { panic!("{status:?}") };
    assert!(db.addresses.is_empty() && db.gaps[0].contains("macvlan"), "{db:?}");
    assert_eq!(web.addresses.len(), 2);
    assert_eq!((db.treatment(), web.treatment()), ("not judged", web.policy.mode.as_str()));
    assert!(web.policy.faults[0].contains("may only loosen with trust-labels"), "{web:?}");
    assert_eq!((status.docker.state, status.docker.what.as_str()), (DockerState::Up, "Docker 29"));
    assert_eq!(status.rules.as_deref(), Some("absent"));
}

#[test]
fn any_number_of_unfollowed_labels_is_told_in_a_few_lines() {
    let bench = bench();
    let labels: Vec<String> = (0..1000).map(|n| format!("no-{n}")).collect();
    let labels: Vec<(&str, &str)> = labels.iter().map(|label| (label.as_str(), "x")).collect();
    bench.run("noisy", "abcdabcdabcd", "net1", &["172.18.0.9"], &labels);
    let (owner, place) = books(&bench.answers.shared).find("noisy").unwrap();
    let faults = container(&owner, place, &Lists::default()).policy.faults;
    assert_eq!(faults.len(), FAULTS_MAX + 1);
    assert_eq!(faults[FAULTS_MAX], "984 more labels are not followed");
}

#[test]
fn an_explanation_is_the_engines_for_the_containers_own_address() {
    let mut bench = bench();
    for who in ["web", "a1b2c3", "172.18.0.2"] {
        let said = bench.explain("203.0.113.9", who).unwrap();
        assert_eq!(said.source, Some("172.18.0.2".parse().unwrap()), "{who}");
        assert_eq!(said.container.unwrap().name, "web", "{who}");
        // Nobody reads DNS here, so nobody is accused.
        assert_eq!((said.verdict, said.reason), (Verdict::Drop, Reason::Unhealthy), "{who}");
        assert_eq!(said.held_ms, 750);
    }
    assert_eq!(bench.explain("2001:db8::9", "web").unwrap().source, "fd00::2".parse().ok());
    let registry: &Registry = bench.answers.shared.engine.registry();
    registry.insert(&Record {
        address: "203.0.113.9".parse().unwrap(),
        name: Name::new("shop.example").unwrap(),
        client: "172.18.0.2".parse().ok(),
        kind: Kind::Reply,
        chain: vec![],
        time: Wall(5_000_000),
    });
    let said = bench.explain("203.0.113.9", "web").unwrap();
    assert_eq!((said.verdict, said.reason, said.held_ms), (Verdict::Accept, Reason::Resolved, 0));
    let named = &said.names[0];
    assert_eq!((named.name.as_str(), named.container.as_deref()), ("shop.example", Some("web")));
    assert_eq!(named.last, Wall(5_000_000));
}

#[test]
fn who_cannot_be_asked_about_is_told_with_the_reason() {
    let mut bench = bench();
    let mut why = |address, container| {
        let fault = bench.explain(address, container).unwrap_err();
        assert_eq!(fault.kind, FaultKind::NotFound);
        fault.message
    };
    assert!(why("203.0.113.9", "nobody").contains("no container is known as \"nobody\""));
    assert!(why("203.0.113.9", "db").contains("of type macvlan"));
    assert!(why("203.0.113.9", "fd00::2").contains("not of one family"));
    bench.apply(Change::Died { id: "a1b2c3d4e5f6".into() });
    assert!(bench.explain("203.0.113.9", "web").unwrap_err().message.contains("does not run"));
}

#[test]
fn who_is_not_known_may_be_so_because_docker_is_not() {
    let mut bench = bench();
    let mut why = || bench.explain("203.0.113.9", "new").unwrap_err().message;
    assert!(why().contains("Docker has not answered yet"), "{}", why());
    bench.answers.shared.report_docker(false, "no socket".to_owned());
    let why = bench.explain("203.0.113.9", "new").unwrap_err().message;
    assert!(why.contains("Docker is DOWN (no socket)"), "{why}");
    bench.answers.shared.report_docker(true, "Docker 29".to_owned());
    let why = bench.explain("203.0.113.9", "new").unwrap_err().message;
    assert!(why.contains("`synhold status` lists those that run"), "{why}");
}

#[test]
fn containers_are_found_by_any_of_their_names() {
    let bench = bench();
    let found = |container: Option<&str>| bench.answers.containers(container);
    let all = found(None).unwrap();
    assert_eq!(all.by_address()[&"fd00::2".parse::<IpAddr>().unwrap()], "web");
    assert_eq!(all.containers.len(), 2);
    for text in ["web", "a1b2c3d4e5f6", "a1b2", "172.18.0.2"] {
        assert_eq!(found(Some(text)).unwrap().containers["web"].len(), 2, "{text}");
    }
    assert_eq!(found(Some("172.18.0.77")).unwrap_err().kind, FaultKind::NotFound);
}

#[test]
fn a_container_by_any_of_its_names_is_put_into_quarantine_and_let_out() {
    let mut bench = bench();
    let mut ask = |what: &str, container: &str| {
        bench.ask(&format!(r#"{{"v":1,"ask":"{what}","container":"{container}"}}"#))
    };
    let fault = ask("block", "nobody").unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    let edited = ask("block", "a1b2c3").unwrap();
    assert_eq!(edited["action"], "quarantine");
    assert_eq!(edited["entries"][0]["entry"], "container:web");
    assert_eq!(edited["daemon"]["state"], "unconfirmed", "nobody reads lists here");
    let text = || std::fs::read_to_string(bench.lists.path().join("lists/quarantine.txt")).unwrap();
    assert!(text().contains("\ncontainer:web\n"), "{}", text());
}

#[test]
fn a_change_that_nobody_waits_for_any_more_is_not_made() {
    let mut bench = bench();
    let peer = Peer { connection: 7, uid: 0, pid: 0, may_change: true };
    let mut ask = |what: &str, entry: &str| {
        let line = format!(r#"{{"v":1,"ask":"{what}","entries":["{entry}"]}}"#);
        match bench.answers.answer(&peer, parse(line.as_bytes()).unwrap()) {
            Ok(Said::Later(pending)) => pending,
            _ => panic!("it is made later"),
        }
    };
    // Nobody reads lists here, so this one takes its time.
    let first = ask("allow", "192.0.2.1");
    drop(ask("allow", "192.0.2.2"));
    let last = ask("unallow", "192.0.2.3");
    first.wait().unwrap();
    last.wait().unwrap();
    let text = std::fs::read_to_string(bench.lists.path().join("lists/allow.txt")).unwrap();
    assert!(text.contains("192.0.2.1") && !text.contains("192.0.2.2"), "{text}");
}

#[test]
fn what_takes_time_is_made_beside_and_what_is_too_much_is_refused_at_once() {
    let mut bench = bench();
    // Of each member one waits at most.
    let mut uid = 1000;
    let mut is_later = |line: &str| {
        uid += 1;
        let peer = Peer { connection: 7, uid, pid: 0, may_change: false };
        let question = parse(line.as_bytes()).unwrap();
        matches!(bench.answers.answer(&peer, question), Ok(Said::Later(_)))
    };
    assert!(is_later(r#"{"v":1,"ask":"registry-lookup","what":"a.example"}"#));
    assert!(!is_later(r#"{"v":1,"ask":"registry-lookup","what":"192.0.2.1"}"#), "it is one look");
    assert!(is_later(r#"{"v":1,"ask":"lists-lookup","name":"a.example"}"#));
    let most = crate::daemon::inspect::SHOWN_MAX;
    let mut fault = |limit: usize, within: &str| {
        let line = format!(
            r#"{{"v":1,"ask":"sets-show","name":"block","limit":{limit},"match":"{within}"}}"#
        );
        bench.ask(&line).unwrap_err()
    };
    let too_many = fault(most + 1, "::/0");
    assert_eq!(too_many.kind, FaultKind::Malformed);
    assert!(too_many.message.contains("say --limit 2000"), "{too_many}");
    let long = fault(1, &"x".repeat(60_000));
    assert!(long.kind == FaultKind::Malformed && long.message.len() < 400, "{long}");
}

#[test]
fn an_import_is_told_when_its_client_leaves() {
    let mut bench = bench();
    for n in 1..=3 {
        let part =
            format!(r#"{{"v":1,"ask":"registry-import","registry":{{"192.0.2.{n}":["a"]}}}}"#);
        assert_eq!(bench.ask(&part).unwrap()["new"], 1);
    }
    let other = Peer { connection: 8, uid: 0, pid: 0, may_change: true };
    bench.answers.left(&other);
    assert_eq!(bench.answers.imports.len(), 1);
    bench.answers.left(&Peer { connection: 7, ..other });
    assert!(bench.answers.imports.is_empty());
    // So is one that failed at once.
    bench.ask(r#"{"v":1,"ask":"registry-import","registry":7}"#).unwrap_err();
    let (outcome, detail) = bench.answers.imports[&7].outcome();
    assert_eq!(outcome, crate::engine::event::Outcome::Failed);
    assert!(detail.unwrap().starts_with("0 addresses new, 0 known, 0 skipped, and then"));
}

#[test]
fn events_are_picked_by_words_that_are_known() {
    let mut bench = bench();
    let fault = bench.ask(r#"{"v":1,"ask":"events","only":["verdicts"]}"#).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Malformed);
    assert!(fault.message.contains("ready, verdict, block"), "{fault}");
    let told = bench.ask(r#"{"v":1,"ask":"events","only":["verdict"],"container":"web"}"#);
    assert_eq!(told.unwrap()["recent"], 0);
    let only = ["stop", "learn", "stop"].repeat(1000).into_iter().map(str::to_owned).collect();
    let asked = crate::control::EventsAsked { only, ..Default::default() };
    assert_eq!(bench.answers.pick(&asked).unwrap().kinds, ["learn", "stop"], "each once");
}
