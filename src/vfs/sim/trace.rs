//! Owns the description of a call to a simulated disk, for the report of a failure.

use std::fmt;
use std::path::PathBuf;

/// One call, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number among the operations, or, for what changes nothing, among the
    /// reads. From 1.
    pub ordinal: u64,
    /// What was called.
    pub kind: OperationKind,
    /// The path; that under which it was opened, for a call on an open file.
    pub path: PathBuf,
    /// The new path of a rename.
    pub to: Option<PathBuf>,
    /// The offset of a read or write.
    pub offset: Option<u64>,
    /// How many bytes were to be read or written, or the length that was set.
    pub len: Option<u64>,
}

/// Which call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OperationKind {
    /// A file was created.
    Create,
    /// `write_at`
    Write,
    /// `set_len`
    SetLen,
    /// `sync` of a file.
    Sync,
    /// `create_dir`
    CreateDir,
    /// `rename`
    Rename,
    /// `remove_file`
    RemoveFile,
    /// `remove_dir_all`
    RemoveDirAll,
    /// `sync_dir`
    SyncDir,
    /// `lock` on a file that was not there.
    CreateLock,
    /// `lock` on a file that was there.
    Lock,
    /// An existing file was opened.
    Open,
    /// `read_at`
    Read,
    /// `len`
    Len,
    /// `read_dir`
    ReadDir,
    /// `metadata`
    Metadata,
}

impl OperationKind {
    /// True for a call that changes nothing: it is counted as a read.
    #[must_use]
    pub const fn is_read(self) -> bool {
        matches!(
            self,
            Self::Lock | Self::Open | Self::Read | Self::Len | Self::ReadDir | Self::Metadata
        )
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::SetLen => "set length of",
            Self::Sync => "sync",
            Self::CreateDir => "create folder",
            Self::Rename => "rename",
            Self::RemoveFile => "remove",
            Self::RemoveDirAll => "remove folder",
            Self::SyncDir => "sync folder",
            Self::CreateLock => "create and lock",
            Self::Lock => "lock",
            Self::Open => "open",
            Self::Read => "read",
            Self::Len => "length of",
            Self::ReadDir => "list",
            Self::Metadata => "look at",
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = if self.kind.is_read() {
            "read"
        } else {
            "operation"
        };
        write!(
            f,
            "{count} {}: {} {}",
            self.ordinal,
            self.kind,
            self.path.display()
        )?;
        if let Some(to) = &self.to {
            write!(f, " to {}", to.display())?;
        }
        if let Some(len) = self.len {
            write!(f, ", {len} bytes")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " at {offset}")?;
        }
        Ok(())
    }
}
