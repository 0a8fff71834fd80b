//! The command line of our own dnsmasq: what is asked of it, checked, and never put through a shell.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Group, Uid, User};

/// What our own dnsmasq does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpawnConfig {
    /// Addresses and ports it answers on. An address that is not there yet is taken up when it appears.
    pub listen: Vec<(IpAddr, u16)>,
    /// Interfaces it answers on, as names or patterns with a final `*` (`br-*`).
    pub interfaces: Vec<String>,
    /// Resolvers it asks, as `ADDRESS` or `ADDRESS#PORT`; the host's own when there are none.
    pub upstreams: Vec<String>,
}

/// Why dnsmasq cannot be started, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing to listen on.
    #[error("dnsmasq has no address to listen on: give --dns-listen ADDRESS")]
    NoListen,
    /// dnsmasq has one port for all its addresses.
    #[error(
        "dnsmasq listens on one port for all addresses, not on {0} and {1}: give --dns-listen one port"
    )]
    Ports(u16, u16),
    /// Port 0 switches dnsmasq's DNS off.
    #[error("dnsmasq cannot listen on port 0: give --dns-listen another port")]
    PortZero,
    /// Not `ADDRESS[#PORT]`.
    #[error("upstream resolver `{0}` is not ADDRESS or ADDRESS#PORT")]
    Upstream(String),
    /// Not a name or pattern of an interface.
    #[error("`{0}` is not the name of an interface")]
    Interface(String),
    /// The port and the change of user need root.
    #[error("starting dnsmasq needs root: run synhold as root, or give --dns-source file:PATH")]
    NotRoot,
    /// No dnsmasq.
    #[error("dnsmasq is not installed: apt-get install dnsmasq-base")]
    NoDnsmasq,
    /// No setpriv.
    #[error("setpriv is not installed: apt-get install util-linux")]
    NoSetpriv,
    /// No user to run it as.
    #[error("there is neither a user dnsmasq nor a user nobody to run dnsmasq as")]
    NoUser,
    /// The system refused.
    #[error("dnsmasq cannot be started: {0}")]
    Start(String),
}

const PORT: u16 = 53;
/// Where programs are looked for, whatever PATH says: an administrator's PATH may lack the sbin folders.
const FOLDERS: [&str; 6] =
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
/// Records cached. dnsmasq's default of 150 is made for a home router.
const CACHE: &str = "--cache-size=10000";
/// Queries forwarded at a time. At dnsmasq's default of 150, one busy container would starve the others.
const FORWARD_MAX: &str = "--dns-forward-max=1000";
/// What we ask it to see whether it answers, it answers by itself. See [`super::asker::NAME`].
const OWN_NAME: &str = "--local=/alive.synhold.invalid/";
/// What is asked of every dnsmasq we start.
const ALWAYS: [&str; 10] = [
    "--keep-in-foreground",
    "--conf-file=/dev/null",
    "--no-hosts",
    "--log-queries=extra",
    "--log-facility=-",
    "--bind-dynamic",
    "--pid-file=",
    CACHE,
    FORWARD_MAX,
    OWN_NAME,
];

impl SpawnConfig {
    /// Finds out whether dnsmasq can be started, without starting it.
    ///
    /// # Errors
    /// The first [`Fault`] found.
    pub fn check(&self) -> Result<(), Fault> {
        self.command().map(|_| ())
    }

    /// dnsmasq's arguments.
    ///
    /// # Errors
    /// A [`Fault`] of the configuration itself.
    pub fn arguments(&self) -> Result<Vec<String>, Fault> {
        let mut args: Vec<String> = ALWAYS.iter().map(|arg| (*arg).to_owned()).collect();
        args.push(format!("--port={}", self.port()?));
        if self.listen.is_empty() && self.interfaces.is_empty() {
            return Err(Fault::NoListen);
        }
        for (address, _) in &self.listen {
            args.push(format!("--listen-address={address}"));
        }
        for interface in &self.interfaces {
            args.push(format!("--interface={}", checked_interface(interface)?));
        }
        // dnsmasq adds lo to any list of interfaces, where the host's own resolver may be.
        if !self.listen.iter().any(|(address, _)| address.is_loopback()) {
            args.push("--except-interface=lo".to_owned());
        }
        if !self.upstreams.is_empty() {
            args.push("--no-resolv".to_owned());
        }
        for upstream in &self.upstreams {
            args.push(format!("--server={}", checked_upstream(upstream)?));
        }
        Ok(args)
    }

    /// The whole command: setpriv becomes an ordinary user that may bind port 53 and dies with our thread, then dnsmasq.
    pub(super) fn command(&self) -> Result<Command, Fault> {
        let arguments = self.arguments()?;
        if !Uid::effective().is_root() {
            return Err(Fault::NotRoot);
        }
        let dnsmasq = find("dnsmasq").ok_or(Fault::NoDnsmasq)?;
        let setpriv = find("setpriv").ok_or(Fault::NoSetpriv)?;
        let (uid, gid) = account().ok_or(Fault::NoUser)?;
        let mut command = Command::new(setpriv);
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}"));
        // dnsmasq started as an ordinary user keeps what it is given, and with bind-dynamic asks for just this one.
        command.args(["--clear-groups", "--inh-caps=-all,+net_bind_service"]);
        command.args(["--ambient-caps=-all,+net_bind_service"]);
        command.args(["--bounding-set=-all,+net_bind_service"]);
        command.args(["--no-new-privs", "--pdeathsig=TERM", "--"]);
        command.arg(dnsmasq).args(arguments);
        // Messages in another language would not be recognised; nothing else of our environment is dnsmasq's business.
        command.env_clear().env("LC_ALL", "C").current_dir("/");
        Ok(command)
    }

    /// The one port of all its addresses.
    pub(super) fn port(&self) -> Result<u16, Fault> {
        let ports: BTreeSet<u16> = self.listen.iter().map(|(_, port)| *port).collect();
        match (ports.first().copied(), ports.last().copied()) {
            (Some(0), _) => Err(Fault::PortZero),
            (Some(first), Some(last)) if first != last => Err(Fault::Ports(first, last)),
            (port, _) => Ok(port.unwrap_or(PORT)),
        }
    }
}

fn checked_upstream(text: &str) -> Result<&str, Fault> {
    let (address, port) = text.split_once('#').unwrap_or((text, "53"));
    let fine = address.parse::<IpAddr>().is_ok() && port.parse::<u16>().is_ok_and(|port| port > 0);
    if fine { Ok(text) } else { Err(Fault::Upstream(text.to_owned())) }
}

/// Kernel names have at most 15 bytes; a comma would be a list, a blank or a slash no name.
fn checked_interface(text: &str) -> Result<&str, Fault> {
    let stem = text.strip_suffix('*').unwrap_or(text);
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-@".contains(&byte);
    let fine = !stem.is_empty() && stem.len() <= 15 && stem.bytes().all(usual);
    if fine { Ok(text) } else { Err(Fault::Interface(text.to_owned())) }
}

/// A program of the system.
pub fn find(program: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

/// The distribution's user for dnsmasq, else nobody.
fn account() -> Option<(Uid, Gid)> {
    let user =
        ["dnsmasq", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten())?;
    let group = Group::from_name("nogroup").ok().flatten().map_or(user.gid, |group| group.gid);
    Some((user.uid, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &[&str], upstreams: &[&str]) -> SpawnConfig {
        let listen = listen.iter().map(|text| {
            let socket: std::net::SocketAddr = text.parse().unwrap();
            (socket.ip(), socket.port())
        });
        let upstreams = upstreams.iter().map(|text| (*text).to_owned()).collect();
        SpawnConfig { listen: listen.collect(), interfaces: Vec::new(), upstreams }
    }

    #[test]
    fn addresses_and_upstreams_become_arguments() {
        let args = config(&["172.18.0.1:53", "[fd00::1]:53"], &["9.9.9.9", "fd00::53#5353"]);
        let args = args.arguments().unwrap();
        for wanted in [
            "--port=53",
            "--listen-address=172.18.0.1",
            "--listen-address=fd00::1",
            "--except-interface=lo",
            "--no-resolv",
            "--server=9.9.9.9",
            "--server=fd00::53#5353",
        ] {
            assert!(args.iter().any(|arg| arg == wanted), "{wanted} in {args:?}");
        }
    }

    #[test]
    fn what_we_ask_ourselves_is_answered_without_asking_on() {
        let own = OWN_NAME.strip_prefix("--local=/").and_then(|rest| rest.strip_suffix('/'));
        assert_eq!(own, Some(super::super::asker::NAME));
    }

    #[test]
    fn the_hosts_resolvers_are_asked_by_default_and_loopback_only_if_told() {
        let args = config(&["127.0.0.1:5353"], &[]).arguments().unwrap();
        assert!(!args.iter().any(|arg| arg == "--no-resolv" || arg == "--except-interface=lo"));
    }

    #[test]
    fn what_dnsmasq_would_misunderstand_is_refused() {
        assert_eq!(config(&[], &[]).arguments(), Err(Fault::NoListen));
        let ports = config(&["10.0.0.1:53", "10.0.0.2:54"], &[]).arguments();
        assert_eq!(ports, Err(Fault::Ports(53, 54)));
        assert_eq!(config(&["10.0.0.1:0"], &[]).arguments(), Err(Fault::PortZero));
        for upstream in ["", "dns.example", "1.1.1.1#", "1.1.1.1#0", "/x/1.1.1.1", "1.1.1.1@eth0"] {
            let fault = config(&["10.0.0.1:53"], &[upstream]).arguments();
            assert_eq!(fault, Err(Fault::Upstream(upstream.to_owned())));
        }
        for interface in ["", "*", "a,b", "a b", "../x", "br-*x*", "interface-too-long"] {
            let mut config = config(&["10.0.0.1:53"], &[]);
            config.interfaces.push(interface.to_owned());
            assert_eq!(config.arguments(), Err(Fault::Interface(interface.to_owned())));
        }
    }
}
