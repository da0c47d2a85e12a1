//! Owns values by job, for the jobs of one activation: mostly one, sometimes all that wait.
//! Imports `job`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::runtime::job::Job;

/// So many jobs are found by looking at each.
const FEW: usize = 8;

/// Values by job, in the order in which the jobs came. A job is found in a time that does
/// not grow with their number; one or a few need no memory for that.
#[derive(Debug)]
pub(crate) struct JobMap<T> {
    entries: Vec<(Arc<Job>, T)>,
    /// Where a job stands, by its address, once they are more than a few.
    places: HashMap<usize, usize>,
}

impl<T> Default for JobMap<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            places: HashMap::new(),
        }
    }
}

/// It lives as long as an entry of it does, so it is nobody else's meanwhile.
fn address(job: &Arc<Job>) -> usize {
    Arc::as_ptr(job).addr()
}

impl<T> JobMap<T> {
    fn place(&self, job: &Arc<Job>) -> Option<usize> {
        match self.entries.len() <= FEW {
            true => {
                let mut entries = self.entries.iter();
                entries.position(|(known, _)| Arc::ptr_eq(known, job))
            }
            false => self.places.get(&address(job)).copied(),
        }
    }

    /// The value of a job, if it has one.
    pub(crate) fn get(&self, job: &Arc<Job>) -> Option<&T> {
        let (_, value) = self.entries.get(self.place(job)?)?;
        Some(value)
    }

    /// All jobs with their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Arc<Job>, T)> {
        self.entries.iter()
    }

    /// The same, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<Job>, &mut T)> {
        self.entries.iter_mut().map(|(job, value)| (&*job, value))
    }

    pub(crate) fn into_entries(self) -> Vec<(Arc<Job>, T)> {
        self.entries
    }
}

impl<T: Default> JobMap<T> {
    /// The value of a job, which has one from now on.
    pub(crate) fn of(&mut self, job: &Arc<Job>) -> &mut T {
        let place = self.place(job).unwrap_or_else(|| self.add(job));
        &mut self.entries[place].1
    }

    fn add(&mut self, job: &Arc<Job>) -> usize {
        let place = self.entries.len();
        self.entries.push((Arc::clone(job), T::default()));
        match place {
            ..FEW => {}
            FEW => {
                let jobs = self.entries.iter().enumerate();
                self.places = jobs.map(|(at, (job, _))| (address(job), at)).collect();
            }
            _ => {
                self.places.insert(address(job), place);
            }
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::capture::tests::job;

    #[test]
    fn each_job_has_its_value_in_the_order_in_which_it_came() {
        for count in [0, 1, FEW - 1, FEW, FEW + 1, FEW + 2, 100] {
            let jobs: Vec<_> = (0..count).map(|at| job(&format!("j{at}"))).collect();
            let mut map = JobMap::default();
            for by in 1..=2 {
                for (at, job) in jobs.iter().enumerate() {
                    *map.of(job) += at * by;
                }
            }
            let other = job("j0");
            assert_eq!(map.get(&other), None, "it is another one of the same id");
            for (at, job) in jobs.iter().enumerate() {
                assert_eq!(map.get(job), Some(&(at * 3)));
            }
            let ids = map
                .into_entries()
                .into_iter()
                .map(|(job, _)| job.id.to_string());
            assert!(ids.eq((0..count).map(|at| format!("j{at}"))));
        }
    }
}
