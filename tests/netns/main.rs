//! Privileged tests: the real kernel in network namespaces of their own.

mod rules;
