//! Owns `ResultExtractor`. Imports `activation`, `builtin`, `failure`, `routine`, `value`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::runtime::activation::Activation;
use crate::runtime::builtin::{declare_config, emit_as, one_by_one, path};
use crate::runtime::failure::Failure;
use crate::runtime::routine::{Routine, RoutineSettings};
use crate::value::Value;

/// What begins and ends a block of code in text.
const FENCE: &str = "```";

/// A routine that takes the result out of what something answered, and adds it to the
/// results of the job.
///
/// It takes `in`, one message at a time, and emits the result as `out`. Text is looked
/// through for JSON: all of it, or else the first block of code, between lines of three
/// backticks, that is JSON. Other data is taken as it is. Where there is a path, the
/// result is what stands there. Where nothing is found it emits `missing`, a map with
/// `data` and `reason`, and adds nothing.
///
/// ```
/// use evenkeel::{Flow, ResultExtractor};
/// let mut flow = Flow::new("ask");
/// flow.add_fn("model", |cx| {
///     cx.emit("out", "Sure:\n```json\n{\"answer\": {\"total\": 42}}\n```")?;
///     Ok(())
/// })?;
/// flow.add_routine("result", ResultExtractor::new().path("answer.total"))?; // 42
/// flow.connect("model.out", "result.in")?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// In a document it is the kind `result_extractor`, with the config
/// `{path: answer.total}`, or without one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultExtractor {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// What is emitted where nothing is found.
#[derive(Serialize)]
struct Missing<'e> {
    data: &'e Value,
    reason: &'e str,
}

impl ResultExtractor {
    /// A routine that takes all that was answered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what stands at this path: names of fields and numbers of list elements, with
    /// dots between them.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The result, or why there is none.
    fn extract<'v>(&self, data: &'v Value) -> Result<Cow<'v, Value>, &'static str> {
        let whole = match data {
            Value::String(text) => Cow::Owned(json_in(text).ok_or("the text has no JSON")?),
            data => Cow::Borrowed(data),
        };
        let Some(path) = &self.path else {
            return Ok(whole);
        };
        let found = match &whole {
            Cow::Borrowed(whole) => path::at(whole, path).map(Cow::Borrowed),
            Cow::Owned(whole) => path::at(whole, path).cloned().map(Cow::Owned),
        };
        found.ok_or("there is nothing at its path")
    }
}

/// The JSON that a text is, or that the first of its blocks is which is any.
fn json_in(text: &str) -> Option<Value> {
    let json = |text: &str| {
        let json = serde_json::from_str::<serde_json::Value>(text);
        json.ok().map(Value::from)
    };
    json(text).or_else(|| {
        // Every second piece stands between fences; its first line names a language.
        let blocks = text.split(FENCE).skip(1).step_by(2);
        let mut bodies = blocks.filter_map(|block| block.split_once('\n'));
        bodies.find_map(|(_, body)| json(body))
    })
}

impl Routine for ResultExtractor {
    fn declare(&self, settings: &mut RoutineSettings) {
        one_by_one(settings);
        declare_config(settings, self);
        settings
            .event("out")
            .event_with("missing", ["data", "reason"]);
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        for event in cx.data("in") {
            let data = event.data();
            match self.extract(data) {
                Ok(result) => {
                    cx.result(&result)?;
                    emit_as(cx, event, "out", result)?;
                }
                Err(reason) => emit_as(cx, event, "missing", Missing { data, reason })?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(extractor: &ResultExtractor, data: impl Into<Value>) -> Result<String, &'static str> {
        let data = data.into();
        let found = extractor.extract(&data);
        found.map(|value| value.to_string())
    }

    #[test]
    fn the_result_is_json_or_the_first_block_that_is() {
        let all = ResultExtractor::new();
        for text in [
            " {\"a\": 1}\n",
            "Sure:\n```json\n{\"a\": 1}\n```\nand\n```\n2\n```",
            "```rust\nfn f() {}\n```\nor\n```\n{\"a\": 1}\n```",
            "```\n{\"a\": 1}",
        ] {
            assert_eq!(found(&all, text).as_deref(), Ok("{\"a\":1}"), "{text}");
        }
        for text in ["", "no", "{\"a\": 1} or so", "``` 1 ```", "```json"] {
            assert_eq!(found(&all, text), Err("the text has no JSON"), "{text}");
        }
    }

    #[test]
    fn other_data_is_taken_as_it_is() {
        let data: Value = [("a", 1)].into_iter().collect();
        assert_eq!(
            found(&ResultExtractor::new(), data).as_deref(),
            Ok("{\"a\":1}")
        );
        assert_eq!(found(&ResultExtractor::new(), ()).as_deref(), Ok("null"));
    }

    #[test]
    fn a_path_leads_to_a_part() {
        let at = ResultExtractor::new().path("a.0");
        assert_eq!(found(&at, "{\"a\": [\"x\"]}").as_deref(), Ok("\"x\""));
        let nothing = Err("there is nothing at its path");
        assert_eq!(found(&at, "{\"a\": []}"), nothing);
        assert_eq!(found(&at, 1), nothing);
    }
}
