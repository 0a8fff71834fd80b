//! The group whose members may ask: who it is, and its way to the socket.

use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Group as System, fchown};

use crate::config::{GROUP_DEFAULT, Group};

/// The right of a group to pass through a folder, and all of its rights.
const PASS: u32 = 0o010;
const ALL: u32 = 0o070;
/// The same right of everybody.
const ANYBODY_PASSES: u32 = 0o001;

/// The group whose members may ask, if there is one.
#[derive(Clone, Debug)]
pub struct Members(Option<(Gid, String)>);

impl Members {
    /// Looks the group up.
    ///
    /// # Errors
    /// If one was named and is not there.
    pub fn find(group: &Group) -> Result<Members> {
        let (name, must_be) = match group {
            Group::Named(name) => (name.as_str(), true),
            Group::Default => (GROUP_DEFAULT, false),
        };
        let found = System::from_name(name)
            .with_context(|| format!("cannot look up the group {name} of --control-group"));
        match found {
            Ok(None) if must_be => bail!(
                "there is no group {name}: make it (`groupadd --system {name}`), or name another with --control-group"
            ),
            Err(error) if must_be => Err(error),
            found => Ok(Members(found.ok().flatten().map(|found| (found.gid, name.to_owned())))),
        }
    }

    /// Its number.
    pub(super) fn gid(&self) -> Option<Gid> {
        self.0.as_ref().map(|(gid, _)| *gid)
    }

    /// Lets members pass through the folder of the socket, and nothing more: what is in it stays whose it is.
    ///
    /// # Errors
    /// Why it cannot be, and what to do, in words.
    pub(super) fn let_into(&self, folder: &Path) -> Result<(), String> {
        let Some((gid, name)) = &self.0 else { return Ok(()) };
        let told = |why: String| format!("group {name} cannot reach {}: {why}", folder.display());
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(folder);
        let open = opened.map_err(|error| told(error.to_string()))?;
        let about = open.metadata().map_err(|error| told(error.to_string()))?;
        let mode = about.mode();
        let is_theirs = about.gid() == gid.as_raw();
        if mode & ANYBODY_PASSES != 0 || (is_theirs && mode & PASS != 0) {
            return Ok(());
        }
        if !is_theirs && mode & ALL != 0 {
            return Err(told(format!(
                "it is another group's already; `chgrp {name} {0}` and `chmod g=x {0}` let it in",
                folder.display()
            )));
        }
        let wanted = Mode::from_bits_truncate((mode & 0o7777) | PASS);
        fchown(&open, None, Some(*gid))
            .and_then(|()| fchmod(&open, wanted))
            .map_err(|error| told(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_group_that_was_named_must_be_there() {
        let named = Members::find(&Group::Named("no-such-group".to_owned()));
        let error = named.unwrap_err().to_string();
        assert!(error.starts_with("there is no group no-such-group: make it"), "{error}");
        assert!(Members::find(&Group::Default).is_ok());
    }

    #[test]
    fn members_pass_through_a_folder_and_get_no_other_right() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let own = Gid::current();
        let members = Members(Some((own, "us".to_owned())));
        let mode = || std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for (before, after) in [(0o700, 0o710), (0o755, 0o755), (0o750, 0o750), (0o711, 0o711)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(before)).unwrap();
            members.let_into(path).unwrap();
            assert_eq!(mode(), after);
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o750)).unwrap();
        let others = Members(Some((Gid::from_raw(own.as_raw() + 4242), "them".to_owned())));
        let error = others.let_into(path).unwrap_err();
        assert!(error.contains("another group's already"), "{error}");
        assert_eq!(mode(), 0o750);
    }
}
