//! Owns points in time: which backup has the state of one, and what there is where none
//! has.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::catalog::Catalog;
use super::folder::BackupFolder;
use crate::error::{Error, Result};
use crate::ids::Lsn;

/// Which state to restore: that after the last commit at or before the point.
///
/// ```
/// use evenkeel::{Lsn, RestorePoint};
/// use std::time::SystemTime;
/// assert_eq!(RestorePoint::default(), RestorePoint::Latest);
/// assert_eq!(RestorePoint::from(Lsn::new(7)), RestorePoint::Lsn(Lsn::new(7)));
/// let now = SystemTime::now();
/// assert_eq!(RestorePoint::from(now), RestorePoint::Time(now));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestorePoint {
    /// That of the newest backup.
    #[default]
    Latest,
    /// That at an LSN: of a commit ([`Commit::lsn`](crate::Commit::lsn)), of a version
    /// ([`Versioned`](crate::Versioned)), of a change that a watch told.
    Lsn(Lsn),
    /// That at a store time. A part of a microsecond does not count.
    Time(SystemTime),
    /// That of the backup with this number.
    Backup(u64),
}

impl From<Lsn> for RestorePoint {
    fn from(lsn: Lsn) -> Self {
        Self::Lsn(lsn)
    }
}

impl From<SystemTime> for RestorePoint {
    fn from(time: SystemTime) -> Self {
        Self::Time(time)
    }
}

impl fmt::Display for RestorePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("newest backup"),
            Self::Lsn(lsn) => write!(f, "state at LSN {lsn}"),
            Self::Time(time) => write!(f, "state at {}", Micros(micros(*time).unwrap_or(0))),
            Self::Backup(number) => write!(f, "backup {number}"),
        }
    }
}

/// A store time, for people who have a command that turns it into a date.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        write!(f, "{seconds}.{rest:06} seconds since 1970")
    }
}

/// Microseconds since 1970; none before.
fn micros(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok()
}

/// A backup, and how much of it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) catalog: Catalog,
    /// Commits up to this LSN,
    pub(super) lsn: Lsn,
    /// and up to this time, make the state.
    pub(super) until_micros: u64,
}

impl Found {
    fn whole(catalog: Catalog) -> Self {
        Self {
            lsn: catalog.lsn,
            until_micros: u64::MAX,
            catalog,
        }
    }
}

impl RestorePoint {
    /// The newest backup that has the state of this point.
    ///
    /// # Errors
    /// [`Error::NotInBackup`]; [`Error::Corrupt`] where a catalog that was looked at is
    /// damaged, [`Error::NewerFormat`], [`Error::Io`].
    pub(super) fn find(self, folder: &BackupFolder) -> Result<Found> {
        if let Self::Backup(number) = self {
            return folder.catalog(number).map(Found::whole);
        }
        let mut passed = Vec::new();
        for number in folder.numbers()?.into_iter().rev() {
            let catalog = folder.catalog(number)?;
            match self.within(&catalog) {
                Some((lsn, until_micros)) => {
                    return Ok(Found {
                        catalog,
                        lsn,
                        until_micros,
                    });
                }
                None => passed.push(catalog),
            }
        }
        Err(self.missing(folder, &passed))
    }

    /// Up to which LSN and time the commits of a backup make the state of this point, if
    /// it has that.
    fn within(self, catalog: &Catalog) -> Option<(Lsn, u64)> {
        let base = catalog.base.as_ref();
        match self {
            Self::Latest | Self::Backup(_) => Some((catalog.lsn, u64::MAX)),
            Self::Lsn(lsn) => {
                let first = base.map_or(Lsn::new(1), |base| base.lsn);
                (first <= lsn && lsn <= catalog.lsn).then_some((lsn, u64::MAX))
            }
            Self::Time(time) => {
                let micros = micros(time)?;
                let first = base.map_or(0, |base| base.time_micros);
                let within = first <= micros && micros <= catalog.time_micros;
                within.then_some((catalog.lsn, micros))
            }
        }
    }

    /// The error for a point that no backup has.
    fn missing(self, folder: &BackupFolder, catalogs: &[Catalog]) -> Error {
        let reason = match (self, catalogs) {
            (_, []) => "there is none".to_owned(),
            (Self::Time(_), all) => {
                let spans = all.iter().map(|catalog| {
                    let first = catalog.base.map_or(0, |base| base.time_micros);
                    (first, catalog.time_micros)
                });
                told(spans, |micros| Micros(micros).to_string())
            }
            (_, all) => {
                let spans = all.iter().map(|catalog| {
                    let first = catalog.base.map_or(1, |base| base.lsn.get());
                    (first, catalog.lsn.get())
                });
                told(spans, |lsn| format!("LSN {lsn}"))
            }
        };
        self.not_in(folder, reason)
    }

    pub(super) fn not_in(self, folder: &BackupFolder, reason: String) -> Error {
        Error::NotInBackup {
            path: folder.root().to_path_buf(),
            wanted: self.to_string(),
            reason,
        }
    }
}

/// What spans cover together, in order.
fn told(spans: impl Iterator<Item = (u64, u64)>, name: impl Fn(u64) -> String) -> String {
    let mut spans: Vec<_> = spans.collect();
    spans.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, last) in spans {
        match joined.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    let more = joined.len().saturating_sub(4);
    let spans = joined.iter().skip(more);
    let spans = spans.map(|&(first, last)| match first {
        0 => format!("up to {}", name(last)),
        first => format!("{} to {}", name(first), name(last)),
    });
    let before = if more > 0 { ", and earlier ones" } else { "" };
    format!(
        "they have {}{before}",
        spans.collect::<Vec<_>>().join(", and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_joined_and_the_oldest_left_out() {
        let name = |n: u64| n.to_string();
        let told = |spans: &[(u64, u64)]| told(spans.iter().copied(), name);
        assert_eq!(
            told(&[(5, 9), (0, 3), (2, 4)]),
            "they have up to 4, and 5 to 9"
        );
        assert_eq!(told(&[(7, 9), (3, 7)]), "they have 3 to 9");
        let many: Vec<_> = (1..=6).map(|n| (10 * n, 10 * n + 5)).collect();
        let last = "they have 30 to 35, and 40 to 45, and 50 to 55, and 60 to 65, and earlier ones";
        assert_eq!(told(&many), last);
    }

    #[test]
    fn points_are_told() {
        let time = UNIX_EPOCH + std::time::Duration::from_nanos(1_000_007_999);
        let told = RestorePoint::Time(time).to_string();
        assert_eq!(told, "state at 1.000007 seconds since 1970");
        assert_eq!(RestorePoint::Backup(3).to_string(), "backup 3");
        assert_eq!(
            RestorePoint::from(Lsn::new(7)).to_string(),
            "state at LSN 7"
        );
        assert_eq!(micros(UNIX_EPOCH - std::time::Duration::from_secs(1)), None);
    }
}
