//! Processes of this host as `/proc` shows them: who is who, and who listens where.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Processes looked at, at most; a busy host has some thousands.
const PROCESSES_MAX: usize = 65_536;
/// Arguments of a process that are read; a program's options are in the first page.
const ARGUMENT_BYTES_MAX: usize = 16 << 10;

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its program, as the kernel calls it.
    pub name: String,
    /// Its arguments, the program first.
    pub arguments: Vec<String>,
}

impl Process {
    /// For a sentence.
    pub fn shown(&self) -> String {
        format!("{} (process {})", self.name, self.pid)
    }

    /// One process; none if it has ended.
    pub fn of(pid: u32) -> Option<Process> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let name = std::fs::read_to_string(folder.join("comm")).ok()?.trim_end().to_owned();
        let mut bytes = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        bytes.truncate(ARGUMENT_BYTES_MAX);
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        let arguments = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        Some(Process { pid, name, arguments })
    }

    /// Whom it runs as; nothing if it has ended.
    pub fn uid(&self) -> Option<u32> {
        std::fs::metadata(format!("/proc/{}", self.pid)).ok().map(|folder| folder.uid())
    }

    /// Whether it is in our network namespace; true where it cannot be told.
    pub fn is_here(&self) -> bool {
        let inode = |path: String| std::fs::metadata(path).map(|namespace| namespace.ino());
        let ours = inode("/proc/thread-self/ns/net".to_owned());
        let its = inode(format!("/proc/{}/ns/net", self.pid));
        match (ours, its) {
            (Ok(ours), Ok(its)) => ours == its,
            _ => true,
        }
    }
}

/// All processes.
pub fn all() -> impl Iterator<Item = Process> {
    pids().into_iter().filter_map(Process::of)
}

fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.take(PROCESSES_MAX).collect()
}

/// Who has a UDP socket on an address, in our network namespace, or on all addresses.
pub fn listener(at: SocketAddr) -> Option<Process> {
    let files = if at.is_ipv4() { ["udp", "udp6"] } else { ["udp6", "udp"] };
    let sockets: HashSet<String> = files
        .into_iter()
        .filter_map(|file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok())
        .flat_map(|text| inodes(&text, at.port()))
        .collect();
    let has = |pid: u32| {
        let folder = format!("/proc/{pid}/fd");
        let open = std::fs::read_dir(Path::new(&folder)).into_iter().flatten().flatten();
        let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let mut names = targets.filter_map(|target| target.to_str().map(str::to_owned));
        names.any(|name| sockets.contains(&name))
    };
    if sockets.is_empty() {
        return None;
    }
    pids().into_iter().find(|pid| has(*pid)).and_then(Process::of)
}

/// `sl local_address rem_address st queues tr retrnsmt uid timeout inode ...`, numbers in hexadecimal.
fn inodes(text: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let inode = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_it = words.get(1)?.ends_with(&suffix);
        is_it.then(|| words.get(9).map(|inode| format!("socket:[{inode}]")))?
    };
    text.lines().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found_by_its_port() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let found = listener(socket.local_addr().unwrap()).unwrap();
        assert_eq!(found.pid, std::process::id());
        assert!(found.is_here() && !found.arguments.is_empty());
        assert!(all().any(|process| process.pid == found.pid));
    }

    #[test]
    fn sockets_of_other_ports_are_none() {
        let text = "  sl  local_address rem_address\n   0: 0100007F:0035 00000000:0000 07 0:0 00:0 0 0 0 4711 2\n";
        assert_eq!(inodes(text, 53), ["socket:[4711]"]);
        assert_eq!(inodes(text, 5353), Vec::<String>::new());
    }
}
