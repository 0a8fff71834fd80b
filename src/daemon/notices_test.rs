//! Sinks that come and go while the daemon runs: who is told what, and what becomes of what waits.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tracing::level_filters::LevelFilter;

use super::*;
use crate::alert;
use crate::control::{CanaryState, SinkState};
use crate::daemon::findings::testing::block;
use crate::engine::inventory::Inventory;
use crate::engine::policy::Policies;
use crate::engine::wish::Refusal;
use crate::engine::{Engine, Settings, Verdict};
use crate::events::{EventWriter, Outputs};
use crate::nfq::Disposition;

const LONG: Duration = Duration::from_secs(20);

struct Bench {
    notices: Notices,
    shared: Arc<Shared>,
    folder: TempDir,
    _writer: EventWriter,
}

impl Bench {
    fn new() -> Bench {
        let outputs = Outputs { stdout: None, level: LevelFilter::OFF, file: None };
        let writer = EventWriter::start(outputs).unwrap();
        let settings = Settings::default();
        let books = Inventory::new(Policies::new(&settings, Refusal::Reset));
        let shared = Arc::new(Shared::new(
            Engine::new(settings, Vec::new()),
            Vec::new(),
            writer.sender(),
            Arc::new(crate::daemon::denied::Denied::new().0),
            crate::daemon::truth::Truth::orders().unwrap(),
            (crate::daemon::roster::notes().unwrap(), books, Default::default()),
            Verdict::Accept,
            Disposition::Refuse,
            0,
        ));
        let notices = Notices { shared: Arc::clone(&shared), running: None };
        Bench { notices, shared, folder: tempfile::tempdir().unwrap(), _writer: writer }
    }

    /// A container dials what a list refuses.
    fn dial(&self, last: u8) {
        self.shared.event(block("web", &format!("203.0.113.{last}"), "block4", 1));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A sink that runs this in a shell, with its alert in `$A`.
    fn sink(&self, name: &str, script: &str) -> Sink {
        let script =
            format!("cd {}; A=$SYNHOLD_ALERT_ADDRESS; {script}", self.folder.path().display());
        let text = format!(
            "name = {name:?}\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]"
        );
        alert::all(vec![text.parse().unwrap()]).unwrap().remove(0)
    }

    /// A sink that adds a line to a file of its name.
    fn writes(&self, name: &str) -> Sink {
        self.sink(name, &format!("echo $A >> {name}"))
    }

    fn state(&self, name: &str) -> Option<SinkState> {
        self.shared.pulse.sinks().iter().find(|state| state.name == name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.shared.pulse.sinks().iter().map(|state| state.name.clone()).collect()
    }

    fn sent(&self, name: &str) -> u64 {
        self.state(name).map_or(0, |state| state.sent)
    }
}

fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_sink_that_is_as_it_was_goes_on_and_others_come_and_go() {
    let mut bench = Bench::new();
    bench.notices.set(&[bench.writes("pager"), bench.writes("chat")]);
    bench.dial(1);
    eventually("both are told", || bench.sent("pager") + bench.sent("chat") == 2);

    bench.notices.set(&[bench.writes("mail"), bench.writes("pager")]);
    eventually("they are others", || bench.names() == ["mail", "pager"]);
    assert_eq!(bench.sent("pager"), 1, "it keeps what was counted");
    // What pager was told it is not told again; the new one has not heard of it.
    bench.dial(1);
    bench.dial(2);
    eventually("both know", || bench.sent("mail") == 2 && bench.sent("pager") == 2);
    assert_eq!(lines(&bench.file("pager")), ["203.0.113.1", "203.0.113.2"]);
    assert_eq!(lines(&bench.file("mail")), ["203.0.113.1", "203.0.113.2"]);

    bench.notices.set(&[]);
    eventually("none is left", || bench.names().is_empty());
    bench.dial(3);
    bench.notices.set(&[bench.writes("chat")]);
    eventually("one came again", || bench.names() == ["chat"]);
    bench.dial(4);
    eventually("it is told", || bench.sent("chat") == 1);
    drop(bench.notices);
    assert_eq!(lines(&bench.folder.path().join("chat")), ["203.0.113.1", "203.0.113.4"]);
    assert_eq!(lines(&bench.folder.path().join("pager")).len(), 2);
}

#[test]
fn one_that_goes_gets_what_waits_for_it_and_one_of_its_name_has_a_new_beginning() {
    let mut bench = Bench::new();
    let slow = bench.sink("slow", "echo $A >> slow; test -e go || exec sleep 0.1");
    let hangs = bench.sink("pager", "echo $$ > pid.new; mv pid.new pid; exec sleep 1000");
    bench.notices.set(&[slow, hangs]);
    (1..=4).for_each(|last| bench.dial(last));
    eventually("one hangs", || bench.file("pid").exists());
    eventually("the other has begun", || !lines(&bench.file("slow")).is_empty());

    bench.notices.set(&[bench.writes("pager")]);
    eventually("they are gone", || bench.names() == ["pager"]);
    bench.dial(9);
    eventually("the new one is told", || bench.sent("pager") == 1);
    eventually("what waited was sent", || lines(&bench.file("slow")).len() == 4);
    let pid = std::fs::read_to_string(bench.file("pid")).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    eventually("the old one is killed", || {
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    });
    // Its thread tells of four failures, of which nothing is anybody's any more.
    drop(bench.notices);
    let state = bench.shared.pulse.sinks()[0].clone();
    assert_eq!((state.ok, state.sent, state.failed, state.message.as_str()), (true, 1, 0, ""));
    assert_eq!(lines(&bench.folder.path().join("pager")), ["203.0.113.9"]);
}

#[test]
fn what_is_wrong_is_told_to_whoever_comes_and_what_was_wrong_with_whoever_goes_is_over() {
    let mut bench = Bench::new();
    let tapped = bench.shared.events.tap(99, Box::new(|body| matches!(body, Body::Health(_))));
    let health = || match &tapped.events().recv_timeout(LONG).expect("a word").body {
        Body::Health(health) => (health.what.clone(), health.healthy),
        other => panic!("{other:?}"),
    };
    let gone: toml::Table = "kind = \"command\"\ncommand = [\"/nowhere/x\"]".parse().unwrap();
    bench.notices.set(&alert::all(vec![gone]).unwrap());
    assert_eq!(health(), ("alert command".to_owned(), false));
    bench.shared.canary().state = CanaryState::Failing;
    let kinds = bench.sink("kinds", "echo $SYNHOLD_ALERT_KIND >> kinds");
    bench.notices.set(&[kinds]);
    assert_eq!(health(), ("alert command".to_owned(), true));
    eventually("it is told by the look", || lines(&bench.file("kinds")).contains(&"canary".into()));
    let late = bench.sink("late", "echo $SYNHOLD_ALERT_KIND >> late");
    let kinds = bench.sink("kinds", "echo $SYNHOLD_ALERT_KIND >> kinds");
    bench.notices.set(&[kinds, late]);
    eventually("and to whoever comes", || lines(&bench.file("late")) == ["canary"]);
    assert_eq!(lines(&bench.file("kinds")).iter().filter(|kind| *kind == "canary").count(), 1);
}

#[test]
fn one_thing_that_is_well_again_leaves_another_of_its_kind_wrong() {
    use crate::alert::Severity::{Critical, Info};
    let scribe = translate::Scribe::new(Bench::new().shared);
    let mut standing = teller::Standing::default();
    let topic = crate::engine::alert::Topic::Evidence;
    for (severity, what) in [(Critical, "evidence"), (Critical, "spawn"), (Info, "spawn")] {
        standing.note((topic, what.to_owned()), scribe.state(severity, topic, what, ""));
    }
    let wrong: Vec<&str> = standing.0.keys().map(|(_, what)| what.as_str()).collect();
    assert_eq!(wrong, ["evidence"]);
}

#[test]
fn a_scan_is_nothing_to_whoever_did_not_ask_about_containers() {
    let mut bench = Bench::new();
    let mut drift = bench.writes("drift");
    drift.on = vec![crate::engine::alert::Topic::Drift];
    bench.notices.set(&[drift, bench.writes("all")]);
    (0..=255).for_each(|last| bench.dial(last));
    // Fifty in each of two seconds at most are handed over, of which it is told of some.
    eventually("the rest is counted", || bench.state("all").is_some_and(|all| all.withheld > 150));
    assert_eq!(bench.state("drift").unwrap().withheld, 0);
}
