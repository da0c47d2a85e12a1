//! Owns `crash run`: rounds of writing, killing and checking, and what must hold over
//! all of them: whatever was acknowledged once, or found whole once, is found whole in
//! every later round.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use evenkeel::{Clock, SystemClock};
use tempfile::TempDir;

use super::child::{Child, Event, Events, was_killed};
use super::content::Random;
use super::heard::{Checked, Hear, Written};
use super::progress::Progress;
use super::ranges::Ranges;
use super::tally::{Outcome, Tally};
use crate::arguments::{Keeping, Mode, Run, Style};
use crate::console::{Failure, say};

/// The modes, in the order of the rounds.
const MODES: [Mode; 4] = [Mode::Mixed, Mode::Single, Mode::Transactions, Mode::Threads];
/// Beyond so many records they are written anew instead of added to, so that a check
/// takes no longer in the thousandth round than in the hundredth, and snapshots, which
/// come with half of the live bytes, do not become rare.
const RECORDS_MAX: u64 = 4_000;
/// Beyond this number no writer begins.
const NUMBERS_END: u64 = u64::MAX / 2;
/// How many acknowledgements a writer may live to see: up to 2 to the power of less.
const ACKS_LOG2: u64 = 10;
/// How long it may live on behind the last of them.
const LINGER_MICROS: u64 = 3_000;
/// What opening is thought to take before one was seen.
const OPENING_MICROS: u64 = 30_000;

/// Why a part of a round ended before its time.
enum Stop {
    Interrupted,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

struct Rig<'a> {
    exe: PathBuf,
    dir: &'a Path,
    style: Style,
    keeping: Keeping,
    patience: Duration,
    events: Events,
    interrupted: Arc<AtomicBool>,
    random: Random,
    /// What has to be there from now on.
    must: Ranges,
    acked_last: Option<u64>,
    /// What opening took last.
    opening_micros: u64,
    tally: Tally,
}

/// Runs the rounds and prints the summary.
///
/// # Errors
/// The first round that failed.
pub(super) fn run(options: &Run) -> Result<(), Failure> {
    let seed = match options.seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(|e| Failure::new(format_args!("no seed: {e}")))? >> 16,
    };
    let exe = env::current_exe()
        .map_err(|e| Failure::new(format_args!("cannot find this program: {e}")))?;
    let (dir, temporary) = folder(options)?;
    let mut rig = Rig {
        exe,
        dir: &dir,
        style: options.style,
        keeping: options.keeping,
        patience: Duration::from_secs(options.patience),
        events: Events::new(),
        interrupted: Arc::default(),
        random: Random::new(seed),
        must: Ranges::default(),
        acked_last: None,
        opening_micros: OPENING_MICROS,
        tally: Tally {
            seed,
            ..Tally::default()
        },
    };
    rig.listen()?;
    let progress = Progress::new(options.rounds, options.quiet);
    progress.tell(&format!(
        "{} rounds in {}; again with --seed {seed}",
        options.rounds,
        dir.display()
    ));
    let begin = SystemClock.now_micros();
    let ended = rig.rounds(options.rounds, &progress);
    progress.end();
    let mut tally = rig.tally;
    tally.time = Duration::from_micros(SystemClock.now_micros().saturating_sub(begin));
    let failure = match ended {
        Ok(()) => None,
        Err(Stop::Interrupted) => {
            tally.outcome = Outcome::Interrupted;
            None
        }
        Err(Stop::Failed(failure)) => {
            tally.outcome = Outcome::Failed { kept: dir.clone() };
            Some(failure)
        }
    };
    if let (Some(_), Some(temporary)) = (&failure, temporary) {
        let _ = temporary.keep();
    }
    say(tally).map_err(|e| Failure::new(format_args!("stdout does not take the summary: {e}")))?;
    failure.map_or(Ok(()), Err)
}

/// The store's folder, and what removes it.
fn folder(options: &Run) -> Result<(PathBuf, Option<TempDir>), Failure> {
    if let Some(dir) = &options.dir {
        return Ok((dir.clone(), None));
    }
    let temporary = tempfile::Builder::new()
        .prefix("evenkeel-crash-")
        .tempdir()
        .map_err(|e| Failure::new(format_args!("cannot make a temporary folder: {e}")))?;
    Ok((temporary.path().join("store"), Some(temporary)))
}

impl Rig<'_> {
    /// Ctrl-C ends the child and the run, not the summary.
    fn listen(&self) -> Result<(), Failure> {
        let (interrupted, sender) = (Arc::clone(&self.interrupted), self.events.sender());
        ctrlc::set_handler(move || {
            interrupted.store(true, Ordering::Release);
            let _ = sender.send(Event::Interrupt);
        })
        .map_err(|e| Failure::new(format_args!("cannot listen for Ctrl-C: {e}")))
    }

    fn rounds(&mut self, rounds: u64, progress: &Progress) -> Result<(), Stop> {
        if self.dir.exists() {
            // What is there already has to stay.
            self.check("before the first round")?;
            let found = format!("{} records are there already", self.tally.records);
            progress.tell(&found);
        }
        for round in 1..=rounds {
            let mode = match self.style.mode {
                Some(mode) => mode,
                None => MODES[usize::try_from(round - 1).unwrap_or(0) % MODES.len()],
            };
            let start = self.start();
            let at = format!("round {round}, {mode:?} from {start}");
            self.write(mode, start, &at)?;
            if self.random.below(8) == 0 {
                self.kill_check(&at)?;
            }
            self.check(&at)?;
            self.tally.rounds = round;
            progress.at(round, &self.tally.state());
        }
        Ok(())
    }

    /// Where a writer begins: mostly behind what is there, at times with a gap, and at
    /// times on numbers that are there, acknowledged or not.
    fn start(&mut self) -> u64 {
        let Some(top) = self.must.last() else {
            return self.random.below(3);
        };
        let behind = top.saturating_add(1);
        if self.must.len() > RECORDS_MAX {
            return self.random.below(behind);
        }
        if behind > NUMBERS_END {
            // There would not be enough numbers left for a writer that nobody stops.
            return self.random.below(NUMBERS_END);
        }
        match self.random.below(10) {
            0..4 => behind,
            4..6 => self
                .acked_last
                .map_or(behind, |last| last.saturating_add(1)),
            6 => behind.saturating_add(self.random.below(1000)),
            7 => top.saturating_sub(self.random.below(100)),
            8 => self.random.below(behind),
            _ => behind.saturating_add(1),
        }
    }

    /// Lets a writer write and kills it.
    fn write(&mut self, mode: Mode, start: u64, at: &str) -> Result<(), Stop> {
        let mut command = self.command("write");
        command
            .arg("--start")
            .arg(start.to_string())
            .arg("--figures");
        if let Some(mode) = mode.to_possible_value() {
            command.arg("--mode").arg(mode.get_name());
        }
        if let Some(threads) = self.style.threads {
            command.arg("--threads").arg(threads.to_string());
        }
        let (acks, linger) = match self.random.below(5) {
            0 => (0, self.random.below(self.opening_micros * 5 / 4)),
            _ => {
                let bits = self.random.below(ACKS_LOG2);
                (
                    1 + self.random.below(1 << bits),
                    self.random.below(LINGER_MICROS),
                )
            }
        };
        let mut round = Written::new(start, SystemClock.now_micros());
        let mut child = Child::start(&mut command, &self.events)?;
        while round.acks.len() < acks && !child.is_silent() {
            self.hear_soon(&mut child, at, &mut round)?;
        }
        let status = self.kill_after(&mut child, linger, at, &mut round)?;
        if !was_killed(status) {
            let words = child.words();
            return Err(failed(
                at,
                format_args!("the writer ended by itself, {status}:{words}"),
            ));
        }
        if let Some(wrong) = round.wrong {
            return Err(failed(at, format_args!("the writer said {wrong:?}")));
        }
        self.tally.kills += 1;
        match round.opened_micros {
            Some(micros) => self.opening_micros = micros,
            None => self.tally.kills_opening += 1,
        }
        self.tally.figures(&round.figures);
        self.tally.acknowledged += round.acks.len();
        self.acked_last = round.acks.last().or(self.acked_last);
        self.must.extend(&round.acks);
        Ok(())
    }

    /// Kills a check on its way.
    fn kill_check(&mut self, at: &str) -> Result<(), Stop> {
        let mut child = Child::start(&mut self.command("check"), &self.events)?;
        let linger = self.random.below(self.opening_micros * 2);
        let status = self.kill_after(&mut child, linger, at, &mut Checked::default())?;
        self.tally.kills_checking += u64::from(was_killed(status));
        if was_killed(status) || status.success() {
            return Ok(());
        }
        let words = child.words();
        Err(failed(
            at,
            format_args!("the check failed, {status}:{words}"),
        ))
    }

    /// Checks the store, and that all is there that has to be.
    fn check(&mut self, at: &str) -> Result<(), Stop> {
        let mut command = self.command("check");
        let mut child = Child::start(command.arg("--figures"), &self.events)?;
        let mut round = Checked::default();
        let status = self.hear_out(&mut child, at, &mut round)?;
        let words = child.words();
        if !status.success() {
            return Err(failed(
                at,
                format_args!("the check failed, {status}:{words}"),
            ));
        }
        if let Some(line) = round.wrong {
            return Err(failed(
                at,
                format_args!("the check said {line:?}, out of order"),
            ));
        }
        self.tally.verified += round.have.len();
        self.tally.records = round.have.len();
        self.tally.figures(&round.figures);
        if let Some(missing) = self.must.missing_from(&round.have) {
            let was = "was acknowledged, or found whole before, and is missing";
            return Err(failed(at, format_args!("record {missing} {was}:{words}")));
        }
        self.must.extend(&round.have);
        Ok(())
    }

    fn command(&self, half: &str) -> Command {
        let mut command = Command::new(&self.exe);
        command.arg("crash").arg(half).arg(self.dir);
        let image = self
            .keeping
            .image
            .and_then(|image| image.to_possible_value());
        if let Some(image) = image {
            command.arg("--image").arg(image.get_name());
        }
        command
    }

    /// Hears a child once; false if it says nothing for so long.
    fn hear(
        &self,
        child: &mut Child,
        longest: Duration,
        heard: &mut impl Hear,
    ) -> Result<bool, Stop> {
        let event = self.events.wait(longest);
        if self.interrupted.load(Ordering::Acquire) {
            // A child that is dropped is killed.
            return Err(Stop::Interrupted);
        }
        if let Some(event) = &event {
            child.note(event);
            heard.take(event);
        }
        Ok(event.is_some())
    }

    /// Lets a child live for so long, and kills it.
    fn kill_after(
        &self,
        child: &mut Child,
        micros: u64,
        at: &str,
        heard: &mut impl Hear,
    ) -> Result<ExitStatus, Stop> {
        let until = SystemClock.now_micros() + micros;
        while !child.is_silent() {
            // Whatever the clock does, no longer than that.
            let left = until.saturating_sub(SystemClock.now_micros()).min(micros);
            if !self.hear(child, Duration::from_micros(left), heard)? {
                break;
            }
        }
        child.kill();
        self.hear_out(child, at, heard)
    }

    /// Hears a child to its end.
    fn hear_out(
        &self,
        child: &mut Child,
        at: &str,
        heard: &mut impl Hear,
    ) -> Result<ExitStatus, Stop> {
        while !child.is_silent() {
            self.hear_soon(child, at, heard)?;
        }
        Ok(child.wait()?)
    }

    /// Hears a child once; that it says nothing is a failure.
    fn hear_soon(&self, child: &mut Child, at: &str, heard: &mut impl Hear) -> Result<(), Stop> {
        if self.hear(child, self.patience, heard)? {
            return Ok(());
        }
        let (seconds, words) = (self.patience.as_secs(), child.words());
        Err(failed(
            at,
            format_args!("no sign of life for {seconds} s; killed:{words}"),
        ))
    }
}

fn failed(at: &str, what: impl std::fmt::Display) -> Stop {
    Stop::Failed(Failure::new(format_args!("{at}: {what}")))
}
