//! Owns the decision whether a recorded history is strictly serialisable: whether some
//! order of all transactions, one after the other, explains everything that they read,
//! and none comes before one that had ended before it began.
//!
//! It draws the graph of what must come before what, and looks for a circle:
//!
//! - *wr*: who wrote a value comes before who read it.
//! - *ww*: of two who wrote a key, the one with the lower LSN comes first.
//! - *rw*: who read a value comes before who replaced it, and who found none before who
//!   wrote one: a delete of what is not there changes nothing. A scan has read every key
//!   of its range: also those that it did not find.
//! - *time*: who ended comes before who began later.
//!
//! Each write of a key is of a value that nobody else writes to it, so what was read
//! says who wrote it. What is not known (the LSN of a commit that nobody gave and nobody
//! read) adds no edge: a history that is in order is never refused.

mod bad_histories;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// A key with its scope, as the recorder names it.
pub(crate) type Key = String;

/// A transaction that committed, or an operation of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    /// For messages.
    pub(crate) name: String,
    /// Its place in time: of all recorded moments, the one before it and after it.
    pub(crate) begin: u64,
    pub(crate) end: u64,
    /// The LSN of the state that it read, where that is known.
    pub(crate) view: Option<u64>,
    pub(crate) reads: Vec<Read>,
    /// Each key once, by its last write; nothing where it was deleted.
    pub(crate) writes: Vec<(Key, Option<u64>)>,
    /// Of its commit, where that is known.
    pub(crate) lsn: Option<u64>,
}

/// What somebody read, and did not write itself before.
#[derive(Clone, Debug)]
pub(crate) enum Read {
    /// A value and its version, where that is known.
    Value(Key, u64, Option<u64>),
    /// That there is none.
    Absent(Key),
    /// That there is nothing else of this beginning, but for these keys.
    Range { prefix: String, but: BTreeSet<Key> },
}

/// Why a history is none of a serialisable store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A read that no commit explains.
    Unexplained(String),
    /// Each comes before the next, by what is said, and the last before the first.
    Circle(Vec<(String, String)>),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexplained(what) => f.write_str(what),
            Self::Circle(steps) => {
                f.write_str("no order explains what was read:")?;
                for (name, why) in steps {
                    write!(f, "\n  {name}\n    before the next: {why}")?;
                }
                Ok(())
            }
        }
    }
}

/// What a key was at some time: nothing at first, then what a transaction made of it.
type Place = Option<usize>;

/// All that is known of one key.
#[derive(Debug, Default)]
struct Writers {
    of_value: BTreeMap<u64, usize>,
    /// Whoever deleted it, or wrote it at a known LSN.
    by_lsn: BTreeMap<u64, usize>,
    deleted: bool,
}

struct Graph<'h> {
    history: &'h [Recorded],
    keys: BTreeMap<&'h str, Writers>,
    lsns: Vec<Option<u64>>,
    /// From each node; nodes behind those of the history are moments.
    edges: Vec<Vec<(usize, String)>>,
    /// Who read which state of a key.
    readers: BTreeMap<(&'h str, Place), Vec<usize>>,
}

/// Decides whether the history is strictly serialisable.
pub(crate) fn check(history: &[Recorded]) -> Result<(), Violation> {
    let mut graph = Graph {
        history,
        keys: BTreeMap::new(),
        lsns: history.iter().map(|one| one.lsn).collect(),
        edges: vec![Vec::new(); history.len()],
        readers: BTreeMap::new(),
    };
    graph.learn_writers()?;
    graph.learn_lsns()?;
    graph.add_reads()?;
    graph.add_writes();
    graph.add_time();
    match graph.circle() {
        Some(circle) => Err(Violation::Circle(circle)),
        None => Ok(()),
    }
}

impl<'h> Graph<'h> {
    fn unexplained<T>(&self, reader: usize, what: &str) -> Result<T, Violation> {
        let name = &self.history[reader].name;
        Err(Violation::Unexplained(format!("{name} {what}")))
    }

    fn edge(&mut self, from: usize, to: usize, why: String) {
        if from != to {
            self.edges[from].push((to, why));
        }
    }

    fn learn_writers(&mut self) -> Result<(), Violation> {
        for (at, one) in self.history.iter().enumerate() {
            for (key, value) in &one.writes {
                let writers = self.keys.entry(key).or_default();
                writers.deleted |= value.is_none();
                let Some(value) = value else { continue };
                if writers.of_value.insert(*value, at).is_some() {
                    return self.unexplained(at, &format!("wrote {key} = {value}, as another did"));
                }
            }
        }
        Ok(())
    }

    fn writer(&self, reader: usize, key: &str, value: u64) -> Result<usize, Violation> {
        let writers = self.keys.get(key);
        match writers.and_then(|writers| writers.of_value.get(&value)) {
            Some(writer) => Ok(*writer),
            None => self.unexplained(
                reader,
                &format!("read {key} = {value}: nobody committed it"),
            ),
        }
    }

    /// A version that was read is the LSN of the commit that wrote it.
    fn learn_lsns(&mut self) -> Result<(), Violation> {
        for (at, one) in self.history.iter().enumerate() {
            for read in &one.reads {
                let Read::Value(key, value, Some(version)) = read else {
                    continue;
                };
                let writer = self.writer(at, key, *value)?;
                let known = *self.lsns[writer].get_or_insert(*version);
                if known != *version {
                    let what =
                        format!("read {key} = {value} of LSN {version}, but it is of {known}");
                    return self.unexplained(at, &what);
                }
            }
        }
        for (at, one) in self.history.iter().enumerate() {
            for (key, _) in &one.writes {
                let Some(lsn) = self.lsns[at] else { continue };
                let writers = self.keys.entry(key).or_default();
                if let Some(other) = writers.by_lsn.insert(lsn, at) {
                    let what = format!("has LSN {lsn}, as {}", self.history[other].name);
                    return self.unexplained(at, &what);
                }
            }
        }
        Ok(())
    }

    /// Who had made the key what it was for a reader that found nothing. The outer
    /// `None` where that is not known.
    fn absent(&self, reader: usize, key: &str) -> Result<Option<Place>, Violation> {
        let Some(writers) = self.keys.get(key) else {
            return Ok(Some(None));
        };
        if !writers.deleted {
            return Ok(Some(None));
        }
        let Some(view) = self.history[reader].view else {
            return Ok(None);
        };
        let Some((lsn, &last)) = writers.by_lsn.range(..=view).next_back() else {
            return Ok(Some(None));
        };
        let mut its_writes = self.history[last].writes.iter();
        let wrote = its_writes.any(|(name, value)| name == key && value.is_some());
        match wrote {
            true => {
                let what = format!("found no {key} at LSN {view}, but it was written at {lsn}");
                self.unexplained(reader, &what)
            }
            false => Ok(Some(Some(last))),
        }
    }

    fn add_reads(&mut self) -> Result<(), Violation> {
        for (at, one) in self.history.iter().enumerate() {
            for read in &one.reads {
                match read {
                    Read::Value(key, value, _) => {
                        let writer = self.writer(at, key, *value)?;
                        self.edge(
                            writer,
                            at,
                            format!("it wrote {key} = {value}, which that read"),
                        );
                        self.readers
                            .entry((key, Some(writer)))
                            .or_default()
                            .push(at);
                    }
                    Read::Absent(key) => self.add_absent(at, key)?,
                    Read::Range { prefix, but } => {
                        let all: Vec<&'h str> = self.keys.keys().copied().collect();
                        let unseen = all.into_iter().filter(|key| key.starts_with(prefix));
                        for key in unseen.filter(|key| !but.contains(*key)) {
                            self.add_absent(at, key)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn add_absent(&mut self, reader: usize, key: &'h str) -> Result<(), Violation> {
        let Some(place) = self.absent(reader, key)? else {
            return Ok(());
        };
        if let Some(writer) = place {
            self.edge(
                writer,
                reader,
                format!("it deleted {key}, which that did not find"),
            );
        }
        self.readers.entry((key, place)).or_default().push(reader);
        Ok(())
    }

    fn add_writes(&mut self) {
        let readers = std::mem::take(&mut self.readers);
        let mut edges = Vec::new();
        for (key, writers) in &self.keys {
            let by_lsn: Vec<usize> = writers.by_lsn.values().copied().collect();
            for pair in by_lsn.windows(2) {
                edges.push((pair[0], pair[1], format!("it wrote {key} at a lower LSN")));
            }
            // After a state comes the next by LSN; a state that was read by somebody
            // who then wrote the key was replaced by that one.
            let puts = |at: usize| {
                let mut its_writes = self.history[at].writes.iter();
                its_writes.any(|(name, value)| name == key && value.is_some())
            };
            let mut next: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
            let states = std::iter::once(None).chain(by_lsn.iter().copied().map(Some));
            for (at, state) in states.enumerate() {
                let mut later = by_lsn[at..].iter().copied();
                let replaced = match state.is_some_and(puts) {
                    true => later.next(),
                    false => later.find(|&writer| puts(writer)),
                };
                next.entry(state).or_default().extend(replaced);
            }
            // Whatever it was, the first write comes after nothing.
            let all = writers.of_value.values();
            next.entry(None).or_default().extend(all);
            for ((_, place), who) in readers
                .range((*key, None)..)
                .take_while(|((k, _), _)| k == key)
            {
                let was_there = place.is_some_and(puts);
                let wrote = |at: &&usize| {
                    let mut its_writes = self.history[**at].writes.iter();
                    its_writes.any(|(k, value)| k == key && (was_there || value.is_some()))
                };
                let writing = who.iter().filter(wrote).copied();
                next.entry(*place).or_default().extend(writing);
            }
            for (place, writers) in next {
                for reader in readers.get(&(*key, place)).into_iter().flatten() {
                    for writer in &writers {
                        edges.push((
                            *reader,
                            *writer,
                            format!("it read {key} before that wrote it"),
                        ));
                    }
                }
            }
        }
        for (from, to, why) in edges {
            self.edge(from, to, why);
        }
    }

    /// A chain of moments, one for each end: an edge from each to each would be many.
    fn add_time(&mut self) {
        let mut ends: Vec<(u64, usize)> = Vec::new();
        for (at, one) in self.history.iter().enumerate() {
            ends.push((one.end, at));
        }
        ends.sort_unstable();
        let first = self.edges.len();
        self.edges.resize(first + ends.len(), Vec::new());
        for (moment, (_, ended)) in ends.iter().enumerate() {
            self.edge(
                *ended,
                first + moment,
                "it had ended when that began".to_owned(),
            );
            if moment + 1 < ends.len() {
                self.edge(first + moment, first + moment + 1, String::new());
            }
        }
        for (at, one) in self.history.iter().enumerate() {
            let before = ends.partition_point(|(end, _)| *end < one.begin);
            if before > 0 {
                self.edge(first + before - 1, at, String::new());
            }
        }
    }

    /// A short circle, if there is any.
    fn circle(&self) -> Option<Vec<(String, String)>> {
        let start = self.somewhere_in_a_circle()?;
        // The shortest way back to it.
        let mut came: BTreeMap<usize, (usize, &str)> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(from) = queue.pop_front() {
            for (to, why) in &self.edges[from] {
                if !came.contains_key(to) {
                    came.insert(*to, (from, why));
                    queue.push_back(*to);
                }
            }
            if came.contains_key(&start) {
                break;
            }
        }
        let mut steps = Vec::new();
        let mut at = start;
        while let Some((from, why)) = came.get(&at) {
            if let Some(one) = self.history.get(*from) {
                steps.push((
                    format!("{}: {}", one.name, one.summary()),
                    (*why).to_owned(),
                ));
            }
            at = *from;
            if at == start {
                break;
            }
        }
        steps.reverse();
        Some(steps)
    }

    /// Takes away whoever nobody has to come before, until none is left or all of the
    /// rest wait for each other; then goes back until somebody comes up again.
    fn somewhere_in_a_circle(&self) -> Option<usize> {
        let mut waiting = vec![0_usize; self.edges.len()];
        for (to, _) in self.edges.iter().flatten() {
            waiting[*to] += 1;
        }
        let free = |(at, count): (usize, &usize)| (*count == 0).then_some(at);
        let mut queue: Vec<usize> = waiting.iter().enumerate().filter_map(free).collect();
        while let Some(from) = queue.pop() {
            for (to, _) in &self.edges[from] {
                waiting[*to] -= 1;
                if waiting[*to] == 0 {
                    queue.push(*to);
                }
            }
        }
        let mut at = waiting.iter().position(|count| *count > 0)?;
        let mut seen = BTreeSet::new();
        while seen.insert(at) {
            let leads_here = |from: &usize| self.edges[*from].iter().any(|(to, _)| *to == at);
            at = (0..self.edges.len()).find(|from| waiting[*from] > 0 && leads_here(from))?;
        }
        Some(at)
    }
}

impl Recorded {
    fn summary(&self) -> String {
        let mut parts = Vec::new();
        for read in &self.reads {
            parts.push(match read {
                Read::Value(key, value, _) => format!("{key} is {value}"),
                Read::Absent(key) => format!("no {key}"),
                Read::Range { prefix, but } => format!("{} of {prefix}", but.len()),
            });
        }
        for (key, value) in &self.writes {
            parts.push(match value {
                Some(value) => format!("{key} := {value}"),
                None => format!("deletes {key}"),
            });
        }
        format!("{} (LSN {:?})", parts.join(", "), self.lsn.unwrap_or(0))
    }
}
