//! What commands about lists need to know, whatever the rest of the configuration makes of this host.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::file::read;
use super::{DEFAULT_STATE_DIR, OPENSNITCH_DEFAULT, Options};
use crate::host::{self, InterfaceAddress};
use crate::lists::Feed;

/// Where the lists are, and what they may not take away.
#[derive(Clone, Debug)]
pub struct ListConfig {
    /// The state directory.
    pub state_dir: PathBuf,
    /// True if well-known servers of DNS over HTTPS are refused.
    pub refuse_doh: bool,
    /// Lists that somebody else keeps.
    pub feeds: Vec<Feed>,
    /// This host's own addresses.
    pub host: Vec<InterfaceAddress>,
    /// Servers our own dnsmasq asks, as `ADDR[#PORT]`.
    pub upstreams: Vec<String>,
}

/// Where everything is that tells of refusals.
#[derive(Clone, Debug)]
pub struct FindingConfig {
    /// The lists, and the state directory.
    pub lists: ListConfig,
    /// The event file that the configuration names.
    pub events: Option<PathBuf>,
    /// OpenSnitch's database.
    pub opensnitch_db: PathBuf,
}

/// The state directory: `given`, or what `file` or the default file says. Of a default file that is not for whoever asks it
/// is the default one.
///
/// # Errors
/// As [`super::load`].
pub fn load_state_dir(file: Option<&Path>, given: Option<PathBuf>) -> Result<PathBuf> {
    if let (Some(given), None) = (&given, file) {
        return Ok(given.clone());
    }
    let options = match read(file) {
        Err(error) if file.is_none() && is_closed(&error) => Options::default(),
        other => other?,
    };
    Ok(given.or(options.daemon.state_dir).unwrap_or_else(|| DEFAULT_STATE_DIR.into()))
}

/// Whether it is that this user may not read it.
fn is_closed(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::PermissionDenied)
}

/// Reads `file`, or the default file if it is there. `state_dir` goes before what it says.
///
/// # Errors
/// As [`super::load`].
pub fn load_lists(file: Option<&Path>, state_dir: Option<PathBuf>) -> Result<ListConfig> {
    lists(read(file)?, state_dir)
}

/// The same with everything that tells of refusals.
///
/// # Errors
/// As [`super::load`].
pub fn load_findings(
    file: Option<&Path>,
    state_dir: Option<PathBuf>,
    opensnitch_db: Option<PathBuf>,
) -> Result<FindingConfig> {
    let options = read(file)?;
    let events = options.daemon.events.clone();
    let opensnitch_db = opensnitch_db.or(options.desk.opensnitch_db.clone());
    let opensnitch_db = opensnitch_db.unwrap_or_else(|| OPENSNITCH_DEFAULT.into());
    Ok(FindingConfig { lists: lists(options, state_dir)?, events, opensnitch_db })
}

fn lists(options: Options, state_dir: Option<PathBuf>) -> Result<ListConfig> {
    let Options { daemon, feeds, .. } = options;
    Ok(ListConfig {
        state_dir: state_dir.or(daemon.state_dir).unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
        refuse_doh: daemon.refuse_doh,
        feeds,
        host: host::addresses().context("cannot list this host's addresses")?,
        upstreams: daemon.dns_upstream,
    })
}
