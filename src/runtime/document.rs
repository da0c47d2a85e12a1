//! Owns flow documents, in YAML and JSON: a flow from a document, the document of a flow,
//! and the hash by which a changed description is known. Imports `flow`.
//!
//! ```text
//! format: 1                      # of the document; may be left out
//! flow_id: orders
//! version: 2                     # of the flow; 1 if left out
//! error_handler: stop            # or continue, skip, retry, or a map as below
//! execution: {timeout: 30}       # seconds, of an activation
//! routines:                      # in the order of `routine_states()`
//!   hash:
//!     class: hash                # a kind of the registry
//!     config: {rounds: 3}        # any map
//!     slots: {in: {max_queue_length: 1000, watermark: 0.8,
//!                  at_capacity: refuse, hard_limit_factor: 10}}   # wait, drop_oldest
//!     events: {out: [digest]}    # or a list of names
//!     activation_policy: immediate           # all_slots_ready, breakpoint,
//!                 # {batch_size: 3, max_wait: 5}, {time_interval: 5}, {custom: name}
//!     breakpoint: false
//!     error_handler: {strategy: retry, max_retries: 3, retry_delay: 1, retry_backoff: 2,
//!                     retry_delay_max: 3600, jitter: 0, retryable_kinds: [net],
//!                     is_critical: false}
//!     concurrency: 1
//!     priority: 0
//!     timeout: 30
//!     starts_durable: false
//! connections:
//! - {from: hash.out, to: total.in}
//! - {from: [v1.hash, out], to: [total, in]}  # where ids have dots
//! - {from: total.out, to: fetch.in, when: {job.tier: gold}}   # all are equal
//! - {from: total.out, to: log.in, when: large}    # a condition of the registry
//! ```

mod fields;
mod json;
mod read;
pub(crate) mod registry;
#[cfg(test)]
mod tests;
mod tree;
mod write;
mod yaml;

use xxhash_rust::xxh3::xxh3_64;

use self::registry::Registry;
use self::tree::{Tree, Unreadable};
use crate::error::{Error, Result};
use crate::runtime::flow::Flow;
use crate::runtime::flow::problem::{FlowProblem, FlowProblems};

/// The format of documents. One that does not name its format is of the first one.
const FORMAT: u32 = 1;

impl Flow {
    /// The flow that a document in YAML describes. A field that is not known, a key that
    /// is there twice, and a name that is not registered are errors, so that a typing
    /// error is no setting that silently does nothing.
    ///
    /// A document has at most 1 MiB, 50,000 nodes, and 4 MiB of text; an alias counts as
    /// what it stands for. Tags are not taken.
    ///
    /// # Errors
    /// [`Error::InvalidFlow`], whose source is [`FlowProblems`](crate::FlowProblems): all
    /// that is wrong with it, each with its path, and its line where it is one.
    ///
    /// ```
    /// use evenkeel::{Flow, FlowProblem, FlowProblems, Error, Registry};
    /// let document = "
    /// flow_id: orders
    /// routines:
    ///   hash: { class: hash, prioritty: 3 }
    /// connections:
    ///   - { from: hash.out, to: total.in }
    /// ";
    /// let error = Flow::from_yaml(document, &Registry::new()).unwrap_err();
    /// let Error::InvalidFlow { source, .. } = &error else { panic!("{error}") };
    /// let problems: &FlowProblems = source.downcast_ref().unwrap();
    /// assert!(matches!(problems.0[..], [
    ///     FlowProblem::NotRegistered { .. },
    ///     FlowProblem::BadDocument { line: Some(4), .. },
    ///     FlowProblem::UnknownRoutine { .. },
    /// ]));
    /// ```
    pub fn from_yaml(document: &str, registry: &Registry) -> Result<Self> {
        from_tree(yaml::read(document), registry)
    }

    /// The flow that a document in JSON describes.
    ///
    /// # Errors
    /// As [`from_yaml`](Self::from_yaml).
    ///
    /// ```
    /// use evenkeel::{Activation, Failure, Flow, Registry, Routine};
    /// # struct Hash;
    /// # impl Routine for Hash {
    /// #     fn run(&self, _cx: &mut Activation) -> Result<(), Failure> { Ok(()) }
    /// # }
    /// let mut registry = Registry::new();
    /// registry.routine("hash", |_config| Ok(Hash))?;
    /// let document = r#"{"flow_id": "orders", "routines": {"hash": {"class": "hash"}}}"#;
    /// let flow = Flow::from_json(document, &registry)?;
    /// assert_eq!(Flow::from_yaml(&flow.to_yaml()?, &registry)?.to_json()?, flow.to_json()?);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn from_json(document: &str, registry: &Registry) -> Result<Self> {
        from_tree(json::read(document), registry)
    }

    /// The document of this flow in YAML. Read again with the same registry, it is the
    /// same flow.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it has what a document cannot name: a routine or a closure
    /// that is not of a registry, or bytes in a config. It says which.
    pub fn to_yaml(&self) -> Result<String> {
        Ok(yaml::write(&writable(self, false)?))
    }

    /// The document of this flow in JSON.
    ///
    /// # Errors
    /// As [`to_yaml`](Self::to_yaml), and where a config has a float that is not finite.
    pub fn to_json(&self) -> Result<String> {
        json::write(&writable(self, true)?).map_err(|e| Error::Invalid {
            what: "document",
            reason: e.to_string(),
        })
    }

    /// A hash of all that is declared of this flow but its version: routines in their
    /// order, settings, configs and connections. Code has none, so a routine or a closure
    /// that does something else now has the same hash; give the flow another version when
    /// that matters to what is queued.
    ///
    /// It is the same in every process and under every version of this crate.
    ///
    /// ```
    /// use evenkeel::Flow;
    /// let mut flow = Flow::new("orders");
    /// flow.add_fn("hash", |_cx| Ok(()))?;
    /// let before = flow.description_hash();
    /// assert_eq!(before, flow.clone().version(2).description_hash());
    /// flow.routine_mut("hash").unwrap().concurrency(2);
    /// assert_ne!(before, flow.description_hash());
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[must_use]
    pub fn description_hash(&self) -> u64 {
        let (tree, _) = write::describe(&self.clone().version(0));
        // Without spaces. What JSON cannot say of a config is the same for every flow.
        xxh3_64(serde_json::to_string(&tree).unwrap_or_default().as_bytes())
    }

    /// The description of this flow as it is kept beside its work: as
    /// [`to_json`](Self::to_json), where code has a mark in place of its name.
    #[cfg(test)]
    pub(crate) fn description(&self) -> String {
        let (tree, _) = write::describe(self);
        serde_json::to_string(&tree).unwrap_or_default()
    }
}

fn from_tree(tree: Result<Tree, Unreadable>, registry: &Registry) -> Result<Flow> {
    let (name, problems) = match tree {
        Err(Unreadable { line, reason }) => {
            let problem = FlowProblem::BadDocument {
                path: ".".into(),
                line,
                reason,
            };
            (read::UNNAMED.to_owned(), vec![problem])
        }
        Ok(tree) => match read::flow(&tree, registry) {
            (flow, problems) if problems.is_empty() => return Ok(flow),
            (flow, problems) => (flow.name, problems),
        },
    };
    Err(Error::InvalidFlow {
        flow: name,
        source: Box::new(FlowProblems(problems)),
    })
}

fn writable(flow: &Flow, json: bool) -> Result<Tree> {
    let (tree, mut lacking) = write::describe(flow);
    lacking.extend(write::unwritable(&tree, json).map(|what| format!("a config has {what}")));
    match lacking.is_empty() {
        true => Ok(tree),
        false => Err(Error::Invalid {
            what: "flow for a document",
            reason: lacking.join("; "),
        }),
    }
}
