//! A real Docker Engine in the gateway: processes, mounts and files of its own, all of them gone with it.

mod api;
mod image;
pub mod relay;
pub mod run;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};

use super::feed::Feed;
use super::ns::Ns;
use super::proc::Proc;
use super::{Lab, retry_until};

/// How long the engine may take to start or to end. It takes about a second, on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// The image that is always there: busybox, and nothing else.
pub const IMAGE: &str = "busybox";

/// Waits for [`INIT`] to end, which it does with the test at the latest, then takes away what outlives processes.
const GUARD: &str = r#"
net=$1 dir=$2 group=$3 init=$4 resolver=$5
nsenter --net="$net" -- unshare --mount --pid --fork --kill-child --mount-proc \
    sh -euc "$init" init "$dir" "$group" "$resolver"
for top in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ ! -d "$top/$group" ] || find "$top/$group" -depth -type d -exec rmdir {} +
done
rm -rf "$dir"
echo gone
"#;

/// The first process of the engine's own process namespace: when the test ends, however it does, its input ends, and the
/// kernel ends all others in it (engine, containers). What the engine mounts or writes outside its folder stays inside:
/// /run and /etc are its own; it loads no kernel modules by name and no AppArmor profile.
const INIT: &str = r#"
dir=$1 group=$2 resolver=$3
mkdir "$dir/data" "$dir/etc" "$dir/bin"
mount -t tmpfs -o mode=755 lab "$dir/data"
mount -t tmpfs -o mode=755 lab "$dir/etc"
mkdir "$dir/etc/upper" "$dir/etc/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$dir/etc/upper,workdir=$dir/etc/work" lab /etc
mount -t tmpfs -o mode=755 lab /run
rm -f /etc/resolv.conf
echo "nameserver $resolver" >/etc/resolv.conf
rm -rf /etc/docker
ln -s "$(command -v true)" "$dir/bin/modprobe"
PATH="$dir/bin:$PATH:/usr/sbin:/sbin"
export PATH container=lab
echo ready
while read -r what args; do
    case $what in
    start)
        dockerd --host "unix://$dir/docker.sock" --data-root "$dir/data" --exec-root "$dir/exec" \
            --pidfile "$dir/docker.pid" --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$group" \
            $args >>"$dir/log" 2>&1 </dev/null &
        engine=$!
        ;;
    *)
        kill -s "$what" "$engine"
        wait "$engine" 2>/dev/null || :
        # containerd goes with it, but stays a zombie until somebody looks, which the next engine takes for alive.
        pid=$(cat "$dir/exec/containerd/containerd.pid" 2>/dev/null || :)
        while [ -n "$pid" ] && grep -qs '^State:.[^Z]' "/proc/$pid/status"; do sleep 0.01; done
        [ "$what" != KILL ] || rm -f "$dir/exec/containerd/containerd.pid"
        ;;
    esac
    echo "$what"
done
"#;

/// What the engine is always started with: IPv6 as far as this version needs to be told.
const ALWAYS: &str = "--experimental --ip6tables --ipv6 --fixed-cidr-v6 fd17::/64";

/// A running engine; dropping it ends it and all its containers.
#[derive(Debug)]
pub struct Engine {
    dir: PathBuf,
    args: String,
    control: Option<ChildStdin>,
    said: Arc<Feed<String>>,
    guard: Proc,
    pid: i32,
}

impl Engine {
    /// Starts an engine in the lab's gateway, with an image [`IMAGE`]; its containers' resolver is the lab's
    /// [`DNS4`](super::DNS4), unless `args` say otherwise (as `--dns 172.17.0.1`).
    ///
    /// # Panics
    /// When it does not come up, with its log.
    pub fn start(lab: &Lab, args: &[&str]) -> Engine {
        Engine::with_resolver(lab, &super::DNS4.to_string(), args)
    }

    /// The same where the host's `resolv.conf` names another resolver.
    ///
    /// # Panics
    /// As [`Engine::start`].
    pub fn with_resolver(lab: &Lab, resolver: &str, args: &[&str]) -> Engine {
        let dir = lab.dir().join("engine");
        fs::create_dir(&dir).expect("one engine in a lab");
        let mut command = Command::new("sh");
        command.args(["-uc", GUARD, "guard", &lab.gw.path()]);
        command.arg(&dir).args([lab.prefix(), INIT, resolver]);
        // A signal to the test's group is not for it: it ends by its input, and tidies up.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("sh");
        let (control, stdout) = (child.stdin.take(), child.stdout.take().expect("piped"));
        let said = Arc::new(Feed::new(1_000));
        let feed = Arc::clone(&said);
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| feed.push(line));
            feed.close();
        });
        let args = format!("{ALWAYS} {}", args.join(" "));
        let mut engine = Engine { dir, args, control, said, guard: Proc::new(child), pid: 0 };
        engine.expect(0, "ready");
        engine.start_again();
        engine.import(IMAGE, &["busybox"]);
        engine
    }

    /// Starts it after [`Engine::kill`] or [`Engine::stop`], as it was started before; returns when it answers.
    ///
    /// # Panics
    /// When it does not come up, with its log.
    pub fn start_again(&mut self) {
        self.order(&format!("start {}", self.args));
        self.pid = retry_until(PATIENCE, || {
            let stream = UnixStream::connect(self.socket()).ok()?;
            let pid = getsockopt(&stream, sockopt::PeerCredentials).expect("who listens").pid();
            self.try_call("GET", "/_ping", None).is_ok().then_some(pid)
        })
        .unwrap_or_else(|| panic!("the engine does not come up\n{}", self.log()));
    }

    /// Kills the engine. Its containers live on, with `--live-restore` beyond its next start.
    pub fn kill(&mut self) {
        self.order("KILL");
    }

    /// Stops the engine as a service manager does. Its containers end, unless `--live-restore`.
    pub fn stop(&mut self) {
        self.order("TERM");
    }

    /// Freezes the engine: it accepts what it is asked and answers nothing until [`Engine::resume`].
    pub fn freeze(&self) {
        self.signal(nix::sys::signal::Signal::SIGSTOP);
    }

    /// Lets a frozen engine go on.
    pub fn resume(&self) {
        self.signal(nix::sys::signal::Signal::SIGCONT);
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), signal).expect("it runs");
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// Where it listens, as `DOCKER_HOST` says it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The network namespace a container has right now; a container that is started again has another one.
    ///
    /// # Panics
    /// When it does not run.
    pub fn ns(&self, container: &str) -> Ns {
        let key = self.inspect(container)["NetworkSettings"]["SandboxKey"].clone();
        let key = key.as_str().filter(|key| !key.is_empty());
        let key = key.unwrap_or_else(|| panic!("{container} does not run"));
        // Only the engine's own processes see its mounts.
        Ns::open_at(container, Path::new(&format!("/proc/{}/root{key}", self.pid)))
    }

    /// Tells the first process something, and waits until it is done.
    fn order(&mut self, what: &str) {
        let mark = self.said.mark();
        let control = self.control.as_mut().expect("not dropped");
        writeln!(control, "{what}").expect("the engine's first process listens");
        self.expect(mark, what.split(' ').next().unwrap_or(what));
    }

    fn expect(&self, mark: u64, what: &str) {
        let came = self.said.wait_after(mark, |line| line == what, PATIENCE);
        assert!(came.is_some(), "the engine did not get to {what:?}: {:?}", self.said.all());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.control.take());
        // The guard is never killed: it is what tidies up.
        if self.guard.wait(PATIENCE).is_none() && !std::thread::panicking() {
            panic!("the engine did not end: {:?}", self.said.all());
        }
    }
}
