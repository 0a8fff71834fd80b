//! How a status reads.
