//! Owns scopes: the place a key belongs to, and its encoding at the front of every
//! full key. Imports only `error`.
//!
//! What must stay true, for all byte strings and not only for UTF-8:
//!
//! - Two different scopes have different encodings, none of which is a prefix of
//!   another: a scan over the encoding of a scope sees that scope and no other.
//! - Encodings sort as the scopes do: by kind, then by the bytes of the components.
//!
//! ```text
//! full key  = scope , key bytes
//! scope     = tag , component*        as many components as the kind has
//! tag       = 01 global | 02 workflow | 03 step | 04 custom
//!           | 05 worker | 06 routine  | 07 job  | 08 system
//! component = byte* , 00 01           a byte 00 is written as 00 FF
//! ```
//!
//! A length before each component would be prefix-free too, but would sort "b"
//! before "aa".

use std::fmt;

use crate::error::{Error, Result};

/// The most bytes that one component of a scope may have.
pub(crate) const COMPONENT_BYTES_MAX: usize = 1024;
/// The most bytes that an encoded scope may have.
pub(crate) const ENCODED_BYTES_MAX: usize = 4096;

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xFF;
const END: u8 = 0x01;
/// What ends a component: [`ESCAPE`] and [`END`].
const END_BYTES: usize = 2;

/// The place that a key belongs to. The same key in two scopes is two keys.
///
/// Scopes sort by kind, in the order below, then by their ids, byte for byte.
///
/// ```
/// use evenkeel::Scope;
/// let scope = Scope::step("order-42", "charge");
/// assert_eq!(scope.to_string(), r#"step "charge" of workflow "order-42""#);
/// assert!(Scope::Global < scope);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// What the whole store shares.
    Global,
    /// One workflow, by its id.
    Workflow(String),
    /// One step of one workflow.
    Step {
        /// The id of the workflow.
        workflow_id: String,
        /// The name of the step within it.
        step_name: String,
    },
    /// A namespace of the application's own.
    Custom(String),
    /// One worker, by its id.
    Worker(String),
    /// One routine of one worker.
    Routine {
        /// The id of the worker.
        worker_id: String,
        /// The id of the routine within it.
        routine_id: String,
    },
    /// One job, by its id.
    Job(String),
    /// A part of the store's own bookkeeping. Nobody else can name one, and
    /// [`crate::Store::scopes`] does not list them.
    System(SystemScope),
}

/// A kind of scope, whatever its ids.
///
/// ```
/// use evenkeel::{ScopeKind, Store, WatchFilter};
/// let store = Store::in_memory();
/// let jobs = store.watch(WatchFilter::kind(ScopeKind::Job))?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ScopeKind {
    /// [`Scope::Global`].
    Global,
    /// [`Scope::Workflow`].
    Workflow,
    /// [`Scope::Step`].
    Step,
    /// [`Scope::Custom`].
    Custom,
    /// [`Scope::Worker`].
    Worker,
    /// [`Scope::Routine`].
    Routine,
    /// [`Scope::Job`].
    Job,
}

impl ScopeKind {
    /// All kinds, in order.
    pub(crate) const ALL: [Self; 7] = [
        Self::Global,
        Self::Workflow,
        Self::Step,
        Self::Custom,
        Self::Worker,
        Self::Routine,
        Self::Job,
    ];

    fn as_tag(self) -> Tag {
        match self {
            Self::Global => Tag::Global,
            Self::Workflow => Tag::Workflow,
            Self::Step => Tag::Step,
            Self::Custom => Tag::Custom,
            Self::Worker => Tag::Worker,
            Self::Routine => Tag::Routine,
            Self::Job => Tag::Job,
        }
    }

    /// What the encodings of its scopes begin with.
    pub(crate) fn tag(self) -> u8 {
        self.as_tag() as u8
    }

    /// How many ids its scopes have.
    pub(crate) fn ids(self) -> usize {
        self.as_tag().components()
    }

    /// The kind of an encoded scope; `None` for a part of the store's own bookkeeping.
    pub(crate) fn of(prefix: &[u8]) -> Option<Self> {
        // Tags begin at 1, and the kinds are in their order.
        Self::ALL
            .get(usize::from(*prefix.first()?).checked_sub(1)?)
            .copied()
    }

    /// True for the encoding of a scope of this kind.
    pub(crate) fn is_of(self, prefix: &[u8]) -> bool {
        Self::of(prefix) == Some(self)
    }
}

/// What the keys of the store's own bookkeeping begin with. All others are lower.
pub(crate) const SYSTEM_BEGIN: [u8; 1] = [Tag::System as u8];

/// True for the encoding of a part of the store's own bookkeeping.
pub(crate) fn is_system(prefix: &[u8]) -> bool {
    prefix.starts_with(&SYSTEM_BEGIN)
}

/// The name of a part of the store's own bookkeeping.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SystemScope(String);

/// The kinds as tags, in the order in which the variants of [`Scope`] are declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    Global = 1,
    Workflow = 2,
    Step = 3,
    Custom = 4,
    Worker = 5,
    Routine = 6,
    Job = 7,
    System = 8,
}

impl Tag {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Global,
            2 => Self::Workflow,
            3 => Self::Step,
            4 => Self::Custom,
            5 => Self::Worker,
            6 => Self::Routine,
            7 => Self::Job,
            8 => Self::System,
            _ => return None,
        })
    }

    /// How many components the kind has.
    fn components(self) -> usize {
        match self {
            Self::Global => 0,
            Self::Workflow | Self::Custom | Self::Worker | Self::Job | Self::System => 1,
            Self::Step | Self::Routine => 2,
        }
    }
}

impl Scope {
    /// The scope of one workflow.
    ///
    /// ```
    /// # use evenkeel::Scope;
    /// assert_eq!(Scope::workflow("a").to_string(), r#"workflow "a""#);
    /// ```
    pub fn workflow(id: impl Into<String>) -> Self {
        Self::Workflow(id.into())
    }

    /// The scope of one step of a workflow.
    ///
    /// ```
    /// # use evenkeel::Scope;
    /// assert_eq!(Scope::step("a", "s").to_string(), r#"step "s" of workflow "a""#);
    /// ```
    pub fn step(workflow_id: impl Into<String>, step_name: impl Into<String>) -> Self {
        Self::Step {
            workflow_id: workflow_id.into(),
            step_name: step_name.into(),
        }
    }

    /// A scope of the application's own.
    ///
    /// ```
    /// # use evenkeel::Scope;
    /// assert_eq!(Scope::custom("cache").to_string(), r#"custom scope "cache""#);
    /// ```
    pub fn custom(namespace: impl Into<String>) -> Self {
        Self::Custom(namespace.into())
    }

    /// The scope of one worker.
    ///
    /// ```
    /// # use evenkeel::Scope;
    /// assert_eq!(Scope::worker("w").to_string(), r#"worker "w""#);
    /// ```
    pub fn worker(id: impl Into<String>) -> Self {
        Self::Worker(id.into())
    }

    /// The scope of one routine of a worker.
    ///
    /// ```
    /// # use evenkeel::Scope;
    /// assert_eq!(Scope::routine("w", "r").to_string(), r#"routine "r" of worker "w""#);
    /// ```
    pub fn routine(worker_id: impl Into<String>, routine_id: impl Into<String>) -> Self {
        Self::Routine {
            worker_id: worker_id.into(),
            routine_id: routine_id.into(),
        }
    }

    /// The scope of one job.
    ///
    /// ```
    /// # use evenkeel::Scope;
    /// assert_eq!(Scope::job("j").to_string(), r#"job "j""#);
    /// ```
    pub fn job(id: impl Into<String>) -> Self {
        Self::Job(id.into())
    }

    /// A part of the store's own bookkeeping. It is no user's: its names are ours.
    pub(crate) fn system(name: impl Into<String>) -> Self {
        Self::System(SystemScope(name.into()))
    }

    /// The part of the store's own bookkeeping that holds the caches of this scope. The
    /// lengths keep names apart, whatever is in the ids.
    pub(crate) fn caches(&self) -> Self {
        let (tag, components) = self.parts();
        let mut name = format!("caches/{}", tag as u8);
        for component in components.into_iter().flatten() {
            name.push_str(&format!("/{}:{component}", component.len()));
        }
        Self::system(name)
    }

    /// What the encodings of all parts that hold caches begin with.
    pub(crate) fn all_caches() -> Vec<u8> {
        Self::system("caches/").beginning()
    }

    /// What the encodings of all scopes begin with whose last name begins as this one's.
    pub(crate) fn beginning(&self) -> Vec<u8> {
        let mut prefix = self.encode();
        prefix.truncate(prefix.len().saturating_sub(END_BYTES));
        prefix
    }

    /// Refuses a scope that is too long to be written.
    pub(crate) fn validate(&self) -> Result<()> {
        let (_, components) = self.parts();
        for component in components.into_iter().flatten() {
            check(
                "scope_component_bytes",
                COMPONENT_BYTES_MAX,
                component.len(),
                self,
            )?;
        }
        // Only escaped zeros can make a scope of permitted components too long.
        if self.encoded_bytes_max() > ENCODED_BYTES_MAX {
            check("scope_bytes", ENCODED_BYTES_MAX, self.encode().len(), self)?;
        }
        Ok(())
    }

    /// The encoding that stands at the front of every full key in this scope.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends what [`Scope::encode`] gives.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let (tag, components) = self.parts();
        let components = components.iter().flatten();
        let bytes: usize = components.clone().map(|c| c.len() + 2).sum();
        out.reserve(1 + bytes);
        out.push(tag as u8);
        for component in components {
            put_component(out, component.as_bytes());
        }
    }

    /// The scope at the front of a full key, and the bytes that it takes there.
    /// `None` where there is none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&first, mut rest) = bytes.split_first()?;
        let tag = Tag::from_byte(first)?;
        let mut components = [String::new(), String::new()];
        for slot in components.iter_mut().take(tag.components()) {
            let (component, used) = take_component(rest)?;
            *slot = String::from_utf8(component).ok()?;
            rest = rest.get(used..)?;
        }
        let [one, two] = components;
        let scope = match tag {
            Tag::Global => Self::Global,
            Tag::Workflow => Self::Workflow(one),
            Tag::Step => Self::Step {
                workflow_id: one,
                step_name: two,
            },
            Tag::Custom => Self::Custom(one),
            Tag::Worker => Self::Worker(one),
            Tag::Routine => Self::Routine {
                worker_id: one,
                routine_id: two,
            },
            Tag::Job => Self::Job(one),
            Tag::System => Self::System(SystemScope(one)),
        };
        Some((scope, bytes.len() - rest.len()))
    }

    fn parts(&self) -> (Tag, [Option<&str>; 2]) {
        match self {
            Self::Global => (Tag::Global, [None, None]),
            Self::Workflow(id) => (Tag::Workflow, [Some(id), None]),
            Self::Step {
                workflow_id,
                step_name,
            } => (Tag::Step, [Some(workflow_id), Some(step_name)]),
            Self::Custom(namespace) => (Tag::Custom, [Some(namespace), None]),
            Self::Worker(id) => (Tag::Worker, [Some(id), None]),
            Self::Routine {
                worker_id,
                routine_id,
            } => (Tag::Routine, [Some(worker_id), Some(routine_id)]),
            Self::Job(id) => (Tag::Job, [Some(id), None]),
            Self::System(SystemScope(name)) => (Tag::System, [Some(name), None]),
        }
    }

    /// How long the encoding would be if every byte had to be escaped.
    fn encoded_bytes_max(&self) -> usize {
        let (_, components) = self.parts();
        let bytes = |component: &str| component.len().saturating_mul(2).saturating_add(2);
        components
            .into_iter()
            .flatten()
            .map(bytes)
            .fold(1, usize::saturating_add)
    }

    /// The kind; `None` for a part of the store's own bookkeeping.
    pub(crate) fn kind(&self) -> Option<ScopeKind> {
        let (tag, _) = self.parts();
        ScopeKind::of(&[tag as u8])
    }

    /// The ids, as many as the kind has.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        let (_, components) = self.parts();
        components.into_iter().flatten()
    }

    fn kind_text(&self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Workflow(_) => "workflow",
            Self::Step { .. } => "step",
            Self::Custom(_) => "custom scope",
            Self::Worker(_) => "worker",
            Self::Routine { .. } => "routine",
            Self::Job(_) => "job",
            Self::System(_) => "system scope",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `{:?}` of a string is its quoted form with escapes: no id can look like
        // the words around it.
        match self {
            Self::Global => f.write_str("global"),
            Self::Step {
                workflow_id,
                step_name,
            } => write!(f, "step {step_name:?} of workflow {workflow_id:?}"),
            Self::Routine {
                worker_id,
                routine_id,
            } => write!(f, "routine {routine_id:?} of worker {worker_id:?}"),
            Self::Workflow(id)
            | Self::Custom(id)
            | Self::Worker(id)
            | Self::Job(id)
            | Self::System(SystemScope(id)) => {
                write!(f, "{} {id:?}", self.kind_text())
            }
        }
    }
}

fn check(limit: &'static str, max: usize, actual: usize, scope: &Scope) -> Result<()> {
    if actual <= max {
        return Ok(());
    }
    Err(Error::LimitExceeded {
        limit,
        max: max as u64,
        actual: actual as u64,
        // Not the scope itself: it is the thing that is too long.
        at: format!("a scope of kind {}", scope.kind_text()),
    })
}

/// Appends one component: escaped and ended, so that it needs no length.
pub(crate) fn put_component(out: &mut Vec<u8>, component: &[u8]) {
    for &byte in component {
        out.push(byte);
        if byte == ESCAPE {
            out.push(ESCAPED_ZERO);
        }
    }
    out.extend_from_slice(&[ESCAPE, END]);
}

/// The component at the front of `bytes`, and the bytes that it takes there.
pub(crate) fn take_component(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut component = Vec::new();
    let mut rest = bytes.iter().enumerate();
    while let Some((_, &byte)) = rest.next() {
        if byte == ESCAPE {
            match rest.next()? {
                (_, &ESCAPED_ZERO) => {}
                (at, &END) => return Some((component, at + 1)),
                _ => return None,
            }
        }
        component.push(byte);
    }
    None
}

/// The smallest byte string that is greater than all that begin with `prefix`.
/// `None` where there is none: the prefix is empty or all `FF`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xFF)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}

#[cfg(test)]
mod tests;

/// The scope that a prefix encodes, as text.
pub(crate) fn describe(prefix: &[u8]) -> String {
    Scope::decode(prefix).map_or_else(
        || format!("scope \"{}\"", prefix.escape_ascii()),
        |(scope, _)| scope.to_string(),
    )
}
