//! Owns running an import: it goes on where the last run ended, checks what can be
//! checked before anything is written, and commits batch by batch, each with how far it
//! has come.
//!
//! What must stay true: the record of a batch says what was read up to its last entry,
//! and nothing that was read behind it.

use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::state::import::bulk::{Batches, Done, Prepared};
use crate::state::import::entry::Cause;
use crate::state::import::record::{self, ImportStatus, Mark, Record};
use crate::state::import::{
    Import, ImportOutcome, ImportPhase, ImportProgress, ImportReport, MalformedEntry,
};
use crate::state::transaction::guarded;

/// How many malformed entries a report lists.
pub(super) const LISTED_MAX: usize = 100;

/// Between two words of progress while nothing is written, in bytes.
const TOLD_BYTES: u64 = 4 * 1024 * 1024;

/// What stood next in a source.
pub(super) enum Item {
    Entry(Prepared),
    /// Nothing to be imported: the mapping function said so.
    Skipped,
    /// Nothing at all: an empty line.
    Empty,
    Malformed {
        /// The byte in the line, from 1; 0 where there is no such place.
        column: u64,
        cause: Cause,
    },
}

/// What an import reads, from its beginning to its end.
pub(super) trait Source {
    /// What kind of source it is, as it stands in the record.
    fn kind(&self) -> &'static str;

    /// How many bytes it has, where that is known.
    fn bytes_total(&self) -> Option<u64> {
        None
    }

    /// The next item; `None` at the end.
    fn next(&mut self) -> Result<Option<Item>>;

    /// Passes the next item by; false at the end.
    fn pass(&mut self) -> Result<bool>;

    /// How far it was read.
    fn mark(&self) -> &Mark;

    /// Where the item stands that was read last.
    fn place(&self, column: u64) -> String;

    /// True where it can be read twice, so that all of it is checked first.
    fn can_go_back(&self) -> bool {
        false
    }

    /// Goes back to where it was.
    fn go_back(&mut self, _to: Mark) {}
}

/// A run of an import.
pub(super) struct Run<'r, 'p> {
    import: Import<'p>,
    source: &'r mut dyn Source,
    batches: Batches,
    /// The record in the store.
    before: Option<Record>,
    /// What had been done when this run began.
    earlier: ImportStatus,
    /// The same now.
    committed: ImportStatus,
    /// What was done up to `mark`, but for what the batches count.
    status: ImportStatus,
    /// How far the source was read for what was committed or waits for it.
    mark: Mark,
    told_bytes: u64,
    listed: Vec<MalformedEntry>,
}

impl<'r, 'p> Run<'r, 'p> {
    pub(super) fn new(
        import: Import<'p>,
        source: &'r mut dyn Source,
        before: Option<Record>,
    ) -> Self {
        let goes_on = before.as_ref().filter(|_| !import.restart);
        let earlier = goes_on.map(|record| record.status).unwrap_or_default();
        let mut batches = Batches::new(&import.store.shared);
        batches.keep_existing = import.keep_existing;
        if let Some(bytes) = import.batch_bytes {
            batches.batch_bytes = bytes;
        }
        Self {
            import,
            source,
            batches,
            before,
            earlier,
            committed: earlier,
            status: earlier,
            mark: Mark::default(),
            told_bytes: 0,
            listed: Vec::new(),
        }
    }

    /// Runs it to its end, or to where it is stopped.
    pub(super) fn run(mut self) -> Result<ImportReport> {
        // So that what is told as durable is: an earlier run may have ended in an error.
        self.import.store.barrier()?;
        if self.pass_by()?.is_break() || self.check()?.is_break() {
            return Ok(self.report(ImportOutcome::Stopped));
        }
        if self.earlier.finished {
            return Ok(self.report(ImportOutcome::AlreadyDone));
        }
        while let Some(item) = self.next()? {
            let entry = match item {
                Item::Entry(entry) => Some(entry),
                Item::Skipped => {
                    self.status.skipped += 1;
                    None
                }
                Item::Empty => None,
                Item::Malformed { column, cause } => {
                    self.malformed(column, cause)?;
                    None
                }
            };
            let full = |entry: &Prepared| self.batches.is_full_for(entry);
            if entry.as_ref().is_some_and(full) && self.commit(false)?.is_break() {
                return self.stopped();
            }
            if let Some(entry) = entry {
                self.batches.push(entry);
            }
            self.mark = self.source.mark().clone();
            // Much was read of which nothing is to be written.
            let idle = self.batches.is_empty() && self.is_to_tell();
            if idle && self.commit(false)?.is_break() {
                return self.stopped();
            }
        }
        // It is over, whatever is answered.
        let _ = self.commit(true)?;
        Ok(self.report(ImportOutcome::Finished))
    }

    fn stopped(mut self) -> Result<ImportReport> {
        self.batches.settle()?;
        Ok(self.report(ImportOutcome::Stopped))
    }

    /// Calls the source, which may call code of the user's.
    fn ask<T>(&mut self, call: impl FnOnce(&mut dyn Source) -> Result<T>) -> Result<T> {
        self.import.store.shared.enter()?;
        let source = &mut *self.source;
        let outcome = guarded("in the source of an import", || call(source));
        outcome.map_err(|e| match e {
            Error::Panicked { message } => Error::Panicked {
                message: format!("{message}, at {}", self.source.place(0)),
            },
            e => e,
        })
    }

    /// The next item. Where there is none because of an error, what was read before is
    /// imported.
    fn next(&mut self) -> Result<Option<Item>> {
        let next = self.ask(|source| source.next());
        if next.is_err() {
            self.commit_what_waits()?;
        }
        next
    }

    fn changed(&self, reason: String) -> Error {
        Error::SourceChanged {
            name: self.import.name.clone(),
            reason,
        }
    }

    /// Passes by what an earlier run has imported, if it is the same still.
    fn pass_by(&mut self) -> Result<ControlFlow<()>> {
        let Some(record) = self.before.clone().filter(|_| !self.import.restart) else {
            return Ok(ControlFlow::Continue(()));
        };
        let kind = self.source.kind();
        if record.source != kind {
            let reason = format!("it was begun with {}, and this is {kind}", record.source);
            return Err(self.changed(reason));
        }
        let bytes_total = self.source.bytes_total();
        if let (Some(then), Some(now)) = (record.bytes_total, bytes_total)
            && then != now
        {
            let reason = format!("its source had {then} bytes and has {now} now");
            return Err(self.changed(reason));
        }
        let items = record.status.items;
        while self.source.mark().items < items {
            if !self.ask(|source| source.pass())? {
                let now = self.source.mark().items;
                let reason = format!("it has taken {items} entries, and its source has {now}");
                return Err(self.changed(reason));
            }
            if self.is_to_tell() && self.tell(ImportPhase::Checking)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if self.source.mark().hash() != record.hash {
            let reason = format!("the first {items} entries of its source are others now");
            return Err(self.changed(reason));
        }
        if record.status.finished && self.ask(|source| source.pass())? {
            let reason = format!("it was finished behind {items} entries, and now there are more");
            return Err(self.changed(reason));
        }
        self.mark = self.source.mark().clone();
        Ok(ControlFlow::Continue(()))
    }

    /// Reads all that is left once without importing it, so that nothing is imported of
    /// a source that cannot be imported as a whole.
    fn check(&mut self) -> Result<ControlFlow<()>> {
        if !self.source.can_go_back() || self.import.skip_malformed || self.earlier.finished {
            return Ok(ControlFlow::Continue(()));
        }
        while let Some(item) = self.ask(|source| source.next())? {
            if let Item::Malformed { column, cause } = item {
                return Err(self.refused(column, cause));
            }
            if self.is_to_tell() && self.tell(ImportPhase::Checking)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.source.go_back(self.mark.clone());
        self.told_bytes = self.mark.bytes;
        Ok(ControlFlow::Continue(()))
    }

    fn refused(&self, column: u64, cause: Cause) -> Error {
        Error::Malformed {
            at: self.source.place(column),
            line: self.source.mark().items,
            column,
            imported: self.earlier.imported + self.batches.done.entries,
            source: cause,
        }
    }

    /// Leaves a malformed entry out, or ends the import before it.
    fn malformed(&mut self, column: u64, cause: Cause) -> Result<()> {
        if !self.import.skip_malformed {
            self.commit_what_waits()?;
            return Err(self.refused(column, cause));
        }
        self.status.malformed += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(MalformedEntry {
                at: self.source.place(column),
                line: self.source.mark().items,
                column,
                reason: cause.to_string(),
            });
        }
        Ok(())
    }

    fn commit_what_waits(&mut self) -> Result<()> {
        if !self.batches.is_empty() {
            // The import ends anyway.
            let _ = self.commit(false)?;
        }
        self.batches.settle()
    }

    /// Commits what waits, with how far the source was read for it.
    fn commit(&mut self, finished: bool) -> Result<ControlFlow<()>> {
        let (earlier, mut status) = (self.earlier, self.status);
        status.finished = finished;
        (status.items, status.bytes) = (self.mark.items, self.mark.bytes);
        let mut record = Record {
            source: self.source.kind().to_owned(),
            status,
            hash: self.mark.hash(),
            bytes_total: self.source.bytes_total(),
        };
        let (name, before) = (&self.import.name, &self.before);
        let counted = |done: Done| ImportStatus {
            imported: earlier.imported + done.entries,
            kept: earlier.kept + done.kept,
            ..status
        };
        self.batches.commit(|tx, done| {
            let status = counted(done);
            let record = Record {
                status,
                ..record.clone()
            };
            record::write(tx, name, (before, &record))
        })?;
        record.status = counted(self.batches.done);
        self.committed = record.status;
        self.before = Some(record);
        if finished {
            self.batches.settle()?;
        }
        self.tell(ImportPhase::Importing)
    }

    fn is_to_tell(&self) -> bool {
        self.source.mark().bytes >= self.told_bytes + TOLD_BYTES
    }

    /// Tells how far it has come, and asks whether to go on.
    fn tell(&mut self, phase: ImportPhase) -> Result<ControlFlow<()>> {
        let read = self.source.mark();
        self.told_bytes = read.bytes;
        let (items, bytes) = match phase {
            ImportPhase::Checking => (read.items, read.bytes),
            ImportPhase::Importing => (self.mark.items, self.mark.bytes),
        };
        let progress = ImportProgress {
            phase,
            entries: self.earlier.imported + self.batches.done.entries,
            durable: self.earlier.imported + self.batches.durable(),
            items,
            bytes,
            bytes_total: self.source.bytes_total(),
        };
        let Some(answer) = &mut self.import.progress else {
            return Ok(ControlFlow::Continue(()));
        };
        guarded("in the progress of an import", || Ok(answer(&progress)))
    }

    fn report(self, outcome: ImportOutcome) -> ImportReport {
        ImportReport {
            outcome,
            imported: self.batches.done.entries,
            total: self.committed,
            malformed: self.listed,
        }
    }
}
