//! Owns laying sorted changes over a snapshot, in one pass: sections that nothing changes
//! are taken over as they are, each entry is written once.

use super::changes::TakeChanges;
use super::snapshot::{Section, SnapshotReader};
use super::table::Stored;
use crate::error::{Error, Result};
use crate::ids::Lsn;

/// What takes the outcome, in ascending order of the keys.
pub(crate) trait TakeEntries {
    /// Takes an entry.
    fn push(&mut self, key: &[u8], lsn: Lsn, cell: &[u8]) -> Result<()>;

    /// Takes a section as it is.
    fn push_section(&mut self, section: &Section) -> Result<()>;

    /// True where the next section had better come entry by entry: it would leave too
    /// little before it.
    fn underfull(&self) -> bool;
}

/// Takes changes in ascending order of keys.
#[derive(Debug)]
pub(crate) struct Overlay<T> {
    base: Option<SnapshotReader>,
    open: Option<Open>,
    /// Where it all goes.
    pub(crate) to: T,
}

/// The section that is being copied, up to `at`.
#[derive(Debug)]
struct Open {
    section: Section,
    at: usize,
}

impl<T: TakeEntries> Overlay<T> {
    /// Over a snapshot, of which nothing was read, or over nothing.
    pub(crate) fn new(base: Option<SnapshotReader>, to: T) -> Self {
        Self {
            base,
            open: None,
            to,
        }
    }

    /// Copies all that comes before `key`, or all.
    ///
    /// # Errors
    /// As [`SnapshotReader::next_section`], and what the target says.
    pub(crate) fn copy_until(&mut self, key: Option<&[u8]>) -> Result<()> {
        let mut buffer = Vec::new();
        while self.open_section()? {
            let Some(open) = &mut self.open else { break };
            let block = &open.section.block;
            let last = block
                .len()
                .checked_sub(1)
                .and_then(|last| block.entry(last));
            let whole = last.is_some_and(|last| key.is_none_or(|key| last.cmp_key(key).is_lt()));
            if whole && open.at == 0 && !self.to.underfull() {
                self.to.push_section(&open.section)?;
                self.open = None;
                continue;
            }
            while let Some(entry) = block.entry(open.at) {
                if key.is_some_and(|key| entry.cmp_key(key).is_ge()) {
                    return Ok(());
                }
                entry.key_into(&mut buffer);
                self.to.push(&buffer, entry.lsn, entry.cell)?;
                open.at += 1;
            }
            self.open = None;
        }
        Ok(())
    }

    /// Takes the old entry at `key`, which all has been copied up to.
    pub(crate) fn take<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let open = self.open.as_mut()?;
        let entry = open.section.block.entry(open.at)?;
        if !entry.cmp_key(key).is_eq() {
            return None;
        }
        open.at += 1;
        Some(read(entry.cell))
    }

    /// Copies what is left.
    ///
    /// # Errors
    /// As [`copy_until`](Self::copy_until).
    pub(crate) fn finish(mut self) -> Result<T> {
        self.copy_until(None)?;
        Ok(self.to)
    }

    /// False behind the last section.
    fn open_section(&mut self) -> Result<bool> {
        if let (None, Some(base)) = (&self.open, &mut self.base) {
            let section = base.next_section()?;
            self.open = section.map(|section| Open { section, at: 0 });
        }
        Ok(self.open.is_some())
    }
}

impl<T: TakeEntries> TakeChanges for Overlay<T> {
    type Error = Error;

    fn put(&mut self, key: &[u8], lsn: Lsn, cell: &Stored) -> Result<()> {
        self.copy_until(Some(key))?;
        self.take(key, |_| ());
        match cell {
            Some(cell) => self.to.push(key, lsn, cell),
            None => Ok(()),
        }
    }

    fn clear(&mut self, from: &[u8], end: Option<&[u8]>) -> Result<()> {
        self.copy_until(Some(from))?;
        while self.open_section()? {
            let Some(open) = &mut self.open else { break };
            let block = &open.section.block;
            open.at = end.map_or(block.len(), |end| block.lower_bound(end).max(open.at));
            if open.at < block.len() {
                break;
            }
            self.open = None;
        }
        Ok(())
    }
}
