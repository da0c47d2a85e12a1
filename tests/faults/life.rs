//! Owns the life of a store on a simulated disk, with the model of what was committed
//! and acknowledged, and power cuts at each of its operations.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use evenkeel::testing::{Loss, Operation, OperationKind, SimDisk, When};
use evenkeel::{Builder, Commit, Durability, Error, ManualClock, Result, Scope, Store, Value};

pub(crate) const PLACE: &str = "state";

/// So late that it never comes: written, and synced only if somebody asks.
pub(crate) const NEVER: Durability = Durability::Interval(Duration::from_secs(1_000_000));

/// A kill, a power cut at its worst, and some in between.
pub(crate) const LOSSES: [Loss; 4] = [
    Loss::Nothing,
    Loss::Everything,
    Loss::Random(3),
    Loss::Random(11),
];

/// All that is in a store.
pub(crate) type Content = BTreeMap<(Scope, String), Value>;

pub(crate) fn content(store: &Store) -> Result<Content> {
    let mut content = Content::new();
    for scope in store.scopes()? {
        for entry in store.scope(scope.clone()).scan("")? {
            let entry = entry?;
            content.insert((scope.clone(), entry.key().to_owned()), entry.value()?);
        }
    }
    Ok(content)
}

/// The version of each key.
pub(crate) fn versions(store: &Store) -> Vec<(Scope, String, u64)> {
    let mut versions = Vec::new();
    for scope in store.scopes().unwrap() {
        for entry in store.scope(scope.clone()).scan("").unwrap() {
            let entry = entry.unwrap();
            versions.push((scope.clone(), entry.key().to_owned(), entry.version().get()));
        }
    }
    versions
}

/// A store and its model. Each commit sets a key and counts itself in another scope.
pub(crate) struct Life {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
    /// What may be there: the content after each commit, from none on.
    pub(crate) states: Vec<Content>,
    /// So many commits were acknowledged.
    pub(crate) acked: usize,
    segment_bytes: u64,
    store: Option<Store>,
}

impl Life {
    pub(crate) fn new() -> Self {
        Self {
            disk: SimDisk::new(5),
            clock: Arc::new(ManualClock::new(1_000_000)),
            states: vec![Content::new()],
            acked: 0,
            segment_bytes: 8192,
            store: None,
        }
    }

    /// One whose log stays in one segment.
    pub(crate) fn in_one_segment() -> Self {
        Self {
            segment_bytes: 256 * 1024,
            ..Self::new()
        }
    }

    pub(crate) fn builder(&self, disk: &SimDisk) -> Builder {
        disk.store_builder()
            .clock(Arc::clone(&self.clock) as _)
            .segment_bytes(self.segment_bytes, self.segment_bytes)
            .block_bytes(1024)
    }

    /// Drops the store and opens it again.
    pub(crate) fn open(&mut self) -> Result<()> {
        self.store = None;
        self.store = Some(self.builder(&self.disk).open(PLACE)?);
        Ok(())
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    pub(crate) fn close(&mut self) -> Result<()> {
        self.store.take().expect("the store is open").close()?;
        self.acked = self.states.len() - 1;
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.store = None;
    }

    /// True while the store takes calls.
    pub(crate) fn works(&self) -> bool {
        self.store
            .as_ref()
            .is_some_and(|store| store.stats().is_ok())
    }

    /// Adds the state behind another commit, and says what that sets.
    fn next(&mut self) -> (String, Value) {
        let number = self.states.len();
        let (key, text) = (format!("k{}", number % 10), text(number));
        let mut next = self.states.last().unwrap().clone();
        next.insert((Scope::Global, key.clone()), text.clone());
        next.insert((Scope::job("j"), "n".to_owned()), Value::from(number));
        self.states.push(next);
        (key, text)
    }

    /// One commit that nobody waits for.
    pub(crate) fn submit(&mut self) -> Result<Commit> {
        let (key, text) = self.next();
        let store = self.store().with_durability(NEVER);
        let submitted = store.submit(|tx| {
            tx.global().set(&key, &text)?;
            tx.scope(Scope::job("j")).increment("n", 1)
        });
        let submitted = submitted.map(|(_, commit)| commit);
        if submitted.is_err() && self.works() {
            // Refused before it was visible: it must not be there.
            self.states.pop();
        }
        submitted
    }

    /// One commit, durable when it returns.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.submit()?.wait()?;
        self.acked = self.states.len() - 1;
        Ok(())
    }

    pub(crate) fn commits(&mut self, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.commit())
    }

    /// One commit that the kernel has, and the disk may not have.
    pub(crate) fn written(&mut self) -> Result<()> {
        let (key, text) = self.next();
        self.store().with_durability(NEVER).transact(|tx| {
            tx.global().set(&key, &text)?;
            tx.scope(Scope::job("j")).increment("n", 1).map(drop)
        })
    }

    /// Which commit the store is at: it must be the state behind one of them.
    pub(crate) fn position(&self, store: &Store, what: &dyn Display) -> usize {
        let found = content(store).unwrap_or_else(|e| panic!("{what}: {e}"));
        let at = self.states.iter().rposition(|state| *state == found);
        at.unwrap_or_else(|| panic!("{what}: no state of it was ever this: {found:?}"))
    }

    /// Opens what a disk is left with; all that was acknowledged must be there.
    pub(crate) fn check(&self, image: &SimDisk, what: &dyn Display) -> Store {
        let store = self.builder(image).open(PLACE);
        let store = store.unwrap_or_else(|e| panic!("{what}: {e}"));
        let at = self.position(&store, what);
        assert!(
            at >= self.acked,
            "{what}: {at} commits of {} acknowledged",
            self.acked
        );
        store
    }

    /// The same, and exactly the last state.
    pub(crate) fn check_all(&self, image: &SimDisk, what: &dyn Display) -> Store {
        let store = self.check(image, what);
        let at = self.position(&store, what);
        assert_eq!(at, self.states.len() - 1, "{what}");
        store
    }

    /// What a kill leaves now, and what a power cut leaves, both checked.
    pub(crate) fn check_crashes(&self, what: &dyn Display) {
        for loss in LOSSES {
            self.check(&self.disk.crash(loss.clone()), &format!("{what}, {loss:?}"));
        }
    }
}

/// A text of always the same length, so that frames are as long as each other.
fn text(number: usize) -> Value {
    Value::from(format!("{number:04}.").repeat(60))
}

/// What a life does, from its opening on.
pub(crate) type Lived = fn(&mut Life) -> Result<()>;

/// The calls of a life that nothing disturbs.
pub(crate) fn trace(new: fn() -> Life, lived: Lived) -> Vec<Operation> {
    let mut life = new();
    life.disk.record(true);
    lived(&mut life).unwrap();
    life.disk.trace()
}

/// The operations of a life that nothing disturbs, without reads.
pub(crate) fn operations(new: fn() -> Life, lived: Lived) -> Vec<Operation> {
    let mut calls = trace(new, lived);
    calls.retain(|call| !call.kind.is_read());
    calls
}

/// Lives a life with the power lost at each of these operations, before, in and
/// after it, and gives what each loss leaves to `check`. Returns how many images.
pub(crate) fn lose_power(
    new: fn() -> Life,
    lived: Lived,
    at: &[Operation],
    losses: &[Loss],
    mut check: impl FnMut(&Life, &SimDisk, &str),
) -> usize {
    let mut images = 0;
    for operation in at {
        for when in [When::Before, When::Midway, When::After] {
            if when == When::Midway && operation.kind != OperationKind::Write {
                continue;
            }
            let mut life = new();
            life.disk.stop_at(operation.ordinal, when);
            let lived = lived(&mut life);
            assert!(life.disk.stopped(), "{operation}: {lived:?}");
            for loss in losses {
                let what = format!("{when:?} {operation}, {loss:?}");
                check(&life, &life.disk.crash(loss.clone()), &what);
                images += 1;
            }
            life.leave();
        }
    }
    images
}

pub(crate) fn is_no_space(error: &Error) -> bool {
    match error {
        Error::DiskFull { .. } => true,
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
        _ => false,
    }
}

pub(crate) fn extension(path: &Path) -> &str {
    path.extension()
        .map_or("", |extension| extension.to_str().unwrap())
}

/// A frame in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameAt {
    pub(crate) offset: usize,
    pub(crate) length: usize,
    pub(crate) lsn: u64,
    pub(crate) time: u64,
    pub(crate) is_commit: bool,
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The whole frame at an offset, of whichever segment.
pub(crate) fn frame_at(bytes: &[u8], offset: usize) -> Option<FrameAt> {
    let length = u32::from_le_bytes(bytes.get(offset + 4..offset + 8)?.try_into().unwrap());
    let frame = bytes.get(offset..offset.checked_add(length as usize)?)?;
    let crc = u32::from_le_bytes(frame.get(..4)?.try_into().unwrap());
    (length >= 56 && crc32fast::hash(&frame[4..]) == crc).then(|| FrameAt {
        offset,
        length: length as usize,
        lsn: u64_at(frame, 24),
        time: u64_at(frame, 40),
        is_commit: frame[48] == 1,
    })
}

/// The frames of a segment that are its own, from its beginning.
pub(crate) fn frames(bytes: &[u8]) -> Vec<FrameAt> {
    let mut frames: Vec<FrameAt> = Vec::new();
    let id = u64_at(bytes, 40);
    let mut at = 4096;
    while let Some(frame) = frame_at(bytes, at).filter(|_| u64_at(bytes, at + 8) == id) {
        at += frame.length;
        frames.push(frame);
    }
    frames
}

/// The number in a segment's name.
pub(crate) fn id_of(path: &Path) -> u64 {
    u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap()
}

/// The segments that were begun, in order.
pub(crate) fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let mut paths: Vec<_> = disk.files().into_iter().map(|(path, _)| path).collect();
    paths.retain(|path| {
        extension(path) == "log"
            && disk
                .read(path)
                .is_some_and(|bytes| bytes.len() > 4096 && u64_at(&bytes, 40) == id_of(path))
    });
    paths
}

/// The newest segment: its path and its bytes.
pub(crate) fn newest(disk: &SimDisk) -> (PathBuf, Vec<u8>) {
    let path = segments(disk).pop().expect("a segment");
    let bytes = disk.read(&path).unwrap();
    (path, bytes)
}

/// The place of damage that an error names: segment, offset and LSN.
pub(crate) fn place(error: &Error) -> Option<(u64, u64, u64)> {
    let Error::Corrupt(damage) = error else {
        return None;
    };
    Some((damage.segment?.get(), damage.offset?, damage.lsn?.get()))
}
