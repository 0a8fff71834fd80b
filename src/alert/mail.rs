//! Mail over SMTP, never without TLS.

use std::path::PathBuf;
use std::time::Duration;

use lettre::Message;
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, SmtpConnection, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;

use super::notice::Notice;
use super::secret::SecretFile;
use super::sink::{Patience, SendError};
use super::tether::{Cut, Hook, Tether};
use crate::tls::certificates;

/// How a password is told, inside TLS: whatever a server has one of.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

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
        let letter = self.letter(notice)?;
        let cut = |cut: Cut| SendError::passing(cut.to_string());
        let tether = Tether::open(&self.server, self.port, patience).map_err(cut)?;
        let hook = tether.hook().map_err(cut)?;
        let time = patience.total;
        // Whatever this thread waits for comes through the tether, and so ends with it.
        let thread = std::thread::Builder::new()
            .name("alert-mail".to_owned())
            .spawn(move || letter.post(hook, time))
            .map_err(|error| SendError::passing(format!("no thread for a mail: {error}")))?;
        let carried = tether.carry(|| thread.is_finished());
        let posted = thread
            .join()
            .map_err(|_| SendError::passing("the thread that sends the mail panicked"))?;
        match (posted, carried) {
            (Ok(()), _) => Ok(()),
            (Err(_), Err(why)) => Err(cut(why)),
            (Err(error), Ok(())) => Err(failed(&error)),
        }
    }

    /// All that goes out.
    fn letter(&self, notice: &Notice) -> Result<Letter, SendError> {
        let login = self.login.as_ref().map(|(user, file)| {
            let password = file.read().and_then(|secret| secret.text());
            password.map(|password| Credentials::new(user.clone(), password))
        });
        Ok(Letter {
            message: self.message(notice)?,
            hello: ClientId::Domain(domain(&notice.host)),
            tls: self.tls()?,
            begins: self.tls,
            login: login.transpose().map_err(SendError::lasting)?,
        })
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

    fn tls(&self) -> Result<TlsParameters, SendError> {
        let wrong = |error: Error| SendError::lasting(error.to_string());
        let mut parameters = TlsParameters::builder(self.server.clone());
        if let Some(ca) = &self.ca {
            parameters = parameters.certificate_store(CertificateStore::None);
            for found in certificates(ca).map_err(SendError::lasting)? {
                let root = Certificate::from_der(found.der().to_vec()).map_err(wrong)?;
                parameters = parameters.add_root_certificate(root);
            }
        }
        parameters.build_rustls().map_err(wrong)
    }
}

/// A mail with all that it takes to send it.
struct Letter {
    message: Message,
    hello: ClientId,
    tls: TlsParameters,
    begins: Begins,
    login: Option<Credentials>,
}

impl Letter {
    fn post(self, hook: Hook, time: Duration) -> Result<(), Error> {
        let tls = (self.begins == Begins::Implicit).then_some(&self.tls);
        let (time, from) = (Some(time), Some(hook.from));
        let mut server = SmtpConnection::connect(hook.at, time, &self.hello, tls, from)?;
        if self.begins == Begins::Starttls {
            server.starttls(&self.tls, &self.hello)?;
        }
        if let Some(login) = &self.login {
            server.auth(&MECHANISMS, login)?;
        }
        server.send(self.message.envelope(), &self.message.formatted())?;
        // It has the mail, whatever it says to a farewell.
        server.abort();
        Ok(())
    }
}

/// This host's name where a protocol wants a domain.
fn domain(host: &str) -> String {
    let name: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// What a server answers 5xx to, it does the next time too; so is a server without TLS.
fn failed(error: &Error) -> SendError {
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
