//! Owns reading lines for an import, from a file or from what a reader gave.
//!
//! What must stay true: no more of a line is held than a line may have.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::CodecLimits;
use crate::error::{Error, Result};
use crate::state::import::Import;
use crate::state::import::bulk::Prepared;
use crate::state::import::entry::{Cause, ImportEntry};
use crate::state::import::line::Fault;
use crate::state::import::record::Mark;
use crate::state::import::run::{Item, Source};
use crate::state::options::Limits;
use crate::state::store::Shared;
use crate::state::transaction::guarded;
use crate::vfs::{OpenMode, RealVfs, Vfs, VfsFile};

const BUFFER_BYTES: usize = 64 * 1024;
/// What some programs put before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The longest line, unless something else is said: every value fits, as hexadecimal
/// digits if not otherwise.
pub(in crate::state) fn line_bytes_max(limits: &Limits) -> usize {
    2 * limits.value_bytes + 1024 * 1024
}

/// The lines of a file as a source, each made into an entry by `read`.
pub(super) struct Lines<R> {
    shared: Arc<Shared>,
    file: Box<dyn VfsFile>,
    path: PathBuf,
    len: u64,
    read: R,
    /// What was read of the file, and not taken yet from `next` on.
    buffer: Vec<u8>,
    next: usize,
    /// The line that was read last, without what is beyond `line_bytes`.
    line: Vec<u8>,
    is_too_long: bool,
    line_bytes: usize,
    mark: Mark,
}

impl<R> Lines<R> {
    /// The lines of a file. It is the machine's, whatever the store is on.
    pub(super) fn of_file(import: &Import<'_>, path: &Path, read: R) -> Result<Self> {
        let refused = |kind: ErrorKind| Error::io("import", path, kind.into());
        let found = RealVfs.metadata(path);
        let found = found.map_err(|e| Error::io("import", path, e))?;
        let found = found.ok_or_else(|| refused(ErrorKind::NotFound))?;
        if found.is_dir {
            return Err(refused(ErrorKind::IsADirectory));
        }
        let file = RealVfs.open(path, OpenMode::Read);
        let file = file.map_err(|e| Error::io("import", path, e))?;
        Self::of(import, file, path, read)
    }

    /// The lines of what a reader gives, which is copied to a file without a name.
    pub(super) fn of_reader(import: &Import<'_>, reader: impl Read, read: R) -> Result<Self> {
        let folder = import.temporary.clone();
        let folder = folder.unwrap_or_else(std::env::temp_dir);
        let failed = |op, e| Error::io(op, &folder, e);
        let mut copy = tempfile::NamedTempFile::with_prefix_in("evenkeel-import-", &folder)
            .map_err(|e| failed("make a temporary file in", e))?;
        let file = RealVfs.open(copy.path(), OpenMode::Read);
        let file = file.map_err(|e| failed("open a temporary file in", e))?;
        guarded("in the reader of an import", || {
            copy_all(reader, |bytes| {
                let written = copy.write_all(bytes);
                written.map_err(|e| failed("write a temporary file in", e))
            })
        })?;
        // Its name goes here, the file with the last who has it open.
        drop(copy);
        Self::of(import, file, Path::new("the reader's lines"), read)
    }

    fn of(import: &Import<'_>, file: Box<dyn VfsFile>, path: &Path, read: R) -> Result<Self> {
        let shared = Arc::clone(&import.store.shared);
        let default = || line_bytes_max(&shared.settings.limits);
        Ok(Self {
            len: file.len().map_err(|e| Error::io("import", path, e))?,
            line_bytes: import.line_bytes.unwrap_or_else(default),
            shared,
            file,
            path: path.to_path_buf(),
            read,
            buffer: Vec::new(),
            next: 0,
            line: Vec::new(),
            is_too_long: false,
            mark: Mark::default(),
        })
    }

    /// Reads on in the file. False at its end.
    fn fill(&mut self) -> Result<bool> {
        if self.next < self.buffer.len() {
            return Ok(true);
        }
        self.buffer.resize(BUFFER_BYTES, 0);
        self.next = 0;
        // All that was in the buffer has been taken.
        let read = self.file.read_at(&mut self.buffer, self.mark.bytes);
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        read.map_err(|e| Error::io("import", &self.path, e))?;
        Ok(!self.buffer.is_empty())
    }

    /// Reads the next line. False at the end of the file.
    fn read_line(&mut self) -> Result<bool> {
        self.line.clear();
        self.is_too_long = false;
        let mut ended = false;
        let start = self.mark.bytes;
        while !ended && self.fill()? {
            let rest = self.buffer.get(self.next..).unwrap_or_default();
            let end = rest.iter().position(|byte| *byte == b'\n');
            ended = end.is_some();
            let part = rest.get(..end.map_or(rest.len(), |end| end + 1));
            let part = part.unwrap_or_default();
            self.mark.take(part);
            self.next += part.len();
            // The end of a line may be of two bytes, and is none of it.
            let room = (self.line_bytes + 2).saturating_sub(self.line.len());
            self.is_too_long |= part.len() > room;
            let kept = part.get(..room.min(part.len()));
            self.line.extend_from_slice(kept.unwrap_or_default());
        }
        let any = self.mark.bytes > start;
        self.mark.items += u64::from(any);
        Ok(any)
    }
}

/// What a reader gives, part by part.
fn copy_all(mut reader: impl Read, mut to: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to(buffer.get(..count).unwrap_or_default())?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read from", "the reader of an import", e)),
        }
    }
}

/// What a line becomes.
fn item(
    line: &[u8],
    shared: &Shared,
    mut read: impl FnMut(&[u8], &CodecLimits) -> Result<Option<ImportEntry>, Fault>,
) -> Result<Item, Fault> {
    if line.is_empty() {
        return Ok(Item::Empty);
    }
    let Some(entry) = read(line, &shared.settings.limits.codec())? else {
        return Ok(Item::Skipped);
    };
    let prepared = Prepared::of(shared, &entry).map_err(Cause::from)?;
    Ok(Item::Entry(prepared))
}

impl<R> Source for Lines<R>
where
    R: FnMut(&[u8], &CodecLimits) -> Result<Option<ImportEntry>, Fault>,
{
    fn kind(&self) -> &'static str {
        "lines"
    }

    fn bytes_total(&self) -> Option<u64> {
        Some(self.len)
    }

    fn next(&mut self) -> Result<Option<Item>> {
        if !self.read_line()? {
            return Ok(None);
        }
        let line = self.line.trim_ascii_end();
        let line = match self.mark.items {
            1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
            _ => line,
        };
        // Not the start of the text, but that of the line is where columns are counted.
        let text = line.trim_ascii_start();
        let column = (self.line.trim_ascii_end().len() - text.len()) as u64;
        let outcome = match self.is_too_long || text.len() > self.line_bytes {
            true => Err(Fault {
                column: self.line_bytes as u64 + 1,
                cause: format!("the line has more than {} bytes", self.line_bytes).into(),
            }),
            false => item(text, &self.shared, &mut self.read),
        };
        Ok(Some(outcome.unwrap_or_else(|fault| Item::Malformed {
            column: match fault.column {
                0 => 0,
                within => within + column,
            },
            cause: fault.cause,
        })))
    }

    fn pass(&mut self) -> Result<bool> {
        self.read_line()
    }

    fn mark(&self) -> &Mark {
        &self.mark
    }

    fn place(&self, column: u64) -> String {
        let at = format!("{}, line {}", self.path.display(), self.mark.items);
        match column {
            0 => at,
            column => format!("{at}, column {column}"),
        }
    }

    fn can_go_back(&self) -> bool {
        true
    }

    fn go_back(&mut self, to: Mark) {
        self.mark = to;
        self.buffer.clear();
        self.next = 0;
    }
}
