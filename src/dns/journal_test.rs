//! A journal whose journalctl fails in every way, from a script; the real one is asked in tests/netns.

use super::*;
