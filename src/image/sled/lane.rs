//! Owns the thread behind which something lives that may hang or panic. A caller
//! waits for its answer up to a deadline; a panic becomes an answer; a thread that
//! never answers is left behind.
//!
//! Threads outlive their lanes by a while and serve the next ones: an image that moves
//! from folder to folder has the same threads in all of them. A thread for each left
//! behind what the allocator keeps for one: 40 MB of memory with every folder.

use std::any::Any;
use std::fmt;
use std::hint;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::Mutex;

use crate::{clock, sync};

type Job<T> = Box<dyn FnOnce(&T) + Send>;

/// All that a thread does for one lane.
type Life = Box<dyn FnOnce() + Send>;

/// How long a thread without a lane waits for one.
const IDLE_FOR: Duration = Duration::from_secs(10);

/// The threads that wait for a lane.
static IDLE: Mutex<Vec<(ThreadId, Sender<Life>)>> = Mutex::new(Vec::new());

/// How long somebody looks for a message before it sleeps: to wake a thread takes longer
/// than most calls do.
const AWAKE_FOR: Duration = Duration::from_micros(50);

/// So often it looks between two looks at the clock.
const LOOKS: usize = 32;

/// Who looked in vain sleeps at once so many times: on a processor that others want too,
/// the other side waits for whoever stays awake.
const SLEEPS: usize = 64;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The deadline is over.
    Late,
    /// The call panicked, with this message.
    Panicked(String),
    /// The lane was closed.
    Closed,
}

/// A call that was begun.
pub(super) struct Pending<R>(Receiver<Result<R, NoAnswer>>);

impl<R> Pending<R> {
    /// Its answer.
    pub(super) fn wait(self, deadline: Duration) -> Result<R, NoAnswer> {
        let answer = self.0.recv_timeout(deadline);
        answer.unwrap_or_else(|e| Err(no_answer(e)))
    }
}

/// Looks for messages that come soon, as long as there were some.
#[derive(Debug)]
struct Lookout {
    /// So many times it does not look.
    sleeps: AtomicUsize,
}

impl Lookout {
    fn new() -> Self {
        // With one processor there is nothing to look for.
        let sleeps = match sync::cores() {
            1 => usize::MAX,
            _ => 0,
        };
        Self {
            sleeps: AtomicUsize::new(sleeps),
        }
    }

    /// A message that comes soon.
    fn soon<M>(&self, messages: &Receiver<M>) -> Option<M> {
        let sleeps = self.sleeps.load(Ordering::Relaxed);
        if sleeps > 0 {
            self.sleeps.store(sleeps - 1, Ordering::Relaxed);
            return messages.try_recv().ok();
        }
        let begun = clock::monotonic();
        loop {
            for _ in 0..LOOKS {
                match messages.try_recv() {
                    Ok(message) => return Some(message),
                    Err(TryRecvError::Disconnected) => return None,
                    Err(TryRecvError::Empty) => hint::spin_loop(),
                }
            }
            if begun.elapsed() >= AWAKE_FOR {
                self.sleeps.store(SLEEPS, Ordering::Relaxed);
                return None;
            }
        }
    }
}

impl<R> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

/// A thread that owns a `T` and does one call after the other with it.
pub(super) struct Lane<T> {
    jobs: Mutex<Option<Sender<Job<T>>>>,
    /// How many wait for an answer.
    waiting: AtomicUsize,
    /// Of who waits.
    lookout: Lookout,
    /// Gets the word when the thread has dropped its `T`.
    ended: Mutex<Receiver<Result<(), NoAnswer>>>,
}

impl<T> fmt::Debug for Lane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lane")
    }
}

impl<T: 'static> Lane<T> {
    /// Starts the thread, which makes its `T` first. The outer error is that of the
    /// operating system; then whether there was an answer; then what `make` said.
    pub(super) fn start<E: Send + 'static>(
        name: &str,
        deadline: Duration,
        make: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> io::Result<Result<Result<Self, E>, NoAnswer>> {
        let (jobs, queue) = mpsc::channel::<Job<T>>();
        let (made, making) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let body = move || {
            let content = match guarded(make) {
                Ok(Ok(content)) => content,
                Ok(Err(error)) => return drop(made.send(Ok(Err(error)))),
                Err(panicked) => return drop(made.send(Err(panicked))),
            };
            if made.send(Ok(Ok(()))).is_ok() {
                let lookout = Lookout::new();
                let next = || lookout.soon(&queue).or_else(|| queue.recv().ok());
                while let Some(job) = next() {
                    // The job answers for its own panic; what is caught here comes
                    // from dropping an answer that nobody waits for.
                    let _ = guarded(|| job(&content));
                }
            }
            let _ = end.send(guarded(|| drop(content)));
        };
        live(name, Box::new(body))?;
        Ok(match making.recv_timeout(deadline) {
            Ok(Ok(Ok(()))) => Ok(Ok(Self {
                jobs: Mutex::new(Some(jobs)),
                waiting: AtomicUsize::new(0),
                lookout: Lookout::new(),
                ended: Mutex::new(ended),
            })),
            Ok(Ok(Err(error))) => Ok(Err(error)),
            Ok(Err(panicked)) => Err(panicked),
            Err(e) => Err(no_answer(e)),
        })
    }

    /// Does `call` in the thread.
    pub(super) fn call<R: Send + 'static>(
        &self,
        deadline: Duration,
        call: impl FnOnce(&T) -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        let pending = self.begin(call)?;
        // Of many that wait nobody is to keep a processor from the thread.
        let alone = self.waiting.fetch_add(1, Ordering::Relaxed) == 0;
        let soon = match alone {
            true => self.lookout.soon(&pending.0),
            false => None,
        };
        let answer = soon.unwrap_or_else(|| pending.wait(deadline));
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// Has `call` done in the thread, behind those that were begun before.
    pub(super) fn begin<R: Send + 'static>(
        &self,
        call: impl FnOnce(&T) -> R + Send + 'static,
    ) -> Result<Pending<R>, NoAnswer> {
        let Some(jobs) = self.jobs.lock().clone() else {
            return Err(NoAnswer::Closed);
        };
        let (reply, answer) = mpsc::channel();
        let job: Job<T> = Box::new(move |content| {
            let _ = reply.send(guarded(|| call(content)));
        });
        jobs.send(job).map_err(|_| NoAnswer::Closed)?;
        Ok(Pending(answer))
    }

    /// Takes no more calls: once those that wait are done, the thread drops its `T`
    /// and ends.
    pub(super) fn close(&self) {
        drop(self.jobs.lock().take());
    }

    /// Waits until the thread of a closed lane has dropped its `T`.
    pub(super) fn join(&self, deadline: Duration) -> Result<(), NoAnswer> {
        match self.ended.lock().recv_timeout(deadline) {
            Ok(ended) => ended,
            // It was heard of before.
            Err(RecvTimeoutError::Disconnected) => Ok(()),
            Err(RecvTimeoutError::Timeout) => Err(NoAnswer::Late),
        }
    }
}

/// Has a thread do this, one that waits if there is one.
fn live(name: &str, mut life: Life) -> io::Result<()> {
    loop {
        let waiting = IDLE.lock().pop();
        let Some((_, thread)) = waiting else { break };
        match thread.send(life) {
            Ok(()) => return Ok(()),
            Err(unsent) => life = unsent.0,
        }
    }
    let (lives, queue) = mpsc::channel::<Life>();
    let body = move || {
        let _ = guarded(life);
        let me = thread::current().id();
        loop {
            IDLE.lock().push((me, lives.clone()));
            let next = queue.recv_timeout(IDLE_FOR).or_else(|_| {
                let mut idle = IDLE.lock();
                let here = idle.iter().position(|(id, _)| *id == me);
                // Where it is not, somebody has taken it, and is about to send.
                match here.map(|here| idle.swap_remove(here)) {
                    Some(_) => Err(RecvTimeoutError::Disconnected),
                    None => {
                        drop(idle);
                        queue.recv().map_err(RecvTimeoutError::from)
                    }
                }
            });
            match next {
                Ok(life) => drop(guarded(life)),
                Err(_) => return,
            }
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(body)?;
    Ok(())
}

fn no_answer(error: RecvTimeoutError) -> NoAnswer {
    match error {
        RecvTimeoutError::Timeout => NoAnswer::Late,
        RecvTimeoutError::Disconnected => NoAnswer::Closed,
    }
}

/// Runs `f`; a panic is an error. The process's panic hook, which is not ours to
/// change, may still print it.
fn guarded<R>(f: impl FnOnce() -> R) -> Result<R, NoAnswer> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| NoAnswer::Panicked(message(&*payload)))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(20);

    fn lane(n: u32) -> Lane<u32> {
        Lane::start("test", LONG, move || Ok::<_, ()>(n))
            .unwrap()
            .unwrap()
            .unwrap()
    }

    #[test]
    fn calls_are_answered_until_it_is_closed() {
        let lane = lane(7);
        assert_eq!(lane.call(LONG, |n| n + 1), Ok(8));
        lane.close();
        assert_eq!(lane.call(LONG, |n| n + 1), Err(NoAnswer::Closed));
        assert_eq!(lane.join(LONG), Ok(()));
        assert_eq!(lane.join(LONG), Ok(()));
    }

    #[test]
    fn a_panic_is_an_answer_and_the_thread_goes_on() {
        let lane = lane(7);
        let panicked = lane.call(LONG, |n| assert_eq!(*n, 8, "not eight"));
        assert!(matches!(panicked, Err(NoAnswer::Panicked(text)) if text.contains("not eight")));
        assert_eq!(lane.call(LONG, |n| *n), Ok(7));
    }

    #[test]
    fn a_hang_ends_at_the_deadline() {
        let lane = lane(7);
        let (release, held) = mpsc::channel::<()>();
        assert_eq!(
            lane.call(SHORT, move |_| held.recv().is_ok()),
            Err(NoAnswer::Late)
        );
        assert_eq!(lane.call(SHORT, |n| *n), Err(NoAnswer::Late));
        lane.close();
        assert_eq!(lane.join(SHORT), Err(NoAnswer::Late));
        drop(release);
        assert_eq!(lane.join(LONG), Ok(()));
    }

    #[test]
    fn making_may_fail_panic_or_hang() {
        let failed = Lane::<u32>::start("test", LONG, || Err("no"))
            .unwrap()
            .unwrap();
        assert_eq!(failed.unwrap_err(), "no");
        let panicked = Lane::<u32>::start("test", LONG, || -> Result<_, ()> { panic!("no") });
        assert_eq!(
            panicked.unwrap().unwrap_err(),
            NoAnswer::Panicked("no".to_owned())
        );
        let (release, held) = mpsc::channel::<()>();
        let late = Lane::start("test", SHORT, move || held.recv());
        assert_eq!(late.unwrap().unwrap_err(), NoAnswer::Late);
        drop(release);
    }

    #[test]
    fn a_panic_in_a_drop_does_not_escape() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("boom");
            }
        }
        let lane = Lane::start("test", LONG, || Ok::<_, ()>(Bomb))
            .unwrap()
            .unwrap()
            .unwrap();
        lane.close();
        assert_eq!(lane.join(LONG), Err(NoAnswer::Panicked("boom".to_owned())));
    }
}
