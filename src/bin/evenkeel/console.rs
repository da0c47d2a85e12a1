//! Owns the way out: lines on stdout that a program reads, and words on stderr. A
//! reader that goes away is no reason to panic, so neither `println!` nor `eprintln!`.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};

/// Why a command ends with exit code 1, in words.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(why: impl Display) -> Self {
        Self(why.to_string())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<evenkeel::Error> for Failure {
    fn from(e: evenkeel::Error) -> Self {
        Self::new(e)
    }
}

/// A line on stderr. Where nobody listens there is nobody to tell.
pub(crate) fn tell(line: impl Display) {
    let line = format!("{line}\n");
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// A line on stdout, in one write and at once. False once nobody reads it.
///
/// # Errors
/// What keeps stdout from taking it, other than that its reader is gone.
pub(crate) fn say(line: impl Display) -> io::Result<bool> {
    let line = format!("{line}\n");
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(line.as_bytes());
    heard(written.and_then(|()| stdout.flush()))
}

fn heard(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e),
    }
}

/// Many lines on stdout, gathered. Once nobody reads them they are dropped.
#[derive(Debug)]
pub(crate) struct Lines {
    out: io::BufWriter<io::Stdout>,
    heard: bool,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self {
            out: io::BufWriter::new(io::stdout()),
            heard: true,
        }
    }

    /// # Errors
    /// As [`say`].
    pub(crate) fn say(&mut self, line: impl Display) -> io::Result<()> {
        if self.heard {
            self.heard = heard(writeln!(self.out, "{line}"))?;
        }
        Ok(())
    }

    /// # Errors
    /// As [`say`].
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.heard {
            self.heard = heard(self.out.flush())?;
        }
        Ok(())
    }
}
