//! Owns jobs by their ids. Imports `job`.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::runtime::job::Job;
use crate::sync::HashState;

/// Jobs by their ids. There may be a million of them, so each is a pointer here and nothing
/// else: its id is asked of the job itself.
#[derive(Debug, Default)]
pub(crate) struct JobSet {
    jobs: HashSet<ById, HashState>,
}

/// Jobs of a set that are asked for mostly in the order of their ids, as those are that were
/// posted one after another. To look at the next one costs less than to search among many.
#[derive(Debug)]
pub(crate) struct InOrder<'s> {
    set: &'s JobSet,
    /// In the order of ids; some may have left the set.
    jobs: &'s [Arc<Job>],
    next: usize,
    /// What was saved by jobs that came in order. To find the place of one that did not is
    /// paid from it, so ids in no order at all cost a search each and no more.
    saved: usize,
}

/// What it costs to find a place, in jobs that come in order.
const FINDING: usize = 16;

impl<'s> InOrder<'s> {
    pub(crate) fn new(set: &'s JobSet, jobs: &'s [Arc<Job>]) -> Self {
        Self {
            set,
            jobs,
            next: 0,
            saved: 8 * FINDING,
        }
    }

    /// As [`JobSet::get`].
    pub(crate) fn get(&mut self, id: &str) -> Option<&'s Arc<Job>> {
        match self.jobs.get(self.next) {
            Some(job) if *job.id == *id => {
                self.next += 1;
                self.saved = (self.saved + 1).min(1024);
                // One that has left the set has ended.
                (!job.state.lock().status.is_final()).then_some(job)
            }
            _ => {
                let found = self.set.get(id)?;
                if let Some(saved) = self.saved.checked_sub(FINDING) {
                    self.saved = saved;
                    let place = self.jobs.partition_point(|job| *job.id <= *id);
                    self.next = place;
                }
                Some(found)
            }
        }
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
        // As text does, by which it is looked for.
        str::hash(&self.0.id, state);
    }
}

impl JobSet {
    /// Room for so many more, so that they are not hashed again while it grows.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.jobs.reserve(more);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Job>> {
        self.jobs.get(id).map(|ById(job)| job)
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.jobs.contains(id)
    }

    /// Adds a job, in the place of another one of its id.
    pub(crate) fn insert(&mut self, job: &Arc<Job>) {
        self.jobs.replace(ById(Arc::clone(job)));
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.jobs.remove(id);
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.iter().map(|ById(job)| job)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::capture::tests::job;
    use crate::runtime::status::JobStatus;

    #[test]
    fn a_job_is_found_by_its_id_and_replaced_by_another_one_of_it() {
        let mut set = JobSet::default();
        set.reserve(2);
        let (a, b, other) = (job("a"), job("b"), job("a"));
        for job in [&a, &b, &other] {
            set.insert(job);
        }
        assert!(set.get("a").is_some_and(|found| Arc::ptr_eq(found, &other)));
        assert_eq!(set.iter().count(), 2);
        assert!(set.contains("b") && !set.contains("c"));
        set.remove("a");
        set.remove("c");
        assert!(set.get("a").is_none() && !set.is_empty());
    }

    #[test]
    fn in_order_or_not_the_same_jobs_are_found() {
        let jobs: Vec<_> = (0..9).map(|at| job(&format!("j{at}"))).collect();
        let mut set = JobSet::default();
        jobs.iter().for_each(|job| set.insert(job));
        let later = job("later");
        set.insert(&later);
        jobs[4].state.lock().status = JobStatus::Cancelled;
        set.remove("j4");
        let mut in_order = InOrder::new(&set, &jobs);
        let asked = [
            "j0", "j1", "j1", "j2", "later", "j3", "j4", "j5", "none", "j8", "j0", "j4",
        ];
        for id in asked {
            let expected = set.get(id).map(Arc::as_ptr);
            assert_eq!(in_order.get(id).map(Arc::as_ptr), expected, "{id}");
        }
    }
}
