//! Owns what a worker has to do later: timers and attempts, found by what they are and by
//! when they are due, in a time that hardly grows with how many there are.
//! Imports `record`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::runtime::record::TimerRecord;

/// Something that is due at some time.
pub(crate) trait Due {
    /// When, by store time.
    fn due(&self) -> u64;
}

impl Due for TimerRecord {
    fn due(&self) -> u64 {
        self.due
    }
}

/// Entries by key and by time.
#[derive(Debug)]
pub(crate) struct Agenda<K, V> {
    entries: BTreeMap<K, V>,
    times: BTreeSet<(u64, K)>,
}

impl<K, V> Default for Agenda<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            times: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy, V: Due> Agenda<K, V> {
    pub(crate) fn insert(&mut self, key: K, entry: V) {
        self.times.insert((entry.due(), key));
        if let Some(before) = self.entries.insert(key, entry) {
            self.forget(before.due(), key);
        }
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let entry = self.entries.remove(&key)?;
        self.times.remove(&(entry.due(), key));
        Some(entry)
    }

    /// The time of an entry that was replaced goes, unless the one in its place has it too.
    fn forget(&mut self, due: u64, key: K) {
        if self.entries.get(&key).is_some_and(|now| now.due() != due) {
            self.times.remove(&(due, key));
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.entries.get(&key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values()
    }

    /// In the order of their times.
    pub(crate) fn in_time(&self) -> impl Iterator<Item = (K, &V)> {
        let times = self.times.iter();
        times.filter_map(|&(_, key)| Some((key, self.entries.get(&key)?)))
    }

    /// Those that are due, in the order of their times.
    pub(crate) fn due(&self, now: u64) -> impl Iterator<Item = (K, &V)> {
        self.in_time()
            .take_while(move |(_, entry)| entry.due() <= now)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The timers of a worker, by number. The later a timer was set, the higher its number.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    agenda: Agenda<u64, TimerRecord>,
    /// By routine and name, of which there is one.
    names: HashMap<(String, String), u64>,
}

impl Timers {
    /// Those of a store.
    pub(crate) fn of(timers: BTreeMap<u64, TimerRecord>) -> Self {
        let mut all = Self::default();
        for (number, timer) in timers {
            all.insert(number, timer);
        }
        all
    }

    pub(crate) fn insert(&mut self, number: u64, timer: TimerRecord) {
        let name = (timer.routine.clone(), timer.name.clone());
        self.names.insert(name, number);
        self.agenda.insert(number, timer);
    }

    pub(crate) fn remove(&mut self, number: u64) {
        if let Some(timer) = self.agenda.remove(number) {
            let name = (timer.routine, timer.name);
            if self.names.get(&name) == Some(&number) {
                self.names.remove(&name);
            }
        }
    }

    /// The timer of this name.
    pub(crate) fn named(&self, routine: &str, name: &str) -> Option<(u64, &TimerRecord)> {
        if self.names.is_empty() {
            return None;
        }
        let number = *self.names.get(&(routine.to_owned(), name.to_owned()))?;
        Some((number, self.agenda.get(number)?))
    }

    /// All of them, by their numbers and by their times.
    pub(crate) fn agenda(&self) -> &Agenda<u64, TimerRecord> {
        &self.agenda
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn timer(name: &str, due: u64) -> TimerRecord {
        TimerRecord {
            name: name.to_owned(),
            routine: "r".to_owned(),
            slot: "in".to_owned(),
            due,
            every: None,
            data: Value::Null,
            jobs: Vec::new(),
        }
    }

    fn due(timers: &Timers, now: u64) -> Vec<u64> {
        timers.agenda().due(now).map(|(number, _)| number).collect()
    }

    #[test]
    fn what_is_due_comes_in_the_order_of_its_times() {
        let mut timers = Timers::of([(1, timer("a", 30)), (2, timer("b", 10))].into());
        timers.insert(3, timer("c", 20));
        timers.insert(4, timer("d", 20));
        assert_eq!(due(&timers, 9), [0; 0]);
        assert_eq!(due(&timers, 20), [2, 3, 4]);
        timers.remove(3);
        timers.remove(3);
        assert_eq!(due(&timers, u64::MAX), [2, 4, 1]);
        assert_eq!(
            (timers.agenda().len(), timers.agenda().is_empty()),
            (3, false)
        );
    }

    #[test]
    fn a_name_is_that_of_the_timer_that_was_set_last() {
        let mut timers = Timers::of([(1, timer("a", 30))].into());
        timers.insert(2, timer("a", 40));
        // As a settlement does it: the older one goes.
        timers.remove(1);
        assert_eq!(timers.named("r", "a").map(|(number, _)| number), Some(2));
        assert!(timers.named("other", "a").is_none());
        timers.remove(2);
        assert!(timers.named("r", "a").is_none());
    }

    #[test]
    fn an_entry_that_is_replaced_leaves_no_time_behind() {
        let mut agenda = Agenda::default();
        agenda.insert(1, timer("a", 10));
        agenda.insert(1, timer("a", 10));
        assert_eq!(agenda.due(10).count(), 1);
        agenda.insert(1, timer("a", 20));
        assert_eq!((agenda.due(10).count(), agenda.due(20).count()), (0, 1));
        agenda.remove(1);
        assert_eq!(agenda.in_time().count(), 0);
    }
}
