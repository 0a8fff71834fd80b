//! Containers by name on the command line: the daemon knows them.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::lists::Place;
use super::words;
use crate::control::{Containers, Question};
use crate::daemon::control::{Asker, is_closed};
use crate::lists::Entry;

/// A container that is to be in a list.
pub(super) struct Named {
    /// How the list has it.
    pub entry: Entry,
    /// What there is to know about it, for people.
    pub about: Vec<String>,
}

/// A container by its name, id or address, to be put in quarantine.
pub(super) fn to_confine(place: &Place, text: &str) -> Result<Named> {
    let state_dir = place.state_dir()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        let found = known(&state_dir, text)?;
        let about = found.and_then(|found| Some(owned(address, found.containers.keys().next()?)));
        return Ok(Named { entry: Entry::from(address), about: about.into_iter().collect() });
    }
    let question = Question::Containers { container: Some(text.to_owned()) };
    let Some(mut asker) = Asker::find(&state_dir)? else {
        bail!(
            "{text:?} is no address, and no synhold runs on {} that knows containers by name: start it, or give \
             an address",
            state_dir.display()
        );
    };
    let found: Containers = asker.ask(&question)?;
    let (name, addresses) = found.containers.iter().next().context("the daemon named nobody")?;
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let now = match addresses.is_empty() {
        true => "  it has no address now; whatever it gets is refused everything".to_owned(),
        false => {
            format!("  it has {} now, and what it gets later counts too", addresses.join(", "))
        }
    };
    let gaps = found.gaps.iter();
    let gaps =
        gaps.map(|gap| format!("  NOT COVERED, not even by quarantine: {}", words::plain(gap)));
    Ok(Named { entry: entry_of(name)?, about: std::iter::once(now).chain(gaps).collect() })
}

/// The same to let it out. Its name does without a daemon: the container may be gone.
pub(super) fn to_release(place: &Place, text: &str) -> Result<Named> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Named { entry: Entry::from(address), about: Vec::new() });
    }
    let found = known(&place.state_dir()?, text)?;
    let name = found.and_then(|found| found.containers.into_keys().next());
    Ok(Named { entry: entry_of(&name.unwrap_or_else(|| text.to_owned()))?, about: Vec::new() })
}

/// What the daemon knows of a container; nothing if it does not answer, for the list can be edited without.
fn known(state_dir: &Path, text: &str) -> Result<Option<Containers>> {
    let question = Question::Containers { container: Some(text.to_owned()) };
    let found = Asker::find(state_dir).and_then(|asker| {
        let Some(mut asker) = asker else { return Ok(None) };
        Ok(asker.try_ask::<Containers>(&question)?.ok())
    });
    found.or_else(|error| if is_closed(&error) { Err(error) } else { Ok(None) })
}

/// The address of a family that a container has, for questions about one.
pub(super) fn address_of(place: &Place, text: &str, is_v4: bool) -> Result<IpAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let state_dir = place.state_dir()?;
    let Some(mut asker) = Asker::find(&state_dir)? else {
        bail!(
            "{text:?} is no address, and no synhold runs on {} that knows containers by name",
            state_dir.display()
        );
    };
    let question = Question::Containers { container: Some(text.to_owned()) };
    let found: Containers = asker.ask(&question)?;
    let mut addresses = found.containers.into_values().flatten();
    let fits = addresses.find(|address| address.is_ipv4() == is_v4);
    fits.with_context(|| format!("{text} has no address of the same family now"))
}

fn entry_of(name: &str) -> Result<Entry> {
    Ok(format!("container:{name}").parse()?)
}

fn owned(address: IpAddr, name: &str) -> String {
    let name = words::plain(name);
    format!(
        "  {address} is {name}'s now, and stays in quarantine whoever gets it next: \
         `--container {name}` follows the container instead"
    )
}
