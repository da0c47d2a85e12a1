//! Owns what a record is: which keys in which scopes hold it, and what stands there.
//!
//! ```text
//! custom "records", key NUMBER          the head: who wrote the record, in which shape
//!                                       and after what, and a payload
//! of a record that is a transaction, besides, all in the same commit:
//!   workflow "flow-A", key NUMBER       a part with a payload
//!   step "step-B" of it, key NUMBER     the same
//!   job "job-C", key NUMBER             the same
//!   custom "index", key MIX(NUMBER)     the number
//!   worker "worker-D", and global       `records`, `sum`: how many transactions there
//!                                       are, and the sum of their MIX(NUMBER); `last`:
//!                                       which record changed these
//!   the lists of the worker             see `lists`
//! ```
//!
//! What must stay true in a store, whatever was killed: a record is whole, in one
//! commit; counters agree with the heads; what a record was written after is there.
//! NUMBER has 20 digits, so keys sort as numbers do. A, B, C and D follow from it.

use evenkeel::{Scope, Value};

use super::content::{mix, payload};

/// Of each worker's scopes there are so many.
pub(super) const WORKERS: u64 = 4;
const FLOWS: u64 = 4;
const STEPS: u64 = 2;
const JOBS: u64 = 4;

/// The key in `Scope::Global` that says whose store it is, and its value.
pub(super) const MARK: &str = "evenkeel crash write";
pub(super) const LAYOUT: u32 = 1;

/// How many transactions there are: in the global scope and each worker's.
pub(super) const COUNT: &str = "records";
/// The sum, modulo 2^64, of [`Head::digest`] over them.
pub(super) const SUM: &str = "sum";
/// Which record changed these two last.
pub(super) const LAST: &str = "last";

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One key.
    Single,
    /// Keys of several scopes.
    Transaction,
}

impl Shape {
    const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Transaction => "transaction",
        }
    }
}

/// A record, but for what follows from its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u64,
    /// The opening of the store that wrote it: [`evenkeel::Recovery::epoch`].
    pub(super) run: u64,
    pub(super) shape: Shape,
    /// The record that the same thread of the same run committed before.
    pub(super) before: Option<u64>,
    /// The first number of the run.
    pub(super) first: u64,
    /// All records from `first` up to this one, which is left out, were committed before.
    pub(super) floor: u64,
}

/// A key of a record, and what has to stand there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) scope: Scope,
    pub(super) key: String,
    pub(super) value: Value,
}

/// The scope of the heads.
pub(super) fn records() -> Scope {
    Scope::custom("records")
}

/// The scope of the index.
pub(super) fn index() -> Scope {
    Scope::custom("index")
}

/// The scope of a worker.
pub(super) fn worker(worker: u64) -> Scope {
    Scope::worker(format!("worker-{worker}"))
}

/// The scopes that parts of records lie in.
pub(super) fn part_scopes() -> Vec<Scope> {
    let flows = (0..FLOWS).map(flow);
    let steps = (0..FLOWS).flat_map(|number| (0..STEPS).map(move |name| step(number, name)));
    let jobs = (0..JOBS).map(job);
    flows.chain(steps).chain(jobs).collect()
}

fn flow(number: u64) -> Scope {
    Scope::workflow(format!("flow-{number}"))
}

fn step(flow: u64, number: u64) -> Scope {
    Scope::step(format!("flow-{flow}"), format!("step-{number}"))
}

fn job(number: u64) -> Scope {
    Scope::job(format!("job-{number}"))
}

/// The key of a record, and of what else is sorted by its number.
pub(super) fn key(number: u64) -> String {
    format!("{number:020}")
}

/// The number in a key, if it is such a key.
pub(super) fn number(of: &str) -> Option<u64> {
    let number = of.parse().ok()?;
    (key(number) == of).then_some(number)
}

/// The worker that a record belongs to.
pub(super) const fn worker_of(number: u64) -> u64 {
    (mix(number) >> 8) % WORKERS
}

/// Names a record and the run that wrote it.
pub(super) fn stamp(number: u64, run: u64) -> Value {
    map([("record", number.into()), ("run", run.into())])
}

/// What [`stamp`] names.
pub(super) fn stamped(value: &Value) -> Option<(u64, u64)> {
    Some((value.get("record")?.as_u64()?, value.get("run")?.as_u64()?))
}

/// The shape of a head as it is stored.
pub(super) fn shape(head: &Value) -> Option<Shape> {
    let name = head.get("shape")?.as_str()?;
    let shapes = [Shape::Single, Shape::Transaction];
    shapes.into_iter().find(|shape| shape.name() == name)
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    entries.into_iter().collect()
}

impl Head {
    /// The sum of these over all transactions is kept in counters.
    pub(super) const fn digest(&self) -> i64 {
        mix(self.number).cast_signed()
    }

    /// The key in the index.
    pub(super) fn index_key(&self) -> String {
        format!("{:016x}", mix(self.number))
    }

    /// What is stored as the head.
    pub(super) fn value(&self) -> Value {
        map([
            ("record", self.number.into()),
            ("run", self.run.into()),
            ("shape", self.shape.name().into()),
            ("before", self.before.into()),
            ("first", self.first.into()),
            ("floor", self.floor.into()),
            ("payload", payload(self.number, 0)),
        ])
    }

    /// The head that is stored under a key.
    ///
    /// # Errors
    /// What is wrong with it: it has to be, to the last byte, what such a head has.
    pub(super) fn read(key: &str, value: &Value) -> Result<Self, String> {
        let number = number(key).ok_or("its key is no number of 20 digits")?;
        let field = |name: &str| {
            let field = value.get(name).and_then(Value::as_u64);
            field.ok_or_else(|| format!("its {name:?} is missing or no number"))
        };
        let head = Self {
            number,
            run: field("run")?,
            shape: shape(value).ok_or("its \"shape\" is missing or unknown")?,
            before: match value.get("before") {
                Some(Value::Null) => None,
                _ => Some(field("before")?),
            },
            first: field("first")?,
            floor: field("floor")?,
        };
        if field("record")? != number {
            return Err(format!("it says that it is record {}", field("record")?));
        }
        if head.value() != *value {
            return Err("its content is not what was written".into());
        }
        let before = head.before.unwrap_or(head.first);
        let sorted = head.first <= before && head.first <= head.floor && head.floor <= number;
        if !sorted || (head.before.is_some() && before >= number) {
            return Err("what it says it was written after does not come before it".into());
        }
        Ok(head)
    }

    /// The parts besides the head; none if it is no transaction.
    pub(super) fn parts(&self) -> Vec<Part> {
        match self.shape {
            Shape::Single => Vec::new(),
            Shape::Transaction => self.all_parts(),
        }
    }

    /// The parts that the record would have as a transaction.
    pub(super) fn all_parts(&self) -> Vec<Part> {
        let mixed = mix(self.number);
        let (number, name) = (mixed % FLOWS, (mixed >> 4) % STEPS);
        let scopes = [flow(number), step(number, name), job((mixed >> 6) % JOBS)];
        let part = |(scope, part): (Scope, u8)| Part {
            scope,
            key: key(self.number),
            value: map([
                ("record", self.number.into()),
                ("run", self.run.into()),
                ("part", part.into()),
                ("payload", payload(self.number, part)),
            ]),
        };
        scopes.into_iter().zip(1..).map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64, shape: Shape) -> Head {
        Head {
            number,
            run: 3,
            shape,
            before: number.checked_sub(1),
            first: 0,
            floor: number,
        }
    }

    #[test]
    fn a_head_reads_back() {
        for number in [0, 1, 41, u64::MAX] {
            for shape in [Shape::Single, Shape::Transaction] {
                let head = head(number, shape);
                assert_eq!(Head::read(&key(number), &head.value()), Ok(head));
            }
        }
    }

    #[test]
    fn whatever_is_changed_in_a_head_is_noticed() {
        let head = head(41, Shape::Transaction);
        let Value::Map(fields) = head.value() else {
            panic!("a head is a map");
        };
        for name in fields.keys() {
            let mut missing = fields.clone();
            missing.remove(name);
            assert!(
                Head::read(&key(41), &Value::Map(missing)).is_err(),
                "{name}"
            );
        }
        let changes = [
            ("record", Value::from(42)),
            ("run", Value::from(-1)),
            ("shape", Value::from("pair")),
            ("before", Value::from(41)),
            ("first", Value::from(41)),
            ("floor", Value::from(42)),
            ("payload", payload(42, 0)),
            ("more", Value::Null),
        ];
        for (name, value) in changes {
            let mut changed = fields.clone();
            changed.insert(name.to_owned(), value);
            assert!(
                Head::read(&key(41), &Value::Map(changed)).is_err(),
                "{name}"
            );
        }
        assert!(Head::read("41", &head.value()).is_err());
        assert!(Head::read(&key(42), &head.value()).is_err());
        assert!(Head::read(&key(41), &Value::Null).is_err());
    }

    #[test]
    fn keys_sort_as_numbers() {
        let numbers = [0, 1, 9, 10, 99, 1 << 40, u64::MAX];
        assert!(numbers.map(key).is_sorted());
        assert_eq!(numbers.map(|it| number(&key(it))), numbers.map(Some));
        for other in ["", "1", "+0000000000000000001", "99999999999999999999"] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn parts_lie_in_scopes_that_are_known_and_differ_by_run() {
        let scopes = part_scopes();
        for number in 0..500 {
            let parts = head(number, Shape::Transaction).parts();
            assert!(parts.iter().all(|part| scopes.contains(&part.scope)));
        }
        let later = Head {
            run: 4,
            ..head(7, Shape::Transaction)
        };
        let parts = later
            .parts()
            .into_iter()
            .zip(head(7, Shape::Transaction).parts());
        for (later, part) in parts {
            assert_eq!((&later.scope, &later.key), (&part.scope, &part.key));
            assert_ne!(later.value, part.value);
        }
        assert_eq!(head(7, Shape::Single).parts(), []);
    }
}
