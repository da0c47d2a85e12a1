//! evenkeel beside its peers and the machine: all engines in turn on one folder of one
//! disk. See `docs/performance.md`.

mod data;
mod engines;
mod measure;
mod plot;
mod report;
mod run;
mod runtimes;
mod task;
mod workloads;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::task::{Result, Scale, Task};

/// Compares evenkeel with its peers and with the machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Less of everything: 100,000 keys, and a third of a second for each measurement.
    #[arg(long)]
    quick: bool,
    /// Only these workloads.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these engines.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// How often each is repeated, in turn. Default 3, and 1 where it is to be quick.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..1_000))]
    reps: Option<u64>,
    /// How many keys a loaded state has, in thousands. Default 1,000, or 100; at least 10.
    #[arg(long, value_parser = clap::value_parser!(u64).range(10..100_000))]
    thousands: Option<u64>,
    /// How many jobs are queued. Default a million, or 20,000; at least 10.
    #[arg(long, value_parser = clap::value_parser!(u64).range(10..100_000_000))]
    jobs: Option<u64>,
    /// For how many milliseconds operations are measured. Default 2,000, or 300.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    millis: Option<u32>,
    /// Where the engines keep their files; what it holds by the name of an engine goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/data"))]
    dir: PathBuf,
    /// Writes all that was measured as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Runs nothing, and shows what was measured before, as `--out` has written it.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Writes bars as SVG into this folder.
    #[arg(long)]
    plots: Option<PathBuf>,
    /// Prints the workloads, the engines and what each is told to promise.
    #[arg(long)]
    list: bool,
    /// What a child process is to do, as JSON.
    #[arg(long, hide = true)]
    child: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(task) = &arguments.child {
        return child(&serde_json::from_str(task)?);
    }
    if arguments.list {
        report::list();
        return Ok(());
    }
    let measured = match &arguments.from {
        Some(path) => serde_json::from_str(&fs::read_to_string(path)?)?,
        None => run::all(&asked(&arguments))?,
    };
    let tables = report::tables(&measured);
    report::print(&measured, &tables);
    if let Some(path) = &arguments.out {
        write(path, &serde_json::to_string_pretty(&measured)?)?;
    }
    if let Some(folder) = &arguments.plots {
        plot::write(folder, &tables)?;
    }
    match measured.failures() {
        0 => Ok(()),
        count => Err(format!("{count} repetitions failed, see above").into()),
    }
}

/// What is to be run, with what was left open.
fn asked(arguments: &Arguments) -> run::Asked {
    let (thousands, millis, jobs, repetitions) = match arguments.quick {
        true => (100, 300, 20_000, 1),
        false => (1_000, 2_000, 1_000_000, 3),
    };
    run::Asked {
        only: arguments.only.clone(),
        engines: arguments.engines.clone(),
        repetitions: arguments.reps.unwrap_or(repetitions),
        scale: Scale {
            keys: arguments.thousands.unwrap_or(thousands) * data::SCOPE_KEYS,
            seconds: f64::from(arguments.millis.unwrap_or(millis)) / 1e3,
            jobs: arguments.jobs.unwrap_or(jobs),
        },
        folder: arguments.dir.clone(),
    }
}

/// Writes a file, and its folder if that is not there.
fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, text)?)
}

/// Does a task, tells the outcome, and stays until it is killed: no destructor runs, and
/// nothing is closed.
fn child(task: &Task) -> Result<()> {
    let outcome = workloads::run(task);
    report::tell(&outcome)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
