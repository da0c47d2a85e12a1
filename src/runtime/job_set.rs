//! Owns jobs by their ids. Imports `job`.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::runtime::job::Job;
use crate::sync::HashState;

/// Jobs by their ids. There may be a million of them, so each is a pointer here and nothing
/// else: its id is asked of the job itself.
#[derive(Debug, Default)]
pub(crate) struct JobSet {
    opened: Opened,
    /// Those that came since.
    jobs: HashSet<ById, HashState>,
}

/// The jobs that an opening found, in the order of their ids. They are not hashed: for a
/// million of them that took longer than to read them.
#[derive(Debug, Default)]
struct Opened {
    jobs: VecDeque<Arc<Job>>,
    /// Which of them have left the set: those that leave first mostly go from here at once.
    left: VecDeque<bool>,
    /// How many of them have left and are here.
    left_count: usize,
}

/// Jobs of a set that are asked for mostly in the order of their ids, as those are that were
/// posted one after another. To look at the next one costs less than to search among many.
#[derive(Debug)]
pub(crate) struct InOrder<'s> {
    set: &'s JobSet,
    next: usize,
    /// What was saved by jobs that came in order. To search for one that did not is paid from
    /// it. Once it is used up they are in no order, and all of them are hashed.
    saved: usize,
    places: Option<HashMap<&'s str, usize, HashState>>,
}

/// What it costs to search for a job, in jobs that come in order.
const SEARCHING: usize = 16;
/// What is saved at the beginning, and at most.
const SAVED: (usize, usize) = (8 * SEARCHING, 1024);

impl<'s> InOrder<'s> {
    pub(crate) fn new(set: &'s JobSet) -> Self {
        Self {
            set,
            next: 0,
            saved: SAVED.0,
            places: None,
        }
    }

    /// As [`JobSet::get`].
    pub(crate) fn get(&mut self, id: &str) -> Option<&'s Arc<Job>> {
        let opened = &self.set.opened;
        let place = match opened.jobs.get(self.next) {
            Some(job) if job.id.as_bytes() == id.as_bytes() => {
                self.saved = (self.saved + 1).min(SAVED.1);
                Some(self.next)
            }
            _ => self.place(id),
        };
        match place {
            Some(place) => {
                self.next = place + 1;
                opened.at(place)
            }
            None => self.set.jobs.get(id).map(|ById(job)| job),
        }
    }

    fn place(&mut self, id: &str) -> Option<usize> {
        let opened = &self.set.opened;
        if let Some(places) = &self.places {
            return places.get(id).copied();
        }
        match self.saved.checked_sub(SEARCHING) {
            Some(saved) => self.saved = saved,
            None => {
                let jobs = opened.jobs.iter().enumerate();
                self.places = Some(jobs.map(|(place, job)| (&*job.id, place)).collect());
            }
        }
        opened.place(id)
    }
}

impl Opened {
    /// Where a job stands, be it that it has left.
    fn place(&self, id: &str) -> Option<usize> {
        // Ids that are made later are mostly behind all of them.
        let last = self.jobs.back()?;
        let id = id.as_bytes();
        if last.id.as_bytes() < id {
            return None;
        }
        let by_id = |job: &Arc<Job>| job.id.as_bytes().cmp(id);
        self.jobs.binary_search_by(by_id).ok()
    }

    /// The job that stands there, if it has not left.
    fn at(&self, place: usize) -> Option<&Arc<Job>> {
        let has_left = self.left.get(place).copied().unwrap_or(true);
        self.jobs.get(place).filter(|_| !has_left)
    }

    fn get(&self, id: &str) -> Option<&Arc<Job>> {
        self.at(self.place(id)?)
    }

    /// A job leaves; false where it is not here.
    fn remove(&mut self, id: &str) -> bool {
        let first = self.jobs.front();
        let is_first = first.is_some_and(|job| job.id.as_bytes() == id.as_bytes());
        let place = if is_first { Some(0) } else { self.place(id) };
        let Some(left) = place.and_then(|place| self.left.get_mut(place)) else {
            return false;
        };
        if std::mem::replace(left, true) {
            return false;
        }
        self.left_count += 1;
        while self.left.front() == Some(&true) {
            self.left.pop_front();
            self.jobs.pop_front();
            self.left_count -= 1;
        }
        if self.left_count * 2 > self.jobs.len() {
            let mut left = std::mem::take(&mut self.left).into_iter();
            self.jobs.retain(|_| left.next() == Some(false));
            self.left = self.jobs.iter().map(|_| false).collect();
            self.left_count = 0;
        }
        if self.jobs.is_empty() {
            *self = Self::default();
        }
        true
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Job>> {
        let jobs = self.jobs.iter().zip(&self.left);
        jobs.filter_map(|(job, left)| (!left).then_some(job))
    }
}

#[derive(Debug)]
struct ById(Arc<Job>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl JobSet {
    /// The jobs that an opening found, in the order of their ids, each once.
    pub(crate) fn opened(jobs: impl IntoIterator<Item = Arc<Job>>) -> Self {
        let jobs: VecDeque<_> = jobs.into_iter().collect();
        let opened = Opened {
            left: jobs.iter().map(|_| false).collect(),
            jobs,
            left_count: 0,
        };
        Self {
            opened,
            jobs: HashSet::default(),
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Job>> {
        let since = self.jobs.get(id).map(|ById(job)| job);
        since.or_else(|| self.opened.get(id))
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.get(id).is_some()
    }

    /// Adds a job, in the place of another one of its id.
    pub(crate) fn insert(&mut self, job: &Arc<Job>) {
        self.opened.remove(&job.id);
        self.jobs.replace(ById(Arc::clone(job)));
    }

    pub(crate) fn remove(&mut self, id: &str) {
        if !self.jobs.remove(id) {
            self.opened.remove(id);
        }
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Job>> {
        let since = self.jobs.iter().map(|ById(job)| job);
        self.opened.iter().chain(since)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.opened.jobs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::capture::tests::job;

    #[test]
    fn a_job_is_found_by_its_id_and_replaced_by_another_one_of_it() {
        let opened = [job("a"), job("opened")];
        let mut set = JobSet::opened(opened.clone());
        let (b, other) = (job("b"), job("a"));
        assert!(
            set.get("a")
                .is_some_and(|found| Arc::ptr_eq(found, &opened[0]))
        );
        for job in [&b, &other, &b] {
            set.insert(job);
        }
        assert!(set.get("a").is_some_and(|found| Arc::ptr_eq(found, &other)));
        assert_eq!(set.iter().count(), 3);
        assert!(set.contains("b") && !set.contains("c"));
        for id in ["a", "c", "opened"] {
            set.remove(id);
            assert!(!set.contains(id) && !set.is_empty());
        }
        set.remove("b");
        assert!(set.is_empty());
    }

    #[test]
    fn jobs_of_an_opening_leave_in_any_order() {
        let count = 101;
        let ids: Vec<_> = (0..count).map(|at| format!("j{at:03}")).collect();
        // Steps that are prime to the count meet each of them once.
        for step in [1, 2, 50, 100, 37] {
            let mut set = JobSet::opened(ids.iter().map(|id| job(id)));
            for at in 0..count {
                let id = &ids[at * step % count];
                assert!(set.contains(id) && !set.is_empty());
                set.remove(id);
                set.remove(id);
                assert!(!set.contains(id), "{id}");
                assert_eq!(set.iter().count(), count - at - 1);
                let kept = set.opened.jobs.len();
                assert!(kept <= 2 * (count - at - 1), "{kept} are kept");
                assert!(set.iter().all(|job| set.contains(&job.id)));
            }
            assert!(set.is_empty());
        }
    }

    #[test]
    fn in_order_or_not_the_same_jobs_are_found() {
        let jobs: Vec<_> = (0..9).map(|at| job(&format!("j{at}"))).collect();
        let mut set = JobSet::opened(jobs);
        let later = job("later");
        set.insert(&later);
        set.remove("j4");
        let mut in_order = InOrder::new(&set);
        let asked = [
            "j0", "j1", "j1", "j2", "later", "j3", "j4", "j5", "none", "j8", "j0", "j4",
        ];
        for times in 0..100 {
            for id in asked {
                let expected = set.get(id).map(Arc::as_ptr);
                let found = in_order.get(id).map(Arc::as_ptr);
                assert_eq!(found, expected, "{id}, asked for the {times}. time");
            }
        }
        assert!(in_order.places.is_some(), "they came in no order");
    }
}
