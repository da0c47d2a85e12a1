//! The clock, and what the machine says of this process: memory, bytes written, bytes of
//! a folder. The only file that asks for the time.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant, SystemTime};

use crate::task::{Latency, Result};

/// How many operations pass between two looks at the clock where none is timed alone.
const STRIDE: u64 = 32;

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What the threads of a workload did.
#[derive(Default)]
pub(crate) struct Counted {
    /// Operations a second, of all threads.
    pub(crate) rate: f64,
    /// All operations, with those of the warm-up, thread by thread.
    pub(crate) steps: Vec<u64>,
    /// What each of them took, in nanoseconds, where that was asked.
    nanos: Vec<u32>,
}

impl Counted {
    pub(crate) fn latency(&mut self) -> Latency {
        percentiles(&mut self.nanos)
    }
}

/// Percentiles of nanoseconds.
pub(crate) fn percentiles(nanos: &mut [u32]) -> Latency {
    nanos.sort_unstable();
    let at = |per_mille: usize| {
        let place = (nanos.len() * per_mille / 1000).min(nanos.len().saturating_sub(1));
        nanos
            .get(place)
            .map_or(0.0, |&nanos| f64::from(nanos) / 1e3)
    };
    Latency {
        p50: at(500),
        p99: at(990),
        p999: at(999),
    }
}

/// Whether operations are timed one by one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timed {
    Each,
    Together,
}

/// Runs operations in threads until the time is over; the first fifth of it is not
/// counted. `start` is called in each thread and gives what does one operation, which is
/// told its step.
pub(crate) fn run<O>(
    threads: u64,
    seconds: f64,
    timed: Timed,
    start: impl Fn(u64) -> Result<O> + Sync,
) -> Result<Counted>
where
    O: FnMut(u64) -> Result<()>,
{
    let barrier = Barrier::new(usize::try_from(threads)?);
    let work = |thread: u64| -> Result<(u64, f64, Vec<u32>)> {
        let begun = start(thread);
        // Whoever could not begin must not be waited for.
        barrier.wait();
        until(seconds, timed, begun?)
    };
    let joined: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let mut counted = Counted::default();
    for outcome in joined {
        let (steps, rate, nanos) = outcome.map_err(|_| "a thread panicked")??;
        counted.steps.push(steps);
        counted.rate += rate;
        counted.nanos.extend(nanos);
    }
    Ok(counted)
}

/// One thread's share: its steps, its rate, and what each took.
fn until(
    seconds: f64,
    timed: Timed,
    mut operation: impl FnMut(u64) -> Result<()>,
) -> Result<(u64, f64, Vec<u32>)> {
    let begun = now();
    let warm = begun + Duration::from_secs_f64(seconds * 0.2);
    let end = warm + Duration::from_secs_f64(seconds);
    let (mut step, mut counted, mut nanos) = (0, 0, Vec::new());
    let mut from = begun;
    let mut before = begun;
    loop {
        operation(step)?;
        step += 1;
        if timed == Timed::Together && !step.is_multiple_of(STRIDE) {
            continue;
        }
        let after = now();
        if before < warm {
            from = after;
        } else {
            counted += if timed == Timed::Each { 1 } else { STRIDE };
            if timed == Timed::Each {
                nanos.push(u32::try_from((after - before).as_nanos()).unwrap_or(u32::MAX));
            }
        }
        before = after;
        if after >= end {
            break;
        }
    }
    let measured = before.duration_since(from).as_secs_f64();
    let rate = match counted {
        0 => step as f64 / begun.elapsed().as_secs_f64(),
        _ => counted as f64 / measured,
    };
    Ok((step, rate, nanos))
}

/// A line of a file of `/proc`, as a number.
fn proc_number(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or(0)
}

/// The most memory that this process ever had, in bytes.
pub(crate) fn peak_memory() -> u64 {
    proc_number("/proc/self/status", "VmHWM:") * 1024
}

/// What this process caused to be written to disks, in bytes.
pub(crate) fn written() -> u64 {
    proc_number("/proc/self/io", "write_bytes:")
}

/// What a folder takes on disk, in bytes.
pub(crate) fn on_disk(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !metadata.is_dir() {
        return metadata.blocks() * 512;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| on_disk(&entry.path())).sum()
}

/// How often the disk of a folder was flushed since the machine was started, by whomever;
/// `None` where the kernel does not tell.
pub(crate) fn flushes(folder: &Path) -> Option<u64> {
    /// Counted from 0, behind the numbers of the device and its name.
    const FLUSHES: usize = 18;
    let device = fs::metadata(folder).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let disks = fs::read_to_string("/proc/diskstats").ok()?;
    let disk = disks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut ours = disk.filter(|fields| {
        let is = |at: usize, number: u32| fields.get(at).is_some_and(|f| *f == number.to_string());
        is(0, major) && is(1, minor)
    });
    let count = ours.next()?.get(FLUSHES)?.parse().ok()?;
    (count > 0).then_some(count)
}

/// How many processes wanted a processor, on average over the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// What this was measured on.
pub(crate) fn machine(folder: &Path) -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let named = |line: &&str| line.starts_with("model name");
    let model = processors
        .lines()
        .find(named)
        .and_then(|line| line.split(": ").nth(1));
    let cores = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let folder = folder.canonicalize().unwrap_or_default();
    let mounts = read("/proc/mounts");
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let over = mounts.filter(|(point, _)| folder.starts_with(point));
    let system = over
        .max_by_key(|(point, _)| point.len())
        .map_or("?", |(_, system)| system);
    format!(
        "{cores} cores, {}; Linux {}; {system}; {}",
        model.unwrap_or("?"),
        kernel.trim(),
        today()
    )
}

/// Today, in UTC.
fn today() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    date(since.map_or(0, |since| since.as_secs() / 86_400))
}

/// The year, the month and the day that is so many days after 1970 began.
fn date(days: u64) -> String {
    // Years that begin in March, in eras of 400 of them, so that leap days come last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (era * 400 + year, month + 3),
        _ => (era * 400 + year + 1, month - 9),
    };
    format!("{year}-{month:02}-{of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::{Timed, date, percentiles, run};

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(19_783), "2024-03-01");
        assert_eq!(date(20_453), "2025-12-31");
    }

    #[test]
    fn percentiles_are_of_the_sorted() {
        let mut nanos: Vec<u32> = (0..1_000).rev().map(|micros| micros * 1_000).collect();
        let latency = percentiles(&mut nanos);
        assert_eq!(
            (latency.p50, latency.p99, latency.p999),
            (500.0, 990.0, 999.0)
        );
        assert_eq!(percentiles(&mut []).p50, 0.0);
    }

    #[test]
    fn one_thread_that_fails_fails_all() {
        let outcome = run(2, 0.0, Timed::Each, |thread| {
            Ok(move |_| match thread {
                0 => Ok(()),
                _ => Err("no".into()),
            })
        });
        assert!(outcome.is_err());
        let outcome = run(2, 0.0, Timed::Each, |thread| match thread {
            0 => Ok(|_| Ok(())),
            _ => Err("no".into()),
        });
        assert!(outcome.is_err());
    }
}
