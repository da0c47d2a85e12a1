//! Owns the fields of a state that is a map: reading and changing one of them, while the
//! others stay as they are. Imports the layers below only.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::state::TransactionScope;
use crate::state::handle::added;
use crate::value::Value;

/// A state, by its fields.
pub(crate) type Fields = BTreeMap<String, Value>;

/// A field of what is under `key` as a type; `None` where there is none.
///
/// # Errors
/// [`Error::TypeMismatch`] where it is not of this type.
pub(crate) fn read<T: DeserializeOwned>(
    fields: &Fields,
    scope: &TransactionScope<'_>,
    key: &str,
    field: &str,
) -> Result<Option<T>> {
    let found = fields.get(field).map(Value::deserialize).transpose();
    found.map_err(|e| match e {
        Error::Invalid { reason, .. } => Error::TypeMismatch {
            scope: scope.scope().to_string(),
            key: key.to_owned(),
            path: format!(".{field}"),
            reason,
        },
        e => e,
    })
}

/// Fields to be written, and what else came of changing them.
#[derive(Serialize)]
#[serde(transparent)]
struct Changed<T> {
    fields: Fields,
    #[serde(skip)]
    answer: T,
}

/// Changes the fields of what is under `key`; there are none where nothing is there. Runs
/// again where other threads of the same activation changed them meanwhile.
///
/// # Errors
/// [`Error::TypeMismatch`] where it is no map, what `change` answers, and what writing has.
pub(crate) fn change<T>(
    scope: &TransactionScope<'_>,
    key: &str,
    mut change: impl FnMut(&mut Fields) -> Result<T>,
) -> Result<T> {
    let changed = scope.change(key, |old: Option<Fields>| {
        let mut fields = old.unwrap_or_default();
        let answer = change(&mut fields)?;
        Ok(Changed { fields, answer })
    });
    changed.map(|changed| changed.answer)
}

/// Adds to a field, which counts as 0 where there is none.
///
/// # Errors
/// As [`change`]; [`Error::TypeMismatch`] where the field is no integer,
/// [`Error::LimitExceeded`] where the sum does not fit.
pub(crate) fn increment(
    scope: &TransactionScope<'_>,
    key: &str,
    field: &str,
    by: i64,
) -> Result<i64> {
    change(scope, key, |fields| {
        let old = read(fields, scope, key, field)?;
        let sum = added(old, by, scope.scope(), key)?;
        fields.insert(field.to_owned(), sum.into());
        Ok(sum)
    })
}
