//! Owns reading many files in parallel for a check, which goes through no flow. What is
//! done with their contents is the caller's.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::content::{Content, Reader};
use crate::walk::{Folder, Found};

/// How far the workers may be ahead of who takes their results.
const RESULTS_WAITING_MAX: usize = 1024;

/// How many files are read at once: as many as there are cores.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get)
}

/// Reads files, and gives `take` their keys and contents on this thread.
pub(crate) fn in_parallel(
    folder: &Folder,
    files: &[Found],
    take: impl FnOnce(Receiver<(&str, Content)>),
) {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = sync_channel(RESULTS_WAITING_MAX);
    let work = |sender: SyncSender<_>| {
        let mut reader = Reader::new();
        while let Some(found) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let content = reader.read(folder, &found.key);
            if sender.send((found.key.as_str(), content)).is_err() {
                break;
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads().min(files.len()))
            .map(|_| {
                let sender = sender.clone();
                scope.spawn(|| work(sender))
            })
            .collect();
        drop(sender);
        take(receiver);
        for worker in workers {
            // A panic goes on where everybody sees it.
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}
