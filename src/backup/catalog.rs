//! Owns the catalog: the file that makes a backup one. It names the files that it needs,
//! and what has to be in them.
//!
//! ```text
//! catalog := magic     8 bytes "EKBCATL\n"
//!            crc       u32  CRC32 of all that follows
//!            format    u32  1
//!            length    u32  of the file
//!            flags     u32  0
//!            store     16 bytes
//!            number    u64  the one in its name, from 1
//!            previous  u64  the backup that it goes on from; 0: none, it is a full one
//!            lsn       u64  it holds the state at this LSN
//!            time      u64  store time when it was taken
//!            epoch     u64  the opening of the store that took it
//!            last      u64  LSN of the last commit up to there; 0: not known
//!            hash      u64  what stands for that commit; 0 without one
//!            schema    u32  schema version of the state
//!            bases     u32  0 or 1
//!            logs      u32  how many archives, at most 1,000
//!            zeros     u32
//!            base * bases, log * logs
//! base    := number    u64  the backup that wrote it, and its name
//!            lsn       u64  it holds exactly the state at this LSN
//!            time      u64
//!            entries   u64
//!            live      u64  bytes of all keys and cells
//!            length    u64  of the file
//!            hash      u64  the one in its footer
//!            sections  u32
//!            zeros     u32
//! log     := number    u64  the backup that wrote it, and its name
//!            from      u64  behind the LSN of the base, or where the one before ends
//!            to        u64
//!            commits   u64
//!            last      u64  LSN of its last commit; `from` without one
//!            time      u64  of that commit; 0 without one
//!            length    u64  of the file
//!            hash      u64  the one in its footer
//! ```
//! Without a base the logs begin behind LSN 0. They leave nothing out: each begins where
//! the one before ends, and behind the last one up to `lsn` there was no commit.

use std::io;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::archive::ArchiveInfo;
use super::head;
use crate::engine::snapshot::SnapshotInfo;
use crate::error::{Error, Result};
use crate::ids::{Epoch, Lsn, OUT_OF_REACH, StoreId};
use crate::image::cursor::{Cursor, Malformed};
use crate::vfs::{Vfs, read_file};

/// A backup never needs more archives: the next one has a base of its own.
pub(crate) const LOGS_MAX: usize = 1_000;

const MAGIC: &[u8; 8] = b"EKBCATL\n";
const HEAD_BYTES: usize = 112;
const FILE_BYTES: usize = 64;
const BYTES_MAX: usize = HEAD_BYTES + FILE_BYTES * (1 + LOGS_MAX);

/// What one backup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub(crate) store: StoreId,
    pub(crate) number: u64,
    /// The backup that it goes on from; `None` for a full one.
    pub(crate) previous: Option<u64>,
    /// It holds the state at this LSN.
    pub(crate) lsn: Lsn,
    /// Store time when it was taken: no commit behind `lsn` has a lower one.
    pub(crate) time_micros: u64,
    pub(crate) epoch: Epoch,
    /// The last commit up to `lsn`, where it is known.
    pub(crate) last: Option<LastCommit>,
    pub(crate) schema: u32,
    pub(crate) base: Option<BaseFile>,
    pub(crate) logs: Vec<LogFile>,
}

/// Tells a commit from every other one: whoever has it has all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastCommit {
    pub(crate) lsn: Lsn,
    pub(crate) hash: u64,
}

/// The snapshot that a backup begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BaseFile {
    /// The backup that wrote it.
    pub(crate) number: u64,
    pub(crate) lsn: Lsn,
    pub(crate) time_micros: u64,
    pub(crate) entries: u64,
    pub(crate) live_bytes: u64,
    pub(crate) length: u64,
    pub(crate) hash: u64,
    pub(crate) sections: u32,
}

/// Archived commits that a backup needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogFile {
    /// The backup that wrote it.
    pub(crate) number: u64,
    /// It holds the commits behind this LSN,
    pub(crate) from: Lsn,
    /// up to this one.
    pub(crate) to: Lsn,
    pub(crate) commits: u64,
    /// The last of them; `from` where there is none.
    pub(crate) last: Lsn,
    /// Its store time; 0 where there is none.
    pub(crate) time_micros: u64,
    pub(crate) length: u64,
    pub(crate) hash: u64,
}

impl LastCommit {
    /// What stands for a commit of the log.
    pub(crate) fn of(lsn: Lsn, time_micros: u64, body: &[u8]) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&lsn.get().to_le_bytes());
        hash.update(&time_micros.to_le_bytes());
        hash.update(body);
        Self {
            lsn,
            hash: hash.digest(),
        }
    }
}

impl BaseFile {
    /// The snapshot that backup `number` wrote.
    pub(crate) fn new(number: u64, info: &SnapshotInfo) -> Self {
        Self {
            number,
            lsn: info.header.lsn,
            time_micros: info.header.time_micros,
            entries: info.entries,
            live_bytes: info.live_bytes,
            length: info.file_len,
            hash: info.hash,
            sections: info.sections,
        }
    }
}

impl LogFile {
    /// The archive that backup `number` wrote.
    pub(crate) fn new(number: u64, info: &ArchiveInfo) -> Self {
        Self {
            number,
            from: info.header.from,
            to: info.header.to,
            commits: info.commits,
            last: info.last,
            time_micros: info.time_micros,
            length: info.length,
            hash: info.hash,
        }
    }
}

impl Catalog {
    /// Where its files end: the next one goes on from there.
    pub(crate) fn end(&self) -> Lsn {
        let base = self.base.map_or(Lsn::ZERO, |base| base.lsn);
        self.logs.last().map_or(base, |log| log.to)
    }

    /// The bytes of the files that it needs, and of those among them that it wrote.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let base = self.base.iter().map(|base| (base.number, base.length));
        let logs = self.logs.iter().map(|log| (log.number, log.length));
        base.chain(logs)
            .fold((0, 0), |(needed, written), (number, bytes)| {
                let own = if number == self.number { bytes } else { 0 };
                (needed + bytes, written + own)
            })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let files = usize::from(self.base.is_some()) + self.logs.len();
        let length = HEAD_BYTES + FILE_BYTES * files;
        let mut bytes = head::begin(MAGIC, length);
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(self.store.as_bytes());
        let (last, hash) = self.last.map_or((0, 0), |last| (last.lsn.get(), last.hash));
        let numbers = [
            self.number,
            self.previous.unwrap_or(0),
            self.lsn.get(),
            self.time_micros,
            self.epoch.get(),
            last,
            hash,
        ];
        put_all(&mut bytes, &numbers);
        let counts = [u32::from(self.base.is_some()), self.logs.len() as u32, 0];
        for count in [self.schema].iter().chain(&counts) {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        if let Some(base) = &self.base {
            let (lsn, time) = (base.lsn.get(), base.time_micros);
            let (entries, live) = (base.entries, base.live_bytes);
            let sections = u64::from(base.sections);
            let file = [
                base.number,
                lsn,
                time,
                entries,
                live,
                base.length,
                base.hash,
                sections,
            ];
            put_all(&mut bytes, &file);
        }
        for log in &self.logs {
            let (from, to, last) = (log.from.get(), log.to.get(), log.last.get());
            let (commits, time) = (log.commits, log.time_micros);
            let file = [
                log.number, from, to, commits, last, time, log.length, log.hash,
            ];
            put_all(&mut bytes, &file);
        }
        head::seal(&mut bytes);
        bytes
    }

    /// Reads the catalog of backup `number`.
    ///
    /// # Errors
    /// [`Error::NewerFormat`], [`Error::Corrupt`] for one that is damaged or of another
    /// store, [`Error::Io`].
    pub(super) fn read(vfs: &dyn Vfs, path: &Path, store: StoreId, number: u64) -> Result<Self> {
        let bytes = read_file(vfs, path, BYTES_MAX as u64).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => head::damaged(path, BYTES_MAX as u64, e.to_string()),
            _ => Error::io("read", path, e),
        })?;
        let mut cursor = head::open(path, &bytes, MAGIC)?;
        let catalog = Self::decode(&mut cursor).map_err(head::malformed(path, 0))?;
        if catalog.store != store {
            let what = format!("it is of store {}, not of {store}", catalog.store);
            return Err(head::damaged(path, 24, what));
        }
        if catalog.number != number {
            let what = format!("it says that it is backup {}", catalog.number);
            return Err(head::damaged(path, 40, what));
        }
        match catalog.makes_sense() {
            true => Ok(catalog),
            false => Err(head::damaged(path, 0, "what it says makes no sense")),
        }
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        // The magic, the checksum and the format are behind the cursor.
        let total = cursor.at() + cursor.remaining();
        if cursor.size()? != total || cursor.u32()? != 0 {
            return Err(cursor.malformed("length or flags are unknown"));
        }
        let mut catalog = Self {
            store: StoreId::from_bytes(cursor.array()?),
            number: cursor.u64()?,
            previous: Some(cursor.u64()?).filter(|&number| number > 0),
            lsn: Lsn::new(cursor.u64()?),
            time_micros: cursor.u64()?,
            epoch: Epoch::new(cursor.u64()?),
            last: None,
            schema: 0,
            base: None,
            logs: Vec::new(),
        };
        let (lsn, hash) = (Lsn::new(cursor.u64()?), cursor.u64()?);
        catalog.last = (lsn > Lsn::ZERO).then_some(LastCommit { lsn, hash });
        catalog.schema = cursor.u32()?;
        let (bases, logs, zeros) = (cursor.size()?, cursor.size()?, cursor.u32()?);
        if bases > 1 || logs > LOGS_MAX || zeros != 0 {
            return Err(cursor.malformed("it names too many files"));
        }
        cursor.check_count(bases + logs, FILE_BYTES)?;
        for _ in 0..bases {
            catalog.base = Some(decode_base(cursor)?);
        }
        for _ in 0..logs {
            catalog.logs.push(decode_log(cursor)?);
        }
        match cursor.remaining() {
            0 => Ok(catalog),
            _ => Err(cursor.malformed("there is more than it names")),
        }
    }

    /// Whether its files follow each other and reach where it says.
    fn makes_sense(&self) -> bool {
        let mut at = self.base.map_or(Lsn::ZERO, |base| base.lsn);
        let mut written = self.base.map_or(1, |base| base.number);
        let mut whole = written >= 1;
        for log in &self.logs {
            whole &= log.from == at && log.from < log.to;
            whole &= log.number >= written && (log.from..=log.to).contains(&log.last);
            (at, written) = (log.to, log.number);
        }
        let known = self.last.is_none_or(|last| last.lsn <= self.lsn);
        let before = self.previous.is_none_or(|previous| previous < self.number);
        let numbers = written <= self.number && self.number < OUT_OF_REACH;
        let in_reach = self.lsn.is_in_reach() && self.epoch.is_in_reach();
        whole && known && before && numbers && in_reach && at <= self.lsn
    }
}

fn decode_base(cursor: &mut Cursor<'_>) -> Result<BaseFile, Malformed> {
    let base = BaseFile {
        number: cursor.u64()?,
        lsn: Lsn::new(cursor.u64()?),
        time_micros: cursor.u64()?,
        entries: cursor.u64()?,
        live_bytes: cursor.u64()?,
        length: cursor.u64()?,
        hash: cursor.u64()?,
        sections: cursor.u32()?,
    };
    match cursor.u32()? {
        0 => Ok(base),
        _ => Err(cursor.malformed("there should be zeros")),
    }
}

fn decode_log(cursor: &mut Cursor<'_>) -> Result<LogFile, Malformed> {
    Ok(LogFile {
        number: cursor.u64()?,
        from: Lsn::new(cursor.u64()?),
        to: Lsn::new(cursor.u64()?),
        commits: cursor.u64()?,
        last: Lsn::new(cursor.u64()?),
        time_micros: cursor.u64()?,
        length: cursor.u64()?,
        hash: cursor.u64()?,
    })
}

fn put_all(out: &mut Vec<u8>, numbers: &[u64]) {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
    out.extend(bytes);
}

#[cfg(test)]
mod tests;
