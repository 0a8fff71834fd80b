//! A real mail server on loopback, with STARTTLS or TLS from the start, and what it may answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;
use crate::alert::testing::{Authority, notice, patience, secret, serve, tls};

const LONG: Duration = Duration::from_secs(20);

/// One mail as the server got it.
#[derive(Debug, Default)]
struct Got {
    /// Every command, `AUTH` with what it says.
    commands: Vec<String>,
    data: String,
    /// Whether what came was inside TLS.
    sealed: bool,
}

/// What a server says to the beginning of a mail, by connection; the last one for ever.
type Says = &'static [&'static str];

/// Talks until the client leaves, or wants TLS.
fn talk(
    stream: &mut (impl Read + Write),
    (says, offers): (&str, &str),
    got: &mut Got,
) -> std::io::Result<bool> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let word = line.split([' ', '\r']).next().unwrap_or_default().to_ascii_uppercase();
        got.commands.push(line.trim_end().to_owned());
        let answer = match word.as_str() {
            "EHLO" => format!("250-test\r\n{offers}250 8BITMIME\r\n"),
            "STARTTLS" => "220 go on\r\n".to_owned(),
            "AUTH" => "235 fine\r\n".to_owned(),
            "MAIL" => format!("{says}\r\n"),
            "DATA" => "354 go on\r\n".to_owned(),
            "QUIT" => "221 bye\r\n".to_owned(),
            _ => "250 fine\r\n".to_owned(),
        };
        reader.get_mut().write_all(answer.as_bytes())?;
        reader.get_mut().flush()?;
        match word.as_str() {
            "STARTTLS" => return Ok(true),
            "DATA" => {
                while !got.data.ends_with("\r\n.\r\n") {
                    reader.read_line(&mut got.data)?;
                }
                reader.get_mut().write_all(b"250 taken\r\n")?;
                reader.get_mut().flush()?;
            }
            "QUIT" => return Ok(false),
            _ => {}
        }
    }
}

fn server(
    authority: &Authority,
    begins: Begins,
    offers: bool,
    says: Says,
) -> (SocketAddr, Receiver<Got>) {
    let (tell, told): (Sender<Got>, _) = channel();
    let config = Arc::clone(&authority.config);
    let at = serve(move |mut tcp, number| {
        let says = says.get(number).or(says.last()).unwrap();
        let mut got = Got::default();
        let offer = if offers { "250-STARTTLS\r\n" } else { "" };
        if begins == Begins::Starttls {
            tcp.write_all(b"220 test ESMTP\r\n")?;
            if !talk(&mut tcp, (says, offer), &mut got)? {
                let _ = tell.send(got);
                return Ok(());
            }
        }
        let mut sealed = tls(tcp, &config);
        if begins == Begins::Implicit {
            sealed.write_all(b"220 test ESMTP\r\n")?;
            sealed.flush()?;
        }
        // A client that does not trust us never sends anything.
        let done = talk(&mut sealed, (says, "250-AUTH PLAIN\r\n"), &mut got);
        got.sealed = done.is_ok();
        let _ = tell.send(got);
        Ok(())
    });
    (at, told)
}

fn mail(at: SocketAddr, begins: Begins, ca: Option<PathBuf>, folder: &Path) -> Mail {
    let password = SecretFile(secret(folder, "hunter2\n"));
    Mail {
        server: at.ip().to_string(),
        port: at.port(),
        tls: begins,
        login: Some(("synhold".to_owned(), password)),
        from: "Synhold <synhold@gw.example>".parse().unwrap(),
        to: vec!["ops@example.org".parse().unwrap(), "boss@example.org".parse().unwrap()],
        ca,
    }
}

#[test]
fn a_mail_arrives_whole_inside_tls_however_it_begins() {
    for begins in [Begins::Starttls, Begins::Implicit] {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (at, told) = server(&authority, begins, true, &["250 fine"]);
        let mail = mail(at, begins, Some(authority.save(folder.path())), folder.path());
        mail.check().unwrap();
        let evil = Notice {
            container: Some("web\r\nBcc: all@evil.example\r\n\r\n.\r\n".into()),
            message: "web\r\nBcc: all@evil.example\r\n\r\ndialled".to_owned(),
            ..notice()
        };
        mail.send(&evil, &patience(LONG)).unwrap();
        let got = told.recv_timeout(LONG).unwrap();
        assert!(got.sealed, "{got:?}");
        // In TLS alone is the password told.
        let auth = got.commands.iter().position(|line| line.starts_with("AUTH PLAIN ")).unwrap();
        let start = got.commands.iter().position(|line| line == "STARTTLS");
        assert!(start.is_none_or(|start| start < auth), "{:?}", got.commands);
        let to: Vec<&String> =
            got.commands.iter().filter(|line| line.starts_with("RCPT")).collect();
        assert_eq!(to, ["RCPT TO:<ops@example.org>", "RCPT TO:<boss@example.org>"]);
        let (head, body) = got.data.split_once("\r\n\r\n").unwrap();
        let subject = "Subject: [synhold gw-1] warning: never-resolved: web";
        assert!(head.contains(subject), "{head}");
        assert!(head.contains("Message-ID: <0123456789abcdef00000001@gw-1>"), "{head}");
        assert!(!got.data.lines().any(|line| line.starts_with("Bcc:")), "{}", got.data);
        for line in ["address       203.0.113.9", "reason        never-resolved"] {
            assert!(body.lines().any(|l| l == line), "{line} is not in {body}");
        }
        assert!(!format!("{mail:?}").contains("hunter2") && !got.data.contains("hunter2"));
    }
}

#[test]
fn whom_we_do_not_trust_gets_neither_mail_nor_password() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let wrong = Some(Authority::new().save(folder.path()));
    let (at, told) = server(&authority, Begins::Starttls, true, &["250 fine"]);
    let error = mail(at, Begins::Starttls, wrong, folder.path())
        .send(&notice(), &patience(LONG))
        .unwrap_err();
    assert!(error.message.contains("certificate"), "{error}");
    let got = told.recv_timeout(LONG).unwrap();
    assert!(!got.sealed && got.commands.last().unwrap() == "STARTTLS", "{got:?}");

    let ca = Some(authority.save(folder.path()));
    let (at, told) = server(&authority, Begins::Starttls, false, &["250 fine"]);
    let error =
        mail(at, Begins::Starttls, ca, folder.path()).send(&notice(), &patience(LONG)).unwrap_err();
    assert!(!error.again && error.message.contains("STARTTLS"), "{error}");
    let got = told.recv_timeout(LONG).unwrap();
    assert!(got.commands.iter().all(|line| line.starts_with("EHLO") || line == "QUIT"), "{got:?}");
}

#[test]
fn what_a_server_does_later_is_told_from_what_it_never_does() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let says: Says = &["450 busy", "550 not from you", "250 fine"];
    let (at, _told) = server(&authority, Begins::Starttls, true, says);
    let mail = mail(at, Begins::Starttls, Some(authority.save(folder.path())), folder.path());
    let send = || mail.send(&notice(), &patience(LONG));
    let busy = send().unwrap_err();
    assert!(busy.again && busy.message.contains("busy"), "{busy}");
    let never = send().unwrap_err();
    assert!(!never.again && never.message.contains("not from you"), "{never}");
    send().unwrap();
}

#[test]
fn a_server_that_hangs_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let at = serve(|stream, _| {
        std::thread::sleep(LONG);
        drop(stream);
        Ok(())
    });
    let mail = mail(at, Begins::Starttls, None, folder.path());
    let began = std::time::Instant::now();
    let error = mail.send(&notice(), &patience(Duration::from_secs(1))).unwrap_err();
    assert!(error.again, "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// Says this and then a byte now and then for ever, and tells when its client is gone.
fn trickle(begin: &'static [u8]) -> (SocketAddr, Receiver<usize>) {
    let (tell, told) = channel();
    let at = serve(move |mut stream, number| {
        stream.write_all(begin)?;
        while stream.write_all(b"2").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = tell.send(number);
        Ok(())
    });
    (at, told)
}

#[test]
fn a_server_that_goes_on_for_ever_is_left_in_time_and_called_again() {
    let folder = tempfile::tempdir().unwrap();
    // A greeting without an end, and the longest record of TLS; each byte of them in time.
    for (begins, begin) in
        [(Begins::Starttls, &b"220"[..]), (Begins::Implicit, b"\x16\x03\x03\x40\x00")]
    {
        let (at, told) = trickle(begin);
        let mail = mail(at, begins, None, folder.path());
        for number in 0..2 {
            let began = std::time::Instant::now();
            let error = mail.send(&notice(), &patience(Duration::from_millis(400))).unwrap_err();
            assert!(error.again && error.message.ends_with("in time"), "{error}");
            assert!(began.elapsed() < LONG / 2);
            assert_eq!(told.recv_timeout(LONG), Ok(number), "nothing of it is left");
        }
    }
}

#[test]
fn a_line_without_an_end_takes_no_more_room_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let (tell, told) = channel();
    let at = serve(move |mut stream, _| {
        let mut said = 0_usize;
        while stream.write_all(&[b'2'; 1024]).is_ok() {
            said += 1024;
        }
        tell.send(said).map_err(std::io::Error::other)
    });
    let mail = mail(at, Begins::Starttls, None, folder.path());
    let error = mail.send(&notice(), &patience(LONG)).unwrap_err();
    assert!(error.again && error.message.ends_with("too much"), "{error}");
    // What is on its way fits into the buffers of two sockets.
    assert!(told.recv_timeout(LONG).unwrap() < 64 << 20);
}

#[test]
fn whoever_ends_does_not_wait_for_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let (at, _told) = trickle(b"220");
    let patience = patience(LONG);
    patience.abandoned.store(true, std::sync::atomic::Ordering::Relaxed);
    let began = std::time::Instant::now();
    assert!(mail(at, Begins::Starttls, None, folder.path()).send(&notice(), &patience).is_err());
    assert!(began.elapsed() < LONG / 2);
}
