//! Owns transforms of fields inside of values that are maps.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::migrate::transforms::step::Mapping;
use crate::value::Value;

/// A mapping of maps; what is none is of another type, which is an error that names it.
fn of_maps(
    change: impl Fn(&mut BTreeMap<String, Value>) -> Result<()> + Send + Sync + 'static,
) -> Mapping {
    Mapping::new(move |mut map: BTreeMap<String, Value>| {
        change(&mut map)?;
        Ok(map)
    })
}

pub(in crate::migrate::transforms) fn rename(from: String, to: String) -> Mapping {
    of_maps(move |map| {
        let Some(value) = map.remove(&from) else {
            return Ok(());
        };
        match map.insert(to.clone(), value) {
            None => Ok(()),
            Some(_) => Err(Error::Invalid {
                what: "field",
                reason: format!("{to:?} is there already"),
            }),
        }
    })
}

pub(in crate::migrate::transforms) fn default(field: String, value: Value) -> Mapping {
    of_maps(move |map| {
        map.entry(field.clone()).or_insert_with(|| value.clone());
        Ok(())
    })
}

pub(in crate::migrate::transforms) fn remove(field: String) -> Mapping {
    of_maps(move |map| {
        map.remove(&field);
        Ok(())
    })
}

pub(in crate::migrate::transforms) fn remove_if(field: String, value: Value) -> Mapping {
    of_maps(move |map| {
        if map.get(&field) == Some(&value) {
            map.remove(&field);
        }
        Ok(())
    })
}
