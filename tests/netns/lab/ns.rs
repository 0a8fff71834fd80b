//! One network namespace: threads, sockets and commands that live in it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};

use super::proc::{self, Proc};

/// Where `ip netns` keeps its names.
pub const DIR: &str = "/run/netns";

/// A named network namespace of the lab; cheap to clone.
#[derive(Clone, Debug)]
pub struct Ns {
    name: Arc<str>,
    path: Arc<str>,
    file: Arc<File>,
    started: Arc<Mutex<Vec<Proc>>>,
}

impl Ns {
    pub(super) fn open(name: &str) -> Ns {
        let path = Path::new(DIR).join(name);
        let file = File::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let path = path.to_string_lossy().into();
        Ns { name: name.into(), path, file: Arc::new(file), started: Arc::default() }
    }

    /// One that others made, under a name of ours.
    pub(super) fn open_at(name: &str, path: &Path) -> Ns {
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // Whoever made it may hide or remove the file; ours stays open.
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into();
        Ns { name: name.into(), path, file: Arc::new(file), started: Arc::default() }
    }

    /// Its name, as `ip netns list` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for programs that want to be told where to go.
    pub fn path(&self) -> String {
        self.path.to_string()
    }

    /// The number the kernel knows it by.
    pub fn inode(&self) -> u64 {
        self.file.metadata().expect("namespace file").ino()
    }

    fn enter(&self) {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .unwrap_or_else(|e| panic!("enter {}: {e}", self.name));
    }

    /// Runs a closure on a fresh thread inside; sockets it makes stay inside wherever they go.
    ///
    /// # Panics
    /// When the closure does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let inside = self.clone();
        thread::spawn(move || {
            inside.enter();
            work()
        })
    }

    /// A command that will run inside. (`nsenter`, not `ip netns exec`: that one hides cgroup mounts.)
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }

    /// Starts a command made by [`Ns::command`]; it ends with the lab at the latest.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, mut command: Command) -> (Pipes, Proc) {
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let pipes = Pipes {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        };
        let proc = self.adopt(child);
        (pipes, proc)
    }

    fn adopt(&self, child: Child) -> Proc {
        let proc = Proc::new(child);
        let mut started = self.started.lock().unwrap();
        started.retain(|p| p.ended().is_none());
        started.push(proc.clone());
        proc
    }

    pub(super) fn end_processes(&self) {
        for proc in self.started.lock().unwrap().drain(..) {
            proc.end();
        }
    }

    /// Runs lines of `ip -batch` inside.
    pub fn ip(&self, lines: &str) -> String {
        let mut ip = self.command("ip");
        ip.args(["-batch", "-"]);
        proc::run(ip, lines)
    }

    /// Loads an nft script inside (`nft -f -`).
    pub fn nft(&self, script: &str) -> String {
        let mut nft = self.command("nft");
        nft.args(["-f", "-"]);
        proc::run(nft, script)
    }

    /// The whole ruleset as nft prints it, to compare before and after.
    pub fn ruleset(&self) -> String {
        let mut nft = self.command("nft");
        nft.args(["list", "ruleset"]);
        proc::run(nft, "")
    }

    /// Sets a kernel parameter inside, as `ipv4/icmp_ratelimit`.
    pub fn sysctl(&self, path: &str, value: &str) {
        let file = format!("/proc/sys/net/{path}");
        self.run(|| fs::write(&file, value).unwrap_or_else(|e| panic!("{file} = {value}: {e}")));
    }

    /// Reads a file of `/proc/net` as it looks inside, as `netfilter/nfnetlink_queue`; None when not there.
    pub fn proc_net(&self, path: &str) -> Option<String> {
        // Not /proc/net: that is the main thread's.
        self.run(|| fs::read_to_string(format!("/proc/thread-self/net/{path}")).ok())
    }
}

/// The pipes of a started process, where it was given any.
#[derive(Debug)]
pub struct Pipes {
    /// Its standard input.
    pub stdin: Option<std::process::ChildStdin>,
    /// Its standard output.
    pub stdout: Option<std::process::ChildStdout>,
    /// Its standard error.
    pub stderr: Option<std::process::ChildStderr>,
}
