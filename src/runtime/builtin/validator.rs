//! Owns `SchemaValidator`, and the schema that it holds data against.
//! Imports `activation`, `builtin`, `failure`, `routine`, `value`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::runtime::activation::Activation;
use crate::runtime::builtin::{declare_config, emit_as, one_by_one, path};
use crate::runtime::failure::Failure;
use crate::runtime::routine::{Routine, RoutineSettings};
use crate::value::Value;

/// What a field is to be.
///
/// ```
/// use evenkeel::FieldType;
/// assert_eq!(FieldType::Integer.to_string(), "integer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FieldType {
    /// Anything, null too.
    Any,
    /// True or false.
    Bool,
    /// An integer.
    Integer,
    /// An integer or a float.
    Number,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A list.
    List,
    /// A map.
    Map,
}

impl FieldType {
    fn is_of(self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Bool => matches!(value, Value::Bool(_)),
            Self::Integer => matches!(value, Value::Int(_) | Value::UInt(_)),
            Self::Number => matches!(value, Value::Int(_) | Value::UInt(_) | Value::Float(_)),
            Self::String => matches!(value, Value::String(_)),
            Self::Bytes => matches!(value, Value::Bytes(_)),
            Self::List => matches!(value, Value::List(_)),
            Self::Map => matches!(value, Value::Map(_)),
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Bool => "bool",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::List => "list",
            Self::Map => "map",
        })
    }
}

/// A routine that holds data against a schema: which fields there must be, which there
/// may be, and of which types.
///
/// It takes `in`, one message at a time. Data that fits is emitted, unchanged, as `valid`;
/// all else as `invalid`, a map with `data` and `problems`, a list of texts, one for each.
///
/// A field is named by a path: names, and numbers of list elements, with dots between
/// them. A field that may be missing may be null too.
///
/// ```
/// use evenkeel::{FieldType, Flow, SchemaValidator};
/// let order = SchemaValidator::new()
///     .required("id", FieldType::String)
///     .required("customer.age", FieldType::Integer)
///     .optional("note", FieldType::String);
/// let mut flow = Flow::new("orders");
/// flow.add_routine("check", order)?;
/// flow.add_fn("ship", |_cx| Ok(()))?;
/// flow.connect("check.valid", "ship.in")?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// In a document it is the kind `schema_validator`:
///
/// ```yaml
/// class: schema_validator
/// config:
///   required: { id: string, customer.age: integer }
///   optional: { note: string }
///   closed: true
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchemaValidator {
    required: BTreeMap<String, FieldType>,
    optional: BTreeMap<String, FieldType>,
    closed: bool,
}

/// What is emitted of data that does not fit.
#[derive(Serialize)]
struct Invalid<'e> {
    data: &'e Value,
    problems: Vec<String>,
}

impl SchemaValidator {
    /// A schema that any map fits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a field of this type.
    #[must_use]
    pub fn required(mut self, path: impl Into<String>, is: FieldType) -> Self {
        self.required.insert(path.into(), is);
        self
    }

    /// Says of which type a field is, where it is there and not null.
    #[must_use]
    pub fn optional(mut self, path: impl Into<String>, is: FieldType) -> Self {
        self.optional.insert(path.into(), is);
        self
    }

    /// Refuses data that has other fields, at its outermost level, than those named.
    #[must_use]
    pub fn closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// What is wrong with data: nothing, or each of it.
    ///
    /// ```
    /// use evenkeel::{FieldType, SchemaValidator, Value};
    /// let order = SchemaValidator::new().required("id", FieldType::String);
    /// let data: Value = [("id", 7)].into_iter().collect();
    /// assert_eq!(order.problems(&data), ["\"id\" is to be of type string"]);
    /// ```
    #[must_use]
    pub fn problems(&self, data: &Value) -> Vec<String> {
        let Some(fields) = data.as_map() else {
            return vec!["it is to be a map".into()];
        };
        let mut problems = Vec::new();
        for (name, is) in &self.required {
            match path::at(data, name) {
                None => problems.push(format!("{name:?} is missing")),
                Some(value) => problems.extend(is.problem(name, value)),
            }
        }
        for (name, is) in &self.optional {
            let found = path::at(data, name).filter(|value| !value.is_null());
            problems.extend(found.and_then(|value| is.problem(name, value)));
        }
        if self.closed {
            let known = |field: &str| {
                let mut names = self.required.keys().chain(self.optional.keys());
                names.any(|name| name.split('.').next() == Some(field))
            };
            let unknown = fields.keys().filter(|field| !known(field));
            problems.extend(unknown.map(|field| format!("{field:?} is not known")));
        }
        problems
    }
}

impl FieldType {
    fn problem(self, name: &str, value: &Value) -> Option<String> {
        (!self.is_of(value)).then(|| format!("{name:?} is to be of type {self}"))
    }
}

impl Routine for SchemaValidator {
    fn declare(&self, settings: &mut RoutineSettings) {
        one_by_one(settings);
        declare_config(settings, self);
        settings
            .event("valid")
            .event_with("invalid", ["data", "problems"]);
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        for event in cx.data("in") {
            let data = event.data();
            let problems = self.problems(data);
            match problems.is_empty() {
                true => emit_as(cx, event, "valid", data)?,
                false => emit_as(cx, event, "invalid", Invalid { data, problems })?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> SchemaValidator {
        SchemaValidator::new()
            .required("id", FieldType::String)
            .required("customer.age", FieldType::Integer)
            .optional("price", FieldType::Number)
    }

    fn problems(schema: &SchemaValidator, data: serde_json::Value) -> Vec<String> {
        schema.problems(&data.into())
    }

    #[test]
    fn what_fits_has_no_problems() {
        for price in [json!(1), json!(1.5), json!(null)] {
            let data = json!({"id": "a", "customer": {"age": 3}, "price": price, "more": 1});
            assert_eq!(problems(&schema(), data), [""; 0]);
        }
    }

    #[test]
    fn each_problem_is_named() {
        let data = json!({"id": null, "customer": {"age": 3.0}, "price": "1"});
        let expected = [
            "\"customer.age\" is to be of type integer",
            "\"id\" is to be of type string",
            "\"price\" is to be of type number",
        ];
        assert_eq!(problems(&schema(), data), expected);
        let missing = ["\"customer.age\" is missing", "\"id\" is missing"];
        assert_eq!(problems(&schema(), json!({})), missing);
        assert_eq!(problems(&schema(), json!([1])), ["it is to be a map"]);
    }

    #[test]
    fn a_closed_schema_knows_all_fields() {
        let data = json!({"id": "a", "customer": {"age": 3, "name": "b"}, "prize": 1});
        let expected = ["\"prize\" is not known"];
        assert_eq!(problems(&schema().closed(), data), expected);
    }

    #[test]
    fn every_type_takes_its_own_values() {
        use FieldType::{Any, Bool, Bytes, Integer, List, Map, Number, String};
        let values = [
            (Value::Null, vec![Any]),
            (true.into(), vec![Any, Bool]),
            (1.into(), vec![Any, Integer, Number]),
            (u64::MAX.into(), vec![Any, Integer, Number]),
            (1.5.into(), vec![Any, Number]),
            ("a".into(), vec![Any, String]),
            (vec![1u8].into(), vec![Any, Bytes]),
            (Value::List(vec![]), vec![Any, List]),
            (Value::Map(BTreeMap::new()), vec![Any, Map]),
        ];
        for (value, expected) in values {
            let all = [Any, Bool, Integer, Number, String, Bytes, List, Map];
            let taken: Vec<_> = all.into_iter().filter(|is| is.is_of(&value)).collect();
            assert_eq!(taken, expected, "{value}");
        }
    }
}
