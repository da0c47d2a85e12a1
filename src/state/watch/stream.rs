//! Owns the watch as a stream: no thread and no runtime, the log wakes the task.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use crate::error::Result;
use crate::ids::Lsn;
use crate::state::watch::changes::ChangeSet;
use crate::state::watch::{Progress, Watch};

/// So many commits are passed over before other tasks have their turn.
const PASSED_AT_ONCE: usize = 256;

/// A [`Watch`] as a stream, under any executor. Made by [`Watch::into_stream`].
///
/// Its items are those of the watch, and it ends as that does. Reading what is durable
/// is a read of a file that was just written; it is not handed to another thread.
///
/// ```
/// use std::task::{Context, Poll, Waker};
/// use evenkeel::{Store, WatchFilter};
/// use futures_core::Stream;
/// let store = Store::in_memory();
/// let mut changes = std::pin::pin!(store.watch(WatchFilter::all())?.into_stream());
/// let mut context = Context::from_waker(Waker::noop());
/// assert!(changes.as_mut().poll_next(&mut context).is_pending());
/// store.global().set("a", 1)?;
/// let Poll::Ready(Some(commit)) = changes.as_mut().poll_next(&mut context) else {
///     panic!("it is there");
/// };
/// assert_eq!(commit?.changes()[0].key(), "a");
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct WatchStream(Watch);

impl WatchStream {
    pub(super) fn new(watch: Watch) -> Self {
        Self(watch)
    }

    /// As [`Watch::reached`].
    #[must_use]
    pub fn reached(&self) -> Lsn {
        self.0.reached()
    }
}

impl Stream for WatchStream {
    type Item = Result<ChangeSet>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watch = &mut self.0;
        if watch.ended {
            return Poll::Ready(None);
        }
        for _ in 0..PASSED_AT_ONCE {
            match watch.step() {
                Ok(Progress::Item(item)) => return Poll::Ready(Some(Ok(item))),
                Ok(Progress::Passed) => {}
                Ok(Progress::End) if watch.tap.poll(context) => {}
                Ok(Progress::End) => return Poll::Pending,
                Err(e) => return Poll::Ready(Some(Err(watch.ends(e)))),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl FusedStream for WatchStream {
    fn is_terminated(&self) -> bool {
        self.0.ended
    }
}
