//! What no block list may take away unless it says so: without it this host or its containers are cut off.

use std::net::IpAddr;

use crate::engine::Net;
use crate::host::{self, InterfaceAddress};
use crate::lists::Protected;

/// This host's addresses, the gateways of its default routes, and the resolvers that names come from; `upstreams` are
/// those our own dnsmasq is told to ask, as `ADDR[#PORT]`.
pub fn all(own: &[InterfaceAddress], upstreams: &[String]) -> Vec<Protected> {
    let own = own
        .iter()
        .map(|own| (own.address, format!("this host's own address on {}", own.interface)));
    let gateways =
        host::gateways().into_iter().map(|address| (address, "the default gateway".to_owned()));
    let resolvers =
        host::resolvers().into_iter().map(|address| (address, "this host's resolver".to_owned()));
    let upstreams = upstreams.iter().filter_map(|text| upstream(text));
    let upstreams = upstreams.map(|address| (address, "the resolver dnsmasq asks".to_owned()));
    let all = own.chain(gateways).chain(resolvers).chain(upstreams);
    all.map(|(address, what)| Protected { net: Net::from(address), what }).collect()
}

/// `ADDR[#PORT]`, as dnsmasq writes it.
fn upstream(text: &str) -> Option<IpAddr> {
    text.split('#').next()?.parse().ok()
}
