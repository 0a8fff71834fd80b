//! `synhold report`: blocked addresses as CSV, and everything as a page.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{ArgGroup, Args};

use super::chosen::{Chosen, Found};
use super::{Answer, say, say_json};
use crate::alert::SecretFile;
use crate::daemon::report::{Report, report};
use crate::report::lookup::{ABUSEIPDB, Endpoint, Lookups, RDAP};
use crate::report::{page, row};
use crate::store::write_where_told;

/// Bytes of a key; AbuseIPDB's have eighty.
const KEY_BYTES_MAX: usize = 512;
/// Standard output.
const STDOUT: &str = "-";

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("kind").required(true).multiple(true).args(["csv", "html"]))]
pub(super) struct ReportArgs {
    /// Write blocked addresses as CSV, in the ancestor's columns; - is standard output
    #[arg(long, value_name = "FILE|-")]
    csv: Option<PathBuf>,
    /// Write a page with charts and findings that needs nothing else; - is standard output
    #[arg(long, value_name = "FILE|-")]
    html: Option<PathBuf>,
    /// Ask the system's resolver for names and RDAP for owners of blocked addresses: that tells others whom we look at
    #[arg(long)]
    lookups: bool,
    /// Where RDAP is asked [default: https://rdap.org, which sends on to the registry that knows]
    #[arg(long, value_name = "URL", requires = "lookups")]
    rdap_url: Option<String>,
    /// Ask AbuseIPDB, with the key in this file, which nobody else can read
    #[arg(long, value_name = "FILE")]
    abuseipdb_key_file: Option<PathBuf>,
    /// Where AbuseIPDB is asked [default: https://api.abuseipdb.com]
    #[arg(long, value_name = "URL", requires = "abuseipdb_key_file")]
    abuseipdb_url: Option<String>,
    #[command(flatten)]
    chosen: Chosen,
}

pub(super) fn run(args: &ReportArgs) -> Result<Answer> {
    let place = &args.chosen.place;
    let outputs = [&args.csv, &args.html];
    let to_stdout = outputs.into_iter().flatten().filter(|path| is_stdout(path)).count();
    ensure!(to_stdout <= 1, "only one of --csv and --html can go to standard output");
    ensure!(
        to_stdout == 0 || !place.json,
        "--json goes to standard output: write the report to a file"
    );
    let lookups = lookups(args)?;
    let Found { config, misread, sources, notes } = args.chosen.find()?;
    let Report { rows, mut page, forgotten } = report(&config, misread, &sources, &lookups)?;
    page.notes.extend(notes);
    for warning in page.notes.iter().chain(&forgotten) {
        tracing::warn!("{}", super::words::plain(warning));
    }
    let (addresses, findings) = (rows.len(), page.findings.len());
    if let Some(path) = &args.csv {
        let mut csv = Vec::new();
        row::write(rows, &mut csv)?;
        write(path, &csv)?;
    }
    if let Some(path) = &args.html {
        write(path, page::render(&page).as_bytes())?;
    }
    if place.json {
        let (csv, html) = (&args.csv, &args.html);
        say_json(
            &serde_json::json!({ "csv": csv, "html": html, "addresses": addresses, "findings": findings }),
        )?;
    } else if to_stdout == 0 {
        let addresses = are(addresses, "blocked address", "es");
        let findings = are(findings, "finding", "s");
        for (path, what) in [(&args.csv, addresses), (&args.html, findings)] {
            path.iter().try_for_each(|path| say(&format!("{what} in {}", path.display())))?;
        }
    }
    Ok(Answer::Fine)
}

/// `1 finding is`, `3 findings are`
fn are(count: usize, one: &str, more: &str) -> String {
    if count == 1 { format!("1 {one} is") } else { format!("{count} {one}{more} are") }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new(STDOUT)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if is_stdout(path) {
        let mut out = std::io::stdout().lock();
        return match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        };
    }
    write_where_told(path, |mut file| file.write_all(bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn lookups(args: &ReportArgs) -> Result<Lookups> {
    let endpoint = |flag: &str, url: &Option<String>, default: &str, elsewhere| {
        let url = url.as_deref().unwrap_or(default);
        Endpoint::new(url, elsewhere).map_err(|why| anyhow!("{flag} {why}"))
    };
    let rdap = match args.lookups {
        true => Some(endpoint("--rdap-url", &args.rdap_url, RDAP, true)?),
        false => None,
    };
    let abuse = match &args.abuseipdb_key_file {
        // A key goes to whom it is for, wherever else they would send us.
        Some(file) => {
            Some((endpoint("--abuseipdb-url", &args.abuseipdb_url, ABUSEIPDB, false)?, key(file)?))
        }
        None => None,
    };
    Ok(Lookups { ptr: args.lookups, rdap, abuse })
}

/// The key in a file, which no message repeats.
fn key(path: &Path) -> Result<String> {
    let secret = SecretFile(path.to_owned()).read().map_err(|why| anyhow!("{why}"))?;
    let text = secret.text().unwrap_or_default();
    let key = text.trim();
    ensure!(
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()),
        "{} holds no key of AbuseIPDB",
        path.display()
    );
    Ok(key.to_owned())
}
