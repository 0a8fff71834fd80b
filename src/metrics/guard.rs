//! Who may have meant to ask us: a page in somebody's browser that makes a name resolve to this host did not.

use std::net::IpAddr;

/// Whether a `Host` header names an address, or this host as everybody calls it. Any other name was made to resolve to us
/// by whoever owns it, and what asks is then a browser that was sent here.
pub fn is_expected(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            let port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            return port && matches!(address.parse(), Ok(IpAddr::V6(_)));
        }
        None => match host.rsplit_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost") || matches!(name.parse(), Ok(IpAddr::V4(_)))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_expected_and_names_are_not() {
        for host in
            ["127.0.0.1", "127.0.0.1:9753", "localhost", "LocalHost:1", "[::1]", "[fd00::1]:9753"]
        {
            assert!(is_expected(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9753",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:",
            "127.0.0.1:+1",
            "127.0.0.1:99999",
            "[::1",
            "[127.0.0.1]",
            "[::1]x",
            "::1",
            "a@localhost",
        ] {
            assert!(!is_expected(host), "{host}");
        }
    }
}
