//! Owns running a chain of migrations: step by step, scope by scope, each visit one
//! commit of what it staged and how far the chain is by that.
//!
//! What must stay true: what a step visits is decided by the state before it, and what it
//! has done by the record, so a chain that is interrupted anywhere visits what one that is
//! not visits, and no scope twice. Nothing of the real state is written before the last
//! step, the limits and the invariants are through.

use std::cell::RefCell;
use std::ops::Bound;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::clock;
use crate::codec::cell::has_expired;
use crate::engine::{Engine, Op};
use crate::error::{Error, Result};
use crate::migrate::call::{Call, Failure, State, Writes};
use crate::migrate::invariant::Invariant;
use crate::migrate::progress::{MigrationPhase, MigrationProgress, Watcher};
use crate::migrate::registry::Registered;
use crate::migrate::scope::MigrationScope;
use crate::migrate::visits::{Visit, Visits};
use crate::scope::Scope;
use crate::state::MigrationReport;
use crate::state::schema::apply;
use crate::state::schema::layers::{Stack, scope_len, scope_of, staged};
use crate::state::schema::record::{self, Bytes, Phase, Record, StepRecord};
use crate::state::store::{Shared, Store};
use crate::state::transaction::guarded;

/// A migration, and in which direction.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) of: Registered,
    pub(super) reverted: bool,
}

impl Step {
    /// A failure of this step.
    fn failed(&self, scope: &Scope, key: Option<String>, source: Error) -> Error {
        match source {
            // It says all that there is to say.
            Error::Irreversible { .. } => source,
            source => Error::MigrationFailed {
                version: self.of.version,
                name: self.of.name.clone(),
                scope: scope.to_string(),
                key,
                source: Box::new(source),
            },
        }
    }

    /// Asks the migration something, which may panic.
    fn ask<T>(&self, scope: &Scope, what: &str, ask: impl FnOnce() -> T) -> Result<T> {
        guarded(what, || Ok(ask())).map_err(|e| self.failed(scope, None, e))
    }
}

/// A chain, and where it reads and stages.
pub(super) struct Chain<'a> {
    /// Whose state it reads.
    pub(super) real: &'a Arc<Shared>,
    /// Where it stages: in the store itself, or beside it.
    pub(super) staged: &'a Arc<Engine>,
    pub(super) steps: &'a [Step],
    pub(super) watcher: &'a Watcher,
}

impl Chain<'_> {
    /// What tells this chain from another one.
    fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        for step in self.steps {
            let Registered {
                version,
                name,
                told,
                ..
            } = &step.of;
            let head = format!("{}/{version}/{}/", step.reverted, name.len());
            for part in [&head, name, told] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        hash.digest()
    }

    /// The record of a chain that has not begun.
    pub(super) fn record(&self, (from, to): (u32, u32)) -> Record {
        let step = |step: &Step| StepRecord {
            version: step.of.version,
            name: step.of.name.clone(),
            reverted: step.reverted,
            ..StepRecord::default()
        };
        Record {
            phase: Phase::Staging,
            fingerprint: self.fingerprint(),
            from,
            to,
            steps: self.steps.iter().map(step).collect(),
            step: 1,
            at: None,
        }
    }

    /// The state as the first steps left it.
    pub(super) fn stack(&self, record: &Record, upto: u32) -> Stack {
        Stack::new(&self.real.engine, self.staged, record.layers(upto))
    }

    /// Runs all steps that are not done yet, and stages what they write.
    pub(super) fn stage(&self, record: &mut Record) -> Result<()> {
        for (number, step) in (1..).zip(self.steps) {
            if number < record.step {
                continue;
            }
            if number > record.step {
                record.step = number;
                record.at = None;
            }
            self.stage_step(step, record)?;
        }
        Ok(())
    }

    fn stage_step(&self, step: &Step, record: &mut Record) -> Result<()> {
        let number = record.step;
        let before = self.stack(record, number - 1);
        let nowhere = Scope::Global;
        let stack = before.with(number);
        let migration = &*step.of.migration;
        let set = step.ask(&nowhere, "in the scopes of a migration", || {
            match step.reverted {
                false => migration.scopes(),
                true => migration.revert_scopes(),
            }
        })?;
        let budget = step.ask(&nowhere, "in the budget of a migration", || {
            migration.budget()
        })?;
        let mut total = 0;
        if self.watcher.watches() {
            let mut visits = Visits::new(&before, &set, None)?;
            while let Some(Visit { prefix, .. }) = visits.advance()? {
                total += u64::from(set.contains(&scope_of(&prefix)?));
            }
        }
        // One that goes on is not told once more: whoever stops it at what it is told first
        // would stop it for ever.
        if record.at.is_none() {
            self.watcher.tell(|| progress(record, total, None))?;
        }
        let after = record.at.as_ref().map(|Bytes(at)| at.as_slice());
        let mut visits = Visits::new(&before, &set, after)?;
        while let Some(Visit { prefix, named }) = visits.advance()? {
            let scope = scope_of(&prefix)?;
            let within = step.ask(&scope, "in the scopes of a migration", || {
                set.contains(&scope)
            });
            if !within? {
                continue;
            }
            // Before this step, and with what it has staged when it visited others.
            let is_live = |stack: &Stack| stack.is_live(&prefix, Writes::new());
            let wanted = named || is_live(&before)? && is_live(&stack)?;
            if !wanted {
                continue;
            }
            let begun = self.real.engine.now();
            let spent = record
                .steps
                .get(number as usize - 1)
                .map_or(0, |step| step.micros);
            let joins = step.ask(&scope, "in the joins of a migration", || {
                migration.joins(&scope)
            })?;
            let time = budget
                .time
                .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
            let call = Call {
                shared: Arc::clone(self.real),
                stack: stack.clone(),
                visited: scope.clone(),
                joins,
                budget,
                until: time.map(|time| begun.saturating_add(time.saturating_sub(spent))),
                state: RefCell::<State>::default(),
            };
            let writes = self.visit(step, call)?;
            let mut now = record.clone();
            if let Some(counts) = now.steps.get_mut(number as usize - 1) {
                counts.scopes += 1;
                let removed = writes.values().filter(|cell| cell.is_none()).count() as u64;
                counts.removed += removed;
                counts.written += writes.len() as u64 - removed;
                counts.micros += self.real.engine.now().saturating_sub(begun);
            }
            now.at = Some(Bytes(prefix));
            let ops = writes.into_iter().map(|(key, cell)| {
                let op = Op::Put(staged(&cell));
                (key.into(), op)
            });
            apply::stage(self.staged, ops.collect(), &now)?;
            *record = now;
            self.watcher.tell(|| progress(record, total, Some(scope)))?;
        }
        Ok(())
    }

    /// Calls the migration for one scope; gives what that wrote.
    fn visit(&self, step: &Step, call: Call) -> Result<Writes> {
        let scope = call.visited.clone();
        let mut state = MigrationScope::new(&call, scope.clone());
        let outcome = guarded("in a migration", || match step.reverted {
            false => step.of.migration.migrate(&mut state),
            true => step.of.migration.revert(&mut state),
        });
        call.finish(outcome).map_err(|failure| match *failure {
            Failure::OfTheStore(e) => e,
            Failure::OfTheMigration { touched, source } => {
                let (scope, key) = match touched {
                    Some((scope, key)) => (scope, Some(key)),
                    None => (scope, None),
                };
                step.failed(&scope, key, source)
            }
        })
    }

    /// Refuses what would leave a scope over its quota or the store's limits, and with
    /// more in it than before: what is applied is not judged any more.
    pub(super) fn check_limits(&self, record: &Record) -> Result<()> {
        let Some((step, count)) = self.steps.last().zip(u32::try_from(self.steps.len()).ok())
        else {
            return Ok(());
        };
        let stack = self.stack(record, count);
        let mut changes = stack.changes(Bound::Unbounded);
        let mut next = changes.advance()?;
        while let Some((key, _)) = &next {
            let prefix = key.get(..scope_len(key)?).unwrap_or_default().to_vec();
            // Without a look at what is replaced it may seem to grow by more than it does.
            let mut most = (0, 0);
            while let Some((key, cell)) = &next
                && key.starts_with(&prefix)
            {
                if let Some(cell) = cell {
                    most.0 += 1;
                    most.1 += size(key.len() - prefix.len(), cell);
                }
                next = changes.advance()?;
            }
            let engine = &self.real.engine;
            let slot = engine.slot(&prefix);
            if engine.refuse_growth(&slot, most).is_err() {
                let growth = self.growth(&stack, &prefix)?;
                let judged = engine.refuse_growth(&slot, growth);
                judged.map_err(|e| match scope_of(&prefix) {
                    Ok(scope) => step.failed(&scope, None, e),
                    Err(e) => e,
                })?;
            }
        }
        Ok(())
    }

    /// Refuses a state of which something does not hold that has to.
    fn check_invariants(&self, record: &Record, invariants: &[Invariant]) -> Result<()> {
        invariants.iter().try_for_each(|invariant| {
            // Each may take its time.
            self.watcher.tell(|| checking(record))?;
            let stack = self.stack(record, record.step);
            invariant.require(self.real, stack, record.to)
        })
    }

    /// By how many keys and bytes the layers make a scope larger.
    fn growth(&self, stack: &Stack, prefix: &[u8]) -> Result<(i64, i64)> {
        let now = self.real.engine.now();
        let mut growth = (0, 0);
        let mut changes = stack.changes(Bound::Included(prefix.to_vec()));
        while let Some((key, cell)) = changes.advance()?
            && let Some(key) = key.strip_prefix(prefix)
        {
            if let Some(old) = stack.find_real(prefix, key)? {
                growth.0 -= 1;
                growth.1 -= size(key.len(), &old);
            }
            if let Some(new) = cell.filter(|cell| !has_expired(cell, || now)) {
                growth.0 += 1;
                growth.1 += size(key.len(), &new);
            }
        }
        Ok(growth)
    }
}

/// The bytes that a key and its cell count as.
fn size(key_len: usize, cell: &[u8]) -> i64 {
    i64::try_from(key_len + cell.len()).unwrap_or(i64::MAX)
}

fn progress(record: &Record, total: u64, scope: Option<Scope>) -> MigrationProgress {
    let step = (record.step as usize).checked_sub(1);
    let step = step.and_then(|step| record.steps.get(step));
    let step = step.cloned().unwrap_or_default();
    MigrationProgress {
        phase: MigrationPhase::Staging,
        version: step.version,
        name: step.name,
        reverted: step.reverted,
        step: record.step,
        steps: u32::try_from(record.steps.len()).unwrap_or(u32::MAX),
        scope,
        scopes: step.scopes,
        scopes_total: total,
        written: step.written,
        removed: step.removed,
    }
}

/// How far a chain is whose steps have run.
pub(super) fn checking(record: &Record) -> MigrationProgress {
    let done = progress(record, 0, None);
    MigrationProgress {
        phase: MigrationPhase::Checking,
        scopes_total: done.scopes,
        ..done
    }
}

/// Brings the state of a store from one version to another by these steps: all of them or
/// none. Durable when it returns.
pub(super) fn run(
    store: &Store,
    steps: &[Step],
    (from, to): (u32, u32),
    (watcher, invariants): (&Watcher, &[Invariant]),
) -> Result<MigrationReport> {
    let begun = clock::monotonic();
    let shared = &store.shared;
    let engine = &shared.engine;
    let chain = Chain {
        real: shared,
        staged: engine,
        steps,
        watcher,
    };
    let mut record = chain.record((from, to));
    let mut resumed = false;
    if let Some(found) = record::read(engine)? {
        resumed = found.fingerprint == record.fingerprint
            && (found.from, found.to, found.steps.len()) == (from, to, steps.len());
        match resumed {
            true => record = found,
            false => apply::discard(engine, &found)?,
        }
    }
    let staged = chain
        .stage(&mut record)
        .and_then(|()| chain.check_limits(&record))
        .and_then(|()| chain.check_invariants(&record, invariants));
    if let Err(e) = staged {
        if is_failure(&e) {
            // Where even that fails, the next opening finds it.
            let _ = apply::discard(engine, &record);
        }
        return Err(e);
    }
    let record = apply::flip(engine, record)?;
    let mut report = MigrationReport::new(&record, resumed);
    let mut applying = progress(&record, 0, None);
    applying.phase = MigrationPhase::Applying;
    applying.version = to;
    apply::apply(engine, record, |written| {
        applying.written += written;
        watcher.tell(|| applying.clone())
    })?;
    report.time = clock::monotonic().duration_since(begun);
    Ok(report)
}

/// True for what the chain itself did wrong: what it has staged is of no use.
pub(super) fn is_failure(e: &Error) -> bool {
    matches!(
        e,
        Error::MigrationFailed { .. } | Error::Irreversible { .. } | Error::InvariantBroken { .. }
    )
}
