//! A first start on a host that is at work: the flows there are, so that what a program resolved before us is not held
//! against it.

use std::net::IpAddr;

use crate::conntrack;
use crate::engine::limits::ESTABLISHED_MAX;
use crate::engine::net::Net;

/// Source and destination of the flows that containers have open; none if conntrack cannot be read, which it says.
pub fn established(containers: &[Net]) -> Vec<(IpAddr, IpAddr)> {
    let flows = conntrack::Channel::open().and_then(|mut channel| {
        channel.flows(ESTABLISHED_MAX, |flow| containers.iter().any(|net| net.contains(flow.src)))
    });
    match flows {
        Ok(flows) => flows.into_iter().map(|flow| (flow.src, flow.dst)).collect(),
        Err(error) => {
            tracing::warn!(
                "flows that are open now are not known, and may have to resolve anew: {error}"
            );
            Vec::new()
        }
    }
}
