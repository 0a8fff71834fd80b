//! A machine in the machine, with a systemd of its own: for what is installed and started as users do it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::proc::output;
use super::retry_until;

/// What it is made by.
const SCRIPT: &str = include_str!("machine.sh");
/// For a boot on a machine that is busy with other tests.
const BOOT: Duration = Duration::from_secs(60);
/// For one step: installing a package takes the longest.
const STEP: Duration = Duration::from_secs(120);

/// A running machine; dropping it ends it with all that runs in it, and forgets what it changed.
#[derive(Debug)]
pub struct Machine {
    keeper: Child,
    init: String,
    _folder: TempDir,
}

impl Machine {
    /// Boots one and waits until its systemd has nothing more to start.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn boot() -> Machine {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("machine.sh");
        std::fs::write(&script, SCRIPT).expect("a script");
        let root = folder.path().join("machine");
        std::fs::create_dir(&root).expect("a folder");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh"]).arg(&script).arg(&root);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().expect("unshare starts");
        let mut parent = String::new();
        let stdout = keeper.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut parent).expect("a process id");
        let parent = parent.trim().to_owned();
        let init = retry_until(BOOT, || systemd_under(&parent)).expect("systemd starts");
        let machine = Machine { keeper, init, _folder: folder };
        let up = retry_until(BOOT, || machine.try_sh("systemctl is-system-running --wait").ok());
        assert_eq!(up.as_deref().map(str::trim), Some("running"), "{}", machine.story());
        machine
    }

    /// Copies a file into its /root.
    ///
    /// # Panics
    /// When that fails.
    pub fn bring(&self, file: &Path, name: &str) {
        let inside = format!("/proc/{}/root/root/{name}", self.init);
        std::fs::copy(file, inside).expect("the machine takes a file");
    }

    /// What a script of sh prints that ends well.
    ///
    /// # Errors
    /// All it said, if it does not.
    pub fn try_sh(&self, script: &str) -> Result<String, String> {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init, "--all", "--root", "--wd", "--", "sh", "-ec", script]);
        let out = output(command, "", STEP)?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if out.status.success() {
            return Ok(said(&out.stdout));
        }
        Err(format!("{script}: {}\n{}{}", out.status, said(&out.stdout), said(&out.stderr)))
    }

    /// The same, of one that must end well.
    ///
    /// # Panics
    /// With all it said, and the journal, if it does not.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.try_sh(script).unwrap_or_else(|error| panic!("{error}\n{}", self.story()))
    }

    fn story(&self) -> String {
        let journal = "systemctl --failed --no-pager; journalctl --no-pager --lines 60";
        self.try_sh(journal).unwrap_or_else(|error| error)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of its standard input tells the keeper, who cleans up.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// The only child of a process, once it is systemd.
fn systemd_under(parent: &str) -> Option<String> {
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let child = children.trim().to_owned();
    let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (name.trim() == "systemd").then_some(child)
}
