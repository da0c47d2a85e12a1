//! Owns resources: what a program needs while it runs and never stores, such as pools
//! and clients. A factory is registered before the store is opened; what it makes is
//! kept in memory by type, and dropped with the store.
//!
//! No lock is held while a factory runs or a resource is dropped. Threads that want what
//! another one is making wait for it (`state::flight`).

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::state::flight::{Flights, Made, Place, Turn};
use crate::state::handle::ScopeHandle;
use crate::state::store::{Shared, Store};
use crate::state::transaction::message_of;
use crate::sync::Mutex;

/// Something that a program uses while it runs and that no store can keep: a pool of
/// connections, a client, the handle of a device. It is made by its factory when it is
/// first asked for, after a restart again. Its clones are the same one; it is dropped
/// when the store has ended and the last of them is gone.
///
/// ```
/// use evenkeel::{Result, Scope, Store};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// struct Pool { url: String, used: AtomicU32 }
///
/// let store = Store::builder()
///     .resource(|store| -> Result<Pool> {
///         // What is stored is how to make it, not what was made.
///         let url = store.global().get("pool_url")?.unwrap_or_else(|| "db://a".to_owned());
///         Ok(Pool { url, used: AtomicU32::new(0) })
///     })
///     .in_memory()?;
/// let pool = store.resource::<Pool>()?;
/// pool.used.fetch_add(1, Ordering::Relaxed);
/// // From any handle it is the same one.
/// let again = store.scope(Scope::workflow("order-42")).resource::<Pool>()?;
/// assert_eq!((again.url.as_str(), again.used.load(Ordering::Relaxed)), ("db://a", 1));
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// It does not implement `Serialize`, whatever it holds, so storing one does not compile.
/// (It is no `Arc`, because an `Arc` of what can be serialised can be serialised too.)
///
/// ```compile_fail,E0277
/// use evenkeel::{Result, Store};
/// let store = Store::builder().resource(|_| -> Result<u32> { Ok(7) }).in_memory()?;
/// store.global().set("pool", store.resource::<u32>()?)?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub struct Resource<T>(Arc<T>);

impl<T> Clone for Resource<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Resource<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Resource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it holds may be a secret, as the password of a pool.
        write!(f, "Resource<{}>", type_name::<T>())
    }
}

type Outcome = std::result::Result<Made, Box<dyn StdError + Send + Sync>>;

#[derive(Clone)]
enum Factory {
    Store(Arc<dyn Fn(&Store) -> Outcome + Send + Sync>),
    Scope(Arc<dyn Fn(&ScopeHandle) -> Outcome + Send + Sync>),
}

/// The factories of a store, by the type that they make.
#[derive(Clone, Default)]
pub(super) struct Factories {
    by_type: BTreeMap<TypeId, (&'static str, Factory)>,
    /// A type that has two factories: whichever was meant, it would be a guess.
    twice: Option<&'static str>,
}

impl fmt::Debug for Factories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.by_type.values().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

impl Factories {
    pub(super) fn of_store<T, E>(
        &mut self,
        factory: impl Fn(&Store) -> std::result::Result<T, E> + Send + Sync + 'static,
    ) where
        T: Send + Sync + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let made = move |store: &Store| made(factory(store));
        self.register::<T>(Factory::Store(Arc::new(made)));
    }

    pub(super) fn of_scope<T, E>(
        &mut self,
        factory: impl Fn(&ScopeHandle) -> std::result::Result<T, E> + Send + Sync + 'static,
    ) where
        T: Send + Sync + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let made = move |scope: &ScopeHandle| made(factory(scope));
        self.register::<T>(Factory::Scope(Arc::new(made)));
    }

    fn register<T: 'static>(&mut self, factory: Factory) {
        let name = type_name::<T>();
        if self
            .by_type
            .insert(TypeId::of::<T>(), (name, factory))
            .is_some()
        {
            self.twice = Some(name);
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.twice {
            None => Ok(()),
            Some(name) => Err(Error::Invalid {
                what: "resource",
                reason: format!("{name} has two factories; register one"),
            }),
        }
    }

    fn find<T: 'static>(&self) -> Result<&Factory> {
        let found = self.by_type.get(&TypeId::of::<T>());
        found.map(|(_, factory)| factory).ok_or(Error::NoResource {
            resource: type_name::<T>(),
        })
    }
}

fn made<T, E>(outcome: std::result::Result<T, E>) -> Outcome
where
    T: Send + Sync + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    match outcome {
        Ok(value) => Ok(Arc::new(value)),
        Err(e) => Err(e.into()),
    }
}

/// The resources of an open store that are made; `None` once it has ended.
pub(super) struct Resources(Mutex<Option<BTreeMap<Place, Made>>>);

impl Default for Resources {
    fn default() -> Self {
        Self(Mutex::new(Some(BTreeMap::new())))
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resources")
    }
}

impl Resources {
    fn made(&self, place: &Place) -> Result<Option<Made>> {
        let resources = self.0.lock();
        let resources = resources.as_ref().ok_or(Error::Closed)?;
        Ok(resources.get(place).map(Arc::clone))
    }

    fn get_or_make<T: Send + Sync + 'static>(
        &self,
        flights: &Flights,
        place: Place,
        factory: impl FnOnce() -> Outcome,
    ) -> Result<Resource<T>> {
        let flight = loop {
            if let Some(made) = self.made(&place)? {
                return known(made);
            }
            match flights.begin(place.clone())? {
                Turn::Mine(flight) => break flight,
                Turn::Ended(Some(made)) => return known(made),
                Turn::Ended(None) => {}
                Turn::Circle => {
                    return Err(Error::Invalid {
                        what: "resource",
                        reason: format!(
                            "the factory of {} needs what it makes, by itself or through another factory",
                            type_name::<T>()
                        ),
                    });
                }
            }
        };
        if let Some(made) = self.made(&place)? {
            return known(made);
        }
        let made = run::<T>(factory)?;
        let closed = match &mut *self.0.lock() {
            Some(resources) => {
                resources.insert(place, Arc::clone(&made));
                false
            }
            None => true,
        };
        if closed {
            return let_go([made]).and(Err(Error::Closed));
        }
        flight.land(Arc::clone(&made));
        known(made)
    }

    fn release(&self, place: &Place) -> Result<bool> {
        let made = self.0.lock().as_mut().and_then(|made| made.remove(place));
        let there = made.is_some();
        let_go(made).map(|()| there)
    }

    /// Lets go of all of them; there are none from then on.
    ///
    /// # Errors
    /// [`Error::Panicked`] where dropping one panics.
    pub(super) fn close(&self) -> Result<()> {
        let made = self.0.lock().take();
        let_go(made.into_iter().flat_map(BTreeMap::into_values))
    }
}

fn known<T: Send + Sync + 'static>(made: Made) -> Result<Resource<T>> {
    // It is kept under its type, so this is always one.
    let found = made.downcast().map(Resource);
    found.map_err(|_| Error::NoResource {
        resource: type_name::<T>(),
    })
}

fn run<T>(factory: impl FnOnce() -> Outcome) -> Result<Made> {
    let resource = type_name::<T>();
    match catch_unwind(AssertUnwindSafe(factory)) {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(source)) => Err(Error::ResourceFailed { resource, source }),
        Err(panic) => Err(Error::Panicked {
            message: format!("in the factory of {resource}: {}", message_of(&*panic)),
        }),
    }
}

/// Drops all, also where one panics, and tells of the first that did.
fn let_go(made: impl IntoIterator<Item = Made>) -> Result<()> {
    let mut outcome = Ok(());
    for made in made {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(made))) {
            let message = format!("when a resource was dropped: {}", message_of(&*panic));
            outcome = outcome.and(Err(Error::Panicked { message }));
        }
    }
    outcome
}

impl Store {
    /// The resource of this type, made now if it was not made yet. Threads that ask at
    /// once get the same one, which is made once; where its factory fails each tries
    /// it again, in turn.
    ///
    /// # Errors
    /// [`Error::NoResource`] where no factory is registered for `T`,
    /// [`Error::ResourceFailed`] with the factory's own error, [`Error::Panicked`]
    /// where it panics; it may be asked for again after either. [`Error::Invalid`]
    /// where it is a resource of scopes, or its factory needs what it makes.
    /// [`Error::Closed`], [`Error::Poisoned`].
    pub fn resource<T: Send + Sync + 'static>(&self) -> Result<Resource<T>> {
        self.shared().engine.check()?;
        match self.shared().settings.resources.find::<T>()? {
            Factory::Store(factory) => {
                let Shared {
                    resources, flights, ..
                } = self.shared();
                let place = Place::Resource(TypeId::of::<T>(), None);
                resources.get_or_make(flights, place, || factory(self))
            }
            Factory::Scope(_) => Err(of_scopes::<T>()),
        }
    }

    /// Drops the resource of this type, so that it is made anew when it is next asked
    /// for; those who still have it keep the old one. False where there is none.
    ///
    /// # Errors
    /// [`Error::NoResource`], [`Error::Invalid`] as [`resource`](Self::resource);
    /// [`Error::Panicked`] where dropping it panics.
    pub fn release_resource<T: Send + Sync + 'static>(&self) -> Result<bool> {
        match self.shared().settings.resources.find::<T>()? {
            Factory::Store(_) => {
                let place = Place::Resource(TypeId::of::<T>(), None);
                self.shared().resources.release(&place)
            }
            Factory::Scope(_) => Err(of_scopes::<T>()),
        }
    }
}

fn of_scopes<T>() -> Error {
    Error::Invalid {
        what: "resource",
        reason: format!(
            "each scope has its own {}; ask the handle of a scope",
            type_name::<T>()
        ),
    }
}

impl ScopeHandle {
    /// The resource of this type: of this scope where each has its own
    /// ([`Builder::scope_resource`](crate::Builder::scope_resource)), and the store's
    /// otherwise. Those of scopes are kept until they are
    /// [released](Self::release_resource) or the store ends.
    ///
    /// # Errors
    /// As [`Store::resource`].
    ///
    /// ```
    /// use evenkeel::{Result, Scope, Store};
    /// struct Client(String);
    /// let store = Store::builder()
    ///     .scope_resource(|scope| -> Result<Client> {
    ///         Ok(Client(scope.get("host")?.unwrap_or_default()))
    ///     })
    ///     .in_memory()?;
    /// let (a, b) = (store.scope(Scope::worker("a")), store.scope(Scope::worker("b")));
    /// a.set("host", "a.local")?;
    /// b.set("host", "b.local")?;
    /// assert_eq!(a.resource::<Client>()?.0, "a.local");
    /// assert_eq!(b.resource::<Client>()?.0, "b.local");
    /// a.set("host", "c.local")?;
    /// assert!(a.release_resource::<Client>()?);
    /// assert_eq!(a.resource::<Client>()?.0, "c.local");
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn resource<T: Send + Sync + 'static>(&self) -> Result<Resource<T>> {
        match self.shared().settings.resources.find::<T>()? {
            Factory::Store(_) => self.store().resource(),
            Factory::Scope(factory) => {
                self.shared().engine.check()?;
                self.check()?;
                let Shared {
                    resources, flights, ..
                } = self.shared();
                let place = Place::Resource(TypeId::of::<T>(), Some(self.scope().clone()));
                resources.get_or_make(flights, place, || factory(self))
            }
        }
    }

    /// Drops the resource of this type, as [`Store::release_resource`] does; of this
    /// scope where each has its own.
    ///
    /// # Errors
    /// As there.
    pub fn release_resource<T: Send + Sync + 'static>(&self) -> Result<bool> {
        match self.shared().settings.resources.find::<T>()? {
            Factory::Store(_) => self.store().release_resource::<T>(),
            Factory::Scope(_) => {
                let place = Place::Resource(TypeId::of::<T>(), Some(self.scope().clone()));
                self.shared().resources.release(&place)
            }
        }
    }
}
