//! Owns the place of a watch: it steps through what is durable, in the log or in the
//! notes of [`feed`](super::feed), and waits where there is no more.

use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use super::body::schema_of;
use super::feed::{RawCommit, Step, Values, Wanted, read_changes};
use super::{Disk, Engine};
use crate::error::{Corruption, Error, Result};
use crate::ids::{Lsn, StoreId};
use crate::observe;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::wal::{LogPlace, Passed, Seat};

/// The place of a watch. It keeps the engine in memory, and does not keep it open.
#[derive(Debug)]
pub(crate) struct Tap {
    engine: Arc<Engine>,
    place: Place,
    values: Values,
    /// [`Tap::reached`] as others see it.
    told: Arc<AtomicU64>,
    seat: Seat,
}

#[derive(Debug)]
enum Place {
    Log(LogPlace),
    /// Behind this LSN, in the notes.
    Notes(Lsn),
}

impl Place {
    fn reached(&self) -> Lsn {
        match self {
            Self::Log(place) => place.reached(),
            Self::Notes(at) => *at,
        }
    }
}

impl Engine {
    /// A place from which commits are read: behind `from`, or behind what is durable
    /// now.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an LSN that was never given.
    pub(crate) fn tap(self: &Arc<Self>, from: Option<Lsn>, values: Values) -> Result<Tap> {
        self.check()?;
        let mut tap = {
            let sequencer = self.sequencer.lock();
            let last = sequencer.last;
            if let Some(from) = from.filter(|&from| from > last) {
                return Err(Error::Invalid {
                    what: "LSN",
                    reason: format!(
                        "{from} was never given by this store, whose last one is {last}"
                    ),
                });
            }
            let place = match &self.disk {
                None => Place::Notes(from.unwrap_or(last)),
                Some(disk) => Place::Log(LogPlace::behind(from.unwrap_or(disk.log.durable()))),
            };
            let told = Arc::new(AtomicU64::new(place.reached().get()));
            self.feed
                .enter(&told, self.disk.is_none() || values.old, values, last);
            Tap {
                engine: Arc::clone(self),
                place,
                values,
                told,
                seat: Seat::default(),
            }
        };
        if let Some(disk) = &self.disk
            && from.is_none()
        {
            tap.place = Place::Log(disk.log.end_place()?);
            tap.tell();
        }
        Ok(tap)
    }
}

impl Tap {
    /// The store that it is of.
    pub(crate) fn store(&self) -> StoreId {
        self.engine.store
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Everything up to here was passed.
    pub(crate) fn reached(&self) -> Lsn {
        self.place.reached()
    }

    fn tell(&self) {
        self.told.store(self.reached().get(), Ordering::Relaxed);
    }

    /// Passes the next commit that is durable.
    ///
    /// # Errors
    /// [`Error::Trimmed`] and [`Error::Lagged`], after which it can go on;
    /// [`Error::Closed`], [`Error::Poisoned`], [`Error::Corrupt`], [`Error::Io`].
    pub(crate) fn step(&mut self, wanted: Wanted<'_>) -> Result<Step> {
        let engine = Arc::clone(&self.engine);
        if engine.is_closed() {
            return Err(Error::Closed);
        }
        let before = self.reached();
        let step = match (&mut self.place, &engine.disk) {
            (Place::Log(place), Some(disk)) => log_step(disk, place, self.values, wanted),
            (Place::Notes(at), _) => engine.feed.step(at, self.values, wanted),
            (Place::Log(_), None) => Ok(Step::End),
        };
        self.tell();
        match step {
            Ok(Step::Commit(mut commit)) => {
                engine.figures.change_sets.increment();
                if self.values.old {
                    engine.fill_old(&mut commit);
                }
                Ok(Step::Commit(commit))
            }
            Ok(Step::End) => engine.check().map(|()| Step::End),
            Ok(Step::Passed) => Ok(Step::Passed),
            // The files may be another opening's by now.
            Err(_) if engine.is_closed() => Err(Error::Closed),
            Err(e) => {
                if let Error::Trimmed { scan_from, .. } | Error::Lagged { scan_from, .. } = e {
                    engine.figures.lagged.increment();
                    observe::missed(engine.path(), before, scan_from);
                }
                Err(e)
            }
        }
    }

    /// Waits until a step comes to more than the end. False where the deadline came
    /// first.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        let over = || self.engine.is_closed();
        match (&self.place, &self.engine.disk) {
            (Place::Log(place), Some(disk)) => {
                disk.log.wait_behind(place.reached(), deadline, over)
            }
            _ => self.engine.feed.wait_behind(self.reached(), deadline, over),
        }
    }

    /// The same for a task: true where there is nothing to wait for, else it is woken.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> bool {
        let over = || self.engine.is_closed();
        let (reached, seat) = (self.reached(), &mut self.seat);
        match (&self.place, &self.engine.disk) {
            (Place::Log(_), Some(disk)) => disk.log.poll_behind(reached, seat, context, over),
            _ => self.engine.feed.poll_behind(reached, seat, context, over),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let needs_notes = self.engine.disk.is_none() || self.values.old;
        self.engine.feed.leave(&self.told, needs_notes, self.values);
        match (&self.place, &self.engine.disk) {
            (Place::Log(_), Some(disk)) => disk.log.leave(&mut self.seat),
            _ => self.engine.feed.stand_up(&mut self.seat),
        }
    }
}

fn log_step(disk: &Disk, place: &mut LogPlace, values: Values, wanted: Wanted<'_>) -> Result<Step> {
    let path = disk.folder.root();
    let passed = disk.log.pass(place, |lsn, time_micros, body| {
        let changes = read_changes(body, values, wanted);
        let changes = changes.map_err(|what| Corruption::new(path, what).lsn(lsn))?;
        Ok(RawCommit {
            lsn,
            time_micros,
            schema: schema_of(body).unwrap_or_default(),
            changes,
        })
    })?;
    Ok(match passed {
        Passed::Commit(commit) if !commit.changes.is_empty() => Step::Commit(commit),
        Passed::Commit(_) | Passed::Other => Step::Passed,
        Passed::End => Step::End,
    })
}
