//! Owns running a transaction: attempts, races that were lost, the queue for keys,
//! and what a user's closure may do wrong.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::codec::cell::deadline;
use crate::engine::small_key::SmallKey;
use crate::engine::table::{Slot, Stored};
use crate::engine::view::View;
use crate::engine::{Batch, Claim, Engine, Op, Ops, Read, SlotBatch, Ticket};
use crate::error::{Error, Result};
use crate::ids::{Lsn, Version};
use crate::scope::Scope;
use crate::state::handle::Place;
use crate::state::store::Shared;
use crate::state::trace;
use crate::state::transaction_scope::TransactionScope;
use crate::state::watch::cursor;
use crate::sync::{self, Mutex, OnceLock};
use crate::wal::FRAME_BYTES_MAX;

/// After so many lost races a transaction queues for its keys.
pub(crate) const RACES_BEFORE_QUEUEING: u32 = 3;

/// What an op takes in a commit beyond its key and value, at most.
const OP_BYTES: usize = 16;

/// What a commit can be: a frame of the log.
const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - 4096;

sync::thread_local! {
    /// The stores whose transactions are running on this thread.
    static RUNNING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    /// How often this thread wrote to a transaction.
    static WRITES: Cell<u64> = const { Cell::new(0) };
}

/// Differs after this thread wrote to a transaction.
pub(super) fn writes_of_this_thread() -> u64 {
    WRITES.with(Cell::get)
}

fn count_write() {
    WRITES.with(|writes| writes.set(writes.get().wrapping_add(1)));
}

fn identity(engine: &Engine) -> usize {
    std::ptr::from_ref(engine) as usize
}

/// An error inside a transaction of the same store on the same thread.
#[inline]
pub(super) fn refuse_nested(engine: &Arc<Engine>) -> Result<()> {
    let inside = RUNNING.with(|running| {
        let running = running.borrow();
        !running.is_empty() && running.contains(&identity(engine))
    });
    match inside {
        true => Err(Error::Nested),
        false => Ok(()),
    }
}

/// While it lives, its thread is inside a transaction.
struct Running;

impl Running {
    fn enter(engine: &Engine) -> Self {
        RUNNING.with(|running| running.borrow_mut().push(identity(engine)));
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with(|running| running.borrow_mut().pop());
    }
}

/// A transaction that is running: what it sees, and what it is going to write.
///
/// Its handles take `&self`, so several may live at once. What it wrote it reads
/// back; nobody else sees it before it is committed.
pub struct Transaction {
    pub(super) shared: Arc<Shared>,
    /// What it reads, once it has read anything: who only writes keeps no state in memory,
    /// and asks for the sequencer's lock once.
    view: OnceLock<View>,
    pub(super) state: Mutex<State>,
}

/// What it sees; not what it read and writes.
impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("lsn", &self.view.get().map(View::lsn))
            .field("engine", &self.shared.engine)
            .finish_non_exhaustive()
    }
}

/// What a transaction has read and written so far.
#[derive(Default)]
pub(super) struct State {
    /// The scopes that it writes to, by their slots' numbers.
    scopes: BTreeMap<u64, Written>,
    /// What becomes of their keys: one map for all, since most scopes have few.
    keys: BTreeMap<(u64, SmallKey), Stored>,
    read_keys: HashSet<(u64, Box<[u8]>)>,
    pub(super) reads: Vec<Read>,
    /// The earliest deadline of what was read.
    expires: Option<u64>,
    /// Of the keys and values that it puts.
    put_bytes: usize,
    /// Of its commit, at most.
    body_bytes: usize,
}

/// A scope that is written to.
struct Written {
    slot: Arc<Slot>,
    cleared: bool,
}

fn within(limit: &'static str, max: usize, actual: usize, slot: &Slot) -> Result<usize> {
    match actual > max {
        false => Ok(actual),
        true => Err(Error::LimitExceeded {
            limit,
            max: max as u64,
            actual: actual as u64,
            at: crate::scope::describe(&slot.prefix),
        }),
    }
}

impl State {
    pub(super) fn read_key(&mut self, slot: &Arc<Slot>, key: &[u8]) {
        if self.read_keys.insert((slot.number, key.into())) {
            self.reads.push(Read::key(slot, key));
        }
    }

    /// Notes when something that was read expires.
    pub(super) fn read_cell(&mut self, cell: &[u8]) {
        if let Some(deadline) = deadline(cell) {
            self.expires = Some(self.expires.map_or(deadline, |other| other.min(deadline)));
        }
    }

    pub(super) fn read_range(
        &mut self,
        slot: &Arc<Slot>,
        from: &Bound<Vec<u8>>,
        to: &Bound<Vec<u8>>,
    ) {
        let boxed = |bound: &Bound<Vec<u8>>| bound.as_ref().map(|key| key.as_slice().into());
        self.reads.push(Read {
            slot: Arc::clone(slot),
            from: boxed(from),
            to: boxed(to),
        });
    }

    pub(super) fn write(
        &mut self,
        slot: &Arc<Slot>,
        key: &[u8],
        cell: Stored,
        bytes_max: usize,
    ) -> Result<()> {
        let cell_bytes = cell.as_ref().map_or(0, |cell| cell.len());
        let put = cell.as_ref().map_or(0, |_| key.len() + cell_bytes);
        let put = within("transaction_bytes", bytes_max, self.put_bytes + put, slot)?;
        self.grow(slot, key.len() + cell_bytes + OP_BYTES)?;
        self.put_bytes = put;
        self.keys.insert(place(slot, key), cell);
        Ok(())
    }

    pub(super) fn clear(&mut self, slot: &Arc<Slot>) -> Result<()> {
        self.grow(slot, OP_BYTES)?.cleared = true;
        let first = first_of(slot.number);
        let written = |keys: &BTreeMap<(u64, SmallKey), Stored>| {
            let next = keys.range(&first..).next();
            let key = next.filter(|((number, _), _)| *number == slot.number);
            key.map(|(key, _)| key.clone())
        };
        while let Some(key) = written(&self.keys) {
            self.keys.remove(&key);
        }
        Ok(())
    }

    /// Counts what the commit takes in the log; no limit of the user's can be too small
    /// for what deletes, but the log has its own.
    fn grow(&mut self, slot: &Arc<Slot>, bytes: usize) -> Result<&mut Written> {
        let place = self.scopes.entry(slot.number);
        let scope = match &place {
            Entry::Occupied(_) => 0,
            Entry::Vacant(_) => slot.prefix.len() + OP_BYTES,
        };
        let grown = self.body_bytes + scope + bytes;
        self.body_bytes = within("commit_bytes", BODY_BYTES_MAX, grown, slot)?;
        count_write();
        Ok(place.or_insert_with(|| Written {
            slot: Arc::clone(slot),
            cleared: false,
        }))
    }

    /// What was written to a key here; the outer `None` where nothing was.
    pub(super) fn written(&self, slot: &Slot, key: &[u8]) -> Option<Stored> {
        let scope = self.scopes.get(&slot.number)?;
        match self.keys.get(&place(slot, key)) {
            Some(cell) => Some(cell.clone()),
            None => scope.cleared.then_some(None),
        }
    }

    /// What was written to the keys of a range here, and whether the scope was cleared
    /// before.
    pub(super) fn written_range(
        &self,
        slot: &Slot,
        from: &Bound<Vec<u8>>,
        to: &Bound<Vec<u8>>,
    ) -> (BTreeMap<SmallKey, Stored>, bool) {
        let Some(scope) = self.scopes.get(&slot.number) else {
            return (BTreeMap::new(), false);
        };
        let bound = |bound: &Bound<Vec<u8>>| bound.as_ref().map(|key| place(slot, key));
        let from = match bound(from) {
            Bound::Unbounded => Bound::Included(first_of(slot.number)),
            from => from,
        };
        let in_range = self.keys.range((from, bound(to)));
        let own = in_range.take_while(|((number, _), _)| *number == slot.number);
        let own = own.map(|((_, key), cell)| (key.clone(), cell.clone()));
        (own.collect(), scope.cleared)
    }

    fn into_batch(self) -> Batch {
        let mut keys = self.keys.into_iter().peekable();
        let writes = self.scopes.into_iter().map(|(number, scope)| {
            let mut ops = Ops::new();
            while let Some(((_, key), cell)) = keys.next_if(|((of, _), _)| *of == number) {
                ops.push((key, cell.map_or(Op::Delete, Op::Put)));
            }
            SlotBatch {
                slot: scope.slot,
                clear: scope.cleared,
                ops,
            }
        });
        Batch {
            writes: writes.collect(),
            reads: self.reads,
            expires: self.expires,
            ..Batch::default()
        }
    }
}

/// Where a key of a scope stands among all that is written.
fn place(slot: &Slot, key: &[u8]) -> (u64, SmallKey) {
    (slot.number, key.into())
}

/// What no key of the scope stands before.
fn first_of(number: u64) -> (u64, SmallKey) {
    (number, SmallKey::from(&[][..]))
}

impl Transaction {
    /// One that sees the state as it is when it first looks.
    pub(crate) fn begin(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            view: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    /// The state that it reads: that of the moment when it first asks.
    pub(super) fn view(&self) -> &View {
        match self.view.get() {
            Some(view) => view,
            None => {
                let fresh = self.shared.engine.view();
                self.view.get_or_init(|| fresh)
            }
        }
    }

    /// The LSN of the state that it has read; zero where it has read nothing.
    pub(crate) fn read_lsn(&self) -> Lsn {
        self.view.get().map_or(Lsn::ZERO, View::lsn)
    }

    /// What it read and is going to write. It has read and written nothing then.
    pub(crate) fn take_batch(&self) -> Batch {
        std::mem::take(&mut *self.state.lock()).into_batch()
    }

    /// A handle of a scope, inside the transaction.
    #[must_use]
    pub fn scope(&self, scope: Scope) -> TransactionScope<'_> {
        let place = Place::of(&self.shared, &scope);
        TransactionScope::new(self, scope, place)
    }

    /// The scope that all share.
    #[must_use]
    pub fn global(&self) -> TransactionScope<'_> {
        self.scope(Scope::Global)
    }

    /// The LSN of the state that the transaction reads: the newest when it first read
    /// anything or asked for this.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.view().lsn()
    }

    /// Moves a durable cursor on to `lsn`, with all else that the transaction does:
    /// what a consumer made of the changes up to there and that it has seen them are
    /// one commit. A cursor that is not there is made. See [`crate::Store::cursor`].
    ///
    /// After [`Error::Trimmed`], and to begin with a scan, it is moved to
    /// [`Transaction::lsn`] by the transaction that reads the state.
    ///
    /// # Errors
    /// [`Error::CursorPassed`] where it is at `lsn` or further on already,
    /// [`Error::Invalid`] for an LSN that this store never gave, and as
    /// [`TransactionScope::set`].
    ///
    /// ```
    /// use evenkeel::{Error, Lsn, Store};
    /// let store = Store::in_memory();
    /// store.transact(|tx| tx.advance_cursor("audit", tx.lsn()))?;
    /// let back = store.transact(|tx| tx.advance_cursor("audit", Lsn::ZERO));
    /// assert!(matches!(back, Err(Error::CursorPassed { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn advance_cursor(&self, name: impl AsRef<str>, lsn: Lsn) -> Result<()> {
        cursor::advance(self, name.as_ref(), lsn)
    }
}

/// Runs a closure as a transaction until it commits. Gives its value and, where it
/// wrote anything, the commit's LSN.
pub(super) fn run<T>(
    shared: &Arc<Shared>,
    mut closure: impl FnMut(&Transaction) -> Result<T>,
) -> Result<(T, Option<Lsn>)> {
    let engine = &shared.engine;
    let mut ticket: Option<Ticket> = None;
    let attempts = shared.settings.limits.transaction_attempts;
    let mut lost = Vec::new();
    for attempt in 1..=attempts {
        shared.enter()?;
        let transaction = Transaction::begin(shared);
        let outcome = {
            let _running = Running::enter(engine);
            catch_unwind(AssertUnwindSafe(|| closure(&transaction)))
        };
        let batch = Batch {
            ends: transaction.view.get().map(View::number),
            ..transaction.take_batch()
        };
        let read = transaction.read_lsn();
        let view = transaction.view.into_inner();
        match outcome {
            Err(panic) => {
                return Err(Error::Panicked {
                    message: message_of(&*panic),
                });
            }
            Ok(Err(Error::ViewExpired)) => {}
            Ok(Err(e)) => return Err(e),
            Ok(Ok(value)) if batch.writes.is_empty() => return Ok((value, None)),
            Ok(Ok(value)) => {
                let number = ticket.as_ref().map(Ticket::number);
                if let Some(lsn) = engine.commit_read(&batch, read, number)? {
                    trace::committed(shared, &batch, lsn);
                    drop((view, ticket));
                    engine.expire_in_passing();
                    return Ok((value, Some(lsn)));
                }
            }
        }
        drop(view);
        if attempt >= RACES_BEFORE_QUEUEING {
            // Let go before queueing again, so that nobody waits for two at once.
            drop(ticket.take());
            lost.extend(claims(&batch));
            ticket = Some(engine.reservations.reserve(lost.clone()));
        }
    }
    Err(Error::Conflict {
        scope: "a transaction".into(),
        key: format!("tried {attempts} times, each time with other keys"),
        expected: Version::ZERO,
        found: Version::ZERO,
    })
}

/// What a batch read and wrote, to be reserved.
pub(crate) fn claims(batch: &Batch) -> Vec<Claim> {
    let mut claims = batch.claims();
    for read in &batch.reads {
        let key = match (&read.from, &read.to) {
            (Bound::Included(from), Bound::Included(to)) if from == to => Some(from.clone()),
            _ => None,
        };
        claims.push(Claim {
            slot: read.slot.number,
            key,
        });
    }
    claims
}

/// Runs what may be a user's code while the engine cannot be called on this thread: calls
/// of the store are refused there as in a transaction.
pub(super) fn guarded_within<T>(
    engine: &Engine,
    place: &str,
    call: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let _running = Running::enter(engine);
    guarded(place, call)
}

/// Runs what may be a user's code; where it panics, says in what.
pub(crate) fn guarded<T>(place: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(Error::Panicked {
            message: format!("{place}: {}", message_of(&*panic)),
        })
    })
}

pub(super) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it gave no message".into())
}
