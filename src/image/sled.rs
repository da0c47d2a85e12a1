//! Owns all dealings with sled, which is not trusted: it lives behind threads of its
//! own, every call has a deadline, a panic is damage, and its files are synced here.
//! Nothing that it gives back is believed before its hash was compared; that is the
//! business of `store`. `sled::` appears here, in the tests, and in `trees`, which reads
//! databases of others.
//!
//! What must stay true: no call outlasts its deadline because of sled, none panics,
//! and after the first failure every call answers with an error until the folder is
//! opened again. A hang leaves its thread, with its lock on the folder, behind: the
//! image is then rebuilt in another folder.
//!
//! sled runs its writes on a pool of seven threads that all of its databases in a
//! process share. A panic in one of them ends that thread for good; it prints its
//! message and reaches us as an error or as a hang.

mod files;
mod lane;
pub(crate) mod trees;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::ids::BlockId;
use crate::image::choice::{Maker, maker_of};
use crate::image::{Image, ImageBackend, ImageError, ImageErrorKind, Piece};
use crate::sync::Mutex;
use crate::vfs::{self, RealVfs};

use lane::{Lane, NoAnswer, Pending};

/// A leaf of 17 entries of `PIECE_BYTES_MAX` has to stay below a quarter of it, or it
/// goes into a file of its own: see there. sled keeps the number in its `conf`.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;

/// sled refuses to run with less than a few hundred bytes.
const CACHE_BYTES_MIN: u64 = 1024 * 1024;

/// What sled may take of the disk for a byte that it is given: it writes a leaf anew
/// after some changes, and uses the old room again only when a whole segment is free.
const GROWTH: u64 = 3;

/// After so many bytes sled is asked to write. By itself it writes a whole segment at once, for
/// which commits wait: two milliseconds at the disk, and up to eight for a processor, since the
/// kernel copies it without a break.
const FLUSH_BYTES: usize = 128 * 1024;

/// How many pieces a leaf of sled's holds, about.
const LEAF_PIECES: usize = 4;

/// With the uses that a leaf has by itself, a shard of sled's cache is used so often
/// that it looks for what it may forget.
const SHARD_USES: usize = 56;

/// How many keys one request deletes, so that each stays far from its deadline.
const DELETE_BATCH: usize = 1024;

/// What a sled image takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SledOptions {
    /// The bytes that sled keeps in memory. Default 16 MiB, at least 1 MiB: the crate
    /// has a cache of its own above it.
    pub cache_bytes: u64,
    /// How long a call may take before the image is given up. Default 30 s. What the
    /// kernel takes to sync a file is not counted.
    pub deadline: Duration,
    /// The bytes that are left free on the disk: what needs more of it is refused before
    /// sled hears of it. sled that meets a full disk answers nothing any more, reads
    /// neither. Default 8 MiB, four of sled's segments: three were seen to be needed.
    pub spare_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 16 * 1024 * 1024,
            deadline: Duration::from_secs(30),
            spare_bytes: 4 * SEGMENT_BYTES as u64,
        }
    }
}

/// Opens images in sled.
#[derive(Clone, Copy, Debug, Default)]
pub struct SledBackend {
    options: SledOptions,
}

impl SledBackend {
    /// A backend with these options.
    #[must_use]
    pub const fn new(options: SledOptions) -> Self {
        Self { options }
    }
}

impl ImageBackend for SledBackend {
    fn open(&self, folder: &Path) -> Result<Box<dyn Image>, ImageError> {
        let deadline = self.options.deadline;
        let io = |e: io::Error| io_error("open", folder, &e);
        let names = vfs::list(&RealVfs, folder).map_err(io)?;
        if maker_of(&names) == Some(Maker::Files) {
            let reason = format!("{} has an image of a FileBackend", folder.display());
            return Err(ImageError::new("open", ImageErrorKind::Damaged, reason));
        }
        files::remove_half_written(folder).map_err(io)?;
        let config = config(folder, self.options.cache_bytes);
        let make = move || open_when_unlocked(&config, deadline / 2);
        let writer = start("evenkeel-sled", folder, deadline, make)?;
        let db = writer
            .call(deadline, Clone::clone)
            .map_err(|e| unanswered("open", e, deadline))?;
        let reader = start("evenkeel-sled", folder, deadline, move || Ok(db))?;
        // sled syncs neither `conf` nor any folder: the names that it made may be lost
        // with the power, and the data with them.
        files::sync_tree(folder).map_err(io)?;
        if let Some(parent) = folder
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            files::sync_one(parent).map_err(io)?;
        }
        Ok(Box::new(SledImage {
            folder: folder.to_path_buf(),
            deadline,
            spare_bytes: self.options.spare_bytes,
            writing: Mutex::new(None),
            writer,
            reader,
            ended: Mutex::new(None),
        }))
    }
}

fn config(folder: &Path, cache_bytes: u64) -> sled::Config {
    // `mode` is left alone: sled 0.34.7 reads it nowhere.
    sled::Config::new()
        .path(folder)
        .cache_capacity(cache_bytes.max(CACHE_BYTES_MIN))
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None)
        .use_compression(false)
        .print_profile_on_drop(false)
}

/// sled's lock outlives its drop, in this process as in another.
fn open_when_unlocked(config: &sled::Config, limit: Duration) -> sled::Result<sled::Db> {
    let start = clock::monotonic();
    loop {
        match config.open() {
            Err(sled::Error::Io(e))
                if e.to_string().contains("could not acquire lock") && start.elapsed() < limit =>
            {
                clock::pause(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

fn start(
    name: &str,
    folder: &Path,
    deadline: Duration,
    make: impl FnOnce() -> sled::Result<sled::Db> + Send + 'static,
) -> Result<Lane<sled::Db>, ImageError> {
    let started = Lane::start(name, deadline, make).map_err(|e| io_error("open", folder, &e))?;
    let made = started.map_err(|e| unanswered("open", e, deadline))?;
    made.map_err(|e| {
        let kind = match &e {
            sled::Error::Io(e) if e.kind() == io::ErrorKind::StorageFull => ImageErrorKind::Full,
            e => kind_of(e),
        };
        ImageError::new("open", kind, e.to_string())
    })
}

/// Two lanes over one database, so that a read does not wait for a flush.
#[derive(Debug)]
struct SledImage {
    folder: PathBuf,
    deadline: Duration,
    spare_bytes: u64,
    /// The pieces that were put last, on their way: whoever puts goes on meanwhile.
    writing: Mutex<Option<Writing>>,
    writer: Lane<sled::Db>,
    reader: Lane<sled::Db>,
    /// Why nothing is done any more: closed, or the first failure.
    ended: Mutex<Option<(ImageErrorKind, String)>>,
}

/// Pieces on their way into sled.
#[derive(Debug)]
struct Writing {
    done: Pending<sled::Result<()>>,
    /// The lowest of their numbers.
    first: Option<BlockId>,
}

impl SledImage {
    fn usable(&self, op: &'static str) -> Result<(), ImageError> {
        match &*self.ended.lock() {
            Some((kind, reason)) => Err(ImageError::new(op, *kind, reason.clone())),
            None => Ok(()),
        }
    }

    /// The first failure ends the image: sled is not usable after one, whatever it was
    /// (after a failed write it answers every call with that error, or panics).
    fn end(&self, error: ImageError) -> ImageError {
        let mut ended = self.ended.lock();
        ended.get_or_insert_with(|| (error.kind, format!("given up: {}", error.reason)));
        error
    }

    fn ask<R: Send + 'static>(
        &self,
        lane: &Lane<sled::Db>,
        op: &'static str,
        call: impl FnOnce(&sled::Db) -> sled::Result<R> + Send + 'static,
    ) -> Result<R, ImageError> {
        self.usable(op)?;
        self.answered(op, lane.call(self.deadline, call))
    }

    fn answered<R>(
        &self,
        op: &'static str,
        answer: Result<sled::Result<R>, NoAnswer>,
    ) -> Result<R, ImageError> {
        let failed = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(e)) => ImageError::new(op, kind_of(&e), e.to_string()),
            Err(e) => unanswered(op, e, self.deadline),
        };
        Err(self.end(failed))
    }

    /// Waits for the pieces that are on their way.
    fn settle(&self, writing: &mut Option<Writing>) -> Result<(), ImageError> {
        match writing.take() {
            Some(writing) => self.answered("put", writing.done.wait(self.deadline)),
            None => Ok(()),
        }
    }
}

impl SledImage {
    /// Refuses what may find the disk full, while sled still knows nothing of it.
    fn require_room(&self, op: &'static str, bytes: usize) -> Result<(), ImageError> {
        self.usable(op)?;
        let free = files::free_bytes(&self.folder);
        let free = free.map_err(|e| io_error(op, &self.folder, &e))?;
        let needed = self.spare_bytes + GROWTH * bytes as u64;
        if free < needed {
            let reason = format!("it needs {needed} bytes of room on the disk, {free} are free");
            return Err(ImageError::new(op, ImageErrorKind::Full, reason));
        }
        Ok(())
    }
}

impl Image for SledImage {
    fn get(&self, ids: &[BlockId]) -> Result<Vec<Option<Vec<u8>>>, ImageError> {
        {
            let mut writing = self.writing.lock();
            let first = writing.as_ref().and_then(|writing| writing.first);
            if first.is_some_and(|first| ids.iter().any(|id| *id >= first)) {
                self.settle(&mut writing)?;
            }
        }
        let keys: Vec<_> = ids.iter().map(|id| key(*id)).collect();
        self.ask(&self.reader, "get", move |db| {
            let many = keys.len() > LEAF_PIECES;
            let piece = |key| {
                if many {
                    clock::give_way();
                }
                Ok(db.get(key)?.map(|piece| piece.to_vec()))
            };
            let pieces = keys.iter().map(piece).collect();
            // Whoever asks for many asks for each once. sled looks for what it may
            // forget when a shard of its cache was used 64 times: until then it would
            // keep nearly all that is read, ten times what its cache is set to.
            for key in keys.iter().skip(LEAF_PIECES).step_by(LEAF_PIECES) {
                for _ in 0..SHARD_USES {
                    db.contains_key(key)?;
                }
            }
            pieces
        })
    }

    fn put(&self, pieces: Vec<Piece>) -> Result<(), ImageError> {
        let bytes = pieces.iter().map(|(_, piece)| piece.len()).sum();
        let mut writing = self.writing.lock();
        self.settle(&mut writing)?;
        self.require_room("put", bytes)?;
        let first = pieces.iter().map(|(id, _)| *id).min();
        // One by one: a `sled::Batch` writes no faster, deletes up to twice as slowly,
        // and buys an atomicity that nobody here needs.
        let done = self.writer.begin(move |db| {
            // Their places first, all of them: sled writes a leaf of more than sixteen
            // entries anew as two, and one that has changed ten times as a whole. So
            // leaves are cut while they hold nothing, and each piece is written once.
            // The empty neighbour makes leaves of half as many pieces: a leaf is read,
            // kept in memory, and written where a piece goes, as a whole.
            for (id, _) in &pieces {
                clock::give_way();
                for place in [&key(*id)[..], &neighbour(*id)] {
                    // A piece that is there stays until its successor takes its place.
                    let _ = db.compare_and_swap(place, None::<&[u8]>, Some(&[][..]))?;
                }
            }
            let mut given = 0;
            for (id, piece) in pieces {
                clock::give_way();
                given += piece.len();
                db.insert(key(id), piece)?;
                if given >= FLUSH_BYTES {
                    given = 0;
                    db.flush()?;
                }
            }
            db.flush().map(drop)
        });
        let done = done.map_err(|e| self.end(unanswered("put", e, self.deadline)))?;
        *writing = Some(Writing { done, first });
        Ok(())
    }

    fn delete(&self, ids: &[BlockId]) -> Result<(), ImageError> {
        for ids in ids.chunks(DELETE_BATCH) {
            self.require_room("delete", 0)?;
            let ids = ids.to_vec();
            self.ask(&self.writer, "delete", move |db| {
                ids.into_iter().try_for_each(|id| {
                    clock::give_way();
                    db.remove(neighbour(id))?;
                    db.remove(key(id)).map(drop)
                })
            })?;
        }
        self.usable("delete")
    }

    fn delete_from(&self, first: BlockId) -> Result<(), ImageError> {
        loop {
            let keys = self.ask(&self.writer, "delete", move |db| {
                let keys = db.range(key(first)..).keys().take(DELETE_BATCH);
                keys.collect::<sled::Result<Vec<_>>>()
            })?;
            let left = keys.len();
            if left == 0 {
                return Ok(());
            }
            self.require_room("delete", 0)?;
            self.ask(&self.writer, "delete", move |db| {
                keys.iter().try_for_each(|key| db.remove(key).map(drop))
            })?;
            if left < DELETE_BATCH {
                return Ok(());
            }
        }
    }

    fn sync(&self) -> Result<(), ImageError> {
        self.settle(&mut self.writing.lock())?;
        self.ask(&self.writer, "sync", |db| db.flush().map(drop))?;
        // Here, not in the lane: the kernel may take long without anything being wrong.
        let synced = files::sync_tree(&self.folder);
        synced.map_err(|e| self.end(io_error("sync", &self.folder, &e)))
    }

    fn bytes_on_disk(&self) -> Result<u64, ImageError> {
        self.usable("measure")?;
        files::bytes_in(&self.folder).map_err(|e| io_error("measure", &self.folder, &e))
    }

    fn close(&self) -> Result<(), ImageError> {
        let hung = {
            let mut ended = self.ended.lock();
            let (kind, _) =
                ended.get_or_insert_with(|| (ImageErrorKind::Io, "it is closed".to_owned()));
            *kind == ImageErrorKind::TimedOut
        };
        self.reader.close();
        self.writer.close();
        if hung {
            // Its threads are left behind, and nobody waits for their lock.
            return Ok(());
        }
        let unanswered = |e| unanswered("close", e, self.deadline);
        self.reader.join(self.deadline).map_err(unanswered)?;
        self.writer.join(self.deadline).map_err(unanswered)?;
        let free = files::wait_until_unlocked(&self.folder.join("db"), self.deadline);
        match free.map_err(|e| io_error("close", &self.folder, &e))? {
            true => Ok(()),
            false => Err(unanswered(NoAnswer::Late)),
        }
    }
}

/// Big-endian, so that numbers given in order are neighbours.
fn key(id: BlockId) -> [u8; 8] {
    id.get().to_be_bytes()
}

/// A key between that of a piece and the next one's, which has nothing but its place.
fn neighbour(id: BlockId) -> [u8; 9] {
    let mut place = [0; 9];
    place[..8].copy_from_slice(&key(id));
    place
}

fn kind_of(error: &sled::Error) -> ImageErrorKind {
    match error {
        sled::Error::Io(e) if e.to_string().contains("could not acquire lock") => {
            ImageErrorKind::TimedOut
        }
        // sled reads beyond the end of a cut file as such.
        sled::Error::Io(e) if e.kind() != io::ErrorKind::UnexpectedEof => ImageErrorKind::Io,
        _ => ImageErrorKind::Damaged,
    }
}

fn io_error(op: &'static str, folder: &Path, error: &io::Error) -> ImageError {
    ImageError::new(
        op,
        ImageErrorKind::Io,
        format!("{}: {error}", folder.display()),
    )
}

fn unanswered(op: &'static str, why: NoAnswer, deadline: Duration) -> ImageError {
    match why {
        NoAnswer::Late => {
            let reason = format!("no answer within {deadline:?}");
            ImageError::new(op, ImageErrorKind::TimedOut, reason)
        }
        NoAnswer::Panicked(message) => ImageError::new(
            op,
            ImageErrorKind::Damaged,
            format!("sled panicked: {message}"),
        ),
        NoAnswer::Closed => ImageError::new(op, ImageErrorKind::Io, "it is closed"),
    }
}

#[cfg(test)]
mod tests;
