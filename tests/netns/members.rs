//! Members of the control group: whole answers without root, whatever they cannot read; and who had what changed.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use synhold::control::{Line, Question};

use super::desk::{GROUP, MEMBER, by};
use super::lab::Lab;
use super::sets_cli::{fine, json as asked};
use super::stand::{BIN, LATER, Stand, casts};

/// A daemon that answers the group, and a copy of the binary that everybody can run.
fn stand(name: &str, lists: &[(&str, &str)]) -> Stand {
    let stand = Stand::with_lists(name, &["--control-group", GROUP.0], lists);
    std::fs::set_permissions(stand.lab.dir(), std::fs::Permissions::from_mode(0o711)).unwrap();
    std::fs::copy(BIN, stand.lab.dir().join("synhold")).unwrap();
    stand
}

#[track_caller]
fn member(lab: &Lab, args: &[&str]) -> (i32, Value) {
    let (code, said) = by(lab, MEMBER, GROUP.1, &[args, &["--json"]].concat());
    (code, serde_json::from_str(&said).unwrap_or_else(|error| panic!("{args:?}: {error}: {said}")))
}

#[test]
fn a_member_gets_what_root_gets() {
    let lists = [("block.txt", "198.51.100.0/24 # SBL123\nevil.example # miner\n")];
    let mut stand = stand("members", &lists);
    let [cast, _] = casts();
    let (container, server) = (cast.container.to_string(), cast.server.ip().to_string());
    stand.resolve(cast.container, "www.evil.example", cast.server.ip());
    let lab = &stand.lab;
    for question in [
        &["sets"][..],
        &["sets", "list"],
        &["sets", "show", "block"],
        &["sets", "show", "block4", "--match", "198.51.100.7"],
        &["sets", "test", "198.51.100.7", "--from", &container],
        &["sets", "test", &server],
        &["explain", "198.51.100.7", "--container", &container],
        &["explain", &server, "--container", &container],
        &["explain", "www.evil.example"],
        &["registry", "lookup", "www.evil.example"],
    ] {
        let (theirs, roots) = (member(lab, question), asked(lab, question));
        let same = |(code, said): (i32, Value)| (code, shape(said));
        assert_eq!(same(theirs), same(roots), "{question:?}");
    }
    let (_, sets) = member(lab, &["sets", "show", "block"]);
    assert_eq!(sets["sets"][0]["elements"][0]["entries"][0]["note"], "SBL123", "{sets}");
    // More than a daemon shows root reads by itself.
    let (_, own) = asked(lab, &["sets", "show", "block", "--limit", "100000"]);
    assert_eq!(shape(sets["sets"].clone()), shape(own["sets"].clone()));
    let (_, why) = member(lab, &["explain", "198.51.100.7", "--container", &container]);
    assert!(why["because"].as_str().unwrap().contains("from list block: SBL123"), "{why}");
    assert!(why["kernel"]["steps"].as_array().unwrap().len() > 3, "{why}");
    let (_, name) = member(lab, &["explain", &server]);
    assert_eq!(name["entries"][0]["note"], "miner", "{name}");
    // Live, where files have it some seconds later at best.
    assert_eq!(name["kernel"]["names"][0], "www.evil.example", "{name}");
}

/// An answer without what changes from one second to the next.
fn shape(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            let passing = ["daemon", "proof"];
            fields.retain(|key, _| !passing.contains(&key.as_str()));
            fields.values_mut().for_each(|field| *field = shape(field.take()));
        }
        Value::Array(all) => all.iter_mut().for_each(|one| *one = shape(one.take())),
        _ => {}
    }
    value
}

#[test]
fn what_a_member_cannot_read_or_have_is_one_line() {
    let stand = stand("memblind", &[]);
    let lab = &stand.lab;
    for args in [
        &["sets", "show", "nothing"][..],
        &["sets", "show", "block4", "--limit", "1000000"],
        &["sets", "show", "block4", "--match", "a.example"],
        &["registry", "export"],
        &["block", "203.0.113.7"],
    ] {
        let (code, said) = by(lab, MEMBER, GROUP.1, args);
        assert!(code == 2 && said.lines().count() == 1, "{args:?}: {code}: {said}");
        assert!(said.starts_with("synhold: ") && !said.contains("os error"), "{args:?}: {said}");
    }
    let (_, said) = by(lab, MEMBER, GROUP.1, &["sets", "show", "block4", "--limit", "1000000"]);
    assert!(said.contains("say --limit 2000"), "{said}");

    // As a package leaves it: a configuration that is root's alone, in an /etc of this test's own.
    let (bin, state) = (lab.dir().join("synhold"), lab.dir().join("state"));
    let script = format!(
        "mount -t tmpfs -o mode=755 none /etc && mkdir /etc/synhold && umask 027 && \
         echo 'refuse-doh = true' > /etc/synhold/synhold.toml && \
         exec setpriv --reuid={MEMBER} --regid={} --clear-groups -- {} \"$@\" --state-dir {}",
        GROUP.1,
        bin.display(),
        state.display()
    );
    for args in [&["status"][..], &["sets"], &["explain", "203.0.113.7"], &["events"]] {
        let mut command = lab.gw.command("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).args(args);
        let output = command.output().expect("unshare runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code < 2), "{args:?}: {said}");
        assert_eq!(said, "", "{args:?}");
    }
}

/// Asks one question as root and gives the answer.
fn root(lab: &Lab, question: &Question) -> Value {
    let mut line = Line::open(&lab.dir().join("state/control.sock")).unwrap();
    line.ask(question).unwrap()
}

#[test]
fn changes_say_who_made_them_and_what_came_of_them() {
    let mut stand = stand("memwho", &[]);
    let [cast, _] = casts();
    stand.resolve(cast.container, "shop.example", cast.server.ip());
    let told = |what: &str| {
        let is = |e: &Value| e["event"] == "reload" && e["what"] == what;
        stand.daemon.expect_event(what, is, LATER)["asked"].clone()
    };
    let lab = &stand.lab;
    let entries = vec!["203.0.113.7".to_owned(), "evil.example".to_owned()];
    let (container, time, note) = Default::default();
    root(lab, &Question::Block { entries, container, time, note, force: false });
    let asked = told("block");
    assert_eq!((&asked["uid"], &asked["pid"]), (&0.into(), &std::process::id().into()));
    assert!(asked["command"].is_string(), "{asked}");
    assert_eq!(asked["entries"], json!(["203.0.113.7", "evil.example"]));
    assert_eq!(asked["outcome"], "in-force", "{asked}");
    root(lab, &Question::Unallow { entries: vec!["203.0.113.7".to_owned()] });
    assert_eq!(told("unallow")["outcome"], "unchanged");
    root(lab, &Question::RegistryForget { what: "shop.example".to_owned() });
    let asked = told("registry-forget");
    assert_eq!((&asked["outcome"], &asked["entries"]), (&"done".into(), &json!(["shop.example"])));
    root(lab, &Question::RegistryFlush {});
    assert_eq!(told("registry-flush")["outcome"], "done");

    // An import of many parts is one event.
    let many: Vec<String> =
        (0..3_000).map(|n| format!(r#""2001:db8::{n:x}": ["n{n}.example"]"#)).collect();
    let file = lab.dir().join("big.json");
    std::fs::write(&file, format!("{{{}}}", many.join(","))).unwrap();
    fine(lab, &["registry", "import", file.to_str().unwrap()]);
    let asked = told("registry-import");
    let detail = "3000 addresses new, 0 known, 0 skipped";
    assert_eq!((&asked["detail"], &asked["command"]), (&detail.into(), &"synhold".into()));

    // What a member may not do is no event, and what cannot be written down is told as failed.
    let lists = lab.dir().join("state/lists");
    std::fs::remove_dir_all(&lists).unwrap();
    std::fs::write(&lists, "").unwrap();
    let mut line = Line::open(&lab.dir().join("state/control.sock")).unwrap();
    let entries = vec!["203.0.113.8".to_owned()];
    line.ask::<Value>(&Question::Allow { entries, time: None, note: None }).unwrap_err();
    assert_eq!(told("allow")["outcome"], "failed");
}
