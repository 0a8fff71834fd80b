//! Mail over SMTP, never without TLS.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Message, SmtpTransport, Transport as _};

use super::notice::Notice;
use super::secret::SecretFile;
use super::sink::{Patience, SendError};
use crate::tls::certificates;

/// How often it is looked whether to give up.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A mail server, who writes, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its name or address, which its certificate must have.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// When TLS begins.
    pub tls: Begins,
    /// Who we are to it, and where the password is.
    pub login: Option<(String, SecretFile)>,
    /// Who writes.
    pub from: Mailbox,
    /// To whom.
    pub to: Vec<Mailbox>,
    /// The certificates to trust instead of the well-known ones.
    pub ca: Option<PathBuf>,
    /// Whether a try that was given up still goes on.
    pub(super) line: Line,
}

/// One try at a time, told by all who have the same server.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<AtomicBool>);

impl PartialEq for Line {
    /// What goes on is no part of a configuration.
    fn eq(&self, _: &Line) -> bool {
        true
    }
}

impl Eq for Line {}

impl Line {
    /// Takes it, unless somebody has it; it is free again when what comes out is dropped.
    fn take(&self) -> Option<Taken> {
        (!self.0.swap(true, AcqRel)).then(|| Taken(Arc::clone(&self.0)))
    }
}

struct Taken(Arc<AtomicBool>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Begins {
    /// By STARTTLS, which the server has to offer.
    Starttls,
    /// With the connection.
    Implicit,
}

impl Mail {
    pub(super) fn check(&self) -> Result<(), SendError> {
        let password = self.login.as_ref().map_or(Ok(()), |(_, file)| file.read().map(drop));
        let ca = self.ca.as_deref().map_or(Ok(()), |ca| certificates(ca).map(drop));
        password.and(ca).map_err(SendError::lasting)
    }

    pub(super) fn send(&self, notice: &Notice, patience: &Patience) -> Result<(), SendError> {
        let message = self.message(notice)?;
        let transport = self.transport(notice, patience)?;
        let taken = self.line.take().ok_or_else(|| {
            SendError::passing("the server still keeps a try waiting that was given up")
        })?;
        // lettre's time is for each read and write, of which a slow server can make any number; so the whole has a thread
        // of its own, and there is one at most.
        let (tell, told) = channel();
        let run = move || {
            let sent = transport.send(&message).map(drop).map_err(|error| failed(&error));
            drop(taken);
            // Nobody listens any more if it took too long.
            let _ = tell.send(sent);
        };
        std::thread::Builder::new()
            .name("alert-mail".to_owned())
            .spawn(run)
            .map_err(|error| SendError::passing(format!("no thread for a mail: {error}")))?;
        await_answer(&told, patience)
    }

    fn message(&self, notice: &Notice) -> Result<Message, SendError> {
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(notice.subject())
            .date_now()
            .message_id(Some(format!("<{}@{}>", notice.id, domain(&notice.host))))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(to.clone());
        }
        message
            .body(notice.text())
            .map_err(|error| SendError::lasting(format!("the mail cannot be written: {error}")))
    }

    fn transport(&self, notice: &Notice, patience: &Patience) -> Result<SmtpTransport, SendError> {
        let mut transport = SmtpTransport::builder_dangerous(&self.server)
            .port(self.port)
            .tls(self.tls()?)
            .timeout(Some(patience.total))
            .hello_name(ClientId::Domain(domain(&notice.host)));
        if let Some((user, file)) = &self.login {
            let password =
                file.read().and_then(|secret| secret.text()).map_err(SendError::lasting)?;
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        Ok(transport.build())
    }

    fn tls(&self) -> Result<Tls, SendError> {
        let wrong = |error: lettre::transport::smtp::Error| SendError::lasting(error.to_string());
        let mut parameters = TlsParameters::builder(self.server.clone());
        if let Some(ca) = &self.ca {
            parameters = parameters.certificate_store(CertificateStore::None);
            for found in certificates(ca).map_err(SendError::lasting)? {
                let root = Certificate::from_der(found.der().to_vec()).map_err(wrong)?;
                parameters = parameters.add_root_certificate(root);
            }
        }
        let parameters = parameters.build_rustls().map_err(wrong)?;
        Ok(match self.tls {
            Begins::Starttls => Tls::Required(parameters),
            Begins::Implicit => Tls::Wrapper(parameters),
        })
    }
}

fn await_answer(
    told: &Receiver<Result<(), SendError>>,
    patience: &Patience,
) -> Result<(), SendError> {
    let end = Instant::now() + patience.total;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match told.recv_timeout(left.min(LOOK_EVERY)) {
            Ok(sent) => return sent,
            Err(RecvTimeoutError::Timeout) if left.is_zero() || patience.is_over() => {
                return Err(SendError::passing("the server has not taken the mail in time"));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(SendError::passing("the thread that sends the mail panicked"));
            }
        }
    }
}

/// This host's name where a protocol wants a domain.
fn domain(host: &str) -> String {
    let name: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// What a server answers 5xx to, it does the next time too; so is a server without TLS.
fn failed(error: &lettre::transport::smtp::Error) -> SendError {
    use std::error::Error as _;
    let because = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    let text = format!("{error}{because}");
    if error.is_permanent() || error.is_client() {
        SendError::lasting(text)
    } else {
        SendError::passing(text)
    }
}

#[cfg(test)]
#[path = "mail_test.rs"]
mod tests;
