//! DNS evidence adapter.
