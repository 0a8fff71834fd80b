//! `synhold events`: what happened lately, and what happens, from a running daemon.

use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;

use anyhow::{Result, bail};
use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;
use tracing::level_filters::LevelFilter;

use super::lists::Place;
use super::{Answer, words};
use crate::control::{EventsAsked, FaultKind, Question};
use crate::daemon::control::Asker;
use crate::engine::event::Body;
use crate::events::{append_human, read_json};

#[derive(Args, Debug)]
pub(super) struct EventsArgs {
    /// Go on with what happens from now on, accepted flows and DNS records too, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// At most so many of those that happened already [default: all that are kept, 1000 at most]
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<u64>,
    /// Only these kinds, as verdict,alert
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', value_parser = Body::KINDS)]
    only: Vec<String>,
    /// Only what is about this container
    #[arg(long, value_name = "NAME|ID|ADDRESS")]
    container: Option<String>,
    /// Only refusals
    #[arg(long)]
    refused: bool,
    #[command(flatten)]
    place: Place,
}

/// What comes before the lines.
#[derive(Deserialize)]
struct Begun {
    recent: u64,
}

pub(super) fn run(args: &EventsArgs) -> Result<Answer> {
    let state_dir = args.place.state_dir()?;
    let Some(mut asker) = Asker::find(&state_dir)? else {
        let at = state_dir.display();
        say_aside(&format!(
            "no synhold runs on {at}; start it with `synhold run`, or name another with --state-dir"
        ));
        return Ok(Answer::No);
    };
    let asked = EventsAsked {
        last: args.last,
        follow: args.follow,
        only: args.only.clone(),
        container: args.container.clone(),
        refused: args.refused,
    };
    let begun: Begun = asker.ask(&Question::Events(asked))?;
    if args.follow {
        end_with_reader()?;
    }
    let most = if args.follow { u64::MAX } else { begun.recent };
    for _ in 0..most {
        match asker.next_line()? {
            Ok(Some(line)) if !show(&line, args.place.json)? => return Ok(Answer::Fine),
            Ok(Some(_)) => {}
            Ok(None) => bail!("the daemon is gone: it closed without a word"),
            Err(fault) if fault.kind == FaultKind::Stopping => {
                say_aside("the daemon stops, so nothing more comes");
                return Ok(Answer::Fine);
            }
            Err(fault) => return Err(fault.into()),
        }
    }
    if begun.recent == 0 && !args.place.json {
        say_aside("nothing of that kind is remembered; --follow waits for what happens");
    }
    Ok(Answer::Fine)
}

/// Ends the process once nobody reads what it prints: on a quiet host the next line may be hours away.
fn end_with_reader() -> Result<()> {
    let watch = || {
        let stdout = io::stdout();
        // With nothing asked for, it returns where the other end is gone, and for a file never.
        let mut ends = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        while poll(&mut ends, PollTimeout::NONE) == Err(Errno::EINTR) {}
        if ends.iter().any(|end| end.any() == Some(true)) {
            std::process::exit(0);
        }
    };
    std::thread::Builder::new().name("reader".to_owned()).spawn(watch)?;
    Ok(())
}

/// Shows a line; false if nobody reads any more.
fn show(line: &[u8], json: bool) -> Result<bool> {
    let mut text = line.to_vec();
    if !json {
        let Some(event) = read_json(line) else { bail!("what synhold told is no event") };
        text.clear();
        append_human(&mut text, &event, LevelFilter::TRACE);
        let plain: Vec<String> =
            String::from_utf8_lossy(&text).split('\n').map(words::plain).collect();
        text = (plain.join("\n") + "\n").into_bytes();
    }
    let mut out = io::stdout().lock();
    match out.write_all(&text).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is no event goes where it mixes with none.
fn say_aside(text: &str) {
    // Where standard error is gone, the exit code still tells.
    let _ = writeln!(io::stderr(), "synhold: {text}");
}
