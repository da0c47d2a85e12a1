//! Owns what is said on the way, on stderr: a bar where somebody looks at it, lines
//! where a program reads them.
//!
//! What must stay true: what is announced is durable.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// How far it is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    done: usize,
    total: usize,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        let bar = (io::stderr().is_terminal() && total > 0).then(|| {
            let style = "{elapsed_precise} {wide_bar} {pos}/{len} files, {per_sec}, {eta} left";
            let style = ProgressStyle::with_template(style);
            let bar = ProgressBar::new(total as u64);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let done = 0;
        Self { bar, done, total }
    }

    /// So many more are done, and durable.
    pub(crate) fn advance(&mut self, by: usize) {
        self.done += by;
        match &self.bar {
            Some(bar) => bar.inc(by as u64),
            None => say(&format!("progress: {} of {}", self.done, self.total)),
        }
    }

    /// Says something without tearing the bar.
    pub(crate) fn warn(&self, text: &str) {
        let warning = format!("warning: {text}");
        match &self.bar {
            Some(bar) => bar.suspend(|| say(&warning)),
            None => say(&warning),
        }
    }

    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a line to stderr. Where nobody reads it any more the work goes on all the
/// same; `eprintln!` would panic.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
