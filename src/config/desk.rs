//! What a user can set about the operator's desk: who may ask, what is measured, and how it proves itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;

/// Group that may ask, if there is such a group; the package makes it.
pub const GROUP_DEFAULT: &str = "synhold";
/// Where metrics are served.
pub const METRICS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9753);
/// Where OpenSnitch's window keeps what it saw.
pub const OPENSNITCH_DEFAULT: &str = "/var/lib/opensnitch/opensnitch.sqlite3";

/// A switch with a default of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// It is done.
    On,
    /// It is not.
    Off,
}

/// Options of the operator's desk.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeskOptions {
    /// Group whose members may ask the daemon, and change nothing [default: synhold, if there is such a group]
    #[arg(long, value_name = "GROUP")]
    pub control_group: Option<String>,
    /// Where metrics are served over HTTP: ADDR:PORT, or off [default: 127.0.0.1:9753]
    #[arg(long, value_name = "ADDR:PORT|off")]
    pub metrics: Option<String>,
    /// Whether a packet of our own proves every minute that refusing and accepting work [default: on]
    #[arg(long, value_name = "on|off")]
    pub canary: Option<Switch>,
    /// OpenSnitch's database, read only, to compare findings with [default: /var/lib/opensnitch/opensnitch.sqlite3]
    #[arg(long, value_name = "FILE")]
    pub opensnitch_db: Option<PathBuf>,
}

/// The same, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskConfig {
    /// The group whose members may ask.
    pub control_group: Group,
    /// Where metrics are served; none if they are not.
    pub metrics: Option<SocketAddr>,
    /// True if a packet of our own proves that refusing and accepting work.
    pub canary: bool,
    /// OpenSnitch's database.
    pub opensnitch_db: PathBuf,
}

/// A group by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// It was named, so it must be there.
    Named(String),
    /// Nobody said anything: [`GROUP_DEFAULT`], if it is there.
    Default,
}

impl DeskOptions {
    /// The command line before the file.
    pub fn or(self, file: DeskOptions) -> DeskOptions {
        DeskOptions {
            control_group: self.control_group.or(file.control_group),
            metrics: self.metrics.or(file.metrics),
            canary: self.canary.or(file.canary),
            opensnitch_db: self.opensnitch_db.or(file.opensnitch_db),
        }
    }

    /// Checks them and fills in what is unset.
    ///
    /// # Errors
    /// In one line: a value that cannot be.
    pub fn resolve(self) -> Result<DeskConfig> {
        let metrics = match self.metrics.as_deref() {
            None => Some(METRICS_DEFAULT),
            Some("off") => None,
            Some(text) => Some(text.parse().with_context(|| {
                format!("--metrics {text}: write ADDRESS:PORT, as {METRICS_DEFAULT}, or off")
            })?),
        };
        let group = self.control_group.as_deref();
        ensure!(group != Some(""), "--control-group needs the name of a group");
        Ok(DeskConfig {
            control_group: self.control_group.map_or(Group::Default, Group::Named),
            metrics,
            canary: self.canary != Some(Switch::Off),
            opensnitch_db: self.opensnitch_db.unwrap_or_else(|| OPENSNITCH_DEFAULT.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_on_loopback_unless_said_otherwise() {
        let of = |text: Option<&str>| {
            let metrics = text.map(str::to_owned);
            DeskOptions { metrics, ..DeskOptions::default() }.resolve().map(|desk| desk.metrics)
        };
        assert!(of(None).unwrap().unwrap().ip().is_loopback());
        assert_eq!(of(Some("off")).unwrap(), None);
        assert_eq!(of(Some("[::1]:1")).unwrap(), Some("[::1]:1".parse().unwrap()));
        let error = format!("{:#}", of(Some("9753")).unwrap_err());
        assert!(error.starts_with("--metrics 9753: write ADDRESS:PORT"), "{error}");
    }
}
