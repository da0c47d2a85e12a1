//! Owns running steps over a store while the model is kept: which commits were
//! made, with which LSN, and which of them were acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::check;
use super::model::{Change, History};
use super::subject::{Done, PLACE, Recovered, Subject, Survives};
use super::workload::{Step, Workload, Write};
use crate::clock::ManualClock;
use crate::error::{Error, Result};
use crate::ids::{Lsn, Version};
use crate::scope::Scope;
use crate::state::{Builder, Commit, Durability, ScopeHandle, Store, TransactionScope};
use crate::testing::{Fault, SimDisk};

/// So late that it never comes: a commit that is synced only if somebody asks.
const NEVER: Durability = Durability::Interval(Duration::from_secs(1_000_000));

/// Why a step did not do what it should.
pub(super) enum Halt {
    /// The store gave an error, which may be as it should.
    Refused(Error),
    /// The store did something wrong.
    Wrong(String),
}

impl From<Error> for Halt {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

/// A workload on its way.
pub(super) struct Session<'a> {
    pub(super) workload: &'a Workload,
    pub(super) disk: SimDisk,
    pub(super) history: History,
    pub(super) store: Option<Store>,
    pub(super) done: Done,
    clock: Arc<ManualClock>,
    submitted: Option<(Commit, usize)>,
}

/// How a commit is made and waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Sync,
    Written,
    Transact,
    Submit,
}

/// A store on a disk, with the driver's parts and the workload's sizes.
pub(super) fn builder(workload: &Workload, disk: &SimDisk, clock: Arc<ManualClock>) -> Builder {
    disk.under((workload.settings)(Store::builder()), workload.image)
        .clock(clock)
}

impl<'a> Session<'a> {
    pub(super) fn new(workload: &'a Workload, disk: SimDisk) -> Self {
        Self {
            workload,
            disk,
            history: History::default(),
            store: None,
            done: Done::default(),
            clock: Arc::new(ManualClock::new(1_000_000)),
            submitted: None,
        }
    }

    /// A session that goes on with a store that was recovered.
    pub(super) fn resume(
        workload: &'a Workload,
        disk: SimDisk,
        store: Store,
        history: History,
    ) -> Self {
        Self {
            history,
            store: Some(store),
            ..Self::new(workload, disk)
        }
    }

    fn builder(&self) -> Builder {
        builder(self.workload, &self.disk, Arc::clone(&self.clock))
    }

    /// The store, opened if it is not open.
    fn open(&mut self) -> Result<Store> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let store = match self.workload.persists() && self.history.len() == 0 {
            true => self.builder().in_memory()?,
            false => self.builder().open(PLACE)?,
        };
        self.store = Some(store.clone());
        Ok(store)
    }

    /// Runs all steps and closes the store. Ends at the first error of the store,
    /// which is then given, or, if `tolerant`, goes on as long as it can.
    pub(super) fn run(&mut self, tolerant: bool) -> Result<Option<Error>, String> {
        let mut first = None;
        if let Err(e) = self.open() {
            first = Some(e);
        }
        for step in &self.workload.steps {
            if first.is_some() && !tolerant {
                break;
            }
            match self.step(step) {
                Ok(()) => {}
                Err(Halt::Wrong(what)) => return Err(format!("{what}, in {step:?}")),
                Err(Halt::Refused(e)) => {
                    // A store that is still in memory is not the one to look at.
                    let over = matches!(e, Error::Poisoned { .. }) || *step == Step::Persist;
                    first.get_or_insert(e);
                    if over {
                        break;
                    }
                }
            }
        }
        if self.in_memory() {
            self.store = None;
        }
        if first.is_none() && self.store.is_some() {
            // A stop may have met a call whose failure is of no matter, and a fault may last.
            if !tolerant && !self.disk.stopped() {
                self.live_check()?;
            }
            if let Err(Halt::Refused(e)) = self.close() {
                first = Some(e);
            }
        }
        Ok(first)
    }

    fn in_memory(&self) -> bool {
        self.store
            .as_ref()
            .is_some_and(|store| store.path().is_none())
    }

    /// What is visible must be what the model says.
    pub(super) fn live_check(&mut self) -> Result<(), String> {
        let Ok(store) = self.open() else {
            return Ok(());
        };
        let found = check::read_all(&store, &self.history)?;
        let different = super::model::differences(self.history.current(), &found);
        match different.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "the open store shows other things: {}",
                different.join("; ")
            )),
        }
    }

    /// Closes the store; acknowledges everything if that succeeds.
    pub(super) fn close(&mut self) -> Result<(), Halt> {
        let Some(store) = self.store.take() else {
            return Ok(());
        };
        self.submitted = None;
        if let Ok(stats) = store.stats() {
            self.done.add(&stats);
        }
        store.close()?;
        self.history.acknowledge();
        Ok(())
    }

    pub(super) fn step(&mut self, step: &Step) -> Result<(), Halt> {
        self.tick();
        match step {
            Step::Commit(write) => self.commit(std::slice::from_ref(write), How::Sync),
            Step::Written(write) => self.commit(std::slice::from_ref(write), How::Written),
            Step::Transact(writes) => self.commit(writes, How::Transact),
            Step::Submit(writes) => self.commit(writes, How::Submit),
            Step::Wait => {
                let Some((commit, count)) = self.submitted.take() else {
                    return Ok(());
                };
                commit.wait()?;
                self.history.acknowledge_first(count);
                Ok(())
            }
            Step::Barrier => {
                self.open()?.barrier()?;
                self.history.acknowledge();
                Ok(())
            }
            Step::Checkpoint => {
                // The log is durable up to what the image holds.
                self.open()?.checkpoint()?;
                self.history.acknowledge();
                Ok(())
            }
            Step::Snapshot => Ok(self.open()?.snapshot().map(drop)?),
            Step::Verify => {
                let found = self.open()?.verify()?;
                match found.is_clean() {
                    true => Ok(()),
                    false => Err(Halt::Wrong(format!("verify found {:?}", found.damage))),
                }
            }
            Step::Reopen => {
                self.close()?;
                self.open().map(drop).map_err(Halt::from)
            }
            Step::DropAndOpen => {
                self.submitted = None;
                if let Some(store) = self.store.take().filter(|store| store.stats().is_ok()) {
                    self.done.add(&store.stats()?);
                }
                self.open().map(drop).map_err(Halt::from)
            }
            Step::LoseSync(writes) => self.lose_sync(writes),
            Step::LoseImage => {
                self.close()?;
                // There is none where the store could not make one.
                let _ = self.disk.remove(Path::new(PLACE).join("image"));
                self.open().map(drop).map_err(Halt::from)
            }
            Step::Persist => {
                let memory = self.open()?;
                self.history.collapse();
                let durable = memory.persist(Path::new(PLACE))?;
                self.store = Some(durable);
                self.history.acknowledge();
                Ok(())
            }
        }
    }

    fn lose_sync(&mut self, writes: &[Write]) -> Result<(), Halt> {
        let at = self.disk.operations() + 1;
        self.disk.fail(Fault::LostSync { at });
        match self.commit(writes, How::Transact) {
            // It may have been a sync that nothing hangs on.
            Ok(()) => {}
            Err(Halt::Refused(_)) if !self.disk.stopped() => {}
            Err(halt) => return Err(halt),
        }
        (self.store, self.submitted) = (None, None);
        // Where another fault took the write, this one may be met by the opening: once. What
        // was refused is to be judged here, before later commits are acknowledged behind it.
        let store = self.open().or_else(|_| self.open())?;
        let least = self.history.written.max(self.history.acked);
        // A read may be the call that was to fail: once, or always.
        let read = check::read_all(&store, &self.history)
            .or_else(|_| check::read_all(&store, &self.history));
        let Ok(found) = read else {
            store.scopes()?;
            return Err(Halt::Wrong(format!("{read:?}")));
        };
        let judged = self.history.find(&found, least);
        judged.map_err(|what| Halt::Wrong(format!("in the same kernel: {what}")))?;
        let highest = self.history.highest.max(visible(&store));
        self.history = History::from(found, highest);
        Ok(())
    }

    /// Time goes on, in some steps.
    fn tick(&self) {
        self.clock.advance(Duration::from_millis(1));
    }

    fn commit(&mut self, writes: &[Write], how: How) -> Result<(), Halt> {
        let Some(changes) = self.history.resolve(writes) else {
            return Ok(());
        };
        let store = self.open()?;
        let before = store.stats()?.visible_lsn;
        let made = make(&store, writes, how);
        let after = store.stats().map(|stats| stats.visible_lsn);
        let outcome = match made {
            Ok(made) => made,
            Err(e) => {
                match after {
                    // Refused before it was visible: it must not be there.
                    Ok(after) if after == before => {}
                    Ok(after) => self.history.push(changes, Some(after)),
                    Err(_) => self.history.push(changes, None),
                }
                return Err(e.into());
            }
        };
        check_result(&outcome, &changes)?;
        if let Ok(after) = after
            && (after <= before || after <= self.history.highest)
        {
            let highest = self.history.highest.max(before);
            return Err(Halt::Wrong(format!("LSN {after} follows {highest}")));
        }
        self.history.push(changes, after.ok());
        match how {
            How::Sync | How::Transact => self.history.acknowledge(),
            How::Written => self.history.wrote(),
            How::Submit => {}
        }
        if let Some(commit) = outcome.commit {
            self.submitted = Some((commit, self.history.len()));
        }
        Ok(())
    }
}

impl<'a> Subject for &'a Workload {
    type Run = Session<'a>;

    fn name(&self) -> &str {
        Workload::name(self)
    }

    fn repeats(&self) -> bool {
        true
    }

    fn run(&self, disk: &SimDisk, tolerant: bool) -> Result<(Session<'a>, Option<String>), String> {
        let mut session = Session::new(self, disk.clone());
        let first = session.run(tolerant)?;
        Ok((session, first.map(|e| e.to_string())))
    }

    fn done(&self, run: &Session<'a>) -> Done {
        run.done
    }

    fn end(&self, run: &mut Session<'a>) {
        run.store = None;
    }

    fn after_fault(&self, run: &mut Session<'a>) -> Result<(), String> {
        let works = run
            .store
            .as_ref()
            .is_some_and(|store| store.stats().is_ok());
        if works && !self.persists() {
            let write = Write::Set(Scope::Global, "after".into(), "the fault".into());
            for step in [Step::Commit(write), Step::Checkpoint, Step::Snapshot] {
                run.step(&step).map_err(|halt| match halt {
                    Halt::Wrong(what) => what,
                    Halt::Refused(e) => format!("the disk works again, but {step:?} gives {e}"),
                })?;
            }
            run.live_check()?;
        }
        // What close has to say does not matter: nothing may be lost either way.
        let _ = run.close();
        run.store = None;
        Ok(())
    }

    fn open(&self, disk: &SimDisk) -> Result<Store> {
        check::open(self, disk)
    }

    fn judge(
        &self,
        image: &SimDisk,
        run: &Session<'a>,
        survives: Survives,
        dice: u64,
    ) -> Result<Recovered, String> {
        let history = &run.history;
        let least = match survives {
            Survives::Written => history.written.max(history.acked),
            Survives::Acknowledged => history.acked,
        };
        check::examine(self, image, history, least, dice)
    }
}

/// What a commit gave back.
#[derive(Default)]
struct Outcome {
    commit: Option<Commit>,
    sum: Option<i64>,
}

fn check_result(outcome: &Outcome, changes: &[Change]) -> Result<(), Halt> {
    let expected = match changes {
        [Change::Put(_, _, value, _)] => value.as_i64(),
        _ => None,
    };
    match outcome.sum {
        Some(sum) if Some(sum) != expected => Err(Halt::Wrong(format!(
            "an increment gave {sum}, not {expected:?}"
        ))),
        _ => Ok(()),
    }
}

fn make(store: &Store, writes: &[Write], how: How) -> Result<Outcome> {
    let all = |tx: &crate::state::Transaction| {
        writes.iter().try_for_each(|write| {
            let scope = tx.scope(scope_of(write).clone());
            write_in(&scope, write)
        })
    };
    let mut outcome = Outcome::default();
    match (how, writes) {
        (How::Sync | How::Written, [write]) => {
            let mut scope = store.scope(scope_of(write).clone());
            if how == How::Written {
                scope = scope.with_durability(NEVER);
            }
            outcome.sum = write_to(&scope, write)?;
        }
        (How::Submit, _) => {
            let ((), commit) = store.with_durability(NEVER).submit(all)?;
            outcome.commit = Some(commit);
        }
        _ => store.transact(all)?,
    }
    Ok(outcome)
}

fn scope_of(write: &Write) -> &crate::scope::Scope {
    match write {
        Write::Set(scope, ..)
        | Write::Delete(scope, _)
        | Write::Clear(scope)
        | Write::Increment(scope, ..)
        | Write::Merge(scope, ..)
        | Write::Replace(scope, ..) => scope,
    }
}

fn write_to(scope: &ScopeHandle, write: &Write) -> Result<Option<i64>> {
    match write {
        Write::Set(_, key, value) => scope.set(key, value)?,
        Write::Delete(_, key) => scope.delete(key)?,
        Write::Clear(_) => scope.clear()?,
        Write::Increment(_, key, by) => return scope.increment(key, *by).map(Some),
        Write::Merge(_, key, patch) => scope.merge(key, patch)?,
        Write::Replace(_, key, value) => {
            let seen = scope.get_versioned::<crate::value::Value>(key)?;
            let version = seen.map_or(Version::ZERO, |seen| seen.version);
            scope.compare_and_set(key, version, value)?;
        }
    }
    Ok(None)
}

fn write_in(scope: &TransactionScope<'_>, write: &Write) -> Result<()> {
    match write {
        Write::Set(_, key, value) => scope.set(key, value),
        Write::Delete(_, key) => scope.delete(key),
        Write::Clear(_) => scope.clear(),
        Write::Increment(_, key, by) => scope.increment(key, *by).map(drop),
        Write::Merge(_, key, patch) => scope.merge(key, patch),
        Write::Replace(_, key, value) => {
            let seen = scope.get_versioned::<crate::value::Value>(key)?;
            let version = seen.map_or(Version::ZERO, |seen| seen.version);
            scope.compare_and_set(key, version, value)
        }
    }
}

/// The highest LSN that is now known to have been given.
pub(super) fn visible(store: &Store) -> Lsn {
    store.stats().map_or(Lsn::ZERO, |stats| stats.visible_lsn)
}
