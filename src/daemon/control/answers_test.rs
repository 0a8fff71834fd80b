//! Answers about containers that are known.
