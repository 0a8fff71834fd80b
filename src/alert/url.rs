//! Where a webhook is. Whoever knows its path may write there, as with chat services, so it is never shown.

use std::net::IpAddr;

use ureq::http::Uri;

/// A URL that is fit for alerts.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    /// HTTPS, or HTTP to this host, or to anybody if that is taken.
    ///
    /// # Errors
    /// In the end of a sentence, without a word of what it says.
    pub fn parse(text: &str, insecure: bool) -> Result<Url, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is no URL")?;
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("must not hold a user name");
        }
        let host = authority.host().trim_matches(['[', ']']);
        let here = host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
        match uri.scheme_str() {
            Some("https") => Ok(Url(uri)),
            Some("http") if here || insecure => Ok(Url(uri)),
            Some("http") => Err(
                "is not https: anybody on the way reads what containers do; `insecure = true` takes it",
            ),
            _ => Err("must start with https://"),
        }
    }

    /// For the request alone.
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}/...", self.0.scheme_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_of_it_is_ever_shown() {
        for end in ["/hooks/T0K3N", "/?T0K3N", "?key=T0K3N", "/#T0K3N", ":8443/T0K3N?T0K3N"] {
            let url = Url::parse(&format!("https://chat.example{end}"), false).unwrap();
            let shown = format!("{url:?}");
            assert!(shown.starts_with("https://chat.example"), "{shown}");
            assert!(!shown.contains("T0K3N") && shown.ends_with("/..."), "{shown}");
        }
    }
}
