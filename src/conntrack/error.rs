//! What can go wrong with conntrack, told in one line that says what to do.

use std::io;

use nix::errno::Errno;

use crate::netlink::Garbled;

/// Why flows could not be read or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error(
        "ending flows needs root or CAP_NET_ADMIN in this network namespace: run synhold as root"
    )]
    NotPermitted,
    /// No conntrack over netlink.
    #[error("this kernel has no nf_conntrack_netlink: load it (modprobe nf_conntrack_netlink)")]
    NoConntrack,
    /// The kernel would not end a flow.
    #[error("the kernel does not end flow {flow} ({errno})")]
    Refused {
        /// Which.
        flow: String,
        /// How it said no.
        errno: &'static str,
    },
    /// The table was rebuilt under every walk.
    #[error("the table of flows kept changing its size while synhold walked it: try again")]
    Busy,
    /// The socket failed.
    #[error("netlink to conntrack failed: {0}")]
    Io(io::Error),
    /// The answer cannot be read.
    #[error(transparent)]
    Garbled(#[from] Garbled),
}

impl Error {
    /// The meaning of a failed socket call.
    pub fn socket(error: io::Error) -> Error {
        match error.raw_os_error() {
            Some(code) => Error::code(Errno::from_raw(code)),
            None => Error::Io(error),
        }
    }

    /// The meaning of an error code on a walk as a whole.
    pub fn code(errno: Errno) -> Error {
        match errno {
            Errno::EPERM | Errno::EACCES => Error::NotPermitted,
            // nfnetlink itself answers so when it cannot find or load the subsystem.
            Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EPROTONOSUPPORT => Error::NoConntrack,
            other => Error::Io(other.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line_that_says_itself_once() {
        let errors = [
            Error::code(Errno::EPERM),
            Error::code(Errno::EOPNOTSUPP),
            Error::code(Errno::ENOBUFS),
            Error::from(Garbled("tuple")),
            Error::Busy,
        ];
        for error in errors {
            let (text, chain) = (error.to_string(), format!("{:#}", anyhow::Error::new(error)));
            assert!(text == chain && !text.contains('\n'), "{chain}");
        }
        assert!(Error::code(Errno::EPERM).to_string().contains("root"));
    }
}
