//! Sinks as the configuration says them.

use super::*;

#[derive(Debug, Deserialize)]
struct File {
    alert: Vec<Table>,
}

fn sinks(text: &str) -> Result<Vec<Sink>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    all(file.alert).map_err(|error| format!("{error:#}"))
}

#[test]
fn sections_are_read_with_their_defaults() {
    let sinks = sinks(
        r#"
        [[alert]]
        kind = "syslog"
        [[alert]]
        name = "pager"
        kind = "command"
        command = ["/usr/local/bin/page", "--now"]
        on = ["never-resolved", "evidence"]
        repeat = "10m"
        per-hour = 5
        [[alert]]
        name = "chat"
        kind = "webhook"
        url = "http://127.0.0.1:8080/hook"
        secret-file = "/etc/synhold/hook.key"
        [[alert]]
        name = "team"
        kind = "webhook"
        url-file = "/etc/synhold/team.url"
        [[alert]]
        name = "boss"
        kind = "mail"
        server = "mail.example"
        port = 465
        user = "synhold"
        password-file = "/etc/synhold/mail.password"
        from = "Synhold <synhold@example.org>"
        to = ["ops@example.org"]
        "#,
    )
    .unwrap();
    let [syslog, pager, chat, team, boss] = &sinks[..] else { panic!("{sinks:?}") };
    assert!(matches!(&team.way, Way::Webhook(hook) if matches!(hook.place, Place::File { .. })));
    let names = [syslog, pager, chat, boss].map(|sink| (sink.name.as_str(), sink.kind()));
    assert_eq!(
        names,
        [("syslog", "syslog"), ("pager", "command"), ("chat", "webhook"), ("boss", "mail")]
    );
    assert_eq!(syslog.pace, Pace { repeat: REPEAT_DEFAULT, per_hour: PER_HOUR_DEFAULT });
    assert!(Topic::ALL.iter().all(|topic| syslog.wants(*topic)));
    assert_eq!(pager.pace, Pace { repeat: Duration::from_secs(600), per_hour: 5 });
    assert!(pager.wants(Topic::Evidence) && !pager.wants(Topic::Drift));
    assert!(pager.wants(Topic::Test) && pager.wants(Topic::Withheld));
    let Way::Mail(mail) = &boss.way else { panic!("{boss:?}") };
    assert_eq!((mail.port, mail.tls), (465, Begins::Implicit));
    assert!(matches!(&chat.way, Way::Webhook(hook) if hook.secret.is_some() && hook.ca.is_none()));
}

#[test]
fn what_cannot_be_is_one_line_that_names_the_sink() {
    let wrong = |keys: &str| sinks(&format!("[[alert]]\nname = \"a\"\n{keys}")).unwrap_err();
    for (keys, part) in [
        ("", "`kind`"),
        ("kind = \"pigeon\"", "there is no kind \"pigeon\""),
        ("kind = \"syslog\"\nsockt = \"/x\"", "unknown field `sockt`"),
        ("kind = \"syslog\"\nurl = \"https://a.example\"", "unknown field `url`"),
        ("kind = \"syslog\"\non = [\"never\"]", "unknown variant `never`"),
        ("kind = \"syslog\"\non = [\"test\"]", "test cannot be left out"),
        ("kind = \"syslog\"\non = []", "`on` names nothing"),
        ("kind = \"syslog\"\nrepeat = \"soon\"", "is no time"),
        ("kind = \"syslog\"\nper-hour = 0", "per-hour must be"),
        ("kind = \"command\"\ncommand = [\"mail\"]", "must be absolute"),
        ("kind = \"command\"\ncommand = \"/bin/mail x\"", "expected a sequence"),
        ("kind = \"command\"\ncommand = []", "names no program"),
        ("kind = \"webhook\"\nurl = \"http://a.example/\"", "insecure = true"),
        ("kind = \"webhook\"\nurl = \"http://127.0.0.1.a.example/\"", "insecure = true"),
        ("kind = \"webhook\"\nurl = \"ftp://a.example/\"", "https://"),
        ("kind = \"webhook\"\nurl = \"https://u:p@a.example/\"", "user name"),
        ("kind = \"webhook\"\nurl = \"https://a.example\"\nsecret-file = \"key\"", "absolute"),
        ("kind = \"webhook\"", "either `url`, or `url-file`"),
        (
            "kind = \"webhook\"\nurl = \"https://a/\"\nurl-file = \"/b\"",
            "either `url`, or `url-file`",
        ),
        (
            "kind = \"mail\"\nserver = \"m\"\nfrom = \"me\"\nto = [\"a@b.example\"]",
            "no mail address",
        ),
        ("kind = \"mail\"\nserver = \"m\"\nfrom = \"a@b.example\"\nto = []", "1 to 20"),
        (
            "kind = \"mail\"\nserver = \"m\"\nfrom = \"a@b.example\"\nto = [\"a@b.example\"]\nuser = \"u\"",
            "go together",
        ),
        ("kind = \"mail\"\nserver = \"m\"\ntls = \"none\"", "unknown variant `none`"),
    ] {
        let error = wrong(keys);
        assert!(error.starts_with("alert \"a\": ") && error.contains(part), "{keys}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let twice = "[[alert]]\nkind = \"syslog\"\n".repeat(2);
    assert!(sinks(&twice).unwrap_err().contains("two of this name"));
    assert!(sinks(&"[[alert]]\nkind = \"syslog\"\n".repeat(17)).is_err());
}

#[test]
fn a_secret_at_the_wrong_place_is_not_shown() {
    for keys in [
        "kind = \"webhook\"\nurl = \"http://a.example/T0K3N\"",
        "kind = \"webhook\"\nurl = \"https://T0K3N@a.example\"",
        "kind = \"webhook\"\nurl = \"T0 K3N T0K3N\"",
        "kind = \"webhook\"\nurl-file = \"https://a.example/T0K3N\"",
        "kind = \"webhook\"\nurl = \"https://a.example\"\nsecret-file = \"T0K3N\"",
        "name = \"https://a.example/T0K3N\"",
        "kind = \"syslog\"\nname = \"https://a.example/T0K3N\"",
        "kind = \"https://a.example/T0K3N\"",
        "kind = \"command\"\ncommand = \"curl \\\"https://a.example/T0K3N\\\", expected\"",
        "kind = \"syslog\"\non = \"https://a.example/T0K3N\"",
        "kind = \"syslog\"\nper-hour = \"https://a.example/T0K3N\"",
        "kind = \"mail\"\nserver = \"m\"\nuser = \"u\"\npassword-file = \"T0K3N\"\nfrom = \"a@b.example\"\nto = [\"a@b.example\"]",
    ] {
        let error = sinks(&format!("[[alert]]\n{keys}")).unwrap_err();
        assert!(!error.contains("T0K3N"), "{error}");
    }
}
