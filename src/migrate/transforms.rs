//! Owns transforms: migrations of the common kinds, said and not written. What each one
//! does is in `step`.

mod step;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::migrate::key_pattern::KeyPattern;
use crate::migrate::scope::MigrationScope;
use crate::migrate::scope_set::ScopeSet;
use crate::migrate::{MigrationBudget, StateMigration};
use crate::scope::Scope;
use crate::value::Value;
use step::{Cut, Mapping, Move, Step, fields};

/// A migration of common transforms, one after the other, in each scope that it is about.
///
/// What it is about is said once, by [`scopes`](Self::scopes) (default: all), and each
/// transform acts where its keys are: a key that is missing is no error, and its transform
/// does nothing there. What is there and is not of the type that a transform asks for
/// fails the migration, as does a key that would be written and is there already: nothing
/// is overwritten. A value keeps its deadline; one that was made of several gets the
/// latest of theirs, and none where one of them has none, so that nothing is lost early.
///
/// **The way back.** Reverting undoes the transforms in reverse order. `rename` and
/// `default` need nothing for it; the others have a second form, `…_and_back`, that is
/// given the way. If one transform has none, reverting fails with [`Error::Irreversible`],
/// which names it.
///
/// What the versions before and after have in common should be said by names and text
/// only: closures cannot be compared, so a migration that was interrupted goes on with the
/// closures that it finds.
///
/// ```
/// use evenkeel::{KeyPattern, Scope, ScopeKind, ScopeSet, Store, Transforms};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("state");
/// let store = Store::open(&path)?;
/// let user = store.scope(Scope::custom("user/ada"));
/// user.set("name", "Ada Lovelace")?;
/// user.set("mail", "ada@example.org")?;
/// user.set("age", "36")?;
/// store.close()?;
///
/// let tidy = Transforms::to(2)
///     .name("tidy users")
///     .scopes(ScopeSet::pattern(ScopeKind::Custom, ["user/*"]))
///     .rename("mail", "email")
///     .default("active", true)
///     .split_and_back(
///         "name",
///         ["first", "last"],
///         |name: String| {
///             let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
///             Ok([first, last].map(|part| Some(part.to_owned())))
///         },
///         |[first, last]| Ok([first.unwrap_or_default(), last.unwrap_or_default()].join(" ")),
///     )
///     .convert_and_back(
///         "age",
///         |age: String| age.parse::<u32>().map_err(evenkeel::Error::abort),
///         |age| Ok(age.to_string()),
///     );
/// let store = Store::builder().migration(tidy).open(&path)?;
/// let user = store.scope(Scope::custom("user/ada"));
/// assert_eq!(user.get("last")?, Some("Lovelace".to_owned()));
/// assert_eq!(user.get("age")?, Some(36));
/// assert_eq!(user.keys()?.collect::<Vec<_>>(), ["active", "age", "email", "first", "last"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "transforms do nothing until they are registered with a builder"]
pub struct Transforms {
    version: u32,
    name: Option<String>,
    description: Option<String>,
    scopes: ScopeSet,
    budget: MigrationBudget,
    steps: Vec<Step>,
}

/// What it does, in words.
impl fmt::Debug for Transforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transforms")
            .field("version", &self.version)
            .field("name", &self.name())
            .field("scopes", &self.scopes)
            .field("steps", &self.in_words())
            .finish_non_exhaustive()
    }
}

impl Transforms {
    /// Transforms that bring the state to this version, from the one before. None yet: as
    /// they are, they change nothing but the version.
    pub fn to(version: u32) -> Self {
        Self {
            version,
            name: None,
            description: None,
            scopes: ScopeSet::all(),
            budget: MigrationBudget::default(),
            steps: Vec::new(),
        }
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// What it is called in errors, reports and the history. Default: `transforms`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What it does, for people. Default: the transforms in words.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The scopes that it is about. Default: all.
    pub fn scopes(mut self, scopes: ScopeSet) -> Self {
        self.scopes = scopes;
        self
    }

    /// What it may do in one scope, and how long it may take. Default: see
    /// [`MigrationBudget`].
    pub fn budget(mut self, budget: MigrationBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Gives a value another key; or all values whose keys begin alike, keeping what is
    /// behind the prefix. Back: the other way round.
    ///
    /// Both have to be keys, or both prefixes; otherwise opening the store fails with
    /// [`Error::Invalid`].
    ///
    /// ```
    /// use evenkeel::{KeyPattern, Transforms};
    /// let migration = Transforms::to(2)
    ///     .rename("nmae", "name")
    ///     .rename(KeyPattern::prefix("usr."), KeyPattern::prefix("user."));
    /// ```
    pub fn rename(self, from: impl Into<KeyPattern>, to: impl Into<KeyPattern>) -> Self {
        let (from, to) = (from.into(), to.into());
        self.then(Step::Rename { from, to })
    }

    /// Sets a key where it is missing, in each scope that the migration is about and that
    /// has keys. Back: removes it where it still has this value, also where it had that
    /// before.
    pub fn default(self, key: impl AsRef<str>, value: impl Into<Value>) -> Self {
        let (key, value) = (key.as_ref().to_owned(), normal(value.into()));
        self.then(Step::Default { key, value })
    }

    /// Removes keys. There is no way back.
    pub fn remove(self, keys: impl Into<KeyPattern>) -> Self {
        let keys = keys.into();
        self.then(Step::Remove { keys, back: None })
    }

    /// Removes a key. Back: sets it to this value where it is missing, as
    /// [`default`](Self::default) does.
    pub fn remove_and_back(self, key: impl AsRef<str>, value: impl Into<Value>) -> Self {
        let keys = KeyPattern::key(key.as_ref());
        let back = Some((key.as_ref().to_owned(), normal(value.into())));
        self.then(Step::Remove { keys, back })
    }

    /// Makes several values out of one, which is removed unless its key is among those
    /// that are written. What comes out as `None` is not written. There is no way back.
    ///
    /// Parts of different types are [`Value`]s.
    pub fn split<T, V, const N: usize>(
        self,
        key: impl AsRef<str>,
        into: [&str; N],
        split: impl Fn(T) -> Result<[Option<V>; N]> + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned + 'static,
        V: Serialize + 'static,
    {
        self.then(Step::Cut {
            there: Cut::split(key.as_ref(), into, split),
            back: None,
        })
    }

    /// As [`split`](Self::split), and the way back: makes one value out of the parts that
    /// are there, if there are any.
    pub fn split_and_back<T, V, const N: usize>(
        self,
        key: impl AsRef<str>,
        into: [&str; N],
        split: impl Fn(T) -> Result<[Option<V>; N]> + Send + Sync + 'static,
        merge: impl Fn([Option<V>; N]) -> Result<T> + Send + Sync + 'static,
    ) -> Self
    where
        T: Serialize + DeserializeOwned + 'static,
        V: Serialize + DeserializeOwned + 'static,
    {
        self.then(Step::Cut {
            there: Cut::split(key.as_ref(), into, split),
            back: Some(Cut::merge(into, key.as_ref(), merge)),
        })
    }

    /// Makes one value out of several, which are removed unless the key that is written is
    /// one of theirs. Those that are missing come as `None`; where all are, nothing is
    /// done. There is no way back.
    ///
    /// Sources of different types are [`Value`]s.
    ///
    /// ```
    /// use evenkeel::{Result, Transforms};
    /// let migration = Transforms::to(2).merge(["first", "last"], "name", |parts: [Option<String>; 2]| {
    ///     Ok(parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
    /// });
    /// ```
    pub fn merge<V, T, const N: usize>(
        self,
        from: [&str; N],
        into: impl AsRef<str>,
        merge: impl Fn([Option<V>; N]) -> Result<T> + Send + Sync + 'static,
    ) -> Self
    where
        V: DeserializeOwned + 'static,
        T: Serialize + 'static,
    {
        self.then(Step::Cut {
            there: Cut::merge(from, into.as_ref(), merge),
            back: None,
        })
    }

    /// As [`merge`](Self::merge), and the way back: makes the parts out of the value.
    pub fn merge_and_back<V, T, const N: usize>(
        self,
        from: [&str; N],
        into: impl AsRef<str>,
        merge: impl Fn([Option<V>; N]) -> Result<T> + Send + Sync + 'static,
        split: impl Fn(T) -> Result<[Option<V>; N]> + Send + Sync + 'static,
    ) -> Self
    where
        V: Serialize + DeserializeOwned + 'static,
        T: Serialize + DeserializeOwned + 'static,
    {
        self.then(Step::Cut {
            there: Cut::merge(from, into.as_ref(), merge),
            back: Some(Cut::split(into.as_ref(), from, split)),
        })
    }

    /// Makes a value of another type out of each that has such a key. There is no way
    /// back.
    ///
    /// ```
    /// use evenkeel::{KeyPattern, Transforms};
    /// let migration = Transforms::to(2)
    ///     .convert::<u32, u64>(KeyPattern::prefix("count."), |count| Ok(u64::from(count) * 1000));
    /// ```
    pub fn convert<Old, New>(
        self,
        keys: impl Into<KeyPattern>,
        convert: impl Fn(Old) -> Result<New> + Send + Sync + 'static,
    ) -> Self
    where
        Old: DeserializeOwned + 'static,
        New: Serialize + 'static,
    {
        self.then(Step::Convert {
            keys: keys.into(),
            what: "convert".into(),
            there: Mapping::new(convert),
            back: None,
        })
    }

    /// As [`convert`](Self::convert), and the way back.
    pub fn convert_and_back<Old, New>(
        self,
        keys: impl Into<KeyPattern>,
        convert: impl Fn(Old) -> Result<New> + Send + Sync + 'static,
        back: impl Fn(New) -> Result<Old> + Send + Sync + 'static,
    ) -> Self
    where
        Old: Serialize + DeserializeOwned + 'static,
        New: Serialize + DeserializeOwned + 'static,
    {
        self.then(Step::Convert {
            keys: keys.into(),
            what: "convert".into(),
            there: Mapping::new(convert),
            back: Some(Mapping::new(back)),
        })
    }

    /// Moves values to another scope, where they have the same keys; it need not be there
    /// yet. Where the same scope is answered, they stay. There is no way back.
    ///
    /// The other scope must not be among [`scopes`](Self::scopes), which is refused when
    /// it comes up: it would be visited, too, before the values came or behind that.
    ///
    /// ```
    /// use evenkeel::{KeyPattern, Scope, ScopeKind, ScopeSet, Transforms};
    /// let migration = Transforms::to(2)
    ///     .scopes(ScopeSet::kind(ScopeKind::Workflow))
    ///     .move_to(KeyPattern::prefix("cache."), |scope| match scope {
    ///         Scope::Workflow(id) => Scope::custom(format!("cache/{id}")),
    ///         other => other.clone(),
    ///     });
    /// ```
    pub fn move_to(
        self,
        keys: impl Into<KeyPattern>,
        to: impl Fn(&Scope) -> Scope + Send + Sync + 'static,
    ) -> Self {
        let keys = keys.into();
        self.then(Step::Move(Move::new(keys, to, None)))
    }

    /// As [`move_to`](Self::move_to), and the way back: where the values of a scope came
    /// from; `None` for a scope that none were moved to.
    ///
    /// Going back looks at other scopes than going there, so transforms of another kind
    /// cannot stand beside it: give them a version of their own. Opening the store fails
    /// with [`Error::Invalid`] otherwise.
    pub fn move_to_and_back(
        self,
        keys: impl Into<KeyPattern>,
        to: impl Fn(&Scope) -> Scope + Send + Sync + 'static,
        back: impl Fn(&Scope) -> Option<Scope> + Send + Sync + 'static,
    ) -> Self {
        let keys = keys.into();
        self.then(Step::Move(Move::new(keys, to, Some(Box::new(back)))))
    }

    /// Gives a field another name, in values that are maps; those without it stay as they
    /// are. Back: the other way round.
    ///
    /// ```
    /// use evenkeel::{KeyPattern, Transforms};
    /// let migration = Transforms::to(2)
    ///     .rename_field(KeyPattern::prefix("job."), "cnt", "count")
    ///     .default_field(KeyPattern::prefix("job."), "retries", 0)
    ///     .remove_field(KeyPattern::prefix("job."), "debug");
    /// ```
    pub fn rename_field(
        self,
        keys: impl Into<KeyPattern>,
        from: impl Into<String>,
        to: impl Into<String>,
    ) -> Self {
        let (from, to) = (from.into(), to.into());
        self.then(Step::Convert {
            keys: keys.into(),
            what: format!("rename the field {from:?} to {to:?} in"),
            there: fields::rename(from.clone(), to.clone()),
            back: Some(fields::rename(to, from)),
        })
    }

    /// Sets a field where it is missing, in values that are maps. Back: removes it where
    /// it still has this value, also where it had that before.
    pub fn default_field(
        self,
        keys: impl Into<KeyPattern>,
        field: impl Into<String>,
        value: impl Into<Value>,
    ) -> Self {
        let (field, value) = (field.into(), normal(value.into()));
        self.then(Step::Convert {
            keys: keys.into(),
            what: format!("default the field {field:?} to {value} in"),
            there: fields::default(field.clone(), value.clone()),
            back: Some(fields::remove_if(field, value)),
        })
    }

    /// Removes a field from values that are maps. There is no way back.
    pub fn remove_field(self, keys: impl Into<KeyPattern>, field: impl Into<String>) -> Self {
        let field = field.into();
        self.then(Step::Convert {
            keys: keys.into(),
            what: format!("remove the field {field:?} from"),
            there: fields::remove(field),
            back: None,
        })
    }

    /// As [`remove_field`](Self::remove_field). Back: sets it to this value where it is
    /// missing, in all values that are maps.
    pub fn remove_field_and_back(
        self,
        keys: impl Into<KeyPattern>,
        field: impl Into<String>,
        value: impl Into<Value>,
    ) -> Self {
        let (field, value) = (field.into(), normal(value.into()));
        self.then(Step::Convert {
            keys: keys.into(),
            what: format!("remove the field {field:?} from"),
            there: fields::remove(field.clone()),
            back: Some(fields::default(field, value)),
        })
    }

    fn in_words(&self) -> String {
        let steps: Vec<_> = self.steps.iter().map(Step::to_string).collect();
        steps.join("; ")
    }

    /// The moves that have a way back.
    fn moves_back(&self) -> impl Iterator<Item = &Move> {
        self.steps.iter().filter_map(|step| match step {
            Step::Move(step) if step.has_way_back() => Some(step),
            _ => None,
        })
    }
}

/// A value as it will be read, so that it can be known again.
fn normal(value: Value) -> Value {
    Value::from_serialize(&value).unwrap_or(value)
}

impl StateMigration for Transforms {
    fn version(&self) -> u32 {
        self.version
    }

    fn name(&self) -> String {
        let name = self.name.as_deref();
        name.unwrap_or("transforms").to_owned()
    }

    fn description(&self) -> String {
        let description = self.description.clone();
        description.unwrap_or_else(|| self.in_words())
    }

    fn fingerprint(&self) -> String {
        format!("{}; in {:?}", self.in_words(), self.scopes)
    }

    fn budget(&self) -> MigrationBudget {
        self.budget
    }

    fn scopes(&self) -> ScopeSet {
        self.scopes.clone()
    }

    /// What was moved is where it was moved to.
    fn revert_scopes(&self) -> ScopeSet {
        match self.moves_back().next() {
            Some(_) => ScopeSet::all().except(self.scopes.clone()),
            None => self.scopes.clone(),
        }
    }

    fn joins(&self, scope: &Scope) -> ScopeSet {
        let mut joined = ScopeSet::none();
        for step in &self.steps {
            if let Step::Move(step) = step {
                for other in step.joins(scope, &self.scopes) {
                    joined = joined.or(ScopeSet::scope(other));
                }
            }
        }
        joined
    }

    fn check(&self) -> Result<()> {
        self.steps.iter().try_for_each(Step::check)?;
        let moving = self.moves_back().count();
        match moving == 0 || moving == self.steps.len() {
            true => Ok(()),
            false => Err(Error::Invalid {
                what: "transforms",
                reason: format!(
                    "{} moves values to another scope and back, and does something else as well; give that a version of its own",
                    self.name()
                ),
            }),
        }
    }

    fn migrate(&self, state: &mut MigrationScope<'_>) -> Result<()> {
        let mut steps = self.steps.iter();
        steps.try_for_each(|step| step.there(state, &self.scopes, &self.budget))
    }

    fn revert(&self, state: &mut MigrationScope<'_>) -> Result<()> {
        if let Some(step) = self.steps.iter().find(|step| !step.has_way_back()) {
            return Err(Error::Irreversible {
                version: self.version,
                name: format!("{}: {step}", self.name()),
            });
        }
        let mut steps = self.steps.iter().rev();
        steps.try_for_each(|step| step.back(state, &self.scopes, &self.budget))
    }
}
