//! Owns rehearsing migrations: the same steps by the same code as in a real run, over the
//! real state, but staged in a store beside it.
//!
//! What must stay true: nothing is written to the real store.

mod measure;
mod scratch;

use std::sync::Arc;

use crate::clock;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::migrate::command::Migrations;
use crate::migrate::invariant::Invariant;
use crate::migrate::rehearsal::{
    Rehearsal, RehearsedInvariant, RehearsedMigration, Reverts, StateSize,
};
use crate::migrate::run::{Chain, Step, checking, is_failure};
use crate::state::MigrationStep;
use crate::state::schema::layers::Stack;
use crate::state::schema::record::Record;
use measure::Measure;
use scratch::Scratch;

impl Migrations {
    /// Runs what is pending on a copy of the state, and reports what a real run would do:
    /// what each migration changes, with samples; whether the
    /// [invariants](crate::Builder::invariant) would hold; and whether the way back, which
    /// it goes as well, brings back what was. A migration that fails is no error here but
    /// in the report: see [`Rehearsal::would_succeed`].
    ///
    /// The copy is only what the migrations write: it is staged in a store of its own
    /// beside the folder, `.NAME.rehearsal`, over the real state, which is read and not
    /// changed. That store is gone when this returns; what a kill left of it is removed by
    /// the next rehearsal, and when the store is opened. It takes as much room as the
    /// migrations write, there and back. The state is read through once for each migration
    /// and once more.
    ///
    /// Progress is told and may be stopped, as that of [`run`](Self::run). What a real
    /// run has staged before it was interrupted is left alone, and not looked at.
    ///
    /// # Errors
    /// [`Error::BrokenChain`], [`Error::Stopped`], [`Error::Io`], also where there is no
    /// room beside the folder, [`Error::Occupied`] where something else has the name.
    ///
    /// ```
    /// use evenkeel::{Store, Transforms};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state");
    /// let store = Store::open(&path)?;
    /// store.global().set("tries", 3)?;
    /// store.close()?;
    /// let migrations = Store::builder()
    ///     .migration(Transforms::to(2).rename("tries", "attempts"))
    ///     .migrations(&path)?;
    /// let rehearsal = migrations.rehearse()?;
    /// println!("{rehearsal}");
    /// assert!(rehearsal.would_succeed() && rehearsal.reverts.is_exact());
    /// assert_eq!((rehearsal.migrations[0].added, rehearsal.migrations[0].removed), (1, 1));
    /// // Nothing has happened yet.
    /// assert_eq!(migrations.version(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rehearse(&self) -> Result<Rehearsal> {
        let begun = clock::monotonic();
        self.store.shared.enter()?;
        let engine = &self.store.shared.engine;
        let from = self.version();
        let blank = self.registry.is_blank(engine)?;
        let pending = match blank {
            true => Vec::new(),
            false => self.registry.pending(from)?,
        };
        let to = pending.last().map_or(from, |last| last.version);
        let forward = pending.into_iter().map(|of| Step {
            of,
            reverted: false,
        });
        let forward: Vec<_> = forward.collect();
        let back = forward.iter().rev().cloned();
        let back = back.map(|step| Step {
            reverted: true,
            ..step
        });
        let steps: Vec<_> = forward.iter().cloned().chain(back).collect();
        let scratch = Scratch::beside(&self.store.shared)?;
        let rehearsing = Rehearsing {
            of: self,
            scratch: &scratch.engine,
            steps: &steps,
        };
        let mut record = rehearsing.chain(steps.len()).record((from, to));
        let mut rehearsal = Rehearsal {
            from,
            to,
            migrations: Vec::new(),
            failure: None,
            invariants: Vec::new(),
            reverts: Reverts::NotTried,
            before: StateSize::default(),
            after: StateSize::default(),
            time: std::time::Duration::ZERO,
        };
        match rehearsing.run(&mut record, &mut rehearsal) {
            Err(e) if is_failure(&e) => rehearsal.failure = Some(e),
            Err(Error::Stopped { .. }) => {
                return Err(Error::Stopped {
                    what: "the rehearsal",
                });
            }
            outcome => outcome?,
        }
        drop(scratch);
        rehearsal.time = clock::monotonic().duration_since(begun);
        Ok(rehearsal)
    }
}

/// A rehearsal that is running.
struct Rehearsing<'a> {
    of: &'a Migrations,
    scratch: &'a Arc<Engine>,
    /// There, and back again.
    steps: &'a [Step],
}

impl Rehearsing<'_> {
    /// The chain up to one of its steps.
    fn chain(&self, upto: usize) -> Chain<'_> {
        Chain {
            real: &self.of.store.shared,
            staged: self.scratch,
            steps: self.steps.get(..upto).unwrap_or(self.steps),
            watcher: &self.of.registry.watcher,
        }
    }

    fn measure<T>(
        &self,
        record: &Record,
        measure: impl FnOnce(Measure<'_>) -> Result<T>,
    ) -> Result<T> {
        let go_on = || self.of.registry.watcher.tell(|| checking(record));
        go_on()?;
        measure(Measure {
            real: &self.of.store.shared.engine,
            go_on: &go_on,
        })
    }

    /// Runs all of it.
    ///
    /// # Errors
    /// The failure of the migrations, or what ended the rehearsal.
    fn run(&self, record: &mut Record, rehearsal: &mut Rehearsal) -> Result<()> {
        let count = self.steps.len() / 2;
        let whole = self.chain(count);
        rehearsal.before = self.measure(record, |measure| measure.size(&whole.stack(record, 0)))?;
        rehearsal.after = rehearsal.before;
        for upto in 1..=count {
            let migration = self.step(upto, record, rehearsal.after)?;
            rehearsal.after = migration.after;
            rehearsal.migrations.push(migration);
        }
        if count > 0 {
            whole.check_limits(record)?;
        }
        let upto = u32::try_from(count).unwrap_or(u32::MAX);
        for invariant in &self.of.registry.invariants {
            self.of.registry.watcher.tell(|| checking(record))?;
            let stack = whole.stack(record, upto);
            let asked = self.ask(invariant, stack, rehearsal.to)?;
            rehearsal.invariants.push(asked);
        }
        if count > 0 {
            rehearsal.reverts = self.back(record)?;
        }
        Ok(())
    }

    /// Runs one migration, and looks at what it did.
    fn step(
        &self,
        upto: usize,
        record: &mut Record,
        before: StateSize,
    ) -> Result<RehearsedMigration> {
        let number = u32::try_from(upto).unwrap_or(u32::MAX);
        let chain = self.chain(upto);
        let begun = clock::monotonic();
        (record.step, record.at) = (number, None);
        chain.stage(record)?;
        let time = clock::monotonic().duration_since(begun);
        let lower = chain.stack(record, number - 1);
        let real = &self.of.store.shared.engine;
        let layer = Stack::new(real, self.scratch, [number]);
        let effect = self.measure(record, |measure| measure.effect(&lower, &layer))?;
        let upper = chain.stack(record, number);
        let after = self.measure(record, |measure| measure.size(&upper))?;
        let step = record.steps.get(upto - 1).cloned().unwrap_or_default();
        let description = self.steps.get(upto - 1).map(|step| &step.of.description);
        Ok(RehearsedMigration {
            step: MigrationStep::new(&step),
            description: description.cloned().unwrap_or_default(),
            added: effect.added,
            changed: effect.changed,
            removed: effect.removed,
            unchanged: before.keys.saturating_sub(effect.changed + effect.removed),
            before,
            after,
            staged_bytes: effect.staged_bytes,
            time,
            samples: effect.samples,
        })
    }

    fn ask(&self, invariant: &Invariant, stack: Stack, version: u32) -> Result<RehearsedInvariant> {
        Ok(RehearsedInvariant {
            name: invariant.name.clone(),
            broken: invariant.ask(&self.of.store.shared, stack, version)?,
        })
    }

    /// Goes back, and compares with what was.
    fn back(&self, record: &mut Record) -> Result<Reverts> {
        let whole = self.chain(self.steps.len());
        (record.step, record.at) = (record.step + 1, None);
        match whole.stage(record) {
            Err(e) if is_failure(&e) => return Ok(Reverts::Fails(e)),
            outcome => outcome?,
        }
        let stack = whole.stack(record, record.step);
        let (keys, first) = self.measure(record, |measure| measure.differences(&stack))?;
        Ok(match keys {
            0 => Reverts::Exactly,
            keys => Reverts::Differs { keys, first },
        })
    }
}
