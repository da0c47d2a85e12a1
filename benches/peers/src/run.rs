//! Runs all repetitions, each in a process of its own: the first of all engines, then the
//! second of all, and so on, so that what disturbs the machine disturbs all of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engines;
use crate::measure;
use crate::report;
use crate::task::{Outcome, Result, Scale, Task};
use crate::workloads::{self, Workload};

/// A repetition that has told nothing after this is killed.
const LONGEST: Duration = Duration::from_secs(1200);

/// What is to be run.
pub(crate) struct Asked {
    pub(crate) only: Vec<String>,
    pub(crate) engines: Vec<String>,
    pub(crate) repetitions: u64,
    pub(crate) scale: Scale,
    pub(crate) folder: PathBuf,
}

/// All that was measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) machine: String,
    pub(crate) scale: Scale,
    pub(crate) repetitions: Vec<Repetition>,
}

/// One repetition of one workload of one engine.
#[derive(Serialize, Deserialize)]
pub(crate) struct Repetition {
    pub(crate) workload: String,
    pub(crate) engine: String,
    pub(crate) number: u64,
    /// How busy the machine was already.
    pub(crate) load: f64,
    pub(crate) outcome: Outcome,
}

impl Measured {
    pub(crate) fn failures(&self) -> usize {
        let failed = |repetition: &&Repetition| repetition.outcome.failed.is_some();
        self.repetitions.iter().filter(failed).count()
    }
}

/// Fails for a name that there is not.
fn known<'n>(names: &[String], all: impl Iterator<Item = &'n str>) -> Result<()> {
    let all: Vec<_> = all.collect();
    match names.iter().find(|name| !all.contains(&name.as_str())) {
        Some(name) => Err(format!("no {name}; there are {}", all.join(", ")).into()),
        None => Ok(()),
    }
}

fn chosen(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|chosen| chosen == name)
}

pub(crate) fn all(asked: &Asked) -> Result<Measured> {
    known(
        &asked.only,
        workloads::ALL.iter().map(|workload| workload.name),
    )?;
    known(&asked.engines, report::engines().into_iter())?;
    fs::create_dir_all(&asked.folder)?;
    let mut measured = Measured {
        machine: measure::machine(&asked.folder),
        scale: asked.scale,
        repetitions: Vec::new(),
    };
    let workloads = workloads::ALL.iter();
    for workload in workloads.filter(|workload| chosen(&asked.only, workload.name)) {
        for number in 0..asked.repetitions {
            for engine in workload.engines() {
                if chosen(&asked.engines, engine) {
                    let repetition = repeat(asked, workload, engine, number)?;
                    report::progress(&repetition);
                    measured.repetitions.push(repetition);
                }
            }
        }
    }
    Ok(measured)
}

/// One repetition, in an empty folder: the workload, a kill, and a look at what it left.
fn repeat(asked: &Asked, workload: &Workload, engine: &str, number: u64) -> Result<Repetition> {
    let folder = asked.folder.join(engine);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut task = Task {
        engine: engine.to_owned(),
        workload: workload.name.to_owned(),
        folder: folder.clone(),
        scale: asked.scale,
        left: None,
    };
    let load = measure::load();
    let mut outcome = ask(&task)?;
    task.left = outcome.left.clone();
    if task.left.is_some() && outcome.failed.is_none() && engine != engines::FLOOR {
        let checked = ask(&task)?;
        outcome.figures.extend(checked.figures);
        outcome.failed = checked.failed.map(|why| format!("after the kill: {why}"));
    }
    fs::remove_dir_all(&folder)?;
    Ok(Repetition {
        workload: task.workload,
        engine: task.engine,
        number,
        load,
        outcome,
    })
}

/// Asks a child, and kills it when it has answered.
fn ask(task: &Task) -> Result<Outcome> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--child")
        .arg(serde_json::to_string(task)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let told = answer(&mut child);
    // SIGKILL: no destructor runs.
    child.kill()?;
    let status = child.wait()?;
    let why = match told {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(error)) => format!("its answer cannot be read: {error}"),
        Err(RecvTimeoutError::Timeout) => format!("no answer within {} s", LONGEST.as_secs()),
        Err(RecvTimeoutError::Disconnected) => format!("the process ended: {status}"),
    };
    Ok(Outcome {
        failed: Some(why),
        ..Outcome::default()
    })
}

/// Waits for the line that is the answer.
fn answer(child: &mut Child) -> std::result::Result<Result<Outcome>, RecvTimeoutError> {
    let (sender, receiver) = mpsc::channel();
    let output = child.stdout.take().map(BufReader::new);
    std::thread::spawn(move || {
        let lines = output
            .into_iter()
            .flat_map(BufRead::lines)
            .map_while(|line| line.ok());
        for answer in lines.filter_map(|line| report::told(&line)) {
            // Nobody waits for it any more where it came too late.
            let _ = sender.send(answer);
        }
    });
    receiver.recv_timeout(LONGEST)
}
