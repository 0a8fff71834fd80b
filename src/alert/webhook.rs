//! A server that takes the alert as JSON over HTTPS, signed if there is a secret.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ureq::http::StatusCode;
use ureq::tls::{RootCerts, TlsConfig};

use super::notice::Notice;
use super::secret::SecretFile;
use super::signature;
use super::sink::{Patience, SendError};
use super::url::Url;
use crate::tls::certificates;

/// The same for every try, so that whoever receives it can tell a repetition.
const ID_HEADER: &str = "Idempotency-Key";

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is.
    pub place: Place,
    /// What to sign with.
    pub secret: Option<SecretFile>,
    /// The certificates to trust instead of the well-known ones.
    pub ca: Option<PathBuf>,
}

/// Where a webhook is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the configuration.
    Written(Url),
    /// In a file that nobody else can read.
    File {
        /// The file.
        file: SecretFile,
        /// Whether HTTP will do.
        insecure: bool,
    },
}

impl Place {
    /// Read anew for each alert, as every secret is.
    fn url(&self) -> Result<Url, String> {
        match self {
            Place::Written(url) => Ok(url.clone()),
            Place::File { file, insecure } => {
                let text = file.read()?.text()?;
                Url::parse(text.trim(), *insecure)
                    .map_err(|why| format!("{}: what is in it {why}", file.0.display()))
            }
        }
    }
}

impl Webhook {
    pub(super) fn check(&self) -> Result<(), SendError> {
        let secret = self.secret.as_ref().map_or(Ok(()), |file| file.read().map(drop));
        let ca = self.ca.as_deref().map_or(Ok(()), |ca| certificates(ca).map(drop));
        self.place.url().and(secret).and(ca).map_err(SendError::lasting)
    }

    pub(super) fn send(&self, notice: &Notice, patience: &Patience) -> Result<(), SendError> {
        let url = self.place.url().map_err(SendError::lasting)?;
        let body = notice.json();
        let mut request = self
            .agent(patience)?
            .post(url.uri())
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

    fn written(url: &str) -> Place {
        Place::Written(Url::parse(url, false).unwrap())
    }

    fn hook(at: std::net::SocketAddr, ca: Option<PathBuf>) -> Webhook {
        let place = written(&format!("https://{at}/hooks/T0K3N"));
        Webhook { place, secret: None, ca }
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
        let webhook = Webhook { place: written(&format!("http://{at}/")), ..hook(at, None) };
        let error = webhook.send(&notice(), &patience(Duration::from_secs(1))).unwrap_err();
        assert_eq!(error, SendError::passing("the server has not answered in time"));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    #[test]
    fn a_url_is_read_from_a_file_when_it_is_needed_and_shown_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (at, told) = https(&authority, &["200 OK", "404 Gone"]);
        let file = SecretFile(secret(folder.path(), &format!(" https://{at}/hooks/T0K3N \n")));
        let place = Place::File { file, insecure: false };
        let ca = Some(authority.save(folder.path()));
        let webhook = Webhook { place, secret: None, ca };
        webhook.check().unwrap();
        webhook.send(&notice(), &patience(LONG)).unwrap();
        let request = told.recv_timeout(LONG).unwrap();
        assert!(request.head.starts_with("POST /hooks/T0K3N HTTP/1.1\r\n"), "{}", request.head);
        let mut shown = vec![webhook.send(&notice(), &patience(LONG)).unwrap_err().message];
        // Nobody listens at the port of the standard's own discards.
        for url in [
            "http://a.example/T0K3N",
            "https://a b/T0K3N",
            "T0K3N",
            "https://T0K3N@a.example/",
            "https://127.0.0.1:9/T0K3N",
            "https://127.0.0.1:9?T0K3N",
            "https://[::1/T0K3N",
        ] {
            secret(folder.path(), url);
            shown.push(webhook.send(&notice(), &patience(LONG)).unwrap_err().message);
        }
        assert_ne!(webhook.check().err(), None);
        shown.push(format!("{webhook:?}"));
        for text in shown {
            assert!(!text.contains("T0K3N"), "{text}");
        }
        std::fs::remove_file(folder.path().join("secret")).unwrap();
        assert!(!webhook.check().unwrap_err().again);
    }

    #[test]
    fn a_server_that_goes_on_for_ever_is_given_up() {
        // A head without an end, and the longest record of TLS; each byte of them in time.
        let heads = [("http", &b"HTTP/1.1 200 OK\r\nX: "[..]), ("https", b"\x16\x03\x03\x40\x00")];
        for (scheme, head) in heads {
            let (tell, told) = std::sync::mpsc::channel();
            let at = serve(move |mut stream, _| {
                std::io::Write::write_all(&mut stream, head)?;
                while std::io::Write::write_all(&mut stream, b"2").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                tell.send(()).map_err(std::io::Error::other)
            });
            let webhook =
                Webhook { place: written(&format!("{scheme}://{at}/")), ..hook(at, None) };
            let began = Instant::now();
            let error = webhook.send(&notice(), &patience(Duration::from_secs(1))).unwrap_err();
            assert_eq!(error, SendError::passing("the server has not answered in time"));
            assert!(began.elapsed() < LONG / 2);
            told.recv_timeout(LONG).expect("nothing of it is left");
        }
    }
}
