//! Owns what the tests of migrations share: migrations made of closures, and stores that
//! are the same each time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evenkeel::{
    Builder, ManualClock, MigrationBudget, MigrationScope, Result, Scope, ScopeSet, StateMigration,
    Store,
};

type Migrate = dyn Fn(&mut MigrationScope<'_>) -> Result<()> + Send + Sync;
type Joins = dyn Fn(&Scope) -> ScopeSet + Send + Sync;

/// A migration made of closures.
#[derive(Clone)]
pub(crate) struct Made {
    version: u32,
    name: String,
    scopes: ScopeSet,
    joins: Option<Arc<Joins>>,
    budget: MigrationBudget,
    up: Arc<Migrate>,
    down: Option<Arc<Migrate>>,
    fingerprint: String,
}

impl Made {
    pub(crate) fn to(
        version: u32,
        up: impl Fn(&mut MigrationScope<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            version,
            name: format!("to {version}"),
            scopes: ScopeSet::all(),
            joins: None,
            budget: MigrationBudget::new(),
            up: Arc::new(up),
            down: None,
            fingerprint: String::new(),
        }
    }

    /// One that does nothing.
    pub(crate) fn idle(version: u32) -> Self {
        Self::to(version, |_| Ok(()))
    }

    pub(crate) fn back(
        mut self,
        down: impl Fn(&mut MigrationScope<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.down = Some(Arc::new(down));
        self
    }

    pub(crate) fn scopes(mut self, scopes: ScopeSet) -> Self {
        self.scopes = scopes;
        self
    }

    pub(crate) fn joins(
        mut self,
        joins: impl Fn(&Scope) -> ScopeSet + Send + Sync + 'static,
    ) -> Self {
        self.joins = Some(Arc::new(joins));
        self
    }

    pub(crate) fn budget(mut self, budget: MigrationBudget) -> Self {
        self.budget = budget;
        self
    }

    pub(crate) fn fingerprint(mut self, fingerprint: &str) -> Self {
        self.fingerprint = fingerprint.to_owned();
        self
    }
}

impl StateMigration for Made {
    fn version(&self) -> u32 {
        self.version
    }

    fn migrate(&self, state: &mut MigrationScope) -> Result<()> {
        (self.up)(state)
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn description(&self) -> String {
        format!("brings it to {}", self.version)
    }

    fn scopes(&self) -> ScopeSet {
        self.scopes.clone()
    }

    fn joins(&self, scope: &Scope) -> ScopeSet {
        match &self.joins {
            Some(joins) => joins(scope),
            None => ScopeSet::none(),
        }
    }

    fn budget(&self) -> MigrationBudget {
        self.budget
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn revert(&self, state: &mut MigrationScope) -> Result<()> {
        match &self.down {
            Some(down) => down(state),
            None => Err(evenkeel::Error::Irreversible {
                version: self.version(),
                name: self.name(),
            }),
        }
    }
}

/// A folder for a store, gone with this.
pub(crate) struct Place {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<ManualClock>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            path: folder.path().join("state"),
            _folder: folder,
            clock: Arc::new(ManualClock::new(1_000_000)),
        }
    }

    /// A builder whose store does everything in the order of the calls.
    pub(crate) fn builder(&self) -> Builder {
        let clock = self.clock.clone();
        Store::builder().background(false).clock(clock)
    }

    pub(crate) fn with(&self, migrations: &[Made]) -> Builder {
        let mut builder = self.builder();
        for migration in migrations {
            builder = builder.migration(migration.clone());
        }
        builder
    }

    pub(crate) fn open(&self, migrations: &[Made]) -> Result<Store> {
        self.with(migrations).open(&self.path)
    }

    /// Makes a store by a program that has no migrations.
    pub(crate) fn fill(&self, fill: impl FnOnce(&Store) -> Result<()>) {
        let store = self.open(&[]).expect("a new store");
        fill(&store).expect("filling it");
        store.close().expect("closing it");
    }

    /// All that is in the store, as lines, by whatever program.
    pub(crate) fn lines(&self) -> String {
        let store = self
            .builder()
            .any_schema()
            .open(&self.path)
            .expect("a store");
        let lines = lines(&store);
        store.close().expect("closing it");
        lines
    }
}

/// All that is in a store, as lines.
pub(crate) fn lines(store: &Store) -> String {
    let mut lines = Vec::new();
    store.export_json_lines(&mut lines).expect("an export");
    String::from_utf8(lines).expect("JSON")
}

/// Every file below a folder, with its bytes.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push((path.clone(), std::fs::read(&path).expect("a file"))),
            }
        }
    }
    found.sort();
    found
}
