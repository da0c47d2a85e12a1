//! Owns computing what a cache does not have: once, however many ask for it.

use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cache;
use super::kept::{Kept, count};
use crate::codec::cell::deadline;
use crate::engine::Cell;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::state::flight::{Flight, Place, Turn};
use crate::state::transaction::message_of;

/// What a computation came to, for those who waited.
type Computed = (Lsn, Cell);

/// Who has the value.
enum Asked<'f> {
    There(Computed),
    Mine(Flight<'f>),
}

impl Cache {
    /// The value of an entry; where there is none, what the closure gives, inserted as
    /// [`insert`](Self::insert) does it.
    ///
    /// Of those who ask for the same key at once one computes; the others wait and get
    /// its value from the store's own form, even if it was evicted meanwhile. Where the
    /// closure panics, or what it gives cannot be stored, that one gets the error, and
    /// the next one computes. No lock is held meanwhile: the closure may use the store,
    /// this cache and others. Where the key was inserted while it ran, what is there
    /// stays, and is returned.
    ///
    /// # Errors
    /// [`Error::Panicked`] where the closure panics; [`Error::Invalid`] where it needs
    /// what it computes, by itself or through another closure or the factory of a
    /// resource, whose thread it would wait for; as [`get`](Self::get) and
    /// [`insert`](Self::insert).
    ///
    /// ```
    /// let squares = evenkeel::Store::in_memory().global().cache("squares");
    /// assert_eq!(squares.get_or_insert_with("12", || 144)?, 144);
    /// assert_eq!(squares.get_or_insert_with("12", || 0)?, 144); // it is there
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn get_or_insert_with<T: Serialize + DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        make: impl FnOnce() -> T,
    ) -> Result<T> {
        self.try_get_or_insert_with(key, || Ok::<T, Error>(make()))
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), with a closure that may fail,
    /// with an error of any kind. Then nothing is inserted, and the next one who asks
    /// computes.
    ///
    /// # Errors
    /// As there; what the closure fails with: an [`Error`] as it is, any other in
    /// [`Error::ComputeFailed`].
    ///
    /// ```
    /// use evenkeel::Error;
    /// let cache = evenkeel::Store::in_memory().global().cache("numbers");
    /// let parse = |text: &str| cache.try_get_or_insert_with(text, || text.parse::<i64>());
    /// assert_eq!(parse("12")?, 12);
    /// assert!(matches!(parse("twelve"), Err(Error::ComputeFailed { .. })));
    /// assert_eq!(cache.len()?, 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_get_or_insert_with<T, E>(
        &self,
        key: impl AsRef<str>,
        make: impl FnOnce() -> std::result::Result<T, E>,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (kept, key) = (self.enter()?, key.as_ref());
        self.check_key(key)?;
        let flight = match self.ask(kept, key)? {
            Asked::There((lsn, cell)) => {
                kept.used(key, lsn.into(), deadline(&cell));
                return self.decode(key, &cell);
            }
            Asked::Mine(flight) => flight,
        };
        count(&kept.misses, 1);
        let value = self.run(key, make)?;
        let cell = self.encode(kept, &value)?;
        let begun = self.scope.begin();
        let (value, computed) = {
            let _writing = kept.writing.lock();
            match self.find(kept, key)? {
                Some(there) => (self.decode(key, &there.1)?, there),
                None => {
                    let lsn = self.write(kept, key, Arc::clone(&cell))?;
                    (value, (lsn, Cell::Memory(cell)))
                }
            }
        };
        let lsn = computed.0;
        flight.land(Arc::new(computed));
        self.scope.acknowledge(lsn, begun)?;
        Ok(value)
    }

    /// The value of a key, after a wait where somebody computes it, or the right to
    /// compute it.
    fn ask(&self, kept: &Kept, key: &str) -> Result<Asked<'_>> {
        let flights = &self.scope.shared().flights;
        loop {
            if let Some(there) = self.find(kept, key)? {
                return Ok(Asked::There(there));
            }
            match flights.begin(Place::Cached(kept.number, key.into()))? {
                Turn::Mine(flight) => {
                    // It may have been inserted since the first look.
                    let there = self.find(kept, key)?;
                    return Ok(there.map_or(Asked::Mine(flight), Asked::There));
                }
                Turn::Ended(made) => {
                    let computed = made.and_then(|made| made.downcast::<Computed>().ok());
                    if let Some(computed) = computed {
                        let (lsn, cell) = &*computed;
                        // Durable to him who waited as to him who computed.
                        self.scope.acknowledge(*lsn, None)?;
                        return Ok(Asked::There((*lsn, cell.clone())));
                    }
                }
                Turn::Circle => {
                    return Err(Error::Invalid {
                        what: "computation",
                        reason: format!(
                            "that of key {key:?} in {self} needs what it computes, by itself or through another one"
                        ),
                    });
                }
            }
        }
    }

    fn run<T, E: Into<Box<dyn StdError + Send + Sync>>>(
        &self,
        key: &str,
        make: impl FnOnce() -> std::result::Result<T, E>,
    ) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(make)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => Err(match e.into().downcast::<Error>() {
                Ok(own) => *own,
                Err(source) => Error::ComputeFailed {
                    cache: self.to_string(),
                    key: key.to_owned(),
                    source,
                },
            }),
            Err(panic) => Err(Error::Panicked {
                message: format!(
                    "in the computation of key {key:?} in {self}: {}",
                    message_of(&*panic)
                ),
            }),
        }
    }
}
