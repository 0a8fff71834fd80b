//! A real systemd-journald, alone in a mount namespace with a /run, /dev and /var/log of its own; units are cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Lab;
use super::daemon::Daemon;
use super::ns::Ns;
use super::proc::Proc;

/// Where systemd keeps its programs.
const JOURNALD: [&str; 2] = ["/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald"];
/// Where a hierarchy of cgroups may be that journald takes the unit's name from.
const HIERARCHIES: [&str; 3] =
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
/// Nothing of the machine's own journal is touched or seen. No /dev/kmsg: the kernel's lines are not ours.
const PRIVATE: &str = r#"set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/journald.conf.d /run/log/journal /run/dev
for node in null zero full random urandom; do
    touch /run/dev/$node
    mount --bind /dev/$node /run/dev/$node
done
ln -s /run/systemd/journal/dev-log /run/dev/log
mount --rbind /run/dev /dev
[ -s /etc/machine-id ] || {
    echo 0123456789abcdef0123456789abcdef > /run/machine-id
    mount --bind /run/machine-id /etc/machine-id
}
printf '[Journal]\nStorage=volatile\n%s\n' "$1" > /run/systemd/journald.conf.d/lab.conf
"#;

/// The journal. Dropping it ends journald and takes the unit away.
pub struct Journal {
    holder: Proc,
    journald: std::cell::RefCell<Proc>,
    unit: String,
    cgroups: Vec<PathBuf>,
}

impl Journal {
    /// Starts journald with these lines in its configuration, and makes a unit.
    ///
    /// # Panics
    /// When there is no journald, or it does not come up.
    pub fn start(lab: &Lab, settings: &str) -> Journal {
        let unit = format!("synhold-test-{}-{}.service", std::process::id(), lab.gw.inode());
        let cgroups: Vec<PathBuf> = HIERARCHIES
            .iter()
            .filter(|root| Path::new(root).join("cgroup.procs").exists())
            .map(|root| Path::new(root).join(&unit))
            .collect();
        cgroups.iter().for_each(|cgroup| fs::create_dir(cgroup).expect("make a cgroup"));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c"]);
        command.arg(format!("{PRIVATE}exec sleep infinity")).args(["sh", settings]);
        let holder = Proc::new(command.stdin(Stdio::null()).spawn().expect("unshare"));
        let root =
            PathBuf::from(format!("/proc/{}/root/run/systemd/journald.conf.d", holder.pid()));
        super::eventually("the namespace is set up", Duration::from_secs(10), || {
            root.join("lab.conf").exists()
        });
        let journald = std::cell::RefCell::new(journald(&holder));
        let journal = Journal { holder, journald, unit, cgroups };
        journal.listens();
        journal
    }

    /// The unit's name.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    fn listens(&self) {
        let socket = format!("/proc/{}/root/run/systemd/journal/dev-log", self.holder.pid());
        super::eventually("journald listens", Duration::from_secs(10), || {
            Path::new(&socket).exists()
        });
    }

    /// Ends journald and starts another.
    pub fn restart(&self) {
        self.journald.borrow().signal(nix::sys::signal::Signal::SIGTERM);
        let _ = self.journald.borrow().wait(Duration::from_secs(10));
        let socket = format!("/proc/{}/root/run/systemd/journal", self.holder.pid());
        let _ = fs::remove_dir_all(socket);
        *self.journald.borrow_mut() = journald(&self.holder);
        self.listens();
    }

    /// A command that runs in `ns` and sees this journal.
    pub fn command(&self, ns: &Ns, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", ns.path()));
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.pid()));
        command.args(["--", program]);
        command
    }

    /// The same, as a process of the unit.
    pub fn command_of_unit(&self, ns: &Ns, script: &str) -> Command {
        let mut command = self.command(ns, "sh");
        let join: String = self
            .cgroups
            .iter()
            .map(|c| format!("echo $$ > {}/cgroup.procs; ", c.display()))
            .collect();
        command.arg("-c").arg(format!("{join}{script}"));
        command
    }

    /// journalctl with these arguments: what it says.
    pub fn ask(&self, lab: &Lab, args: &[&str]) -> String {
        let mut command = self.command(&lab.gw, "journalctl");
        super::proc::run(
            {
                command.args(args);
                command
            },
            "",
        )
    }

    /// A real dnsmasq as the unit, which logs to syslog as Debian's does, listening on these addresses.
    pub fn dnsmasq(&self, lab: &Lab, listen: &[std::net::IpAddr], args: &[String]) -> Daemon {
        let listen: String = listen.iter().map(|at| format!(" --listen-address={at}")).collect();
        let script = format!(
            "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file --user=dnsmasq --no-resolv \
             --no-hosts --bind-interfaces --log-queries=extra --log-facility=daemon{listen} {}",
            args.join(" ")
        );
        Daemon::start(&lab.gw, self.command_of_unit(&lab.gw, &script))
    }
}

fn journald(holder: &Proc) -> Proc {
    let program = JOURNALD.iter().find(|path| Path::new(path).exists());
    let program = program.expect("systemd-journald is installed (scripts/setup.sh tests)");
    let mut command = Command::new("nsenter");
    command.arg(format!("--mount=/proc/{}/ns/mnt", holder.pid())).args(["--", program]);
    Proc::new(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("nsenter"))
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.journald.borrow().end();
        self.holder.end();
        // Whoever is still in it is on the way out; the lab reaps it.
        for cgroup in &self.cgroups {
            let _ = super::retry_until(Duration::from_secs(5), || fs::remove_dir(cgroup).ok());
        }
    }
}
