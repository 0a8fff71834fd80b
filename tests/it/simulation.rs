//! Thousands of small worlds, each from a seed, in which the engine has to agree with a naive model after every step.
//!
//! `SYNHOLD_SEEDS=N` plays more of them, `SYNHOLD_SEED=K` one alone.

mod cast;
mod model;
mod plot;
mod resolver;
mod rng;
mod stage;
mod step;

use std::env;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use synhold::engine::Wall;

use plot::Plot;
use stage::{Stage, Tally};
use step::{Dated, Micros, Step};

/// When every world begins.
pub const START: Wall = Wall(1_700_000_000_000_000);
/// Worlds played unless told otherwise: some seconds of one core.
const SEEDS: u64 = 2_000;
/// Plays spent on making a failing plot short.
const SHORTENINGS: usize = 600;

/// After that long nobody waits any more.
const LONGER_THAN_A_HOLD: Micros = 1_000_000;

/// Where a play fails, and why.
struct Failure {
    step: usize,
    why: String,
}

fn play(plot: &Plot, steps: &[Dated], tally: &mut Tally) -> Result<(), Failure> {
    let mut stage = Stage::new(&plot.cast);
    for (step, dated) in steps.iter().enumerate() {
        // A panic is a failure like any other, so that its trace is shortened as well.
        let played = catch_unwind(AssertUnwindSafe(|| stage.step(dated)));
        let played = played.unwrap_or_else(|_| Err("panicked".to_owned()));
        played.map_err(|why| Failure { step, why })?;
    }
    let step = steps.len().saturating_sub(1);
    let end = steps.last().map_or(0, |dated| dated.at) + LONGER_THAN_A_HOLD;
    let last = stage.step(&Dated { at: end, step: Step::Pause });
    last.and_then(|()| stage.finish(tally)).map_err(|why| Failure { step, why })
}

/// Leaves out what a failure does not need: all that follows it, then halves, quarters and so on to single steps.
fn shortened(plot: &Plot, failure: Failure) -> (Vec<Dated>, Failure) {
    let (mut steps, mut failure) = (plot.steps.clone(), failure);
    steps.truncate(failure.step + 1);
    let (mut size, mut plays) = (steps.len() / 2, 0);
    while size > 0 && plays < SHORTENINGS {
        let (mut from, mut went) = (0, false);
        while from < steps.len() && plays < SHORTENINGS {
            let end = (from + size).min(steps.len());
            let fewer = [&steps[..from], &steps[end..]].concat();
            plays += 1;
            match play(plot, &fewer, &mut Tally::new()) {
                Err(still) => {
                    steps = fewer;
                    steps.truncate(still.step + 1);
                    (failure, went) = (still, true);
                }
                Ok(()) => from = end,
            }
        }
        if !went || size > 1 {
            size /= 2;
        }
    }
    (steps, failure)
}

fn trace(seed: u64, plot: &Plot, failure: Failure) -> String {
    let (steps, failure) = shortened(plot, failure);
    let mut text = format!("SYNHOLD_SEED={seed}: {}\n{:?}\n", failure.why, plot.cast.settings);
    for dated in &steps {
        writeln!(text, "{dated}").unwrap();
    }
    text
}

fn check(seed: u64, tally: &mut Tally) {
    let plot = Plot::new(seed);
    if let Err(failure) = play(&plot, &plot.steps, tally) {
        panic!("{}", trace(seed, &plot, failure));
    }
}

fn from_env(key: &str) -> Option<u64> {
    env::var(key).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn the_engine_agrees_with_the_naive_model() {
    let mut tally = Tally::new();
    if let Some(seed) = from_env("SYNHOLD_SEED") {
        return check(seed, &mut tally);
    }
    let (began, seeds) = (Instant::now(), from_env("SYNHOLD_SEEDS").unwrap_or(SEEDS));
    (0..seeds).for_each(|seed| check(seed, &mut tally));
    let mut met: Vec<String> =
        tally.iter().map(|(what, count)| format!("{count:>8} {what}")).collect();
    met.sort();
    println!("{seeds} worlds in {:?}, whose packets met\n{}", began.elapsed(), met.join("\n"));
}
