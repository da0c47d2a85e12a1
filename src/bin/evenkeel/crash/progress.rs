//! Owns showing how far a run is: a bar on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

use crate::console::tell;

/// How far a run is.
#[derive(Debug)]
pub(super) enum Progress {
    Bar(ProgressBar),
    /// Of so many rounds.
    Lines(u64),
    Quiet,
}

impl Progress {
    pub(super) fn new(rounds: u64, quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !io::stderr().is_terminal() {
            return Self::Lines(rounds);
        }
        let bar = ProgressBar::new(rounds);
        let style =
            ProgressStyle::with_template("{wide_bar} {pos}/{len} rounds, {msg}, {eta} left");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    /// A line that stays.
    pub(super) fn tell(&self, line: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| tell(line)),
            Self::Lines(_) => tell(line),
            Self::Quiet => {}
        }
    }

    /// So many rounds are done.
    pub(super) fn at(&self, round: u64, state: &str) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(round);
                bar.set_message(state.to_owned());
            }
            Self::Lines(rounds) => {
                // About ten lines.
                let every = rounds.div_ceil(10).max(1);
                if round.is_multiple_of(every) || round == *rounds {
                    tell(format_args!("round {round} of {rounds}: {state}"));
                }
            }
            Self::Quiet => {}
        }
    }

    pub(super) fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
