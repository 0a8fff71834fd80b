//! `synhold top` in a real terminal, that of tmux: what it shows, what its keys do on the wire, and how it ends.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::lab::daemon::Daemon;
use super::lab::ns::Ns;
use super::lab::{Lab, at, proc, retry_until};
use super::stand::{BIN, LATER, PORT, SOON, Stand, assert_passes, assert_refused, casts};

/// A terminal with a shell in it; gone with this value.
struct Terminal<'a> {
    ns: &'a Ns,
    socket: String,
}

impl<'a> Terminal<'a> {
    fn open(lab: &'a Lab, (width, height): (u16, u16), before: &str) -> Terminal<'a> {
        let socket = lab.dir().join("tmux").display().to_string();
        let terminal = Terminal { ns: &lab.gw, socket };
        let size = [width.to_string(), height.to_string()];
        let state = lab.dir().join("state").display().to_string();
        // What comes after it shows that the terminal was given back.
        let shell =
            format!("{before} {BIN} top --state-dir {state}; echo \"ended with $?\"; read -r _");
        let size = ["-x", &size[0], "-y", &size[1]];
        terminal.tmux(&[&["-f", "/dev/null", "new-session", "-d"], &size[..], &[&shell]].concat());
        terminal
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.ns.command("tmux");
        command.args(["-S", &self.socket]).args(args);
        command
    }

    fn tmux(&self, args: &[&str]) -> String {
        proc::run(self.command(args), "")
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn shows(&self, parts: &[&str]) -> String {
        let has = || {
            let screen = self.screen();
            parts.iter().all(|part| screen.contains(part)).then_some(screen)
        };
        retry_until(LATER, has).unwrap_or_else(|| panic!("{parts:?} not in\n{}", self.screen()))
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).output();
    }
}

/// The process of `top` in this stand.
fn pid_of_top(stand: &Stand) -> i32 {
    let state = stand.lab.dir().join("state").display().to_string();
    let is = |pid: &i32| {
        let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
        args.get(1) == Some(&&b"top"[..]) && args.contains(&state.as_bytes())
    };
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.into_iter().find(is).expect("top runs")
}

#[test]
fn what_is_selected_is_explained_and_allowed_on_the_wire() {
    let stand = Stand::new("top", &["--hold-ms", "200"]);
    let [cast, _] = casts();
    assert_refused(&stand.lab.ct, cast.server);
    let server = cast.server.ip().to_string();
    let container = cast.container.to_string();
    let to = format!("{server} tcp/{PORT}");
    let terminal = Terminal::open(&stand.lab, (100, 30), "");
    let first =
        terminal.shows(&["ENFORCING", "verdicts/s", "Containers: 0", &to, "never-resolved"]);
    assert!(first.contains(&container), "{first}");

    terminal.keys(&["e"]);
    terminal.shows(&["REFUSED:", "KERNEL SET", &format!("{server} from {container}")]);
    terminal.keys(&["x"]);
    terminal.keys(&["a"]);
    terminal.shows(&[&format!("Allow {server} to every container"), "allow.txt", "y/N"]);
    terminal.keys(&["n"]);
    terminal.shows(&["nothing was changed"]);
    assert!(!stand.lists().join("allow.txt").exists() || stand.members("allow4").is_empty());
    terminal.keys(&["a", "y"]);
    terminal.shows(&["is allowed, by a new line in allow.txt", "in force now"]);
    assert_passes(&stand.lab.ct, cast.server);
    let text = std::fs::read_to_string(stand.lists().join("allow.txt")).unwrap();
    assert!(text.contains(&server) && text.contains("by synhold top"), "{text}");

    // A filter that nothing has, and none.
    terminal.keys(&["x", "/", "nothing-has-this", "Enter"]);
    terminal.shows(&["Refusals of late: 0", "only rows with `nothing-has-this`"]);
    terminal.keys(&["Escape"]);
    terminal.shows(&["Refusals of late: 1"]);
    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    let small = terminal.shows(&["ENFORCING", &to, "q quit"]);
    assert!(small.lines().all(|line| line.chars().count() <= 80), "{small}");
    terminal.keys(&["q"]);
    let after = terminal.shows(&["ended with 0"]);
    assert!(!after.contains("Refusals of late"), "the screen of before is back\n{after}");
}

#[test]
fn it_outlives_its_daemon_and_gives_the_terminal_back_when_told_to_end() {
    let mut stand = Stand::new("topend", &[]);
    let log = stand.log.path.clone();
    let [cast, _] = casts();
    stand.resolve(cast.container, "shop.example", cast.server.ip());
    let pid;
    {
        let terminal = Terminal::open(&stand.lab, (80, 24), "NO_COLOR=1");
        terminal.shows(&["ENFORCING"]);
        pid = pid_of_top(&stand);
        let coloured = terminal.tmux(&["capture-pane", "-p", "-e"]);
        assert!(!coloured.contains("[31m") && !coloured.contains("[32m"), "{coloured:?}");
        stop(&mut stand.daemon);
        terminal.shows(&["DAEMON GONE, retrying"]);
        stand.daemon = super::stand::start(&stand.lab, &log, &[]);
        stand.daemon.ready();
        let back = || (!terminal.screen().contains("DAEMON GONE")).then_some(());
        retry_until(LATER, back).unwrap_or_else(|| panic!("{}", terminal.screen()));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        terminal.shows(&["ended with 0"]);
        terminal.keys(&["Enter"]);
    }
    let gone = || (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(());
    assert!(retry_until(SOON, gone).is_some());
    assert_refused(&stand.lab.ct, at(casts()[0].dead.ip(), PORT));
}

fn stop(daemon: &mut Daemon) {
    assert!(daemon.send_signal(Signal::SIGTERM));
    let ended = retry_until(Duration::from_secs(60), || daemon.ended());
    assert!(ended.is_some(), "{}", daemon.story());
}

/// Jiffies of processor time that a process has used, while it lives.
fn used(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    // State, then 10 others, then time in the program and in the kernel.
    let number = |nth: usize| fields[nth].parse::<u64>().unwrap();
    (!["Z", "X"].contains(&fields[0])).then(|| number(11) + number(12))
}

#[test]
fn a_terminal_that_dies_ends_it_also_where_hanging_up_is_ignored() {
    let stand = Stand::new("tophup", &[]);
    for before in ["", "trap '' HUP;"] {
        let terminal = Terminal::open(&stand.lab, (80, 24), before);
        terminal.shows(&["ENFORCING"]);
        let pid = pid_of_top(&stand);
        let server = terminal.tmux(&["display-message", "-p", "#{pid}"]);
        let server = nix::unistd::Pid::from_raw(server.trim().parse().unwrap());
        let before_it = used(pid).unwrap();
        nix::sys::signal::kill(server, Signal::SIGKILL).unwrap();
        let mut last = before_it;
        let ended = || match used(pid) {
            Some(jiffies) => {
                last = jiffies;
                None
            }
            None => Some(()),
        };
        let ended = retry_until(LATER, ended);
        if ended.is_none() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
        assert!(ended.is_some(), "with `{before}` it lives on, at {last} jiffies");
        assert!(last - before_it < 50, "with `{before}` it span for {} jiffies", last - before_it);
    }
}

#[test]
fn without_a_terminal_it_says_so_in_one_line() {
    let stand = Stand::new("toptty", &[]);
    let (code, out, stderr) = super::stand::synhold(&stand.lab, &["top"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(stderr.lines().count() == 1 && stderr.contains("needs a terminal"), "{stderr}");
}
