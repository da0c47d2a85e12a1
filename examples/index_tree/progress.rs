//! Owns what is said on the way, on stderr: a bar where somebody looks at it, lines
//! where a program reads them.
//!
//! What must stay true: what is announced is durable.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// How far it is. Clones share the bar, so that each can warn.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    done: usize,
    /// `None` where nobody has counted it.
    total: Option<usize>,
}

impl Progress {
    /// Nothing is under way.
    pub(crate) fn new() -> Self {
        Self {
            bar: io::stderr().is_terminal().then(ProgressBar::no_length),
            done: 0,
            total: None,
        }
    }

    /// Begins with so many files; `None` for as many as an earlier run has left.
    pub(crate) fn begin(&mut self, total: Option<usize>) {
        (self.done, self.total) = (0, total);
        let Some(bar) = &self.bar else {
            return;
        };
        let style = match total {
            Some(_) => "{elapsed_precise} {wide_bar} {pos}/{len} files, {per_sec}, {eta} left",
            None => "{elapsed_precise} going on: {pos} files, {per_sec}",
        };
        let style = ProgressStyle::with_template(style);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.reset();
        match total {
            Some(total) => bar.set_length(total as u64),
            None => bar.unset_length(),
        }
    }

    /// So many more are done, and durable.
    pub(crate) fn advance(&mut self, by: usize) {
        self.done += by;
        match (&self.bar, self.total) {
            (Some(bar), _) => bar.inc(by as u64),
            // More may have changed meanwhile.
            (None, Some(total)) => {
                let total = total.max(self.done);
                say(&format!("progress: {} of {total}", self.done));
            }
            (None, None) => say(&format!("going on: {}", self.done)),
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

    /// What was begun is over.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a line to stderr. Where nobody reads it any more the work goes on all the
/// same; `eprintln!` would panic.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
