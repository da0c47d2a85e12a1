//! Owns what was crashed, told by the lines of the sources: which of the calls that
//! change a disk met a stop or a failure, which never did, and from which lines of the
//! user's own code.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::sites::{self, Site, Sites};
use crate::testing::{Origin, Place, Stack};
use crate::vfs::sim::stack;

/// How a site was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Met {
    /// So many times the power was lost there.
    pub crashed: u64,
    /// So many times the call failed, and the process went on.
    pub failed: u64,
}

/// What was crashed, and what never was.
///
/// ```
/// use evenkeel::testing::{SimDisk, When};
/// use evenkeel::testing::crash::Coverage;
/// let mut coverage = Coverage::new();
/// let disk = SimDisk::new(1);
/// disk.stop_at(3, When::Before);
/// disk.store_builder().open("data/store").unwrap_err();
/// coverage.crashed(&disk.stopped_at().expect("a stop"));
/// assert_eq!(coverage.unknown(), None);
/// assert!(coverage.missing().count() > 30, "only one call was crashed");
/// println!("{coverage}"); // with the lines of this file, where it has line numbers
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Coverage {
    sites: Result<Arc<Sites>, String>,
    /// By the number of the site.
    met: BTreeMap<usize, Met>,
    /// Calls of a disk, in files that were read, that are no site.
    unread: BTreeMap<Place, u64>,
    /// The innermost lines of the user's code.
    lines: BTreeMap<(PathBuf, u32), u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self::new()
    }
}

impl Coverage {
    /// Nothing was crashed yet. Reads the sources, the first time in a process.
    pub fn new() -> Self {
        let lines = stack::sources().ok_or_else(|| {
            "evenkeel was built without line numbers: set debug = \"line-tables-only\" in \
             the profile, or in [profile.dev.package.evenkeel]"
                .to_owned()
        });
        Self {
            sites: lines.and_then(|_| sites::sites()),
            met: BTreeMap::new(),
            unread: BTreeMap::new(),
            lines: BTreeMap::new(),
        }
    }

    /// Notes a stop: see [`SimDisk::stopped_at`](crate::testing::SimDisk::stopped_at).
    pub fn crashed(&mut self, stack: &Stack) {
        let places = stack.places();
        let met = self.meet(&places, |met| met.crashed += 1);
        let direct = places.iter().find(|place| place.origin != Origin::Library);
        if let (false, Ok(sites), Some(direct)) = (met, &self.sites, direct)
            && sites.files.contains(&direct.file)
        {
            *self.unread.entry(direct.clone()).or_default() += 1;
        }
        if let Some(line) = places.iter().find(|place| place.origin == Origin::User) {
            let line = (line.file.clone(), line.line);
            *self.lines.entry(line).or_default() += 1;
        }
    }

    /// Notes a failure: see [`SimDisk::failed_at`](crate::testing::SimDisk::failed_at).
    pub fn failed(&mut self, stack: &Stack) {
        self.meet(&stack.places(), |met| met.failed += 1);
    }

    /// Counts all sites that a stack went through. False if there was none.
    fn meet(&mut self, places: &[Place], count: impl Fn(&mut Met)) -> bool {
        let Ok(sites) = &self.sites else { return false };
        let mut any = false;
        for (number, site) in sites.sites.iter().enumerate() {
            let mut own = places.iter().filter(|p| p.origin == Origin::Evenkeel);
            if own.any(|place| site.is(place)) {
                count(self.met.entry(number).or_default());
                any = true;
            }
        }
        any
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: &Self) {
        for (&number, met) in &other.met {
            let mine = self.met.entry(number).or_default();
            mine.crashed += met.crashed;
            mine.failed += met.failed;
        }
        for (place, count) in &other.unread {
            *self.unread.entry(place.clone()).or_default() += count;
        }
        for (line, count) in &other.lines {
            *self.lines.entry(line.clone()).or_default() += count;
        }
    }

    /// Why nothing can be said about the sites; `None` if it can.
    #[must_use]
    pub fn unknown(&self) -> Option<&str> {
        self.sites.as_ref().err().map(String::as_str)
    }

    /// All sites, in the order of files and lines, and how each was met.
    pub fn sites(&self) -> impl Iterator<Item = (&Site, Met)> {
        let sites = self.sites.iter().flat_map(|sites| &sites.sites);
        let met = |number| self.met.get(&number).copied().unwrap_or_default();
        sites
            .enumerate()
            .map(move |(number, site)| (site, met(number)))
    }

    /// The sites that were never crashed and are not exempt.
    pub fn missing(&self) -> impl Iterator<Item = &Site> {
        let missing = |&(site, met): &(&Site, Met)| met.crashed == 0 && site.exemption.is_none();
        self.sites().filter(missing).map(|(site, _)| site)
    }

    /// The calls of a disk that were crashed and that reading the sources did not
    /// find, with how often. There should be none; a compiler that leaves frames
    /// out (calls at the end of a function, at high levels of optimisation) makes some.
    pub fn unread(&self) -> impl Iterator<Item = (&Place, u64)> {
        self.unread.iter().map(|(place, &count)| (place, count))
    }

    /// The lines of the user's code at which it was crashed, with how often: file,
    /// line, count. A stop in a thread of the store is at none.
    pub fn lines(&self) -> impl Iterator<Item = (PathBuf, u32, u64)> {
        let lines = self.lines.iter();
        lines.map(|((file, line), &count)| (stack::shown(file), *line, count))
    }

    /// Fails unless every site that is not exempt was crashed.
    ///
    /// # Errors
    /// A text that names each site, or says why nothing is known.
    pub fn check(&self) -> Result<(), String> {
        if let Some(why) = self.unknown() {
            return Err(format!("the coverage is not known: {why}"));
        }
        let missing = self.missing().map(|site| format!("\n  {site}"));
        let missing: Vec<_> = missing.collect();
        match missing.len() {
            0 => Ok(()),
            count => Err(format!(
                "{count} calls that change a disk were never crashed:{}",
                missing.concat()
            )),
        }
    }
}

/// For a certificate; with `{:#}` every site has its line.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = self.unknown() {
            write!(f, "calls that change a disk: not known, because {why}")?;
        } else {
            let exempt = self.sites().filter(|(site, _)| site.exemption.is_some());
            let exempt = exempt.count();
            let wanted = self.sites().count() - exempt;
            let crashed = wanted - self.missing().count();
            let failed = self.sites().filter(|(_, met)| met.failed > 0).count();
            write!(
                f,
                "calls that change a disk, by reading the sources: {crashed} of {wanted} \
                 crashed, {failed} failed, {exempt} exempt"
            )?;
        }
        for (site, met) in self.sites() {
            match site.exemption {
                Some(exempt) => {
                    write!(f, "\n  exempt: {site}: {}; see {}", exempt.why, exempt.test)?
                }
                None if met.crashed == 0 => write!(f, "\n  never crashed: {site}")?,
                None if f.alternate() => write!(
                    f,
                    "\n  {site}: crashed {} times, failed {}",
                    met.crashed, met.failed
                )?,
                None => {}
            }
        }
        for (place, count) in self.unread() {
            write!(f, "\n  no site, but crashed {count} times: {place}")?;
        }
        for (file, line, count) in self.lines() {
            write!(f, "\n  from {}:{line}: {count} crashes", file.display())?;
        }
        Ok(())
    }
}
