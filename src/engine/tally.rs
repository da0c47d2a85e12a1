//! Owns the figures of what one scope holds: a bound from above, which costs nothing,
//! and, once that has met a limit, the exact figures, carried on with each commit.
//!
//! What stays true: a count is of a state and of a time. What has expired by that time
//! is not in it, and what a commit replaces is taken off only if it was; so a count is
//! never lower than what is there, and is exact until the next deadline of the scope.

use crate::codec::cell::{NEVER, deadline, has_expired};
use crate::ids::Lsn;

/// Keys and bytes (of keys and stored values). Below zero only where it is a
/// difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// What had expired by then is not in it.
    pub(crate) time: u64,
    keys: i64,
    bytes: i64,
    /// Nothing in it expires before this.
    pub(crate) earliest: u64,
}

impl Count {
    /// Of nothing, at this time.
    pub(crate) fn at(time: u64) -> Self {
        Self {
            time,
            keys: 0,
            bytes: 0,
            earliest: NEVER,
        }
    }

    pub(crate) fn keys(&self) -> u64 {
        u64::try_from(self.keys).unwrap_or(0)
    }

    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(0)
    }

    pub(crate) fn amounts(&self) -> (u64, u64) {
        (self.keys(), self.bytes())
    }

    pub(crate) fn add(&mut self, cell: &[u8], key_bytes: usize) {
        if !has_expired(cell, || self.time) {
            self.earliest = self.earliest.min(deadline(cell).unwrap_or(NEVER));
            self.keys += 1;
            self.bytes += (key_bytes + cell.len()) as i64;
        }
    }

    pub(crate) fn subtract(&mut self, cell: &[u8], key_bytes: usize) {
        if !has_expired(cell, || self.time) {
            self.keys -= 1;
            self.bytes -= (key_bytes + cell.len()) as i64;
        }
    }

    /// Adds entries of which none expires before `earliest`, which is to come.
    pub(crate) fn add_all(&mut self, keys: u64, bytes: u64, earliest: u64) {
        self.earliest = self.earliest.min(earliest);
        self.keys = self.keys.saturating_add_unsigned(keys);
        self.bytes = self.bytes.saturating_add_unsigned(bytes);
    }

    /// With what was added and taken off since it was made.
    fn and(self, since: Self) -> Self {
        Self {
            keys: self.keys + since.keys,
            bytes: self.bytes + since.bytes,
            earliest: self.earliest.min(since.earliest),
            ..self
        }
    }
}

/// What is followed with each commit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Followed {
    /// What the scope holds.
    pub(crate) exact: Option<Count>,
    /// What was added and taken off since somebody began to count it.
    since: Option<Count>,
    /// The scope was cleared since then: `since` is all that it holds.
    cleared: bool,
}

impl Followed {
    fn any(&self) -> bool {
        self.exact.is_some() || self.since.is_some()
    }

    fn each(&mut self, change: impl FnMut(&mut Count)) {
        self.exact
            .iter_mut()
            .chain(&mut self.since)
            .for_each(change);
    }

    /// The scope is cleared.
    pub(crate) fn clear(&mut self) {
        self.cleared = true;
        self.each(|count| *count = Count::at(count.time));
    }

    /// A key gets another cell, or goes.
    pub(crate) fn replace(&mut self, key_bytes: usize, old: Option<&[u8]>, new: Option<&[u8]>) {
        self.each(|count| {
            old.into_iter()
                .for_each(|old| count.subtract(old, key_bytes));
            new.into_iter().for_each(|new| count.add(new, key_bytes));
        });
    }
}

/// What a scope holds, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The image that `image_keys` and `image_bytes` were counted in, from above.
    pub(crate) image: Option<Lsn>,
    /// Tables up to this generation are in that image: a view may keep them here for
    /// a while, but they do not count.
    pub(crate) generation: u64,
    pub(crate) image_keys: u64,
    pub(crate) image_bytes: u64,
    now: Followed,
    /// What it will be behind the commit that is being judged.
    next: Followed,
}

impl Tally {
    /// Counts the image from above.
    pub(crate) fn refresh(&mut self, image: Lsn, generation: u64, (keys, bytes): (u64, u64)) {
        self.image = Some(image);
        self.generation = generation;
        self.image_keys = keys;
        self.image_bytes = bytes;
    }

    /// True where each commit needs to know what it replaces.
    pub(crate) fn is_followed(&self) -> bool {
        self.now.any()
    }

    /// What the scope holds, where that is followed.
    pub(crate) fn exact(&self) -> Option<Count> {
        self.now.exact
    }

    /// What is followed, as it is.
    pub(crate) fn followed(&self) -> Followed {
        self.now
    }

    /// A commit is about to make this of it.
    pub(crate) fn anticipate(&mut self, next: Followed) {
        self.next = next;
    }

    /// The commit was made.
    pub(crate) fn settle(&mut self) {
        if self.now.any() {
            self.now = self.next;
        }
    }

    /// Somebody begins to count the state of this moment.
    pub(crate) fn begin(&mut self, time: u64) {
        self.now.since = Some(Count::at(time));
        self.now.cleared = false;
    }

    /// What was counted, or that it failed. True where the figures are followed on.
    pub(crate) fn finish(&mut self, counted: Option<Count>) -> bool {
        if let (Some(counted), Some(since)) = (counted, self.now.since) {
            self.now.exact = Some(match self.now.cleared {
                true => since,
                false => counted.and(since),
            });
        }
        self.now.since = None;
        self.now.exact.is_some()
    }

    /// The exact figures are no longer needed.
    pub(crate) fn forget(&mut self) {
        self.now = Followed::default();
    }
}
