//! Owns keys that are declared once, with their type.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::ids::Version;
use crate::state::handle::{ScopeHandle, Versioned};

/// A key and the type of its value.
///
/// ```
/// use evenkeel::{Key, Scope, Store};
/// const RETRIES: Key<u32> = Key::new("retries");
/// let store = Store::in_memory();
/// let order = store.scope(Scope::workflow("order-42"));
/// order.key(RETRIES).set(3)?;
/// assert_eq!(order.key(RETRIES).get()?, Some(3));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub struct Key<T> {
    name: Cow<'static, str>,
    value: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// A key of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            value: PhantomData,
        }
    }

    /// A key whose name is made when the program runs.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Cow::Owned(name.into()),
            value: PhantomData,
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            value: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.name).finish()
    }
}

impl<T> AsRef<str> for Key<T> {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// A declared key in a scope. Made by [`ScopeHandle::key`].
#[derive(Debug)]
pub struct KeyHandle<'a, T> {
    pub(super) scope: &'a ScopeHandle,
    pub(super) key: Key<T>,
}

impl<T: Serialize + DeserializeOwned> KeyHandle<'_, T> {
    /// As [`ScopeHandle::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&self) -> Result<Option<T>> {
        self.scope.get(&self.key)
    }

    /// As [`ScopeHandle::get_versioned`].
    ///
    /// # Errors
    /// As there.
    pub fn get_versioned(&self) -> Result<Option<Versioned<T>>> {
        self.scope.get_versioned(&self.key)
    }

    /// As [`ScopeHandle::set`].
    ///
    /// # Errors
    /// As there.
    pub fn set(&self, value: T) -> Result<()> {
        self.scope.set(&self.key, value)
    }

    /// As [`ScopeHandle::update`].
    ///
    /// # Errors
    /// As there.
    pub fn update(&self, update: impl FnMut(Option<T>) -> T) -> Result<T> {
        self.scope.update(&self.key, update)
    }

    /// As [`ScopeHandle::compare_and_set`].
    ///
    /// # Errors
    /// As there.
    pub fn compare_and_set(&self, expected: Version, value: T) -> Result<Version> {
        self.scope.compare_and_set(&self.key, expected, value)
    }

    /// As [`ScopeHandle::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self) -> Result<()> {
        self.scope.delete(&self.key)
    }
}
