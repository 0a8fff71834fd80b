//! nftables adapter.
