//! Privileged tests: the real kernel and real dnsmasq, in network namespaces of their own.

mod dns;
