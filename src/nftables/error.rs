//! What can go wrong with the kernel, told in one line that says what to do.

use std::io;

use nix::errno::Errno;

use super::wire::Garbled;

/// Why the rules could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("nftables needs root or CAP_NET_ADMIN in this network namespace: run synhold as root")]
    NotPermitted,
    /// No nf_tables at all.
    #[error(
        "this kernel has no nf_tables: load it (modprobe nf_tables) or boot a kernel built with CONFIG_NF_TABLES"
    )]
    NoNfTables,
    /// nf_tables lacks something the rules need.
    #[error(
        "this kernel cannot take {what} ({errno}): load the missing netfilter module or boot a fuller kernel"
    )]
    Unsupported {
        /// What it was asked to take.
        what: String,
        /// How it said no.
        errno: String,
    },
    /// What is there stands in the way, and cannot be changed while packets may be queued.
    #[error("{what} cannot be changed in place: run `synhold rules remove`, then install again")]
    InTheWay {
        /// What is there, and what should be.
        what: String,
    },
    /// Another program holds the table.
    #[error(
        "another program owns table inet synhold (nft's `flags owner`) and the kernel lets nobody else change it: stop that program"
    )]
    Owned,
    /// A rule that was read, but not understood, was to be written.
    #[error("{what} says something synhold has no words for, so it cannot be written")]
    NotOurs {
        /// The rule.
        what: String,
    },
    /// The kernel said no to one message; nothing of the transaction was done.
    #[error("the kernel refused {what} ({errno}); nothing was changed")]
    Refused {
        /// The message.
        what: String,
        /// How it said no.
        errno: String,
    },
    /// A set does not hold what it was thought to hold; nothing of the transaction was done.
    #[error(
        "{what} does not fit what is in the kernel ({errno}): somebody changed the set, or it expired"
    )]
    Stale {
        /// The message, and the element where the kernel named it.
        what: String,
        /// How it said no.
        errno: String,
    },
    /// A set of fixed size is full; nothing of the transaction was done.
    #[error("{what} is more than the set's size allows: shorten the lists")]
    Full {
        /// The message.
        what: String,
    },
    /// Others kept changing rules, or the answers did not fit the socket.
    #[error("nftables rules kept changing while synhold worked on them ({0}): try again")]
    Busy(&'static str),
    /// The socket failed.
    #[error("netlink to nf_tables failed: {0}")]
    Io(io::Error),
    /// The answer cannot be read.
    #[error(transparent)]
    Garbled(#[from] Garbled),
}

/// What a refused message was for; decides what its refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Opening or committing the transaction.
    Transaction,
    /// Bringing in something that names kernel features.
    Add,
    /// Changing elements of a set that should be there.
    Elements,
    /// Anything else.
    Other,
}

impl Error {
    /// The meaning of an error code on one message.
    pub fn refused(errno: Errno, purpose: Purpose, what: &str, detail: Option<&str>) -> Error {
        let text = match detail {
            Some(detail) => format!("{}: {detail}", errno.desc()),
            None => errno.desc().to_owned(),
        };
        match (errno, purpose) {
            // Without rights the kernel refuses a transaction whole, by its first message; with them only what
            // belongs to another socket.
            (Errno::EPERM, Purpose::Add | Purpose::Elements | Purpose::Other) => Error::Owned,
            (Errno::EPERM | Errno::EACCES, _) => Error::NotPermitted,
            // nfnetlink itself answers so when it cannot find or load the nf_tables subsystem.
            (Errno::EOPNOTSUPP | Errno::EINVAL, Purpose::Transaction) => Error::NoNfTables,
            // The kernel looks an expression, target or set type up by name; none found is ENOENT.
            (Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT, Purpose::Add) => {
                Error::Unsupported { what: what.to_owned(), errno: text }
            }
            (Errno::ENOENT | Errno::EEXIST | Errno::ENOTEMPTY, Purpose::Elements) => {
                Error::Stale { what: what.to_owned(), errno: text }
            }
            (Errno::ENFILE, Purpose::Elements) => Error::Full { what: what.to_owned() },
            (Errno::ERESTART | Errno::EINTR | Errno::EAGAIN, _) => {
                Error::Busy("transaction restarted")
            }
            _ => Error::Refused { what: what.to_owned(), errno: text },
        }
    }

    /// The meaning of a failed socket call.
    pub fn socket(error: io::Error) -> Error {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM | Errno::EACCES) => Error::NotPermitted,
            Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT) => Error::NoNfTables,
            Some(Errno::ENOBUFS) => Error::Busy("socket buffer overran"),
            _ => Error::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(error: &Error, start: &str) {
        let text = error.to_string();
        assert!(text.starts_with(start), "{text}");
        assert!(!text.contains('\n'));
    }

    #[test]
    fn printed_with_its_causes_nothing_is_said_twice() {
        let garbled = anyhow::Error::new(Error::from(Garbled("element key")));
        assert_eq!(format!("{garbled:#}"), garbled.to_string());
        let io = anyhow::Error::new(Error::socket(io::Error::from_raw_os_error(libc::EMFILE)));
        assert_eq!(format!("{io:#}"), io.to_string());
    }

    #[test]
    fn codes_become_advice() {
        let refused =
            |errno, purpose| Error::refused(errno, purpose, "rule \"x\" of chain y", Some("why"));
        says(&refused(Errno::EPERM, Purpose::Transaction), "nftables needs root or CAP_NET_ADMIN");
        says(&refused(Errno::EPERM, Purpose::Add), "another program owns table inet synhold (");
        says(&refused(Errno::EPERM, Purpose::Other), "another program owns table inet synhold (");
        says(&refused(Errno::EOPNOTSUPP, Purpose::Transaction), "this kernel has no nf_tables");
        says(
            &refused(Errno::ENOENT, Purpose::Add),
            "this kernel cannot take rule \"x\" of chain y (No such file",
        );
        says(
            &refused(Errno::ENOENT, Purpose::Other),
            "the kernel refused rule \"x\" of chain y (No such file",
        );
        says(&refused(Errno::EBUSY, Purpose::Add), "the kernel refused rule");
        says(&refused(Errno::ERESTART, Purpose::Transaction), "nftables rules kept changing");
        says(
            &Error::socket(io::Error::from_raw_os_error(libc::EPROTONOSUPPORT)),
            "this kernel has no nf_tables",
        );
        says(
            &Error::socket(io::Error::from_raw_os_error(libc::ENOBUFS)),
            "nftables rules kept changing",
        );
        says(
            &Error::socket(io::Error::from_raw_os_error(libc::EMFILE)),
            "netlink to nf_tables failed: Too many",
        );
    }
}
