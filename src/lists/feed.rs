//! A feed as the configuration says it, checked.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::Kind;
use super::folder::Own;
use super::format::{Column, Format};
use super::source::DOH_SERVERS;
use super::text::excerpt;

/// How often a feed is fetched unless configured. Most lists change a few times a day.
pub const REFRESH_DEFAULT: Duration = Duration::from_secs(6 * 3600);
/// Shortest interval: publishers ban who asks more often.
pub const REFRESH_MIN: Duration = Duration::from_secs(60);
/// Longest interval; beyond it a feed is a file.
pub const REFRESH_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Largest body unless configured: four million addresses.
pub const FEED_BYTES_DEFAULT: u64 = 64 << 20;
/// Largest body that can be configured.
pub const FEED_BYTES_MAX: u64 = 1 << 30;
/// Feeds that may be configured; each is fetched in its turn.
pub const FEEDS_MAX: usize = 256;
/// Characters of a feed's name, which is a file name too.
const NAME_CHARS_MAX: usize = 64;

/// Where a feed comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file that somebody else keeps.
    Path(PathBuf),
    /// A server.
    Url(String),
}

/// A feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Its name, unique, fit for a file name.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// How it is written.
    pub format: Format,
    /// How often it is fetched. A file is also read when it changes.
    pub refresh: Duration,
    /// What its entries mean: allow or block.
    pub kind: Kind,
    /// Largest body taken.
    pub max_bytes: u64,
    /// True if it may come without TLS.
    pub insecure: bool,
    /// The certificates to trust instead of the well-known ones.
    pub ca: Option<PathBuf>,
    /// True if even dangerous entries hold.
    pub force: bool,
    /// True if it may become 90 % shorter.
    pub allow_shrink: bool,
}

/// A `[[feed]]` section as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FeedConfig {
    name: String,
    path: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    format: FormatName,
    column: Option<Column>,
    kind: FeedKind,
    refresh: Option<String>,
    max_bytes: Option<u64>,
    #[serde(default)]
    insecure: bool,
    ca: Option<PathBuf>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    allow_shrink: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FormatName {
    #[default]
    Plain,
    Netset,
    Spamhaus,
    SpamhausJson,
    Hosts,
    Csv,
    HostPort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FeedKind {
    Allow,
    Block,
}

impl Feed {
    /// Checks the sections of the configuration.
    ///
    /// # Errors
    /// In one line: which feed, and what to write instead.
    pub fn all(sections: Vec<FeedConfig>) -> Result<Vec<Feed>> {
        ensure!(sections.len() <= FEEDS_MAX, "more than {FEEDS_MAX} feeds");
        let mut names = BTreeSet::new();
        let mut feeds = Vec::with_capacity(sections.len());
        for section in sections {
            let name = excerpt(&section.name);
            let feed = section.check().with_context(|| format!("feed {name:?}"))?;
            ensure!(names.insert(feed.name.clone()), "feed {name:?}: there are two of this name");
            feeds.push(feed);
        }
        Ok(feeds)
    }
}

impl FeedConfig {
    fn check(self) -> Result<Feed> {
        check_name(&self.name)?;
        let origin = match (self.path, self.url) {
            (Some(path), None) => {
                ensure!(path.is_absolute(), "path must be absolute: {}", path.display());
                ensure!(!self.insecure && self.ca.is_none(), "insecure and ca go with url only");
                Origin::Path(path)
            }
            (None, Some(url)) => Origin::Url(check_url(url, self.insecure)?),
            (Some(_), Some(_)) | (None, None) => bail!("write either path or url"),
        };
        let max_bytes = self.max_bytes.unwrap_or(FEED_BYTES_DEFAULT);
        ensure!(
            (1..=FEED_BYTES_MAX).contains(&max_bytes),
            "max-bytes must be between 1 and {FEED_BYTES_MAX}"
        );
        Ok(Feed {
            name: self.name,
            origin,
            format: format(self.format, self.column)?,
            refresh: self.refresh.as_deref().map_or(Ok(REFRESH_DEFAULT), refresh)?,
            kind: match self.kind {
                FeedKind::Allow => Kind::Allow,
                FeedKind::Block => Kind::Block,
            },
            max_bytes,
            insecure: self.insecure,
            ca: self.ca,
            force: self.force,
            allow_shrink: self.allow_shrink,
        })
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ensure!(
        !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.bytes().all(fits),
        "a name has 1 to {NAME_CHARS_MAX} small letters, digits and hyphens"
    );
    let taken = name == DOH_SERVERS || Own::ALL.iter().any(|own| own.name() == name);
    ensure!(!taken, "this name is taken by a list of synhold's own");
    Ok(())
}

fn check_url(url: String, insecure: bool) -> Result<String> {
    let parsed: ureq::http::Uri = url.parse().ok().context("url is no URL")?;
    let authority = parsed.authority().context("url has no host")?;
    ensure!(!authority.as_str().contains('@'), "url must not hold a user name");
    match parsed.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if insecure => Ok(url),
        Some("http") => bail!(
            "url is not https: a list fetched without TLS can be forged; `insecure = true` takes it"
        ),
        _ => bail!("url must start with https://"),
    }
}

fn format(name: FormatName, column: Option<Column>) -> Result<Format> {
    ensure!(
        name == FormatName::Csv || column.is_none(),
        "column goes with `format = \"csv\"` only"
    );
    Ok(match name {
        FormatName::Plain => Format::Plain,
        FormatName::Netset => Format::Netset,
        FormatName::Spamhaus => Format::Spamhaus,
        FormatName::SpamhausJson => Format::SpamhausJson,
        FormatName::Hosts => Format::Hosts,
        FormatName::HostPort => Format::HostPort,
        FormatName::Csv => match column.context("csv needs a column: its number, or its name")? {
            Column::Number(0) => bail!("columns are counted from 1"),
            column => Format::Csv(column),
        },
    })
}

fn refresh(text: &str) -> Result<Duration> {
    let refresh = humantime::parse_duration(text)
        .ok()
        .with_context(|| format!("refresh {text:?} is no time: write 30m or 12h"))?;
    ensure!(
        (REFRESH_MIN..=REFRESH_MAX).contains(&refresh),
        "refresh must be between 1m and 30days"
    );
    Ok(refresh)
}

impl Origin {
    /// For reports: without the query of a URL, which may hold a key.
    pub fn shown(&self) -> String {
        match self {
            Origin::Path(path) => path.display().to_string(),
            Origin::Url(url) => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
#[path = "feed_test.rs"]
mod tests;
