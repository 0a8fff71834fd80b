//! The registry on a disk that is full, read-only or gone, and under a process that is killed again and again.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use synhold::engine::Wall;
use synhold::engine::registry::Registry;
use synhold::engine::sieve::Sieve;
use synhold::store;

use super::lab::daemon::Daemon;
use super::lab::net::connect;
use super::lab::serve::{Server, everywhere};
use super::lab::{CONTAINER_NETS, CT4, Lab, SRV4, at};
use super::stand::{BIN, DnsLog, LATER, PORT, SOON, STARTED, start, start_on};

/// A killed process loses no more: a second between two writes to the journal, and as long for a busy machine.
const LOST: Duration = Duration::from_secs(2);
/// Of each of two processes.
const KILLS: usize = 5;

#[test]
fn a_process_killed_again_and_again_loses_a_second_and_damages_nothing() {
    std::thread::scope(|scope| {
        scope.spawn(|| kill_again_and_again("kill9", Duration::from_millis(700)));
        scope.spawn(|| kill_again_and_again("kill9b", Duration::from_millis(1_350)));
    });
}

/// Kills the process `first` and some more after what it told is to be safe.
fn kill_again_and_again(name: &str, first: Duration) {
    let lab = Lab::new(name);
    let path = lab.dir().join("dns.fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Open for both, so that it outlives every reader; what does not fit while nobody reads is lost.
    let flags = nix::libc::O_NONBLOCK;
    let fifo = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let lines = DnsLog::create(&lab.dir().join("unused.log"));
            write_records(lines, fifo, &done);
        });
        let stop = Stop(&done);
        let mut safe: HashSet<IpAddr> = HashSet::new();
        for kill in 0..KILLS {
            let daemon = start_on(&lab, &format!("fifo:{}", path.display()), &[]);
            let known = daemon.ready()["records"].as_u64().unwrap();
            assert!(known >= safe.len() as u64, "{kill}: {known} of {}", safe.len());
            // At another moment of its second each time.
            std::thread::sleep(LOST + first + Duration::from_millis(130 * kill as u64));
            let killed = SystemTime::now();
            let ended = daemon.kill9();
            let told = ended.events.iter().filter(|e| e["what"] == "registry");
            assert_eq!(told.count(), 0, "{:?}", ended.events.last());
            safe.extend(ended.events.iter().filter_map(|event| record_before(event, killed)));
            let registry = Registry::default();
            let loaded = store::load(
                &lab.dir().join("state/registry"),
                &registry,
                &Sieve::new(None, Wall(0)),
            )
            .unwrap();
            let is_clean = |cut: &store::Cut| cut.is_torn;
            assert!(loaded.cuts.iter().all(is_clean) && loaded.missing.is_empty(), "{loaded:?}");
            let there: HashSet<IpAddr> = registry.addresses().into_iter().collect();
            let lost: Vec<&IpAddr> = safe.difference(&there).collect();
            assert!(lost.is_empty(), "{kill}: {lost:?} of {} are gone", safe.len());
        }
        assert!(safe.len() > 500, "the control: {} records", safe.len());
        drop(stop);
    });
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes record after record, each of another address.
fn write_records(mut lines: DnsLog, mut fifo: fs::File, done: &AtomicBool) {
    for n in 0.. {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 19, 0, 0)) + n % 65_536);
        let name = format!("n{n}.example");
        // Short of a page it is written whole or not at all.
        let _ = fifo.write(lines.lines(CT4.into(), &name, address.into()).as_bytes());
        if done.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The address of a record that was told long enough before its daemon was killed.
fn record_before(event: &Value, killed: SystemTime) -> Option<IpAddr> {
    let time = humantime::parse_rfc3339(event["ts"].as_str()?).ok()?;
    let is_safe = event["event"] == "record" && time + LOST < killed;
    is_safe.then(|| event["address"].as_str().unwrap().parse().unwrap())
}

/// Starts the daemon in a mount namespace of its own, on a small disk at `disk` that is gone with it.
fn start_on_disk(lab: &Lab, disk: &Path, prepare: &str, state: &Path, log: &Path) -> Daemon {
    let at = disk.display();
    let script = format!("mount -t tmpfs -o size=512k none {at} && {prepare} exec \"$0\" \"$@\"");
    let mut command = lab.gw.command("unshare");
    command.args(["--mount", "sh", "-c", &script, BIN, "run", "--no-docker"]);
    command.args(["--log-format", "json", "--evidence-grace", "0s"]);
    command.arg("--state-dir").arg(state).arg("--dns-source");
    command.arg(format!("file:{}", log.display()));
    CONTAINER_NETS.iter().for_each(|net| {
        command.args(["--container-net", net]);
    });
    Daemon::start(&lab.gw, command)
}

/// A path as the daemon sees it.
fn seen_by(daemon: &Daemon, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", daemon.pid()));
    root.join(path.strip_prefix("/").unwrap())
}

fn told(daemon: &Daemon, mark: u64, healthy: bool, part: &str) {
    let is = |e: &Value| {
        e["what"] == "registry"
            && e["healthy"] == healthy
            && e["message"].as_str().unwrap().contains(part)
    };
    let found = daemon.feed().wait_after(mark, is, LATER);
    assert!(found.is_some(), "nobody told {healthy} {part:?}\n{}", daemon.story());
}

struct Disk {
    log: DnsLog,
    disk: PathBuf,
    _server: Server,
    lab: Lab,
}

impl Disk {
    fn new(name: &str) -> Disk {
        let lab = Lab::new(name);
        let disk = lab.dir().join("disk");
        fs::create_dir(&disk).unwrap();
        let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
        log.write(STARTED);
        let server = Server::tcp(&lab.srv, &everywhere(PORT));
        Disk { log, disk, _server: server, lab }
    }

    /// Makes many names resolve, more than fit a page.
    fn resolve_many(&mut self, word: &str) {
        for n in 0..250 {
            let name = format!("{word}{n}.a-name-of-some-length.example");
            self.log.answer(CT4.into(), &name, Ipv4Addr::new(198, 19, word.len() as u8, n).into());
        }
    }

    /// Makes a name resolve, and the container get through.
    fn resolve(&mut self) {
        self.log.answer(CT4.into(), "web.example", SRV4.into());
        connect(&self.lab.ct, at(SRV4, PORT), SOON).expect("judged as ever");
    }

    /// Ends a daemon, and what a new registry loads from what it left there.
    fn end(daemon: &Daemon, folder: &Path) -> Registry {
        let registry = Registry::default();
        let loaded =
            store::load(&seen_by(daemon, folder), &registry, &Sieve::new(None, Wall(0))).unwrap();
        assert!(!loaded.lost, "{loaded:?}");
        registry
    }
}

#[test]
fn a_full_disk_is_told_once_and_written_anew_when_there_is_room() {
    let mut stage = Disk::new("full");
    let state = stage.disk.join("state");
    let daemon = start_on_disk(&stage.lab, &stage.disk, "", &state, &stage.log.path);
    daemon.ready();
    let filler = seen_by(&daemon, &stage.disk.join("filler"));
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[7; 512]).is_ok() {}
    drop(file);
    let mark = daemon.feed().mark();
    stage.resolve_many("full");
    told(&daemon, mark, false, "make room on the disk");
    stage.resolve();
    fs::remove_file(&filler).unwrap();
    told(&daemon, mark, true, "saved again");
    let unwell = |e: &Value| e["what"] == "registry" && e["healthy"] == false;
    assert_eq!(daemon.feed().count(unwell), 1, "told once");
    let registry = Disk::end(&daemon, &state.join("registry"));
    assert_eq!(registry.len(), 251, "with what was learned meanwhile");
    assert!(daemon.stop().status.success());
}

#[test]
fn a_disk_that_is_read_only_at_start_is_used_when_it_is_writable() {
    let mut stage = Disk::new("readonly");
    let at = stage.disk.display().to_string();
    // With a folder to lock, and with none that could be made.
    for (name, prepare) in [
        ("state", format!("mkdir {at}/state && mount -o remount,ro {at} &&")),
        ("sub/state", format!("mount -o remount,ro {at} &&")),
    ] {
        let state = stage.disk.join(name);
        let daemon = start_on_disk(&stage.lab, &stage.disk, &prepare, &state, &stage.log.path);
        daemon.ready();
        told(&daemon, 0, false, "writable again");
        stage.resolve();
        let pid = daemon.pid().to_string();
        let mark = daemon.feed().mark();
        let mut mount = stage.lab.gw.command("nsenter");
        mount.args(["-t", &pid, "-m", "mount", "-o", "remount,rw", &at]);
        super::lab::proc::run(mount, "");
        told(&daemon, mark, true, "saved again");
        assert!(!Disk::end(&daemon, &state.join("registry")).names(SRV4.into()).is_empty());
        assert!(daemon.stop().status.success());
    }
}

#[test]
fn a_folder_that_is_removed_is_made_anew() {
    let mut stage = Disk::new("removed");
    let daemon = start(&stage.lab, &stage.log.path, &["--evidence-grace", "0s"]);
    daemon.ready();
    stage.resolve();
    let mark = daemon.feed().mark();
    let state = stage.lab.dir().join("state");
    fs::remove_dir_all(&state).unwrap();
    told(&daemon, mark, false, "is gone");
    told(&daemon, mark, true, "saved again");
    assert!(daemon.stop().status.success());
    let registry = Registry::default();
    assert!(
        !store::load(&state.join("registry"), &registry, &Sieve::new(None, Wall(0))).unwrap().lost
    );
    assert_eq!(registry.len(), 1);
}

#[test]
fn what_a_later_synhold_wrote_is_not_touched() {
    let stage = Disk::new("newer");
    let folder = stage.lab.dir().join("state/registry");
    fs::create_dir_all(&folder).unwrap();
    let mut header = b"synhold\n\x09\0\0\0\x01\0\0\0\x05\0\0\0\0\0\0\0".to_vec();
    header.extend(crc32fast::hash(&header).to_le_bytes());
    fs::write(folder.join("snapshot-5"), &header).unwrap();
    let daemon = start(&stage.lab, &stage.log.path, &[]);
    daemon.ready();
    told(&daemon, 0, false, "too new");
    assert!(daemon.stop().status.success());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(fs::read(folder.join("snapshot-5")).unwrap(), header);
}
