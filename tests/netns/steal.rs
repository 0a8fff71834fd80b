//! Reaches into the daemon's own queue socket, as nothing but a kernel fault would, to take its queue away.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{MsgFlags, NetlinkAddr, getsockname, send};

/// Unbinds queue `number` through every netlink socket of `pid`: only the one that owns it can.
pub fn unbind_queue(pid: u32, number: u16) {
    // nlmsghdr: length, NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG, NLM_F_REQUEST, sequence, port; nfgenmsg;
    // NFQA_CFG_CMD with NFQNL_CFG_CMD_UNBIND.
    let mut message = Vec::new();
    message.extend(28u32.to_ne_bytes());
    message.extend(0x0302u16.to_ne_bytes());
    message.extend(1u16.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0, 0]);
    message.extend(number.to_be_bytes());
    message.extend(8u16.to_ne_bytes());
    message.extend(1u16.to_ne_bytes());
    message.extend([2, 0, 0, 0]);
    let sockets = fs::read_dir(format!("/proc/{pid}/fd")).expect("the daemon's descriptors");
    let mut sent = 0;
    for entry in sockets {
        let entry = entry.expect("a descriptor");
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        if !is_socket {
            continue;
        }
        let fd: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let copy = borrow(pid, fd);
        if getsockname::<NetlinkAddr>(copy.as_raw_fd()).is_ok() {
            send(copy.as_raw_fd(), &message, MsgFlags::empty()).expect("sent");
            sent += 1;
        }
    }
    assert!(sent > 0, "the daemon has no netlink socket");
}

/// A duplicate of another process's descriptor (pidfd_getfd(2)).
fn borrow(pid: u32, fd: i32) -> OwnedFd {
    #[expect(unsafe_code, reason = "neither std nor nix has pidfd_getfd")]
    // SAFETY: both calls take and return plain integers; what they return is checked and owned here alone.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(process >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
        let process = OwnedFd::from_raw_fd(process as i32);
        let copy = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0);
        assert!(copy >= 0, "pidfd_getfd: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(copy as i32)
    }
}
