//! Chains of migrations, and the way back, on a disk that is stopped or fails at each of
//! their calls. The model: whoever opens the store finds the state before the chain, whole,
//! or that behind it, whole; whoever then runs the chain finds the one behind it, and
//! nothing that was migrated twice. What no migration touched keeps its version.
//!
//! `EVENKEEL_CRASH_POINTS=all` tries every point; otherwise a sample.

#![expect(clippy::print_stdout, reason = "each test says how much it tried")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use evenkeel::testing::{Failure, Fault, Loss, Operation, OperationKind, SimDisk, When};
use evenkeel::{
    Builder, Error, ManualClock, Result, Scope, ScopeKind, ScopeSet, SetOptions, Store, Value, Vfs,
};

use crate::parts::Made;

const PLACE: &str = "state";
const LOSSES: [Loss; 4] = [
    Loss::Nothing,
    Loss::Everything,
    Loss::Random(3),
    Loss::Random(11),
];
const SCOPES: i64 = 5;

fn builder(disk: &SimDisk) -> Builder {
    disk.store_builder()
        .clock(Arc::new(ManualClock::new(2_000_000)))
        .memtable_bytes(64 * 1024)
        .segment_bytes(8 * 1024, 64 * 1024)
        .block_bytes(1024)
}

fn with_chain(disk: &SimDisk) -> Builder {
    let add = |builder: Builder, made: Made| builder.migration(made);
    chain().into_iter().fold(builder(disk), add)
}

fn workflows() -> ScopeSet {
    ScopeSet::kind(ScopeKind::Workflow)
}

fn moved() -> Scope {
    Scope::custom("moved")
}

/// Changes, removes and moves. None of them can be done twice without being seen.
fn chain() -> Vec<Made> {
    let count = |state: &evenkeel::MigrationScope<'_>, by: i64| -> Result<()> {
        let total = state.joined(Scope::Global)?;
        let now = total.get::<i64>("visits")?.unwrap_or(0) + by;
        match now {
            0 => total.remove("visits").map(drop),
            now => total.set("visits", now),
        }
    };
    let double = Made::to(2, move |state| {
        state.convert("n", |n: i64| Ok(n * 2 + 1))?;
        state.convert("long", |long: String| Ok(format!("{long}!")))?;
        count(state, 1)
    });
    let double = double.back(move |state| {
        state.convert("n", |n: i64| Ok((n - 1) / 2))?;
        state.convert("long", |long: String| Ok(long[..long.len() - 1].to_owned()))?;
        count(state, -1)
    });
    let split = Made::to(3, |state| {
        let name: String = state.get("name")?.ok_or_else(|| Error::abort("no name"))?;
        let (first, last) = name.split_once(' ').unwrap_or_default();
        state.remove("name")?;
        state.set("first", first)?;
        state.set("last", last)?;
        state.convert("n", |n: i64| Ok(n + 100))?;
        state.rename("old", "new").map(drop)
    });
    let split = split.back(|state| {
        let part = |key: &str| state.get::<String>(key).map(Option::unwrap_or_default);
        state.set("name", format!("{} {}", part("first")?, part("last")?))?;
        state.remove("first")?;
        state.remove("last")?;
        state.convert("n", |n: i64| Ok(n - 100))?;
        state.rename("new", "old").map(drop)
    });
    let away = Made::to(4, |state| {
        let n: i64 = state.get("n")?.ok_or_else(|| Error::abort("no n"))?;
        state.remove("n")?;
        let to = state.joined(moved())?;
        to.set(state.scope().to_string(), n * 10)
    });
    let away = away.back(|state| {
        let from = state.joined(moved())?;
        let key = state.scope().to_string();
        let n: i64 = from.get(&key)?.ok_or_else(|| Error::abort("no n"))?;
        from.remove(&key)?;
        state.set("n", n / 10)
    });
    vec![
        double
            .scopes(workflows())
            .joins(|_| ScopeSet::scope(Scope::Global)),
        split.scopes(workflows()),
        away.scopes(workflows()).joins(|_| ScopeSet::scope(moved())),
    ]
}

fn long(n: i64) -> String {
    // Together more than is applied at once.
    format!("{n}").repeat(if n < 4 { 90_000 } else { 10 })
}

type Content = BTreeMap<(Scope, String), Value>;

/// What the first program writes, and what the last one must find.
fn model(version: u32) -> Content {
    let mut content = Content::new();
    for n in 0..SCOPES {
        let scope = Scope::workflow(format!("w{n}"));
        let mut put = |scope: &Scope, key: &str, value: Value| {
            content.insert((scope.clone(), key.to_owned()), value);
        };
        put(&scope, "same", n.into());
        put(&scope, "until", n.into());
        let (first, last) = (format!("Ada {n}"), format!("Lovelace {n}"));
        match version {
            1 => {
                put(&scope, "n", n.into());
                put(&scope, "name", format!("Ada-{n} Lovelace-{n}").into());
                put(&scope, "old", (n * 7).into());
                put(&scope, "long", long(n).into());
            }
            _ => {
                let (first, last) = (first.replace(' ', "-"), last.replace(' ', "-"));
                put(&scope, "first", first.into());
                put(&scope, "last", last.into());
                put(&scope, "new", (n * 7).into());
                put(&scope, "long", format!("{}!", long(n)).into());
                let moved_to = moved();
                put(&moved_to, &scope.to_string(), ((n * 2 + 101) * 10).into());
                put(&Scope::Global, "visits", SCOPES.into());
            }
        }
        put(&Scope::job(format!("j{n}")), "untouched", n.into());
    }
    content
}

/// A store of the first program, killed: a part of it in the image, a part in the log.
fn filled() -> SimDisk {
    let disk = SimDisk::new(7);
    let store = builder(&disk).open(PLACE).unwrap();
    for (at, ((scope, key), value)) in model(1).into_iter().enumerate() {
        let scope = store.scope(scope);
        match key.as_str() {
            "until" => {
                let until = SetOptions::new().ttl(Duration::from_secs(1000));
                scope.set_with(key, value, until).unwrap();
            }
            _ => scope.set(key, value).unwrap(),
        }
        match at {
            8 => drop(store.checkpoint().unwrap()),
            16 => drop(store.snapshot().unwrap()),
            20 => drop(store.checkpoint().unwrap()),
            _ => {}
        }
    }
    let left = disk.crash(Loss::Nothing);
    drop(store);
    left
}

/// The same as the last program leaves it.
fn migrated() -> SimDisk {
    let disk = filled();
    migrate(&disk, &mut false).unwrap();
    disk
}

/// Brings the store to version 4; `done` once that was acknowledged.
fn migrate(disk: &SimDisk, done: &mut bool) -> Result<()> {
    let store = with_chain(disk).open(PLACE)?;
    *done = true;
    store.close()
}

/// Takes it back to version 1.
fn take_back(disk: &SimDisk, done: &mut bool) -> Result<()> {
    let migrations = with_chain(disk).migrations(PLACE)?;
    migrations.revert_to(1)?;
    *done = true;
    migrations.close()
}

type Work = fn(&SimDisk, &mut bool) -> Result<()>;

/// What is in a store.
#[derive(Clone, Debug, PartialEq)]
struct State {
    schema: u32,
    content: Content,
    versions: BTreeMap<(Scope, String), u64>,
    history: Vec<(u32, u32, String)>,
}

impl State {
    fn of(store: &Store) -> Self {
        let mut state = Self {
            schema: store.schema_version(),
            content: Content::new(),
            versions: BTreeMap::new(),
            history: Vec::new(),
        };
        for scope in store.scopes().unwrap() {
            let handle = store.scope(scope.clone());
            for entry in handle.scan("").unwrap() {
                let entry = entry.unwrap();
                let key = (scope.clone(), entry.key().to_owned());
                state.versions.insert(key.clone(), entry.version().get());
                state.content.insert(key, entry.value().unwrap());
            }
            if matches!(scope, Scope::Workflow(_)) {
                assert!(
                    handle.ttl("until").unwrap().is_some(),
                    "its deadline is lost"
                );
            }
        }
        let history = store.schema_history().unwrap();
        let told = history.into_iter();
        state.history = told.map(|c| (c.from, c.to, c.name)).collect();
        state
    }

    fn untouched(&self) -> BTreeMap<(Scope, String), u64> {
        let mut versions = self.versions.clone();
        versions.retain(|(_, key), _| ["same", "until", "untouched"].contains(&key.as_str()));
        versions
    }
}

/// What a store is before a chain and behind it, and what runs it.
struct Campaign {
    start: SimDisk,
    work: Work,
    before: State,
    behind: State,
    /// How often a run went on, and what was found.
    found_before: u64,
    found_behind: u64,
    images: u64,
}

impl Campaign {
    fn new(start: SimDisk, work: Work, versions: (u32, u32)) -> Self {
        let before = look(&copy(&start)).unwrap();
        let ended = copy(&start);
        work(&ended, &mut false).unwrap();
        let behind = look(&ended).unwrap();
        assert_eq!(before.content, model(versions.0));
        assert_eq!(behind.content, model(versions.1));
        assert_eq!(behind.schema, versions.1);
        assert_eq!(before.untouched(), behind.untouched());
        assert_eq!(before.untouched().len() as i64, 3 * SCOPES);
        assert_eq!(behind.history.len(), before.history.len() + 3);
        Self {
            start,
            work,
            before,
            behind,
            found_before: 0,
            found_behind: 0,
            images: 0,
        }
    }

    /// Its calls to the disk.
    fn calls(&self, reads: bool) -> Vec<Operation> {
        let disk = copy(&self.start);
        disk.record(true);
        (self.work)(&disk, &mut false).unwrap();
        let mut calls = disk.trace();
        calls.retain(|call| call.kind.is_read() == reads);
        calls
    }

    /// Looks at an image: it is one of the two. `done`: it is the later one.
    fn either(&mut self, image: &SimDisk, done: bool, what: &str) {
        self.images += 1;
        let disk = copy(image);
        let found = look(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
        let behind = found.schema == self.behind.schema;
        assert!(behind || !done, "{what}: what was acknowledged is lost");
        let whole = if behind { &self.behind } else { &self.before };
        assert_eq!(found.content, whole.content, "{what}");
        assert_eq!(found.history, whole.history, "{what}");
        assert_eq!(found.schema, whole.schema, "{what}");
        assert_eq!(found.untouched(), self.before.untouched(), "{what}");
        if !behind {
            assert_eq!(found.versions, self.before.versions, "{what}");
        }
        self.found_before += u64::from(!behind);
        self.found_behind += u64::from(behind);
        // What was looked at is durable, and what nobody went on with is given up.
        let again = look(&disk.crash(Loss::Everything)).unwrap();
        assert_eq!(again, found, "{what}, looked at again");
    }

    /// Runs the chain on an image; gives the disk as that leaves it.
    fn complete(&mut self, image: &SimDisk, what: &str) -> SimDisk {
        let disk = copy(image);
        let mut done = false;
        (self.work)(&disk, &mut done).unwrap_or_else(|e| panic!("{what}: {e}"));
        let disk = disk.crash(Loss::Everything);
        self.either(&disk, done, what);
        disk
    }

    /// All that may be asked of an image; `number` decides what else happens to it.
    fn judge(&mut self, image: &SimDisk, done: bool, number: u64, what: &str) {
        self.either(image, done, what);
        // The run that goes on is stopped, too.
        let mut nested = copy(image);
        for round in 0..number % 3 {
            nested.stop_at(1 + number.wrapping_mul(31 + round) % 60, When::Midway);
            let mut done_again = false;
            let _ = (self.work)(&nested, &mut done_again);
            let loss = LOSSES[(number / 3 + round) as usize % LOSSES.len()].clone();
            nested = nested.crash(loss);
            self.either(&nested, done || done_again, &format!("{what}, nested"));
        }
        let ended = self.complete(&nested, what);
        if number.is_multiple_of(4) {
            self.damage(&ended, number / 4, what);
        }
    }

    /// Takes away what heals.
    fn damage(&mut self, disk: &SimDisk, which: u64, what: &str) {
        let vfs: &dyn Vfs = disk;
        let images = Path::new(PLACE).join("image");
        match which % 3 {
            0 => vfs.remove_dir_all(&images).unwrap(),
            1 => drop(disk.remove(Path::new(PLACE).join("MANIFEST"))),
            _ => {
                let pieces = disk.files().into_iter();
                for (path, _) in pieces.filter(|(path, _)| path.starts_with(&images)) {
                    disk.flip(path, 1, 3).unwrap();
                }
            }
        }
        self.either(disk, true, &format!("{what}, damaged"));
    }

    fn tell(&self, what: &str) {
        let (before, behind) = (self.found_before, self.found_behind);
        println!(
            "{what}: {} images, {before} before, {behind} behind",
            self.images
        );
        assert!(before > 20 && behind > 20, "{what}: {before}, {behind}");
    }
}

fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash(Loss::Nothing)
}

/// What whoever opens the store finds, whatever it knows of its schema.
fn look(disk: &SimDisk) -> Result<State> {
    let store = builder(disk).any_schema().open(PLACE)?;
    Ok(State::of(&store))
}

/// Every so many of what may be tried.
fn sampled<T>(all: Vec<T>, most: usize) -> impl Iterator<Item = (u64, T)> {
    let every = match std::env::var("EVENKEEL_CRASH_POINTS").as_deref() {
        Ok("all") => 1,
        Ok(number) => all.len().div_ceil(number.parse().expect("a number")),
        Err(_) => all.len().div_ceil(most),
    };
    (0..).zip(all.into_iter().step_by(every.max(1)))
}

fn stopped_anywhere(mut campaign: Campaign, name: &str) {
    let mut points = Vec::new();
    for call in campaign.calls(false) {
        points.extend([When::Before, When::Midway, When::After].map(|when| (call.ordinal, when)));
    }
    for (number, (at, when)) in sampled(points, 90) {
        let disk = copy(&campaign.start);
        disk.stop_at(at, when);
        let mut done = false;
        let _ = (campaign.work)(&disk, &mut done);
        assert!(disk.stopped(), "{at}: the second run was another one");
        for (which, loss) in (0..).zip(LOSSES) {
            let image = disk.crash(loss.clone());
            let what = format!("{name}, stopped at {at} {when:?}, {loss:?}");
            campaign.judge(&image, done, number * 4 + which, &what);
        }
    }
    campaign.tell(name);
}

fn failing_anywhere(mut campaign: Campaign, name: &str) {
    let mut faults = Vec::new();
    for call in campaign.calls(false) {
        let at = call.ordinal;
        for failure in [Failure::Io, Failure::NoSpace] {
            for lasting in [false, true] {
                faults.push(Fault::Operation {
                    at,
                    failure,
                    lasting,
                });
            }
        }
        match call.kind {
            OperationKind::Sync => faults.push(Fault::LostSync { at }),
            OperationKind::Write => faults.push(Fault::ShortWrite {
                at,
                failure: Failure::NoSpace,
            }),
            _ => {}
        }
    }
    for call in campaign.calls(true) {
        let at = call.ordinal;
        faults.push(Fault::Read { at, lasting: false });
    }
    for (number, fault) in sampled(faults, 120) {
        let disk = copy(&campaign.start);
        let what = format!("{name}, {fault:?}");
        disk.fail(fault);
        let mut done = false;
        let ended = (campaign.work)(&disk, &mut done);
        if let Err(Error::Corrupt(damage)) = &ended {
            panic!("{what}: taken for damage: {damage}");
        }
        disk.clear_faults();
        for loss in [Loss::Everything, Loss::Nothing, Loss::Random(number)] {
            campaign.judge(&disk.crash(loss), done, number, &what);
        }
    }
    campaign.tell(name);
}

/// The disk is full in the middle of it: nothing is lost, and with room it goes on.
fn full_anywhere(mut campaign: Campaign, name: &str) {
    let used: u64 = campaign
        .start
        .files()
        .iter()
        .map(|(_, len)| len.div_ceil(4096))
        .sum();
    let mut refused = 0;
    for (number, pages) in sampled((0..700).collect(), 40) {
        let disk = copy(&campaign.start);
        disk.set_capacity(Some((used + pages) * 4096));
        let what = format!("{name}, {pages} pages left");
        let mut done = false;
        match (campaign.work)(&disk, &mut done) {
            Ok(()) => {}
            Err(e) => {
                // What cannot be taken out of memory for want of room is told as such.
                let full = e.is_disk_full() || matches!(e, Error::Busy { .. });
                assert!(full, "{what}: {e}");
                refused += 1;
            }
        }
        disk.set_capacity(None);
        for loss in [Loss::Everything, Loss::Nothing] {
            campaign.judge(&disk.crash(loss), done, number, &what);
        }
    }
    assert!(refused > 5, "{refused} were refused");
    campaign.tell(name);
}

fn forward() -> Campaign {
    Campaign::new(filled(), migrate, (1, 4))
}

fn back() -> Campaign {
    Campaign::new(migrated(), take_back, (4, 1))
}

#[test]
fn a_chain_that_is_stopped_at_any_call_is_whole_or_not_there() {
    stopped_anywhere(forward(), "a chain");
}

#[test]
fn a_way_back_that_is_stopped_at_any_call_is_whole_or_not_there() {
    stopped_anywhere(back(), "a way back");
}

#[test]
fn a_chain_survives_calls_that_fail() {
    failing_anywhere(forward(), "a chain");
}

#[test]
fn a_way_back_survives_calls_that_fail() {
    failing_anywhere(back(), "a way back");
}

#[test]
fn a_chain_survives_a_full_disk() {
    full_anywhere(forward(), "a chain");
}

/// An older program is refused once the version is switched, also in the middle of what is
/// written then; until then it finds its state. It changes nothing where it is refused.
#[test]
fn the_older_program_finds_its_state_or_is_refused() {
    let campaign = forward();
    let (mut opened, mut refused) = (0, 0);
    for (_, call) in sampled(campaign.calls(false), 60) {
        let disk = copy(&campaign.start);
        disk.stop_at(call.ordinal, When::Before);
        let _ = migrate(&disk, &mut false);
        for loss in LOSSES {
            let image = disk.crash(loss);
            let files = |disk: &SimDisk| {
                let read = |(path, _): (_, u64)| (disk.read(&path), path);
                disk.files().into_iter().map(read).collect::<Vec<_>>()
            };
            let before = files(&image);
            match builder(&image).open(PLACE) {
                Ok(store) => {
                    assert_eq!(State::of(&store).versions, campaign.before.versions);
                    opened += 1;
                }
                Err(Error::NewerSchema {
                    found: 4,
                    supported: 1,
                    ..
                }) => {
                    assert!(files(&image) == before, "{call}: it was touched");
                    refused += 1;
                }
                Err(e) => panic!("{call}: {e}"),
            }
        }
    }
    assert!(opened > 20 && refused > 20, "{opened}, {refused}");
}
