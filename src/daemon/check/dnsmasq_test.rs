//! Tests of how dnsmasq's configuration is read and judged.

use super::super::State;
use super::*;

fn settings(lines: &[&str]) -> Settings {
    let mut settings = Settings::default();
    lines.iter().for_each(|line| settings.line(line, 0, &mut Budget::new()));
    settings
}

fn states(settings: Settings, log: LogAt<'_>) -> Vec<(&'static str, State)> {
    let dnsmasq = Dnsmasq { who: "it".to_owned(), settings };
    judge(&dnsmasq, log).into_iter().map(|finding| (finding.id, finding.state)).collect()
}

#[test]
fn files_folders_and_arguments_are_read_as_dnsmasq_does() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("d")).unwrap();
    write("d/one", "log-queries=extra\n");
    write("d/two.dpkg-old", "log-async\n");
    let inner = folder.path().join("d").display().to_string();
    write(
        "main",
        &format!(" # comment\ncache-size = 0 # none\nconf-dir={inner},*.conf\nlog-queries\n"),
    );
    let main = folder.path().join("main").display().to_string();
    let wanted = Settings {
        queries: Some("extra".to_owned()),
        is_async: false,
        facility: Some("/x".to_owned()),
        cache: Some(0),
    };
    for arguments in [
        vec![format!("--conf-file={main}"), "--log-facility=/x".to_owned()],
        vec!["-C".to_owned(), main.clone(), "-8/x".to_owned()],
    ] {
        assert_eq!(of_arguments(&arguments, &mut Budget::new()), wanted);
    }
    // A file that names itself ends, too.
    write("main", &format!("conf-file={main}\nlog-async=5\n"));
    assert!(of_arguments(&[format!("--conf-file={main}")], &mut Budget::new()).is_async);
}

#[test]
fn a_tree_of_files_without_end_is_left_in_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one");
    // Four deep, this would be read ten thousand million times.
    std::fs::write(&path, format!("conf-file={}\n", path.display()).repeat(300)).unwrap();
    let mut budget = Budget::new();
    of_arguments(&[format!("--conf-file={}", path.display())], &mut budget);
    assert!(budget.files == 0 || budget.bytes < 300 * 300, "{budget:?}");
}

#[test]
fn a_log_is_evidence_only_where_it_is_written_at_once_with_clients_and_where_it_is_read() {
    let log = LogAt::Path(Path::new("/var/log/dnsmasq.log"));
    let good = ["log-queries=extra", "log-facility=/var/log/dnsmasq.log"];
    assert_eq!(
        states(settings(&good), log),
        [("dnsmasq-log-queries", State::Ok), ("dnsmasq-log-facility", State::Ok)]
    );
    let bad = ["log-async=20", "cache-size=0", "log-facility=/tmp/x"];
    assert_eq!(
        states(settings(&bad), log),
        [
            ("dnsmasq-log-queries", State::Fail),
            ("dnsmasq-log-async", State::Warn),
            ("dnsmasq-log-facility", State::Fail),
            ("dnsmasq-cache", State::Warn),
        ]
    );
    assert_eq!(states(settings(&["log-queries"]), log)[0].1, State::Warn, "without clients");
    assert_eq!(states(settings(&["log-queries"]), log)[1].1, State::Fail, "to syslog");
    assert_eq!(states(settings(&["log-queries=extra"]), LogAt::Journal)[1].1, State::Ok);
    assert_eq!(states(settings(&good), LogAt::Journal)[1].1, State::Fail);
}
