//! Owns running a program that uses a store: a closure that does its work, and what
//! must hold of the store whenever it is found again.
//!
//! What must stay true: what the closure witnessed is given to every invariant, and
//! nothing else is assumed of the closure. So one that tells of a promise too early
//! is found out, and so is one that makes two commits where it should make one.

use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::check::read_all;
use super::model::History;
use super::run::message;
use super::subject::{Done, PLACE, Recovered, Subject, Survives};
use super::workload::small;
use crate::clock::ManualClock;
use crate::error::Result;
use crate::state::{Builder, Store};
use crate::sync::Mutex;
use crate::testing::{ImageOn, Loss, SimDisk, pieces_on};
use crate::value::Value;

/// How a closure of a test ends.
pub(super) type Outcome = std::result::Result<(), Box<dyn StdError>>;

type Settings<'t> = dyn Fn(Builder) -> Builder + Send + Sync + 't;
type Work<'t> = dyn Fn(&CrashRun<'_>) -> Outcome + 't;
type Holds<'t> = dyn Fn(&AfterCrash<'_>) -> Outcome + 't;

/// A run of the program under test, up to its end or to the crash.
pub struct CrashRun<'t> {
    parts: &'t Parts<'t>,
    disk: SimDisk,
    clock: Arc<ManualClock>,
    past: Mutex<Past>,
}

/// What a run has come to.
#[derive(Default)]
pub(super) struct Past {
    store: Option<Store>,
    witnessed: Vec<(String, Value)>,
    done: Done,
}

impl CrashRun<'_> {
    /// The store, which is opened at the first call.
    ///
    /// # Errors
    /// Those of opening a store.
    pub fn store(&self) -> Result<Store> {
        let mut past = self.past.lock();
        if let Some(store) = &past.store {
            return Ok(store.clone());
        }
        let clock = Arc::clone(&self.clock);
        let store = self.parts.builder(&self.disk, clock).open(PLACE)?;
        past.store = Some(store.clone());
        Ok(store)
    }

    /// Closes the store, if it is open, and opens it again.
    ///
    /// # Errors
    /// Those of closing and opening.
    pub fn reopen(&self) -> Result<Store> {
        self.past.lock().close()?;
        self.store()
    }

    /// Notes what must be true from now on, whatever happens: that a commit was
    /// acknowledged, say. Each [`AfterCrash`] has all that was noted before the crash.
    pub fn witness(&self, name: impl Into<String>, value: impl Into<Value>) {
        let noted = (name.into(), value.into());
        self.past.lock().witnessed.push(noted);
    }

    /// Lets time go on.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

impl Past {
    fn close(&mut self) -> Result<()> {
        let Some(store) = self.store.take() else {
            return Ok(());
        };
        if let Ok(stats) = store.stats() {
            self.done.add(&stats);
        }
        store.close()
    }
}

/// A store that was recovered from a crash.
pub struct AfterCrash<'r> {
    store: &'r Store,
    witnessed: &'r [(String, Value)],
    survives: Survives,
}

impl AfterCrash<'_> {
    /// The store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        self.store
    }

    /// What was witnessed last under a name.
    #[must_use]
    pub fn witnessed(&self, name: &str) -> Option<&Value> {
        self.all_witnessed(name).last()
    }

    /// All that was witnessed under a name, in order.
    pub fn all_witnessed(&self, name: &str) -> impl Iterator<Item = &Value> {
        let named = move |(noted, value)| (noted == name).then_some(value);
        self.witnessed
            .iter()
            .map(|(noted, value)| (noted.as_str(), value))
            .filter_map(named)
    }

    /// True if the process was killed and no power was cut: what was committed with
    /// `Durability::Interval` is then there too.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.survives == Survives::Written
    }
}

/// A program under test.
pub(super) struct Program<'t> {
    name: String,
    work: Box<Work<'t>>,
    invariants: Vec<(String, Box<Holds<'t>>)>,
    parts: Parts<'t>,
    varies: bool,
}

/// What the test gives to the program's stores.
struct Parts<'t> {
    settings: Box<Settings<'t>>,
    image: ImageOn,
}

impl Parts<'_> {
    /// A store on a disk, with these parts and the driver's.
    fn builder(&self, disk: &SimDisk, clock: Arc<ManualClock>) -> Builder {
        let settings = (self.settings)(small(Store::builder()));
        disk.under(settings, self.image).clock(clock)
    }
}

impl<'t> Program<'t> {
    pub(super) fn new(name: String, work: Box<Work<'t>>) -> Self {
        Self {
            name,
            work,
            invariants: Vec::new(),
            parts: Parts {
                settings: Box::new(|builder| builder),
                image: pieces_on,
            },
            varies: false,
        }
    }

    pub(super) fn add_invariant(&mut self, name: String, holds: Box<Holds<'t>>) {
        self.invariants.push((name, holds));
    }

    pub(super) fn set_settings(&mut self, settings: Box<Settings<'t>>) {
        self.parts.settings = settings;
    }

    pub(super) fn set_image(&mut self, image: ImageOn) {
        self.parts.image = image;
    }

    pub(super) fn set_varies(&mut self) {
        self.varies = true;
    }

    pub(super) fn invariants(&self) -> impl Iterator<Item = &str> {
        self.invariants.iter().map(|(name, _)| name.as_str())
    }

    fn ask(&self, found: &AfterCrash<'_>) -> std::result::Result<(), String> {
        for (name, holds) in &self.invariants {
            match catch_unwind(AssertUnwindSafe(|| holds(found))) {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err(format!("it does not hold that {name}: {e}")),
                Err(panic) => {
                    let panic = message(&*panic);
                    return Err(format!("it does not hold that {name}: {panic}"));
                }
            }
        }
        Ok(())
    }
}

impl Subject for Program<'_> {
    type Run = Past;

    fn name(&self) -> &str {
        &self.name
    }

    fn repeats(&self) -> bool {
        !self.varies
    }

    fn run(
        &self,
        disk: &SimDisk,
        _tolerant: bool,
    ) -> std::result::Result<(Past, Option<String>), String> {
        let run = CrashRun {
            parts: &self.parts,
            disk: disk.clone(),
            clock: Arc::new(ManualClock::new(1_000_000)),
            past: Mutex::default(),
        };
        let worked = catch_unwind(AssertUnwindSafe(|| (self.work)(&run)));
        let mut past = std::mem::take(&mut *run.past.lock());
        let first = match worked {
            Ok(Ok(())) => past.close().err().map(|e| e.to_string()),
            Ok(Err(e)) => Some(e.to_string()),
            // A program may fall over an error: it is about to end.
            Err(panic) => Some(format!("it panics: {}", message(&*panic))),
        };
        Ok((past, first))
    }

    fn done(&self, run: &Past) -> Done {
        run.done
    }

    fn end(&self, run: &mut Past) {
        run.store = None;
    }

    fn after_fault(&self, run: &mut Past) -> std::result::Result<(), String> {
        self.end(run);
        Ok(())
    }

    fn open(&self, disk: &SimDisk) -> Result<Store> {
        // The clock is behind that of the run, which must not matter.
        let clock = Arc::new(ManualClock::new(500_000));
        self.parts.builder(disk, clock).open(PLACE)
    }

    fn judge(
        &self,
        image: &SimDisk,
        run: &Past,
        survives: Survives,
        _dice: u64,
    ) -> std::result::Result<Recovered, String> {
        let disk = image.crash(Loss::Nothing);
        let opened = self.open(&disk);
        let store = opened.map_err(|e| format!("the store does not open: {e}"))?;
        let mut recovered = Recovered {
            operations: disk.operations(),
            reads: disk.reads(),
            openings: 2,
            ..Recovered::default()
        };
        let verification = store.verify().map_err(|e| format!("verify fails: {e}"))?;
        if !verification.is_clean() {
            return Err(format!("verify finds {:?}", verification.damage));
        }
        let found = read_all(&store, &History::default())?;
        recovered.state = Some(xxh3_64(format!("{found:?}").as_bytes()));
        if let Ok(stats) = store.stats() {
            recovered.done.add(&stats);
        }
        // What was read once is durable: the next power cut takes none of it.
        let again = self.open(&disk.crash(Loss::Everything));
        let again = again.map_err(|e| format!("the store does not open a second time: {e}"))?;
        if read_all(&again, &History::default())? != found {
            return Err("the store holds something else when opened a second time".into());
        }
        // Last, since what is asked may go on with the work that it finds.
        self.ask(&AfterCrash {
            store: &store,
            witnessed: &run.witnessed,
            survives,
        })?;
        Ok(recovered)
    }
}
