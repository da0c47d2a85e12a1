//! Owns what a rehearsal reports, for programs and for people.

use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::scope::Scope;
use crate::state::MigrationStep;
use crate::value::Value;

/// What migrations would do to the state. Made by
/// [`Migrations::rehearse`](crate::Migrations::rehearse); its text is for people.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "a rehearsal that failed says so here only"]
pub struct Rehearsal {
    /// The schema version that the state has.
    pub from: u32,
    /// The one that it would get.
    pub to: u32,
    /// What each migration did that went through, in order.
    pub migrations: Vec<RehearsedMigration>,
    /// What a real run would fail with: a migration, or a limit of a scope. `None` where
    /// all went through. What the migrations behind it would do is not known then.
    pub failure: Option<Error>,
    /// The invariants; none is asked behind a failure.
    pub invariants: Vec<RehearsedInvariant>,
    /// What the way back brought back.
    pub reverts: Reverts,
    /// The state as it is.
    pub before: StateSize,
    /// The state as the last migration that went through left it.
    pub after: StateSize,
    /// How long the rehearsal took, with all looking and comparing.
    pub time: Duration,
}

/// How much a state has, without the store's own bookkeeping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateSize {
    /// The scopes that have keys.
    pub scopes: u64,
    /// The keys.
    pub keys: u64,
    /// The bytes of keys and values, as quotas count them.
    pub bytes: u64,
}

/// What one migration did in a rehearsal.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RehearsedMigration {
    /// What the report of a real run will say of it.
    pub step: MigrationStep,
    /// What it says of itself.
    pub description: String,
    /// The keys that were not there before.
    pub added: u64,
    /// The keys that have another value or another deadline.
    pub changed: u64,
    /// The keys that are gone.
    pub removed: u64,
    /// The keys that are as they were.
    pub unchanged: u64,
    /// The state before it.
    pub before: StateSize,
    /// The state after it.
    pub after: StateSize,
    /// The bytes that it stages. A real run writes them to the log and the image twice:
    /// once when it stages them, and once when it applies what the last migration left.
    pub staged_bytes: u64,
    /// How long it ran. A real run takes that, and then as long as applying takes.
    pub time: Duration,
    /// Some of the keys that it added, changed or removed, in order: up to 8 of each of up
    /// to 3 scopes from all over the state, without values above 64 KiB.
    pub samples: Vec<Sample>,
}

/// A key before and after.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The scope.
    pub scope: Scope,
    /// The key.
    pub key: String,
    /// The value before; `None` where there was none.
    pub before: Option<Value>,
    /// The value after; `None` where there is none.
    pub after: Option<Value>,
    /// When the value before expires, in microseconds of store time; `None` for never.
    pub expires_before: Option<u64>,
    /// When the value after expires.
    pub expires_after: Option<u64>,
}

/// Whether an invariant holds of the migrated state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RehearsedInvariant {
    /// Its name.
    pub name: String,
    /// Why it does not hold; `None` where it does.
    pub broken: Option<String>,
}

/// What the way back brought back, from the version that the migrations lead to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reverts {
    /// It was not gone: nothing is pending, or the migrations failed.
    NotTried,
    /// What was, to the deadline of each value.
    Exactly,
    /// Something else.
    Differs {
        /// How many keys are other than they were.
        keys: u64,
        /// The first of them, as they were and as they came back; at most 10, without
        /// values above 64 KiB.
        first: Vec<Sample>,
    },
    /// Nothing: there is no way back, or it fails.
    Fails(Error),
}

impl Reverts {
    /// True where the way back brought back what was.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        matches!(self, Self::Exactly)
    }
}

impl Rehearsal {
    /// True where a real run would succeed: no migration failed, no limit was crossed, and
    /// all invariants hold. It says nothing of the way back.
    #[must_use]
    pub fn would_succeed(&self) -> bool {
        let holds = |invariant: &RehearsedInvariant| invariant.broken.is_none();
        self.failure.is_none() && self.invariants.iter().all(holds)
    }
}

/// The longest that a value or key is shown, in characters.
const SHOWN_MAX: usize = 60;

/// A text, cut where it is long.
struct Cut<'a>(&'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN_MAX) {
            None => f.write_str(self.0),
            Some((end, _)) => write!(f, "{}… ({} bytes)", &self.0[..end], self.0.len()),
        }
    }
}

/// A number with its word: "1 key", "2 keys".
struct Count(u64, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}

impl fmt::Display for StateSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scopes, keys) = (Count(self.scopes, "scope"), Count(self.keys, "key"));
        write!(f, "{scopes}, {keys}, {}", Count(self.bytes, "byte"))
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |value: &Option<Value>, until: Option<u64>| match (value, until) {
            (None, _) => "(absent)".to_owned(),
            (Some(value), None) => Cut(&value.to_string()).to_string(),
            (Some(value), Some(until)) => {
                format!("{} (expires at {until} µs)", Cut(&value.to_string()))
            }
        };
        let before = side(&self.before, self.expires_before);
        let after = side(&self.after, self.expires_after);
        let key = format!("{:?}", self.key);
        write!(f, "{}: {before} → {after}", Cut(&key))
    }
}

/// Samples below the names of their scopes.
fn write_samples(f: &mut fmt::Formatter<'_>, samples: &[Sample]) -> fmt::Result {
    let mut scope = None;
    for sample in samples {
        if scope != Some(&sample.scope) {
            writeln!(f, "    {}", sample.scope)?;
            scope = Some(&sample.scope);
        }
        writeln!(f, "      {sample}")?;
    }
    Ok(())
}

impl fmt::Display for RehearsedMigration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Migration {} ({})", self.step.version, self.step.name)?;
        match self.description.as_str() {
            "" => writeln!(f)?,
            description => writeln!(f, ": {description}")?,
        }
        let visited = Count(self.step.scopes, "scope");
        writeln!(f, "  visited {visited} in {:.1?}", self.time)?;
        writeln!(
            f,
            "  keys: {} added, {} changed, {} removed, {} unchanged",
            self.added, self.changed, self.removed, self.unchanged
        )?;
        let (before, after) = (self.before.bytes, Count(self.after.bytes, "byte"));
        let staged = Count(self.staged_bytes, "byte");
        writeln!(f, "  size: {before} → {after}; {staged} staged")?;
        write_samples(f, &self.samples)
    }
}

impl fmt::Display for Reverts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTried => writeln!(f, "Way back: not tried"),
            Self::Exactly => writeln!(f, "Way back: brings back exactly what was"),
            Self::Fails(e) => writeln!(f, "Way back: FAILS: {e}"),
            Self::Differs { keys, first } => {
                let keys = Count(*keys, "key");
                writeln!(f, "Way back: LEAVES {keys} OTHER than before, such as")?;
                write_samples(f, first)
            }
        }
    }
}

/// For people: what would be, what each migration does with samples of that, the
/// invariants, and the way back. Not meant to be read by programs.
impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        let verdict = match self.would_succeed() {
            true => "would succeed",
            false => "WOULD FAIL",
        };
        match from == to {
            true => writeln!(f, "Rehearsal: the state has version {to}, nothing to run")?,
            false => writeln!(f, "Rehearsal: from version {from} to {to}, which {verdict}")?,
        }
        writeln!(f, "  now:  {}", self.before)?;
        writeln!(f, "  then: {}", self.after)?;
        for migration in &self.migrations {
            write!(f, "{migration}")?;
        }
        if let Some(e) = &self.failure {
            writeln!(f, "FAILURE: {e}")?;
        }
        for invariant in &self.invariants {
            let name = &invariant.name;
            match &invariant.broken {
                None => writeln!(f, "Invariant {name:?}: holds")?,
                Some(reason) => writeln!(f, "Invariant {name:?}: BROKEN: {reason}")?,
            }
        }
        write!(f, "{}", self.reverts)?;
        write!(
            f,
            "Rehearsed in {:.1?}; the state was not touched.",
            self.time
        )
    }
}
