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
    /// How often each is repeated, in turn. Default 3.
    #[arg(long, default_value_t = 3)]
    reps: usize,
    /// How many keys a loaded state has.
    #[arg(long)]
    keys: Option<u64>,
    /// For how many seconds operations are measured.
    #[arg(long)]
    seconds: Option<f64>,
    /// Where the engines keep their files; what it holds by the name of an engine goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/data"))]
    dir: PathBuf,
    /// Writes all that was measured as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
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
        return report::list();
    }
    let scale = match arguments.quick {
        true => (100_000, 0.3, 20_000),
        false => (1_000_000, 2.0, 1_000_000),
    };
    let asked = run::Asked {
        only: arguments.only,
        engines: arguments.engines,
        repetitions: arguments.reps.max(1),
        scale: Scale {
            keys: arguments.keys.unwrap_or(scale.0),
            seconds: arguments.seconds.unwrap_or(scale.1),
            jobs: scale.2,
        },
        folder: arguments.dir,
    };
    let measured = run::all(&asked)?;
    let tables = report::tables(&measured);
    report::print(&measured, &tables)?;
    if let Some(folder) = &arguments.plots {
        plot::write(folder, &tables)?;
    }
    if let Some(path) = &arguments.out {
        write(path, &serde_json::to_string_pretty(&measured)?)?;
    }
    match measured.failures() {
        0 => Ok(()),
        count => Err(format!("{count} repetitions failed, see above").into()),
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
