//! `synhold generate`: man pages and completions, from the definitions that the command line itself is read by.

mod settings;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::{Arg, Args, CommandFactory, Subcommand, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Cli;

const NAME: &str = "synhold";
/// Commands of administrators.
const SECTION: &str = "8";
const MANUAL: &str = "synhold manual";

/// What to make; packages do when they are built.
#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a man page for every command, and one for the configuration file, into a folder
    Man {
        /// Where to; made if it is not there
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Print a shell's completions
    Completions {
        /// Which shell's
        shell: Shell,
    },
}

pub(super) fn run(args: &GenerateArgs) -> Result<()> {
    match &args.what {
        What::Man { folder } => man(folder)
            .with_context(|| format!("cannot write the man pages into {}", folder.display())),
        What::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut hinted(Cli::command()), NAME, &mut text);
            super::say(String::from_utf8_lossy(&text).trim_end())
        }
    }
}

/// Says to the shells what a value is: left alone they offer files for an address, and in bash a name with a blank in it
/// as two.
fn hinted(command: clap::Command) -> clap::Command {
    command.mut_args(hint).mut_subcommands(hinted)
}

fn hint(arg: Arg) -> Arg {
    let is_folder =
        arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == "DIR"));
    match arg.get_value_hint() {
        ValueHint::AnyPath if is_folder => arg.value_hint(ValueHint::DirPath),
        ValueHint::AnyPath => arg.value_hint(ValueHint::FilePath),
        ValueHint::Unknown if arg.get_action().takes_values() => arg.value_hint(ValueHint::Other),
        _ => arg,
    }
}

fn man(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut all = Cli::command().disable_help_subcommand(true);
    all.build();
    pages(&all, None, folder)?;
    let configuration = folder.join("synhold.toml.5");
    fs::write(configuration, settings::page(&date(), &source()))
}

/// The page of a command, and those of the commands under it.
fn pages(command: &clap::Command, parent: Option<&str>, folder: &Path) -> io::Result<()> {
    let page = Man::new(command.clone()).section(SECTION).manual(MANUAL);
    let page = page.date(date()).source(source());
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut text = Vec::new();
    page.render(&mut text)?;
    let mut more = Roff::default();
    if parent.is_none() {
        about_the_whole(&mut more);
    }
    see_also(&mut more, parent.unwrap_or_default());
    more.to_writer(&mut text)?;
    fs::write(folder.join(page.get_filename()), text)?;
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .try_for_each(|below| pages(below, Some(name), folder))
}

fn about_the_whole(page: &mut Roff) {
    let tagged = |page: &mut Roff, tag: &str, text: &str| {
        page.control("TP", []);
        page.text([bold(tag)]);
        page.text([roman(text)]);
    };
    page.control("SH", ["EXIT STATUS"]);
    tagged(page, "0", "Fine.");
    tagged(page, "1", "The answer is no: drift, not found, would be refused, nothing runs.");
    tagged(page, "2", "Usage or error; one line on standard error says what to do.");
    page.control("SH", ["SIGNALS"]);
    tagged(page, "SIGTERM, SIGINT", "Answer everything that waits, then stop.");
    let hangup = "Open the event file again, and read the [[container]] and [[alert]] sections again; a fault in the \
                  file changes nothing, which is an event.";
    tagged(page, "SIGHUP", hangup);
    page.control("SH", ["FILES"]);
    tagged(page, "/etc/synhold/synhold.toml", "The configuration; see synhold.toml(5).");
    tagged(page, "/var/lib/synhold", "Registry, lists and control socket of the service.");
}

fn see_also(page: &mut Roff, parent: &str) {
    page.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    if !parent.is_empty() {
        line.extend([bold(parent), roman(format!("({SECTION}), "))]);
    }
    line.extend([bold("synhold.toml"), roman("(5), "), bold("nft"), roman("(8), ")]);
    line.extend([bold("dnsmasq"), roman("(8)")]);
    page.text(line);
}

/// The day it is, or for builds that are to be alike the one they say.
fn date() -> String {
    let said = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|said| said.parse::<u32>().ok());
    let time = said.map_or_else(SystemTime::now, |seconds| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(seconds))
    });
    let time = humantime::format_rfc3339_seconds(time).to_string();
    time.split('T').next().unwrap_or_default().to_owned()
}

fn source() -> String {
    format!("{NAME} {}", env!("CARGO_PKG_VERSION"))
}
