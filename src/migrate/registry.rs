//! Owns the migrations of a program: that they form a chain, which of them a state has not
//! seen yet, and that they are run when a store is opened.

use std::any::Any;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::migrate::StateMigration;
use crate::migrate::invariant::Invariant;
use crate::migrate::progress::{MigrationProgress, Watcher};
use crate::migrate::run::{self, Step};
use crate::state::options::SCHEMA_OF_NO_MIGRATIONS;
use crate::state::schema::layers::Stack;
use crate::state::schema::{self, SchemaKeeper, apply, record};
use crate::state::store::Store;
use crate::state::transaction::guarded;
use crate::state::{Builder, MigrationReport};

/// A migration, with what it says of itself, which it is asked once.
#[derive(Clone)]
pub(super) struct Registered {
    pub(super) version: u32,
    pub(super) name: String,
    pub(super) description: String,
    /// All by which one is told from another of the same version and name.
    pub(super) told: String,
    pub(super) migration: Arc<dyn StateMigration>,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, self.name)
    }
}

impl Registered {
    fn new(migration: Arc<dyn StateMigration>) -> Result<Self> {
        guarded("in what a migration says of itself", || {
            let description = migration.description();
            let (scopes, print) = (migration.scopes(), migration.fingerprint());
            Ok(Self {
                version: migration.version(),
                name: migration.name(),
                told: format!("{description:?}/{scopes:?}/{print:?}"),
                description,
                migration: Arc::clone(&migration),
            })
        })
    }
}

/// The migrations of a program, and when they are run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    migrations: Vec<Registered>,
    pub(super) invariants: Vec<Invariant>,
    by_command: bool,
    pub(super) watcher: Watcher,
    /// What one said of itself by a panic.
    panicked: Option<String>,
}

fn broken(version: u32, reason: String) -> Error {
    Error::BrokenChain { version, reason }
}

impl Registry {
    /// The registry of a builder, or a new one.
    pub(super) fn of(builder: &Builder) -> Self {
        let keeper = builder.schema.as_deref();
        let registry = keeper.and_then(|keeper| (keeper as &dyn Any).downcast_ref::<Self>());
        registry.cloned().unwrap_or_default()
    }

    fn add(&mut self, migration: Arc<dyn StateMigration>) {
        match Registered::new(migration) {
            Ok(registered) => self.migrations.push(registered),
            Err(e) => self.panicked = Some(e.to_string()),
        }
    }

    /// The migrations in order, without gaps and doubles.
    pub(super) fn chain(&self) -> Result<Vec<Registered>> {
        if let Some(message) = &self.panicked {
            return Err(Error::Panicked {
                message: message.clone(),
            });
        }
        let mut chain = self.migrations.clone();
        chain.sort_by_key(|registered| registered.version);
        let mut before: Option<&Registered> = None;
        for registered in &chain {
            let Registered { version, name, .. } = registered;
            if *version == 0 {
                let reason = format!("{name} has it, and the first version is 1");
                return Err(broken(0, reason));
            }
            match before {
                Some(other) if other.version == *version => {
                    let reason = format!("{} and {name} both have it", other.name);
                    return Err(broken(*version, reason));
                }
                Some(other) if other.version + 1 < *version => {
                    let reason = format!(
                        "none is registered; behind {} ({}) comes {version} ({name})",
                        other.version, other.name
                    );
                    return Err(broken(other.version + 1, reason));
                }
                _ => before = Some(registered),
            }
        }
        Ok(chain)
    }

    /// The version that a state has to this program: one that never declared any has the
    /// one that the first of its migrations begins at, or 1.
    pub(super) fn version_of(&self, engine: &Engine) -> u32 {
        let first = self
            .migrations
            .iter()
            .map(|registered| registered.version)
            .min();
        match (engine.schema(), first) {
            (0, Some(1)) => 0,
            (0, _) => SCHEMA_OF_NO_MIGRATIONS,
            (declared, _) => declared,
        }
    }

    /// The migrations that a state of this version has not seen yet.
    pub(super) fn pending(&self, from: u32) -> Result<Vec<Registered>> {
        let mut chain = self.chain()?;
        chain.retain(|registered| registered.version > from);
        if let Some(first) = chain.first()
            && first.version - 1 > from
        {
            let reason = format!(
                "none is registered; the state has version {from}, and the first one behind \
                 that is {} ({})",
                first.version, first.name
            );
            return Err(broken(from + 1, reason));
        }
        Ok(chain)
    }

    /// Gives a store in which there is nothing the newest version, without running
    /// anything. True where it has done so.
    pub(super) fn begin(&self, engine: &Arc<Engine>) -> Result<bool> {
        let blank = self.is_blank(engine)?;
        if blank {
            apply::declare(engine, self.newest())?;
        }
        Ok(blank)
    }

    /// True for a store in which there is nothing, and never was a version.
    pub(super) fn is_blank(&self, engine: &Arc<Engine>) -> Result<bool> {
        let unknown = engine.schema() == 0 && !self.migrations.is_empty();
        if !unknown || record::read(engine)?.is_some() || !record::history(engine)?.is_empty() {
            return Ok(false);
        }
        let stack = Stack::new(engine, engine, []);
        let mut scopes = stack.scopes(None);
        while let Some(prefix) = scopes.advance()? {
            if stack.is_live(&prefix, Default::default())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs what is pending, where anything is.
    pub(super) fn migrate(&self, store: &Store) -> Result<Option<MigrationReport>> {
        let engine = &store.shared.engine;
        let from = self.version_of(engine);
        let pending = self.pending(from)?;
        let Some(last) = pending.last() else {
            schema::discard(engine)?;
            return Ok(None);
        };
        let to = last.version;
        let steps: Vec<_> = pending
            .into_iter()
            .map(|of| Step {
                of,
                reverted: false,
            })
            .collect();
        run::run(store, &steps, (from, to), (&self.watcher, &self.invariants)).map(Some)
    }
}

impl SchemaKeeper for Registry {
    fn newest(&self) -> u32 {
        let versions = self.migrations.iter().map(|registered| registered.version);
        versions.max().unwrap_or(SCHEMA_OF_NO_MIGRATIONS)
    }

    fn check(&self) -> Result<()> {
        self.chain()?.iter().try_for_each(|registered| {
            guarded("in the check of a migration", || {
                registered.migration.check()?;
                registered.migration.scopes().validate()
            })
        })
    }

    fn prepare(&self, store: &Store) -> Result<Option<MigrationReport>> {
        let engine = &store.shared.engine;
        if self.begin(engine)? {
            return Ok(None);
        }
        let found = self.version_of(engine);
        if self.by_command && !self.pending(found)?.is_empty() {
            return Err(Error::MigrationNeeded {
                path: engine.path().unwrap_or(Path::new("")).to_path_buf(),
                found,
                wanted: self.newest(),
            });
        }
        self.migrate(store)
    }
}

/// Migrations: see [`StateMigration`].
impl Builder {
    pub(super) fn with_registry(mut self, change: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::of(&self);
        change(&mut registry);
        self.schema = Some(Arc::new(registry));
        self
    }

    /// A migration of the state. They may be given in any order; by their versions they
    /// form a chain without gaps and doubles, or the store is not opened
    /// ([`Error::BrokenChain`]).
    ///
    /// When the store is opened, those that its state has not been through are run, and
    /// it is given out when all of them have succeeded: see [`StateMigration`]. A store
    /// with nothing in it takes the newest version and runs none. One whose state is newer
    /// than the newest migration is not opened ([`Error::NewerSchema`]).
    ///
    /// ```
    /// use evenkeel::{Error, MigrationScope, Result, StateMigration, Store};
    /// struct To(u32);
    /// impl StateMigration for To {
    ///     fn version(&self) -> u32 { self.0 }
    ///     fn migrate(&self, _: &mut MigrationScope) -> Result<()> { Ok(()) }
    /// }
    /// let store = Store::builder().migration(To(3)).migration(To(2)).in_memory()?;
    /// assert_eq!(store.schema_version(), 3);
    /// let gap = Store::builder().migration(To(4)).migration(To(2)).in_memory();
    /// assert!(matches!(gap, Err(Error::BrokenChain { version: 3, .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn migration(self, migration: impl StateMigration + 'static) -> Self {
        self.with_registry(|registry| registry.add(Arc::new(migration)))
    }

    /// Whether migrations are run when the store is opened. If not, a store that needs
    /// some is not opened ([`Error::MigrationNeeded`]), and they are run by command, by
    /// [`Builder::migrations`]. Default true.
    ///
    /// ```
    /// use evenkeel::{Error, MigrationScope, Result, StateMigration, Store};
    /// struct To2;
    /// impl StateMigration for To2 {
    ///     fn version(&self) -> u32 { 2 }
    ///     fn migrate(&self, _: &mut MigrationScope) -> Result<()> { Ok(()) }
    /// }
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state");
    /// let store = Store::open(&path)?;
    /// store.global().set("a", 1)?;
    /// store.close()?;
    /// let builder = || Store::builder().migration(To2).migrations_at_open(false);
    /// let refused = builder().open(&path);
    /// assert!(matches!(refused, Err(Error::MigrationNeeded { found: 1, wanted: 2, .. })));
    /// let migrations = builder().migrations(&path)?;
    /// migrations.run()?;
    /// migrations.close()?;
    /// assert_eq!(builder().open(&path)?.schema_version(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn migrations_at_open(self, at_open: bool) -> Self {
        self.with_registry(|registry| registry.by_command = !at_open)
    }

    /// Who is told how far migrations are, on the thread that runs them. The answer
    /// `Break` stops them with [`Error::Stopped`]: what was done stays staged, unseen, and
    /// the next run goes on with it.
    ///
    /// ```
    /// use evenkeel::Store;
    /// use std::ops::ControlFlow;
    /// let builder = Store::builder().migration_progress(|progress| {
    ///     println!("{}: {} of {}", progress.name, progress.scopes, progress.scopes_total);
    ///     ControlFlow::Continue(())
    /// });
    /// # builder.in_memory()?;
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn migration_progress(
        self,
        watcher: impl Fn(&MigrationProgress) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.with_registry(|registry| registry.watcher = Watcher::new(watcher))
    }
}
