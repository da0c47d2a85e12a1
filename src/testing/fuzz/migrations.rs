//! Owns the target `migrations`: a small state, a chain of migrations over it and its way
//! back, and what happens to the disk meanwhile, drawn from the input and compared with a
//! model that runs the chain in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::content::{PLACE, builder};
use super::input::Input;
use super::operations::{loss, trouble};
use crate::error::{Error, Result};
use crate::migrate::{MigrationScope, ScopeSet, StateMigration};
use crate::scope::{Scope, ScopeKind};
use crate::state::{Builder, Salvage, Store};
use crate::testing::crash::Trouble;
use crate::testing::{Loss, SimDisk};
use crate::vfs::Vfs;

const WRITES_MAX: usize = 24;
const STEPS_MAX: usize = 4;
const ACTIONS_MAX: usize = 5;
const TROUBLES_MAX: usize = 3;
/// The version of a state that has been through none, once a chain begins at 2.
const FIRST: u32 = 1;

type Content = BTreeMap<Scope, BTreeMap<String, i64>>;

/// What a migration does to the scope that it visits.
#[derive(Clone, Debug)]
enum Action {
    Scale(String, i64),
    Set(String, i64),
    Remove(String),
    Rename(String, String),
    /// To the scope that is joined.
    Move(String),
    /// How often, in the scope that is joined.
    Count,
    Clear,
    Fail,
}

#[derive(Clone, Debug)]
struct Step {
    version: u32,
    scopes: ScopeSet,
    joins: bool,
    up: Vec<Action>,
    down: Option<Vec<Action>>,
}

fn joined() -> Scope {
    Scope::custom("c")
}

fn scope(input: &mut Input<'_>) -> Scope {
    let scopes = [Scope::Global, Scope::job("a"), Scope::job("b"), joined()];
    input.one_of(&scopes).clone()
}

fn key(input: &mut Input<'_>) -> String {
    format!("k{}", input.below(5))
}

fn number(input: &mut Input<'_>) -> i64 {
    i64::from(input.u8().cast_signed())
}

fn action(input: &mut Input<'_>) -> Action {
    match input.u8() % 16 {
        0..=4 => Action::Scale(key(input), number(input)),
        5..=6 => Action::Set(key(input), number(input)),
        7..=8 => Action::Remove(key(input)),
        9..=10 => Action::Rename(key(input), key(input)),
        11..=12 => Action::Move(key(input)),
        13 => Action::Count,
        14 => Action::Clear,
        // Rarely: what fails shows little.
        _ => match input.u8() {
            0..=63 => Action::Fail,
            _ => Action::Count,
        },
    }
}

fn actions(input: &mut Input<'_>) -> Vec<Action> {
    let count = 1 + input.below(ACTIONS_MAX);
    (0..count).map(|_| action(input)).collect()
}

fn step(input: &mut Input<'_>, version: u32) -> Step {
    let flags = input.u8();
    let scopes = match flags % 6 {
        0 | 1 => ScopeSet::all(),
        2 => ScopeSet::kind(ScopeKind::Job),
        3 => ScopeSet::scope(scope(input)),
        4 => ScopeSet::all().except(ScopeSet::scope(joined())),
        _ => ScopeSet::none(),
    };
    Step {
        version,
        scopes,
        joins: flags & 64 == 0,
        up: actions(input),
        down: (flags & 128 == 0).then(|| actions(input)),
    }
}

impl Action {
    fn run(&self, state: &MigrationScope<'_>) -> Result<()> {
        match self {
            Self::Scale(key, by) => state.convert(key, |n: i64| Ok(scaled(n, *by))).map(drop),
            Self::Set(key, n) => state.set(key, n),
            Self::Remove(key) => state.remove(key).map(drop),
            Self::Rename(from, to) => state.rename(from, to).map(drop),
            Self::Move(key) => {
                let Some(n) = state.get::<i64>(key)? else {
                    return Ok(());
                };
                state.remove(key)?;
                let to = state.joined(joined())?;
                let there = to.get::<i64>(key)?.unwrap_or(0);
                to.set(key, scaled(there, n))
            }
            Self::Count => {
                let to = state.joined(joined())?;
                to.set("count", to.get::<i64>("count")?.unwrap_or(0) + 1)
            }
            Self::Clear => state.clear(),
            Self::Fail => Err(Error::abort("it was to fail")),
        }
    }

    /// The same in the model; false where it fails.
    fn model(&self, content: &mut Content, visited: &Scope, joins: bool) -> bool {
        let within = joins || *visited == joined();
        let mut keys = content.remove(visited).unwrap_or_default();
        let mut moved = None;
        match self {
            Self::Scale(key, by) => {
                if let Some(n) = keys.get_mut(key) {
                    *n = scaled(*n, *by);
                }
            }
            Self::Set(key, n) => drop(keys.insert(key.clone(), *n)),
            Self::Remove(key) => drop(keys.remove(key)),
            Self::Rename(from, to) if from != to && keys.contains_key(from) => {
                if keys.contains_key(to) {
                    return false;
                }
                let n = keys.remove(from);
                keys.extend(n.map(|n| (to.clone(), n)));
            }
            Self::Rename(..) => {}
            Self::Move(key) => {
                let n = keys.remove(key);
                moved = n.map(|n| (key.clone(), n));
                if moved.is_some() && !within {
                    return false;
                }
            }
            Self::Count if !within => return false,
            Self::Count => {}
            Self::Clear => keys.clear(),
            Self::Fail => return false,
        }
        content.insert(visited.clone(), keys);
        let to = content.entry(joined()).or_default();
        if let Some((key, n)) = moved {
            let there = to.entry(key).or_default();
            *there = scaled(*there, n);
        }
        if matches!(self, Self::Count) {
            *to.entry("count".into()).or_default() += 1;
        }
        content.retain(|_, keys| !keys.is_empty());
        true
    }
}

/// Twice is not once.
fn scaled(n: i64, by: i64) -> i64 {
    n.wrapping_mul(2).wrapping_add(by).wrapping_add(1)
}

impl StateMigration for Step {
    fn version(&self) -> u32 {
        self.version
    }

    fn migrate(&self, state: &mut MigrationScope<'_>) -> Result<()> {
        self.up.iter().try_for_each(|action| action.run(state))
    }

    fn scopes(&self) -> ScopeSet {
        self.scopes.clone()
    }

    fn joins(&self, _: &Scope) -> ScopeSet {
        match self.joins {
            true => ScopeSet::scope(joined()),
            false => ScopeSet::none(),
        }
    }

    fn revert(&self, state: &mut MigrationScope<'_>) -> Result<()> {
        match &self.down {
            Some(down) => down.iter().try_for_each(|action| action.run(state)),
            None => Err(Error::Irreversible {
                version: self.version,
                name: self.name(),
            }),
        }
    }
}

impl Step {
    /// What it makes of a state; `None` where it fails.
    fn model(&self, before: &Content, actions: Option<&Vec<Action>>) -> Option<Content> {
        let mut content = before.clone();
        let named: BTreeSet<_> = self.scopes.named().into_iter().collect();
        let there = before.keys().filter(|scope| self.scopes.contains(scope));
        for visited in there.chain(named.iter().copied()).collect::<BTreeSet<_>>() {
            if !named.contains(visited) && !content.contains_key(visited) {
                continue;
            }
            for action in actions? {
                if !action.model(&mut content, visited, self.joins) {
                    return None;
                }
            }
        }
        Some(content)
    }
}

/// What a store shows, and the schema version that it says.
#[derive(Clone, Debug, PartialEq)]
struct State {
    schema: u32,
    content: Content,
}

/// What happens to the disk in a run, and what it then loses.
type Disturbed = (Trouble, Loss);

fn disturbed(input: &mut Input<'_>) -> Disturbed {
    let kind = input.u8();
    (trouble(input, kind), loss(input))
}

/// The parts of an input.
struct Plan {
    closed: bool,
    without_image: bool,
    writes: Vec<(Scope, String, i64)>,
    checkpoint: usize,
    steps: Vec<Step>,
    forward: Vec<Disturbed>,
    back: Vec<Disturbed>,
}

impl Plan {
    fn read(input: &mut Input<'_>) -> Self {
        let flags = input.u8();
        let writes = input.below(WRITES_MAX);
        let write = |input: &mut Input<'_>| (scope(input), key(input), number(input));
        let troubles = |input: &mut Input<'_>| {
            let count = input.below(TROUBLES_MAX + 1);
            (0..count).map(|_| disturbed(input)).collect()
        };
        Self {
            closed: flags & 1 == 0,
            without_image: flags & 2 != 0,
            checkpoint: input.below(WRITES_MAX),
            writes: (0..writes).map(|_| write(input)).collect(),
            // Before the steps, so that they do not move with what those are.
            forward: troubles(input),
            back: troubles(input),
            steps: {
                let count = 1 + input.below(STEPS_MAX);
                (FIRST + 1..)
                    .take(count)
                    .map(|version| step(input, version))
                    .collect()
            },
        }
    }

    fn builder(&self, disk: &SimDisk) -> Builder {
        let builder = builder(disk, true, Salvage::Refuse);
        let add = |builder: Builder, step: &Step| builder.migration(step.clone());
        self.steps.iter().fold(builder, add)
    }

    fn newest(&self) -> u32 {
        self.steps.last().map_or(FIRST, |step| step.version)
    }

    fn run(&self, disk: &SimDisk) -> Result<()> {
        self.builder(disk).open(PLACE)?.close()
    }

    fn take_back(&self, disk: &SimDisk) -> Result<()> {
        let migrations = self.builder(disk).migrations(PLACE)?;
        migrations.revert_to(FIRST)?;
        migrations.close()
    }

    /// What the chain comes to, or the version that fails.
    fn model_run(&self, before: &Content) -> std::result::Result<State, u32> {
        let mut content = before.clone();
        // A store with nothing in it takes the version, and runs none.
        for step in self.steps.iter().filter(|_| !before.is_empty()) {
            content = step.model(&content, Some(&step.up)).ok_or(step.version)?;
        }
        Ok(State {
            schema: self.newest(),
            content,
        })
    }

    fn model_take_back(&self, before: &Content) -> std::result::Result<State, u32> {
        let mut content = before.clone();
        for step in self.steps.iter().rev() {
            content = step
                .model(&content, step.down.as_ref())
                .ok_or(step.version)?;
        }
        Ok(State {
            schema: FIRST,
            content,
        })
    }
}

/// What whoever opens the store finds.
fn look(disk: &SimDisk) -> State {
    let store = builder(disk, true, Salvage::Refuse)
        .any_schema()
        .open(PLACE);
    let store = store.unwrap_or_else(|e| panic!("it does not open: {e}"));
    show(&store).unwrap_or_else(|e| panic!("it cannot be read: {e}"))
}

fn show(store: &Store) -> Result<State> {
    let mut content = Content::new();
    for scope in store.scopes()? {
        let mut keys = BTreeMap::new();
        for entry in store.scope(scope.clone()).scan("")? {
            let entry = entry?;
            keys.insert(entry.key().to_owned(), entry.value()?);
        }
        content.insert(scope, keys);
    }
    Ok(State {
        schema: store.schema_version(),
        content,
    })
}

fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash(Loss::Nothing)
}

/// Runs a chain under all that happens to it: it is found as it was, or whole; and in the
/// end as the model says. Gives the disk behind it, and what is there.
fn drive(
    mut disk: SimDisk,
    troubles: &[Disturbed],
    expected: std::result::Result<State, u32>,
    work: impl Fn(&SimDisk) -> Result<()>,
) -> (SimDisk, State) {
    let before = look(&copy(&disk));
    let mut done = false;
    for (trouble, loss) in troubles {
        trouble.befall(&disk);
        let ended = work(&disk);
        if let Err(Error::Corrupt(damage)) = &ended {
            panic!("{trouble:?} was taken for damage: {damage}");
        }
        done |= ended.is_ok();
        disk = disk.crash(loss.clone());
        let found = look(&copy(&disk));
        let behind = expected.as_ref().is_ok_and(|behind| *behind == found);
        assert!(
            behind || (!done && found == before),
            "{trouble:?}: {found:?}"
        );
    }
    let ended = work(&disk);
    let found = look(&copy(&disk));
    match (&expected, ended) {
        (Ok(behind), Ok(())) => assert_eq!(found, *behind),
        (Err(version), Err(Error::MigrationFailed { version: named, .. }))
        | (Err(version), Err(Error::Irreversible { version: named, .. })) => {
            assert_eq!(named, *version);
            assert_eq!(found, before);
        }
        (expected, ended) => panic!("{ended:?} instead of {expected:?}"),
    }
    (disk, found)
}

pub(super) fn run(data: &[u8]) {
    let plan = Plan::read(&mut Input::new(data));
    let disk = SimDisk::new(1);
    let filled = fill(&plan, &disk);
    let filled = filled.unwrap_or_else(|e| panic!("an undisturbed store: {e}"));
    let disk = match plan.closed {
        true => disk,
        false => filled,
    };
    let start = look(&copy(&disk)).content;
    let expected = plan.model_run(&start);
    let fails = expected.is_err();
    let (mut disk, mut found) = drive(disk, &plan.forward, expected, |disk| plan.run(disk));
    if !fails {
        let expected = plan.model_take_back(&found.content);
        (disk, found) = drive(disk, &plan.back, expected, |disk| plan.take_back(disk));
    }
    if plan.without_image {
        // It heals from snapshot and log, with the version that it had.
        let images = Path::new(PLACE).join("image");
        let removed = disk.remove_dir_all(&images);
        removed.unwrap_or_else(|e| panic!("the image cannot be removed: {e}"));
        assert_eq!(look(&disk), found, "without the image");
    }
}

/// Writes the first state; gives the disk as a kill leaves it, and closes the store.
fn fill(plan: &Plan, disk: &SimDisk) -> Result<SimDisk> {
    let store = builder(disk, true, Salvage::Refuse).open(PLACE)?;
    for (at, (scope, key, n)) in plan.writes.iter().enumerate() {
        store.scope(scope.clone()).set(key, n)?;
        if at == plan.checkpoint {
            store.checkpoint()?;
        }
    }
    let killed = copy(disk);
    store.close()?;
    Ok(killed)
}
