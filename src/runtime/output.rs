//! Owns the text that jobs print, on its way from logic to stdout and to the store, and
//! back to whoever asks for it. Imports `record`.
//!
//! What must stay true: stdout gets each text once, in the order of commits; of a job at
//! most [`OUTPUT_CHARS_MAX`] characters are read, always the last ones, and at most twice
//! as many are stored; memory is bounded for a run and for a job.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, Write};
use std::ops::Bound;
use std::sync::Arc;

use crate::codec::CodecLimits;
use crate::codec::cell::has_expired;
use crate::engine::Engine;
use crate::engine::table::Stored;
use crate::error::{Error, Result};
use crate::runtime::record::{self, JobPart};
use crate::scope::Scope;
use crate::state::{Store, cell};
use crate::sync::Mutex;

#[cfg(test)]
mod tests;

/// So many characters of what a job printed can be read: the last ones.
pub(crate) const OUTPUT_CHARS_MAX: usize = 200_000;

/// So long is it kept after the end of its job.
pub(crate) const OUTPUT_KEPT_MICROS: u64 = 60 * 60 * 1_000_000;

/// What one commit stores of one activation's output, for all its jobs together.
pub(crate) const COMMIT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Text is added to the newest piece while that has no more characters than this. So a
/// job that prints a word at a time has hundreds of pieces and not as many as words, and
/// no more than this has to be in memory for it.
const PIECE_CHARS: usize = 1000;

/// What a run may have printed that is not on stdout yet.
const SHOWN_BYTES_MAX: usize = 1024 * 1024;

/// What is collected of a run is cut to its tail when it is longer: the most that a tail
/// can take, twice, so that it is not cut at each print.
const COLLECTED_BYTES_MAX: usize = 2 * 4 * OUTPUT_CHARS_MAX;

/// The last so many characters of a text.
pub(crate) fn tail(text: &str, chars_max: usize) -> &str {
    let Some(last) = chars_max.checked_sub(1) else {
        return "";
    };
    let start = text.char_indices().rev().nth(last);
    &text[start.map_or(0, |(at, _)| at)..]
}

/// The end of a text, of no more than so many bytes.
pub(crate) fn tail_of_bytes(text: &str, bytes_max: usize) -> &str {
    let mut at = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(at) {
        at += 1;
    }
    &text[at..]
}

/// What a run printed so far.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    /// The tail of all, to be stored.
    collected: String,
    /// What goes to stdout with the commit.
    shown: String,
}

impl Printed {
    /// Something that is stored and goes to stdout. What comes back is to be written there
    /// at once: it is more than a run may hold back.
    #[must_use]
    pub(crate) fn print(&mut self, text: &str) -> Option<String> {
        self.collect(text);
        self.shown.push_str(text);
        let too_much = self.shown.len() > SHOWN_BYTES_MAX;
        too_much.then(|| std::mem::take(&mut self.shown))
    }

    /// Something that is stored, and is shown elsewhere.
    pub(crate) fn collect(&mut self, text: &str) {
        self.collected.push_str(tail(text, OUTPUT_CHARS_MAX));
        if self.collected.len() > COLLECTED_BYTES_MAX {
            self.collected = tail(&self.collected, OUTPUT_CHARS_MAX).to_owned();
        }
    }

    /// What is to be stored.
    pub(crate) fn collected(&self) -> &str {
        &self.collected
    }

    /// What is to go to stdout, which is given once.
    pub(crate) fn take_shown(&mut self) -> String {
        std::mem::take(&mut self.shown)
    }
}

/// What is stored of the output of one job, as far as the next commit has to know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces {
    /// The oldest first.
    pieces: VecDeque<Piece>,
    /// Characters of all of them.
    chars: usize,
    /// The text of the newest, while more can be added to it.
    newest: String,
}

#[derive(Clone, Debug)]
struct Piece {
    key: Arc<[u8]>,
    chars: usize,
}

/// What a commit makes of the output of a job.
#[derive(Debug, Default)]
pub(crate) struct OutputChange {
    /// Keys of the job's own scope in order, each once; `None` removes one.
    pub(crate) writes: BTreeMap<Box<[u8]>, Stored>,
    /// What is stored when it is committed.
    pub(crate) after: Pieces,
}

impl Pieces {
    /// Those of a job, as the store has them.
    ///
    /// # Errors
    /// As a scan.
    pub(crate) fn load(store: &Store, job: &str) -> Result<Self> {
        let mut pieces = Self::default();
        for (key, text) in stored(store, job)? {
            pieces.push(key, &text);
        }
        Ok(pieces)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn push(&mut self, key: Arc<[u8]>, text: &str) {
        let chars = text.chars().count();
        self.pieces.push_back(Piece { key, chars });
        self.chars += chars;
        self.newest.clear();
        if chars < PIECE_CHARS {
            self.newest.push_str(text);
        }
    }

    /// A job has printed this. It is stored under this key, or behind what is there.
    pub(crate) fn add(&self, key: &[u8], text: &str) -> Result<OutputChange> {
        let text = tail(text, OUTPUT_CHARS_MAX);
        let chars = text.chars().count();
        let mut after = self.clone();
        let fits =
            |newest: &&mut Piece| !self.newest.is_empty() && newest.chars + chars <= PIECE_CHARS;
        let (key, text) = match after.pieces.back_mut().filter(fits) {
            Some(newest) => {
                newest.chars += chars;
                after.chars += chars;
                after.newest.push_str(text);
                (Arc::clone(&newest.key), after.newest.clone())
            }
            None => {
                let key = self.behind_all(key);
                after.push(Arc::clone(&key), text);
                (key, text.to_owned())
            }
        };
        let mut writes = BTreeMap::new();
        while let Some(oldest) = after.pieces.front()
            && after.chars - oldest.chars >= OUTPUT_CHARS_MAX
        {
            writes.insert((*oldest.key).into(), None);
            after.chars -= oldest.chars;
            after.pieces.pop_front();
        }
        // Not under the limits of the user, which are for values of theirs.
        let cell = cell::encode(&text, None, &CodecLimits::default())?;
        writes.insert((*key).into(), Some(cell));
        Ok(OutputChange { writes, after })
    }

    /// A key behind all others. Two texts of one moment may come in an order that their
    /// keys have not.
    fn behind_all(&self, key: &[u8]) -> Arc<[u8]> {
        let newest = self.pieces.back().map_or(&[][..], |newest| &*newest.key);
        if key > newest {
            return key.into();
        }
        let mut next = newest.to_vec();
        for byte in next.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        next.into()
    }
}

impl OutputChange {
    /// Nothing yet.
    pub(crate) fn none(pieces: &Pieces) -> Self {
        Self {
            writes: BTreeMap::new(),
            after: pieces.clone(),
        }
    }

    /// The job ends with this commit: nothing of it lasts longer than until then.
    ///
    /// # Errors
    /// As a read of the store.
    pub(crate) fn until(&mut self, store: &Store, job: &str, deadline: u64) -> Result<()> {
        let scope = record::job(job);
        let engine = store.engine()?;
        let slot = engine.slot(&scope.encode());
        for piece in &self.after.pieces {
            let cell = match self.writes.get(&*piece.key) {
                Some(Some(cell)) => Arc::clone(cell),
                _ => match engine.read(&slot, &piece.key)? {
                    Some((_, cell)) => Arc::from(&*cell),
                    None => continue,
                },
            };
            let cell = cell::with_deadline(&cell, Some(deadline), (&scope, "a piece of output"))?;
            self.writes.insert((*piece.key).into(), Some(cell));
        }
        Ok(())
    }
}

/// The keys and texts that are stored of a job's output, the oldest first.
fn stored(store: &Store, job: &str) -> Result<Vec<(Arc<[u8]>, String)>> {
    let scope = record::job(job);
    loop {
        store.engine()?;
        match stored_at(&store.shared().engine, &scope) {
            // It had to make room; the next view begins at the newer image.
            Err(Error::ViewExpired) => {}
            outcome => return outcome,
        }
    }
}

fn stored_at(engine: &Arc<Engine>, scope: &Scope) -> Result<Vec<(Arc<[u8]>, String)>> {
    let (view, slot) = (engine.view(), engine.slot(&scope.encode()));
    let part = JobPart::Output as u8;
    let (from, to) = ([part], [part + 1]);
    let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
    let mut texts = Vec::new();
    view.for_each_of(&slot, range, |key, _, cell| {
        if !has_expired(cell, || view.time()) {
            let text = record::decode(cell, &CodecLimits::default(), scope)?;
            texts.push((key.into(), text));
        }
        Ok(())
    })?;
    Ok(texts)
}

/// What a job printed, as far as it is committed: its last [`OUTPUT_CHARS_MAX`]
/// characters. Nothing where it printed nothing, ended too long ago, or is unknown.
///
/// # Errors
/// As a scan of a scope.
pub(crate) fn read_output(store: &Store, job: &str) -> Result<String> {
    let texts = stored(store, job)?.into_iter().map(|(_, text)| text);
    let text: String = texts.collect();
    Ok(tail(&text, OUTPUT_CHARS_MAX).to_owned())
}

/// Where text goes to, in the order in which it was given: that of the commits, since it
/// is given under the lock in which a commit is made, and written behind it.
pub(crate) struct Printer {
    waiting: Mutex<VecDeque<String>>,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Printer {
    pub(crate) fn new(out: impl Write + Send + 'static) -> Self {
        Self {
            waiting: Mutex::default(),
            out: Mutex::new(Box::new(out)),
        }
    }

    /// Gives it a text. Nothing is written, so no lock is held while stdout is slow.
    pub(crate) fn push(&self, text: String) {
        if !text.is_empty() {
            self.waiting.lock().push_back(text);
        }
    }

    /// Whether there is nothing to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// Writes what was given, if there is anything: whoever printed nothing does not wait
    /// for a stdout that is slow.
    pub(crate) fn flush_waiting(&self) {
        if !self.is_empty() {
            self.flush();
        }
    }

    /// Writes what was given. When it returns that is written, also where another thread
    /// did it. That stdout is closed or full is no matter of whoever prints.
    pub(crate) fn flush(&self) {
        let mut out = self.out.lock();
        loop {
            // The lock is let go before the text is written.
            let next = self.waiting.lock().pop_front();
            let Some(text) = next else { return };
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

impl Default for Printer {
    fn default() -> Self {
        Self::new(io::stdout())
    }
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer")
            .field("waiting", &self.waiting.lock().len())
            .finish_non_exhaustive()
    }
}

/// Writes to stdout at once.
pub(crate) fn print_now(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
