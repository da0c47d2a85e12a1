//! The runtimes that are compared: what each is told, and one call to each for a chain of
//! three steps that do nothing.

#[cfg(feature = "runtimes")]
mod durare;
#[cfg(feature = "runtimes")]
mod duroxide;
pub(crate) mod ours;

use std::path::Path;

use crate::engines::OURS;
use crate::task::{Latency, Result};

/// The steps of the chain.
pub(crate) const STEPS: u64 = 3;

/// All runtimes of this build.
pub(crate) const ALL: &[&str] = &[
    OURS,
    #[cfg(feature = "runtimes")]
    "durare",
    #[cfg(feature = "runtimes")]
    "duroxide",
];

/// What a runtime is told to promise.
pub(crate) fn told(runtime: &str) -> &'static str {
    match runtime {
        OURS => "Durability::Memory for posts; whoever waits for jobs has them on the disk",
        "durare" => "SQLite at synchronous = NORMAL, its default: a power cut may undo an answer",
        _ => "SQLite as it opens it, at NORMAL: a power cut may undo an answer",
    }
}

/// What a peer did with chains of three steps.
pub(crate) struct Chained {
    /// Steps a second.
    pub(crate) rate: f64,
    /// What one chain took, for whoever waits for it.
    pub(crate) latency: Latency,
}

/// Runs chains with a peer, so many at a time, for so long.
#[cfg(feature = "runtimes")]
pub(crate) fn chains(
    runtime: &str,
    folder: &Path,
    at_a_time: u64,
    seconds: f64,
) -> Result<Chained> {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match runtime {
        "durare" => tokio.block_on(durare::chains(folder, at_a_time, seconds)),
        _ => tokio.block_on(duroxide::chains(folder, at_a_time, seconds)),
    }
}

/// There is no peer in this build.
#[cfg(not(feature = "runtimes"))]
pub(crate) fn chains(runtime: &str, _: &Path, _: u64, _: f64) -> Result<Chained> {
    Err(format!("no {runtime} without the feature runtimes").into())
}

/// Awaits chains until the time is over, in tasks of which each does one after another.
#[cfg(feature = "runtimes")]
async fn in_tasks<C, F>(tasks: u64, seconds: f64, chain: C) -> Result<Chained>
where
    C: Fn(String) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<()>> + Send,
{
    use crate::measure::{now, percentiles};

    let begun = now();
    let mut all = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let chain = chain.clone();
        all.spawn(async move {
            let mut nanos = Vec::new();
            while begun.elapsed().as_secs_f64() < seconds {
                let from = now();
                chain(format!("chain-{task}-{}", nanos.len())).await?;
                nanos.push(u32::try_from(from.elapsed().as_nanos()).unwrap_or(u32::MAX));
            }
            Result::Ok(nanos)
        });
    }
    let mut nanos = Vec::new();
    while let Some(task) = all.join_next().await {
        nanos.extend(task??);
    }
    let done = (nanos.len() as u64 * STEPS) as f64;
    Ok(Chained {
        rate: done / begun.elapsed().as_secs_f64(),
        latency: percentiles(&mut nanos),
    })
}
