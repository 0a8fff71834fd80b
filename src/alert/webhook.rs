//! A server that takes the alert as JSON over HTTPS, signed if there is a secret.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ureq::http::StatusCode;
use ureq::tls::{RootCerts, TlsConfig};

use super::notice::Notice;
use super::secret::SecretFile;
use super::signature;
use super::sink::{Patience, SendError};
use crate::tls::certificates;

/// The same for every try, so that whoever receives it can tell a repetition.
const ID_HEADER: &str = "Idempotency-Key";

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is.
    pub url: Url,
    /// What to sign with.
    pub secret: Option<SecretFile>,
    /// The certificates to trust instead of the well-known ones.
    pub ca: Option<PathBuf>,
}

/// A URL whose path may be a secret by itself, as chat services have it.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(pub String);

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.0.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        write!(f, "{host}/...")
    }
}

impl Webhook {
    pub(super) fn check(&self) -> Result<(), SendError> {
        let secret = self.secret.as_ref().map_or(Ok(()), |file| file.read().map(drop));
        let ca = self.ca.as_deref().map_or(Ok(()), |ca| certificates(ca).map(drop));
        secret.and(ca).map_err(SendError::lasting)
    }

    pub(super) fn send(&self, notice: &Notice, patience: &Patience) -> Result<(), SendError> {
        let body = notice.json();
        let mut request = self
            .agent(patience)?
            .post(&self.url.0)
            .header("Content-Type", "application/json")
            .header(ID_HEADER, &notice.id);
        if let Some(secret) = &self.secret {
            let secret = secret.read().map_err(SendError::lasting)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let signed = signature::sign(secret.bytes(), now.as_secs(), &body);
            request = request.header(signature::HEADER, signed);
        }
        let answer = request.send(&body[..]).map_err(|error| transport(&error))?;
        judge(answer.status())
    }

    fn agent(&self, patience: &Patience) -> Result<ureq::Agent, SendError> {
        let roots = match &self.ca {
            Some(ca) => RootCerts::from(certificates(ca).map_err(SendError::lasting)?),
            None => RootCerts::WebPki,
        };
        let config = ureq::Agent::config_builder()
            .user_agent(concat!("synhold/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // A body with a signature is for nobody else.
            .max_redirects(0)
            .timeout_global(Some(patience.total))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        Ok(config.build().new_agent())
    }
}

fn judge(status: StatusCode) -> Result<(), SendError> {
    let text = format!("the server answered {status}");
    let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    match status {
        status if status.is_success() => Ok(()),
        status if status.is_server_error() || busy => Err(SendError::passing(text)),
        status if status.is_redirection() => {
            Err(SendError::lasting(format!("{text}; redirects are not followed")))
        }
        _ => Err(SendError::lasting(text)),
    }
}

/// Never with the URL.
fn transport(error: &ureq::Error) -> SendError {
    match error {
        ureq::Error::Timeout(_) => SendError::passing("the server has not answered in time"),
        ureq::Error::HostNotFound => SendError::passing("there is no such host"),
        ureq::Error::Io(error) => SendError::passing(error.to_string()),
        ureq::Error::BadUri(_) => SendError::lasting("the url is none"),
        error => SendError::passing(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::alert::testing::{Authority, https, notice, patience, secret, serve};

    const LONG: Duration = Duration::from_secs(20);

    fn hook(at: std::net::SocketAddr, ca: Option<PathBuf>) -> Webhook {
        let url = Url(format!("https://{at}/hooks/T0K3N"));
        Webhook { url, secret: None, ca }
    }

    #[test]
    fn the_body_arrives_signed_and_only_at_whom_we_trust() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (at, told) = https(&authority, &["204 No Content"]);
        let file = SecretFile(secret(folder.path(), "k3y\n"));
        let ca = authority.save(folder.path());
        let webhook = Webhook { secret: Some(file), ..hook(at, Some(ca)) };
        webhook.check().unwrap();
        webhook.send(&notice(), &patience(LONG)).unwrap();
        let request = told.recv_timeout(LONG).unwrap();
        assert!(request.head.starts_with("POST /hooks/T0K3N HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.body, notice().json());
        assert_eq!(request.header(ID_HEADER), Some(notice().id.as_str()));
        let signed = request.header(signature::HEADER).unwrap();
        let time = signed.strip_prefix("t=").unwrap().split_once(',').unwrap().0.parse().unwrap();
        assert_eq!(signed, signature::sign(b"k3y", time, &request.body));
        assert_ne!(signed, signature::sign(b"other", time, &request.body));

        let stranger = hook(at, Some(Authority::new().save(tempfile::tempdir().unwrap().path())));
        assert!(stranger.send(&notice(), &patience(LONG)).is_err(), "there is no such file");
        let error = hook(at, None).send(&notice(), &patience(LONG)).unwrap_err();
        assert!(error.again && !error.message.contains("T0K3N"), "{error}");
        let other = tempfile::tempdir().unwrap();
        let wrong = hook(at, Some(Authority::new().save(other.path())));
        let error = wrong.send(&notice(), &patience(LONG)).unwrap_err();
        assert!(error.message.contains("certificate"), "{error}");
        let shown = format!("{webhook:?}");
        assert!(!shown.contains("T0K3N") && !shown.contains("k3y"), "{shown}");
        assert!(told.try_recv().is_err(), "nobody else got anything");
    }

    #[test]
    fn what_may_pass_is_told_apart_from_what_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let ca = authority.save(folder.path());
        let (at, _told) =
            https(&authority, &["500 No", "429 Wait", "404 Gone", "302 Found", "200 OK"]);
        let webhook = hook(at, Some(ca));
        let again: Vec<Option<bool>> = (0..5)
            .map(|_| webhook.send(&notice(), &patience(LONG)).err().map(|error| error.again))
            .collect();
        assert_eq!(again, [Some(true), Some(true), Some(false), Some(false), None]);
    }

    #[test]
    fn a_server_that_hangs_is_given_up() {
        let at = serve(|stream, _| {
            std::thread::sleep(LONG);
            drop(stream);
            Ok(())
        });
        let began = Instant::now();
        let webhook = Webhook { url: Url(format!("http://{at}/")), ..hook(at, None) };
        let error = webhook.send(&notice(), &patience(Duration::from_secs(1))).unwrap_err();
        assert_eq!(error, SendError::passing("the server has not answered in time"));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
