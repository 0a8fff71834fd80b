//! `[[alert]]` sections of the configuration, checked.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lettre::message::Mailbox;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::command::Command;
use super::mail::{Begins, Mail};
use super::secret::SecretFile;
use super::sink::{Sink, Way};
use super::syslog::{Facility, Format, SOCKET_DEFAULT, Syslog};
use super::text::plain;
use super::url::Url;
use super::webhook::{Place, Webhook};
use crate::engine::alert::{Pace, Topic};

/// Sinks that may be configured; each has a thread.
pub const SINKS_MAX: usize = 16;
/// How long the same thing is only counted, unless configured.
pub const REPEAT_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// Alerts of a sink in an hour, unless configured: what a person still reads.
pub const PER_HOUR_DEFAULT: u32 = 30;
/// Shorter than that, a container that tries again and again would fill a mailbox by itself.
const REPEAT_MIN: Duration = Duration::from_secs(1);
/// Longer than that, nobody would know that it still happens.
const REPEAT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// One a second is what a machine reads.
const PER_HOUR_MAX: u32 = 3_600;
/// Characters of a sink's name, which is a label of metrics too.
const NAME_CHARS_MAX: usize = 64;
/// Recipients of one mail.
const RECIPIENTS_MAX: usize = 20;
const SUBMISSIONS_PORT: u16 = 465;
const SUBMISSION_PORT: u16 = 587;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandKeys {
    command: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WebhookKeys {
    url: Option<String>,
    url_file: Option<PathBuf>,
    secret_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct MailKeys {
    server: String,
    port: Option<u16>,
    tls: Option<Begins>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    from: String,
    to: Vec<String>,
    ca: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SyslogKeys {
    socket: Option<PathBuf>,
    #[serde(default)]
    facility: Facility,
    #[serde(default)]
    format: Format,
}

/// Checks the sections of the configuration. Files that they name are looked at when they are needed.
///
/// # Errors
/// In one line: which sink, and what to write instead.
pub fn all(sections: Vec<Table>) -> Result<Vec<Sink>> {
    ensure!(sections.len() <= SINKS_MAX, "more than {SINKS_MAX} [[alert]] sections");
    let mut names = BTreeSet::new();
    let mut sinks = Vec::with_capacity(sections.len());
    for (place, section) in sections.into_iter().enumerate() {
        let shown = match section.get("name").and_then(Value::as_str) {
            // What is no name may be a URL.
            Some(name) if is_name(name) => format!("alert {name:?}"),
            Some(_) | None => format!("[[alert]] number {}", place + 1),
        };
        let sink = check(section).with_context(|| shown.clone())?;
        ensure!(names.insert(sink.name.clone()), "{shown}: there are two of this name");
        sinks.push(sink);
    }
    Ok(sinks)
}

fn check(mut keys: Table) -> Result<Sink> {
    let kind: String =
        take(&mut keys, "kind")?.context("it needs `kind`: command, webhook, mail or syslog")?;
    let name: String = take(&mut keys, "name")?.unwrap_or_else(|| kind.clone());
    ensure!(
        is_name(&name),
        "`name`: a name has 1 to {NAME_CHARS_MAX} small letters, digits and hyphens"
    );
    let on: Option<Vec<Topic>> = take(&mut keys, "on")?;
    let on = on.unwrap_or_else(|| Topic::ALL.to_vec());
    if let Some(odd) = on.iter().find(|topic| !Topic::ALL.contains(topic)) {
        bail!("`on`: {} cannot be left out, so it is not asked for", odd.as_str());
    }
    ensure!(!on.is_empty(), "`on` names nothing; leave it out for everything");
    let repeat: Option<String> = take(&mut keys, "repeat")?;
    let pace = Pace {
        repeat: repeat.as_deref().map_or(Ok(REPEAT_DEFAULT), self::repeat)?,
        per_hour: take(&mut keys, "per-hour")?.unwrap_or(PER_HOUR_DEFAULT),
    };
    ensure!(
        (1..=PER_HOUR_MAX).contains(&pace.per_hour),
        "per-hour must be between 1 and {PER_HOUR_MAX}"
    );
    let way = match kind.as_str() {
        "command" => Way::Command(command(rest(keys)?)?),
        "webhook" => Way::Webhook(webhook(rest(keys)?)?),
        "mail" => Way::Mail(mail(rest(keys)?)?),
        "syslog" => Way::Syslog(syslog(rest(keys)?)?),
        other if is_name(other) => {
            bail!("there is no kind {other:?}; there are command, webhook, mail and syslog")
        }
        _ => bail!("`kind` is one of command, webhook, mail and syslog"),
    };
    Ok(Sink { name, on, pace, way })
}

fn take<T: DeserializeOwned>(keys: &mut Table, key: &str) -> Result<Option<T>> {
    keys.remove(key)
        .map(|value| value.try_into().map_err(|error| one_line(key, &error)))
        .transpose()
}

fn rest<T: DeserializeOwned>(keys: Table) -> Result<T> {
    Value::Table(keys)
        .try_into()
        .map_err(|error: toml::de::Error| anyhow::anyhow!(hushed(error.message())))
}

fn one_line(key: &str, error: &toml::de::Error) -> anyhow::Error {
    anyhow::anyhow!("`{key}`: {}", hushed(error.message()))
}

/// One line, without the text of what has the wrong type: `invalid type: string "curl https://a.example/SECRET", expected a
/// sequence`.
fn hushed(message: &str) -> String {
    let line = message.lines().collect::<Vec<_>>().join("; ");
    match line.split_once(" \"").zip(line.rsplit_once("\", expected ")) {
        Some(((what, _), (_, expected))) => format!("{what}, expected {expected}"),
        None => line,
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.bytes().all(fits)
}

fn repeat(text: &str) -> Result<Duration> {
    let repeat = humantime::parse_duration(text)
        .ok()
        .with_context(|| format!("repeat {:?} is no time: write 30m or 1h", plain(text, 40)))?;
    let bounds = REPEAT_MIN..=REPEAT_MAX;
    ensure!(bounds.contains(&repeat), "repeat must be between 1s and 7days");
    Ok(repeat)
}

fn command(keys: CommandKeys) -> Result<Command> {
    let mut words = keys.command.into_iter();
    let program = words.next().context("command names no program")?;
    let program = PathBuf::from(program);
    ensure!(program.is_absolute(), "the program must be absolute: no shell looks for it");
    Ok(Command { program, arguments: words.collect() })
}

fn webhook(keys: WebhookKeys) -> Result<Webhook> {
    secret("url-file", keys.url_file.as_ref())?;
    secret("secret-file", keys.secret_file.as_ref())?;
    absolute("ca", keys.ca.as_ref())?;
    let insecure = keys.insecure;
    let place = match (keys.url, keys.url_file) {
        (Some(url), None) => {
            let url = Url::parse(&url, insecure).map_err(|why| anyhow::anyhow!("url {why}"))?;
            Place::Written(url)
        }
        (None, Some(file)) => Place::File { file: SecretFile(file), insecure },
        _ => bail!("it needs either `url`, or `url-file` with the path of a file that holds it"),
    };
    Ok(Webhook { place, secret: keys.secret_file.map(SecretFile), ca: keys.ca })
}

fn mail(keys: MailKeys) -> Result<Mail> {
    let mailbox = |key: &str, text: &str| -> Result<Mailbox> {
        let shown = plain(text, 80);
        text.parse().ok().with_context(|| format!("`{key}`: {shown:?} is no mail address"))
    };
    ensure!(
        (1..=RECIPIENTS_MAX).contains(&keys.to.len()),
        "`to` has 1 to {RECIPIENTS_MAX} addresses"
    );
    secret("password-file", keys.password_file.as_ref())?;
    absolute("ca", keys.ca.as_ref())?;
    let login = match (keys.user, keys.password_file) {
        (Some(user), Some(file)) => Some((user, SecretFile(file))),
        (None, None) => None,
        _ => bail!("user and password-file go together"),
    };
    let implicit = keys.port == Some(SUBMISSIONS_PORT);
    let tls = keys.tls.unwrap_or(if implicit { Begins::Implicit } else { Begins::Starttls });
    let port = keys.port.unwrap_or(match tls {
        Begins::Starttls => SUBMISSION_PORT,
        Begins::Implicit => SUBMISSIONS_PORT,
    });
    ensure!(!keys.server.is_empty(), "`server` is empty");
    Ok(Mail {
        server: keys.server,
        port,
        tls,
        login,
        from: mailbox("from", &keys.from)?,
        to: keys.to.iter().map(|to| mailbox("to", to)).collect::<Result<_>>()?,
        ca: keys.ca,
    })
}

fn syslog(keys: SyslogKeys) -> Result<Syslog> {
    absolute("socket", keys.socket.as_ref())?;
    let socket = keys.socket.unwrap_or_else(|| SOCKET_DEFAULT.into());
    Ok(Syslog { socket, facility: keys.facility, format: keys.format })
}

/// A daemon's working directory is nobody's business.
fn absolute(key: &str, path: Option<&PathBuf>) -> Result<()> {
    let relative = path.filter(|path| !path.is_absolute());
    relative.map_or(Ok(()), |path| bail!("{key} must be absolute: {}", path.display()))
}

/// What stands there by mistake may be the secret itself, so it is not shown.
fn secret(key: &str, path: Option<&PathBuf>) -> Result<()> {
    let is_absolute = path.is_none_or(|path| path.is_absolute());
    ensure!(is_absolute, "{key} must be the absolute path of a file that holds it");
    Ok(())
}

#[cfg(test)]
#[path = "section_test.rs"]
mod tests;
