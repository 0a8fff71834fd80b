//! `synhold top`: the status live in the terminal, with keys to explain, allow, block and quarantine what is selected.

mod draw;
mod keyboard;
mod keys;
mod model;
mod work;

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::DefaultTerminal;

use super::lists::Place;
use super::paint::Paint;
use super::{Answer, say};
use crate::daemon::clock;
use crate::daemon::control::Asker;
use keyboard::{Keyboard, is_hung_up};
use keys::Action;
use model::Model;
use work::Worker;

/// How long a key may wait for what the daemon says to be shown.
const NAP: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub(super) struct TopArgs {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: &TopArgs) -> Result<Answer> {
    if args.place.json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("`synhold top` needs a terminal: `synhold status --json` says the same once");
    }
    let state_dir = args.place.state_dir()?;
    if Asker::find(&state_dir)?.is_none() {
        let state_dir = state_dir.display();
        say(&format!(
            "no synhold runs on {state_dir}; start it, or name another with --state-dir"
        ))?;
        return Ok(Answer::No);
    }
    // Before there are other threads: they are to leave these signals to us as well.
    let signals = Signals::new()?;
    let mut model = Model::new(nix::unistd::geteuid().is_root());
    let worker = Worker::start(args.place.clone())?;
    let mut screen = Screen::open()?;
    let keyboard = Keyboard::start()?;
    let watched = watch(&mut screen, &mut model, &worker, &keyboard, &signals);
    // Of a terminal that is gone nothing can be said, and nobody would read it.
    if is_hung_up() { Ok(Answer::Fine) } else { watched.map(|()| Answer::Fine) }
}

fn watch(
    screen: &mut Screen,
    model: &mut Model,
    worker: &Worker,
    keyboard: &Keyboard,
    signals: &Signals,
) -> Result<()> {
    let colours = Paint::stdout().has_colours();
    // A terminal that is gone tells by SIGHUP, which ends us, unless whoever started us has that ignored.
    while !signals.any() && !is_hung_up() {
        let now = clock::wall();
        screen.0.draw(|frame| draw::draw(frame, model, now, colours)).context("cannot draw")?;
        if let Some(event) = keyboard.next(NAP)? {
            match keys::key(&event).map_or(Action::None, |key| model.press(key)) {
                Action::None => {}
                Action::Quit => return Ok(()),
                Action::Ask(job) => worker.ask(job),
            }
        }
        for outcome in worker.outcomes() {
            model.hear(outcome);
        }
    }
    Ok(())
}

/// The terminal as we need it. Dropping it gives it back as it was; so does a panic.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Screen> {
        ratatui::try_init().map(Screen).context("cannot set up the terminal")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone has nothing to be given back.
        let _ = ratatui::try_restore();
    }
}

/// Signals that would end us without giving the terminal back.
struct Signals(SignalFd);

impl Signals {
    fn new() -> Result<Signals> {
        // Not SIGHUP: a terminal that is gone has nothing to be given back.
        let all = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];
        let mask: SigSet = all.into_iter().collect();
        mask.thread_block().context("cannot block signals")?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        SignalFd::with_flags(&mask, flags).map(Signals).context("cannot listen for signals")
    }

    fn any(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}
