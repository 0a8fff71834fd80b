//! What the story is played on: the lab with its servers, and the firewall whose lines are shown as they fall.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::lab::daemon::Daemon;
use super::lab::dns::{upstream, zone};
use super::lab::feed::Feed;
use super::lab::proc::Proc;
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Wire;
use super::lab::{CONTAINER_NETS, DNS4, Lab, Side, retry_until};
use super::signals::interrupted;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon an interrupt is noticed.
const GLANCE: Duration = Duration::from_millis(100);

/// Fields go in this order: what listens on the lab before the lab.
pub struct Stage {
    firewall: Proc,
    lines: Arc<Feed<String>>,
    stderr: Arc<Feed<String>>,
    far: Wire,
    _server: Server,
    _resolver: Daemon,
    pub lab: Lab,
}

impl Stage {
    /// The small internet, with a server for every address of `203.0.113.0/24` and a name server that knows `names`.
    pub fn set(
        synhold: &Path,
        names: &[(&str, SocketAddr)],
        between: impl FnOnce(),
    ) -> Result<Stage, String> {
        let lab = Lab::new("demo");
        let port = names.first().map_or(443, |(_, server)| server.port());
        let server = Server::tcp(&lab.srv, &everywhere(port));
        let resolver =
            upstream(&lab, names.iter().map(|(name, server)| zone::host(name, server.ip())));
        let far = Wire::watch(&lab.srv, "eth0");
        between();

        let mut command = lab.gw.command(synhold);
        command
            .args(["run", "--no-docker", "--evidence-grace", "0s", "--state-dir"])
            .arg(lab.dir().join("state"));
        command.args(["--dns-upstream", &DNS4.to_string()]);
        // What is in order is shown, too.
        command
            .args(["--metrics", "off", "--canary", "off"])
            .env("RUST_LOG", "synhold::events=debug");
        command.args(CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (pipes, firewall) = lab.gw.start(command);
        let lines = follow(pipes.stdout.expect("piped"), |line| println!("  synhold │ {line}"));
        let stderr = follow(pipes.stderr.expect("piped"), |_| {});
        let stage =
            Stage { firewall, lines, stderr, far, _server: server, _resolver: resolver, lab };
        stage.line("ready, enforcing")?;
        Ok(stage)
    }

    /// The firewall's first line that holds `text`, shown already or still to come.
    pub fn line(&self, text: &str) -> Result<String, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.lines.wait_for(|line| line.contains(text), GLANCE) {
                return Ok(line);
            }
            if interrupted() || self.firewall.ended().is_some() || Instant::now() >= end {
                let said = self.stderr.all().join("\n");
                return Err(format!("synhold did not say `{text}`\n{said}"));
            }
        }
    }

    /// First packets to `server` that got through to the far side, once all under way have arrived.
    pub fn arrived(&self, server: SocketAddr) -> usize {
        self.far.count_settled(&self.lab, Side::Srv, |packet| packet.is_syn_to(server))
    }

    /// Waits until a packet waits in the gateway's queue.
    pub fn held(&self) -> Result<(), String> {
        let held = retry_until(PATIENCE, || {
            let queues = self.lab.gw.proc_net("netfilter/nfnetlink_queue").unwrap_or_default();
            let waiting = queues.lines().filter_map(|line| line.split_ascii_whitespace().nth(2));
            waiting.into_iter().any(|count| count != "0").then_some(())
        });
        held.ok_or_else(|| "the packet was not held".to_owned())
    }

    /// When the first packet to `server` was on the far side's wire.
    pub fn first_seen(&self, server: SocketAddr) -> Option<Instant> {
        self.far.wait_for(|packet| packet.is_syn_to(server), PATIENCE).map(|packet| packet.at)
    }

    /// SIGTERM; true if the firewall ended well.
    pub fn stop(&self) -> bool {
        self.firewall.signal(Signal::SIGTERM);
        self.firewall.wait(PATIENCE).is_some_and(|status| status.success())
    }
}

/// Keeps the lines of a pipe, and shows each.
fn follow(pipe: impl Read + Send + 'static, show: fn(&str)) -> Arc<Feed<String>> {
    let feed = Arc::new(Feed::new(10_000));
    let kept = Arc::clone(&feed);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            show(&line);
            kept.push(line);
        }
        kept.close();
    });
    feed
}
