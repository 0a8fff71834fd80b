//! How an explanation reads.
