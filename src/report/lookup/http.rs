//! Questions over HTTPS, bounded in time and size. Plain HTTP only to this machine itself.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Uri;

use crate::report::plain;

/// For the name, and again for the connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For a whole question, redirects included.
const TOTAL: Duration = Duration::from_secs(15);
/// RDAP answers have some ten kilobytes.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// From the server that knows them all to the one that knows it, and on to its host.
const REDIRECTS_MAX: u32 = 4;
const ERROR_CHARS_MAX: usize = 120;

/// A server that answers questions about addresses.
#[derive(Clone, Debug)]
pub struct Endpoint {
    base: String,
    agent: ureq::Agent,
}

impl Endpoint {
    /// The server of this address, as `https://rdap.org`; `elsewhere` lets it send us on to others.
    ///
    /// # Errors
    /// In one line, if it is none that may be asked.
    pub fn new(url: &str, elsewhere: bool) -> Result<Endpoint, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let is_secure = uri.scheme_str() == Some("https");
        let is_plain = uri.scheme_str() == Some("http");
        if uri.host().is_none_or(str::is_empty) || !(is_secure || is_plain) {
            return Err(format!("{url}: write it as https://HOST/PATH"));
        }
        if is_plain && !uri.host().is_some_and(is_here) {
            return Err(format!("{url}: plain http is for this machine itself only, use https"));
        }
        let config = ureq::Agent::config_builder()
            .user_agent(concat!("synhold/", env!("CARGO_PKG_VERSION")))
            .https_only(is_secure)
            .http_status_as_error(false)
            .max_redirects(if elsewhere { REDIRECTS_MAX } else { 0 })
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(TOTAL));
        let agent = config.build().new_agent();
        Ok(Endpoint { base: url.trim_end_matches('/').to_owned(), agent })
    }

    /// The JSON at a path of it, asked for with some headers.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Value, String> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.call().map_err(told)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("(the server answered {})", status.as_u16()));
        }
        let body = answer.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
        let no_json = |_| "(the answer is no JSON)".to_owned();
        serde_json::from_slice(&body.map_err(told)?).map_err(no_json)
    }
}

fn is_here(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn told(error: ureq::Error) -> String {
    format!("({})", plain(&error.to_string(), ERROR_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_keep_a_secret_are_asked() {
        for good in
            ["https://rdap.org", "https://x.example/a/", "http://127.0.0.1:1", "http://[::1]:2/x"]
        {
            assert!(Endpoint::new(good, true).is_ok(), "{good}");
        }
        for bad in [
            "",
            "rdap.org",
            "http://rdap.org",
            "ftp://127.0.0.1",
            "https://",
            "http://127.0.0.1.x.example",
        ] {
            assert!(Endpoint::new(bad, true).is_err(), "{bad}");
        }
    }
}
