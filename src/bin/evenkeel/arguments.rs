//! Owns the arguments: what can be asked for, with the texts that explain it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// evenkeel: an embedded, persistent state engine. This program tries it out and
/// looks into it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 90)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Kill processes that write to a store, and check that nothing is lost
    ///
    /// Kill processes that write to a store, and check that nothing is lost. `run` does
    /// all of it; `write` and `check` are its two halves, for a rig of your own that
    /// kills, or cuts the power, in its own way.
    Crash {
        #[command(subcommand)]
        command: Crash,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Crash {
    /// Write, kill -9, reopen, check; and again
    ///
    /// Write, kill -9, reopen, check; and again. Starts itself as the writer (`crash
    /// write`), reads what it acknowledges, kills it at a random moment, sometimes while
    /// it still opens the store, and then checks the store (`crash check`): every record
    /// that was acknowledged in this or any earlier round has to be there, whole, and
    /// nothing may contradict anything else. Now and then the check is killed too.
    ///
    /// Exits 0 if all rounds passed, 1 if one failed; then the folder is kept and named.
    Run(Run),
    /// Commit records N, N+1, … and acknowledge each, until killed
    ///
    /// Commit records N, N+1, … and print `acked N` on stdout once record N must survive
    /// whatever happens, until killed. Each record is one commit at `Durability::Sync`.
    /// Everything else goes to stderr. A number that is there already is written anew.
    ///
    /// Exits 1 if a commit fails, and does not acknowledge it; exits 0 once nobody reads
    /// stdout any more.
    Write(Write),
    /// Print `have N` for each record that is there and whole
    ///
    /// Open a store that `crash write` made, in whatever modes, and print `have N` on
    /// stdout for each record whose whole content is what it should be, in ascending
    /// order. Reads all else too: parts without a record, counters, indexes, the order of
    /// commits, and the files below (`verify`). What was healed and what was cut off by
    /// the crash is told on stderr and is no failure.
    ///
    /// Exits 0 if the store opened and nothing in it contradicts itself; a folder that
    /// is empty or missing holds no records. Exits 1 with the reasons on stderr otherwise.
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The store's folder: a new one, or one of an earlier run, which is checked first and
    /// then gone on with. Without it a temporary folder, removed at the end; that may lie
    /// in memory, so name a folder to try a disk
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How often to write, kill and check
    #[arg(long, default_value_t = 40, value_name = "N")]
    pub(crate) rounds: u64,
    /// The seed of all that is random here: where to start, how long to wait. The
    /// machine's timing stays its own. Drawn and printed if not given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) style: Style,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    /// A child that gives no sign of life for so many seconds has failed
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) patience: u64,
    /// No progress, only the summary
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Write {
    /// The store's folder; made if it is missing
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The number of the first record
    #[arg(long, value_name = "N")]
    pub(crate) start: u64,
    #[command(flatten)]
    pub(crate) style: Style,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    /// Print figures of the store on stderr now and then
    #[arg(long)]
    pub(crate) figures: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The store's folder
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    /// Print figures of the check on stderr
    #[arg(long)]
    pub(crate) figures: bool,
}

/// How records are written.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Style {
    /// How records are written. Default: `write` does all in turn, `run` takes another
    /// mode in each round
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,
    /// How many threads write. Default: 1 for `single` and `transactions`, 8 for `threads`
    /// and for the part of `mixed` that has threads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
}

/// Where the image of the store is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Keeping {
    /// What keeps the image of the store. Default: what made the image that is there, and
    /// sled where there is none yet. With the other one it is built anew
    #[arg(long, value_enum)]
    pub(crate) image: Option<Image>,
}

/// What keeps an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Image {
    /// A database of sled's
    Sled,
    /// Files of evenkeel's own
    Files,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// All the others in turn, 48 records each
    Mixed,
    /// A key for each record; set, compared-and-set and merged; beside them keys that are
    /// overwritten, deleted and cleared and that nobody waits for
    Single,
    /// A transaction for each record: keys in workflow, step, job and custom scopes, an
    /// index, counters of the worker and of all, two bounded lists
    Transactions,
    /// Many threads that draw numbers from one counter; single keys and transactions
    Threads,
}
