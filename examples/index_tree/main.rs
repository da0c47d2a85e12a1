//! Indexes every file below a folder, in state that survives being killed.
//!
//! ```text
//! cargo run --release --example index_tree -- DIR [--store PATH] [--verify]
//! ```
//!
//! For each regular file: its path, size, lines and SHA-256; then totals by
//! extension, the ten largest files, and duplicates. Kill it whenever you like and
//! run it again: it goes on where it was. A further run takes in what was added,
//! changed (in size or time) or deleted since. `--verify` reads everything anew and
//! says what differs.
//!
//! It is a flow of three routines, walk → hash → total, and each walk is a job. A file's
//! record and all totals that it changes are one commit, that of the activation which
//! takes the message with the file. Files are read on all cores; a commit is visible at
//! once, and many become durable by one sync.
//!
//! It exits with 0 when all is well, files that cannot be read included: they are
//! counted, and tried again by the next run. 1: `--verify` found differences. 2: the
//! arguments make no sense. 3: it failed, and says why.
#![expect(clippy::print_stdout, reason = "it is a program, and talks")]

mod content;
mod flow;
mod index;
mod paths;
mod progress;
mod report;
mod run;
mod verify;
mod walk;
mod work;

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use evenkeel::{Limits, Store};

use crate::index::Index;
use crate::walk::Folder;

const USAGE: &str = "usage: index_tree DIR [--store PATH] [--verify]";
const STORE: &str = "index_tree.store";

const DIFFERENT: u8 = 1;
const MISUSED: u8 = 2;
const FAILED: u8 = 3;

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    folder: PathBuf,
    store: PathBuf,
    verify: bool,
}

/// Why it ends without having done its work.
enum Failure {
    Misused(String),
    Failed(String),
}

impl From<evenkeel::Error> for Failure {
    fn from(e: evenkeel::Error) -> Self {
        Self::Failed(e.to_string())
    }
}

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(Failure::Misused(why)) => {
            progress::say(&format!("error: {why}"));
            ExitCode::from(MISUSED)
        }
        Err(Failure::Failed(why)) => {
            progress::say(&format!("error: {why}"));
            ExitCode::from(FAILED)
        }
    }
}

fn start() -> Result<ExitCode, Failure> {
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    if given
        .iter()
        .any(|argument| argument == "--help" || argument == "-h")
    {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = parse(given)?;
    let root = canonical_folder(&arguments.folder)?;
    let (store, place) = open(&arguments, &root)?;
    let index = Index::new(store, paths::key_of(&root).into_owned());
    let folder = Folder::new(root, &place);
    let code = match arguments.verify {
        true => verify(&index, &folder)?,
        false => update(&index, &folder)?,
    };
    index.store.close()?;
    Ok(code)
}

fn parse(given: impl IntoIterator<Item = OsString>) -> Result<Arguments, Failure> {
    let misused = |why: String| Failure::Misused(format!("{why}\n{USAGE}"));
    let (mut folder, mut store, mut verify) = (None, None, false);
    let mut given = given.into_iter();
    while let Some(argument) = given.next() {
        match argument.to_str() {
            Some("--verify") => verify = true,
            Some("--store") => {
                let path = given
                    .next()
                    .ok_or_else(|| misused("--store needs a path".into()))?;
                store = Some(PathBuf::from(path));
            }
            Some(option) if option.starts_with('-') => {
                return Err(misused(format!("there is no option {option}")));
            }
            _ if folder.is_some() => {
                return Err(misused(format!("{} is one too many", argument.display())));
            }
            _ => folder = Some(PathBuf::from(argument)),
        }
    }
    Ok(Arguments {
        folder: folder.ok_or_else(|| misused("DIR is missing".into()))?,
        store: store.unwrap_or_else(|| PathBuf::from(STORE)),
        verify,
    })
}

fn canonical_folder(path: &Path) -> Result<PathBuf, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::Misused(format!("cannot index {}: {why}", path.display()))
    };
    let root = fs::canonicalize(path).map_err(|e| wrong(&e))?;
    match root.is_dir() {
        true => Ok(root),
        false => Err(wrong(&"it is not a folder")),
    }
}

/// Opens the store, and says where it canonically is.
fn open(arguments: &Arguments, root: &Path) -> Result<(Store, PathBuf), Failure> {
    let path = &arguments.store;
    let failed = |e: io::Error| Failure::Failed(format!("cannot use {}: {e}", path.display()));
    if arguments.verify && !path.try_exists().map_err(failed)? {
        return Err(Failure::Failed(format!(
            "there is no store at {}",
            path.display()
        )));
    }
    // Made first, as only what is there has a canonical path.
    fs::create_dir_all(path).map_err(failed)?;
    let place = fs::canonicalize(path).map_err(failed)?;
    if root.starts_with(&place) {
        let why = format!("{} is in the store, which is never indexed", root.display());
        return Err(Failure::Misused(why));
    }
    let mut limits = Limits::default();
    limits.key_bytes = paths::KEY_BYTES_MAX;
    let store = Store::builder().limits(limits).open(&place)?;
    Ok((store, place))
}

fn update(index: &Index, folder: &Folder) -> Result<ExitCode, Failure> {
    let outcome = run::run(index, folder)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = report::print(&mut out, index, outcome);
    finish(printed.and_then(|()| out.flush().map_err(evenkeel::Error::abort)))?;
    Ok(ExitCode::SUCCESS)
}

fn verify(index: &Index, folder: &Folder) -> Result<ExitCode, Failure> {
    let differences = verify::verify(index, folder)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let lines = differences.iter().map(|line| format!("differs: {line}"));
    let last = match differences.len() {
        0 => "verified: the index is what the folder says".into(),
        n => format!("differences: {n}"),
    };
    let printed = lines
        .chain([last])
        .try_for_each(|line| writeln!(out, "{line}"));
    finish(
        printed
            .and_then(|()| out.flush())
            .map_err(evenkeel::Error::abort),
    )?;
    Ok(match differences.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DIFFERENT),
    })
}

/// A reader that has seen enough, as `head` has, is no failure: the work is done.
fn finish(printed: evenkeel::Result<()>) -> Result<(), Failure> {
    match printed {
        Err(evenkeel::Error::Aborted(e)) if is_broken_pipe(&*e) => Ok(()),
        other => Ok(other?),
    }
}

fn is_broken_pipe(e: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let e = e.downcast_ref::<io::Error>();
    e.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
