//! The snippets of the project's third seed, "Workflow State Architecture", as tests
//! that run. Each says the section that it is from and what was changed in it: a `?`
//! behind `get` and `set`, and nothing else unless it is said.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::thread;

use evenkeel::{Error, Result, Scope, StateAccessor, StateScope, Store, WorkflowStateManager};
use serde_json::{Value, json};

/// What a step of the seed is given. The seed does not print the type.
struct StepContext {
    state_accessor: Option<StateAccessor>,
}

fn state() -> StateAccessor {
    WorkflowStateManager::new().workflow_state("workflow_123".to_string())
}

/// Runs a test in memory and in a folder.
fn in_both(test: impl Fn(&WorkflowStateManager)) {
    test(&WorkflowStateManager::new());
    let folder = tempfile::tempdir().unwrap();
    test(&WorkflowStateManager::open(folder.path().join("state")).unwrap());
}

/// "Workflow State API". Changed: `?`.
#[test]
fn workflow_state_api() {
    fn snippet(state_manager: &WorkflowStateManager) -> Result<()> {
        // Get workflow-specific accessor
        let state = state_manager.workflow_state("workflow_123".to_string());

        // Workflow-scoped operations
        state.set("config", json!({"retries": 3}))?;
        let config = state.get("config")?;
        assert_eq!(config, Some(json!({"retries": 3})));

        // Access global state
        state.global().set("api_key", json!("sk-123"))?;

        // Access step state
        let step_state = state.step("process_data".to_string());
        step_state.set("progress", json!(0.5))?;

        assert_eq!(
            state_manager.global().get("api_key")?,
            Some(json!("sk-123"))
        );
        assert_eq!(step_state.get("progress")?, Some(json!(0.5)));
        assert_eq!(state.get("progress")?, None);
        assert_eq!(state.get("api_key")?, None);
        Ok(())
    }
    in_both(|state_manager| snippet(state_manager).unwrap());
}

/// "Sequential Workflows". Changed: `?`.
#[test]
fn sequential_workflows() {
    fn step(context: StepContext, result: &str) -> Result<Option<Value>> {
        // In step execution
        if let Some(state) = context.state_accessor {
            // Read previous step's output
            let data = state.get("processed_data")?;

            // Write for next step
            state.set("step_result", result)?;
            return Ok(data);
        }
        Ok(None)
    }
    in_both(|state_manager| {
        let state = state_manager.workflow_state("sequential");
        let context = || StepContext {
            state_accessor: Some(state.clone()),
        };
        assert_eq!(step(context(), "first").unwrap(), None);
        state.set("processed_data", json!([1, 2])).unwrap();
        assert_eq!(step(context(), "second").unwrap(), Some(json!([1, 2])));
        assert_eq!(state.get("step_result").unwrap(), Some(json!("second")));
        let without = StepContext {
            state_accessor: None,
        };
        assert_eq!(step(without, "third").unwrap(), None);
        assert_eq!(state.get("step_result").unwrap(), Some(json!("second")));
    });
}

/// "Parallel Workflows". Changed: `?`; the name of the branch is an argument, since
/// both branches run.
#[test]
fn parallel_workflows() {
    fn branch(state: &StateAccessor, number: u32) -> Result<bool> {
        // Each branch can safely update shared state
        state.set(format!("branch_{number}_done"), true)?;
        let all_done =
            state.get("branch_1_done")?.is_some() && state.get("branch_2_done")?.is_some();
        Ok(all_done)
    }
    in_both(|state_manager| {
        for round in 0..20 {
            let state = state_manager.workflow_state(format!("parallel-{round}"));
            let seen = thread::scope(|scope| {
                let branches = [1, 2].map(|number| {
                    let state = &state;
                    scope.spawn(move || branch(state, number).unwrap())
                });
                branches.map(|branch| branch.join().unwrap())
            });
            // Whoever was later saw both.
            assert!(seen.contains(&true), "round {round}: {seen:?}");
        }
    });
}

/// "Conditional Workflows". Changed: `?`.
#[test]
fn conditional_workflows() {
    fn should_retry(state: &StateAccessor) -> Result<bool> {
        // Check state to determine branch
        let should_retry = state
            .get("retry_count")?
            .and_then(|v| v.as_u64())
            .map(|count| count < 3)
            .unwrap_or(true);
        Ok(should_retry)
    }
    in_both(|state_manager| {
        let state = state_manager.workflow_state("conditional");
        assert!(should_retry(&state).unwrap());
        for (count, retry) in [(0, true), (2, true), (3, false), (4, false)] {
            state.set("retry_count", count).unwrap();
            assert_eq!(should_retry(&state).unwrap(), retry, "{count}");
        }
        state.set("retry_count", "three").unwrap();
        assert!(should_retry(&state).unwrap());
    });
}

/// "Loop Workflows". Changed: `?`.
#[test]
fn loop_workflows() {
    fn turn(state: &StateAccessor) -> Result<()> {
        // Update iteration counter
        let iteration = state
            .get("iteration")?
            .and_then(|v| v.as_u64())
            .unwrap_or(0);
        state.set("iteration", iteration + 1)
    }
    in_both(|state_manager| {
        let state = state_manager.workflow_state("loop");
        (0..10).for_each(|_| turn(&state).unwrap());
        assert_eq!(state.get("iteration").unwrap(), Some(json!(10)));
    });
}

/// "Thread Safety": what is read and then set may be lost; what the handle has is not.
#[test]
fn a_loop_of_many_threads_counts_exactly_through_the_handle() {
    in_both(|state_manager| {
        let state = state_manager.workflow_state("loop");
        thread::scope(|scope| {
            for _ in 0..8 {
                let state = state.clone();
                scope.spawn(move || {
                    for _ in 0..100 {
                        state.handle().increment("iteration", 1).unwrap();
                    }
                });
            }
        });
        assert_eq!(state.get("iteration").unwrap(), Some(json!(800)));
    });
}

/// "State Scoping": the four kinds, as scopes of the store.
#[test]
fn state_scoping() {
    let state_manager = WorkflowStateManager::new();
    let step = StateScope::Step {
        workflow_id: "w".to_string(),
        step_name: "s".to_string(),
    };
    let kinds = [
        (StateScope::Global, Scope::Global),
        (StateScope::Workflow("w".into()), Scope::workflow("w")),
        (step, Scope::step("w", "s")),
        (StateScope::Custom("c".into()), Scope::custom("c")),
    ];
    for (number, (kind, scope)) in kinds.into_iter().enumerate() {
        state_manager.state(kind).set("k", number).unwrap();
        let found = state_manager
            .store()
            .scope(scope)
            .get::<usize>("k")
            .unwrap();
        assert_eq!(found, Some(number));
    }
}

/// "StateScope Implementation": what its prefixes would have let through.
#[test]
fn prefixes_of_text_would_collide() {
    let state_manager = WorkflowStateManager::new();
    let workflow = |id: &str| state_manager.workflow_state(id);
    let custom = |name: &str| state_manager.state(StateScope::Custom(name.into()));

    // `workflow:a:b:c` is both.
    workflow("a").set("b:c", 1).unwrap();
    assert_eq!(workflow("a:b").get("c").unwrap(), None);
    // A global key that looks like one of a workflow.
    workflow("x").set("secret", "s").unwrap();
    let global = state_manager.global();
    assert_eq!(global.get("workflow:x:secret").unwrap(), None);
    // A key of a workflow that looks like one of its step.
    workflow("x").set("step:s:k", 1).unwrap();
    assert_eq!(workflow("x").step("s").get("k").unwrap(), None);
    // Clearing one namespace leaves the one whose name goes on.
    custom("t:acme").set("k", 1).unwrap();
    custom("t:acme:eu").set("k", 2).unwrap();
    custom("t:acme").clear().unwrap();
    assert_eq!(custom("t:acme").get("k").unwrap(), None);
    assert_eq!(custom("t:acme:eu").get("k").unwrap(), Some(json!(2)));
}

/// "From In-Memory to Persistent": the same calls, and what was in memory comes along.
#[test]
fn from_in_memory_to_persistent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let state_manager = WorkflowStateManager::new();
    let state = state_manager.workflow_state("w");
    state.set("config", json!({"retries": 3})).unwrap();
    state.step("s").set("progress", 0.5).unwrap();
    state.global().set("api_key", "sk-123").unwrap();
    state_manager.persist(&path).unwrap().close().unwrap();

    let state_manager = WorkflowStateManager::open(&path).unwrap();
    let state = state_manager.workflow_state("w");
    assert_eq!(state.get("config").unwrap(), Some(json!({"retries": 3})));
    assert_eq!(state.step("s").get("progress").unwrap(), Some(json!(0.5)));
    assert_eq!(
        state.global().get("api_key").unwrap(),
        Some(json!("sk-123"))
    );
}

#[test]
fn it_is_the_same_store() {
    let store = Store::in_memory();
    let state_manager = WorkflowStateManager::from(store.clone());
    let state = state_manager.workflow_state("w");
    store
        .scope(Scope::workflow("w"))
        .set("retries", 3_u8)
        .unwrap();
    assert_eq!(state.get("retries").unwrap(), Some(json!(3)));
    // What JSON has no form for is still read.
    state.handle().set("nan", f64::NAN).unwrap();
    assert_eq!(state.get("nan").unwrap(), Some(Value::Null));
    let bytes = evenkeel::Value::from(vec![1_u8, 2]);
    state.handle().set("bytes", bytes).unwrap();
    assert_eq!(state.get("bytes").unwrap(), Some(json!([1, 2])));
    let keys: Vec<String> = state.keys().unwrap().map(|key| key.to_string()).collect();
    assert_eq!(keys, ["bytes", "nan", "retries"]);
    state.delete("nan").unwrap();
    assert_eq!(state.get("nan").unwrap(), None);
    state.set("null", Value::Null).unwrap();
    assert_eq!(state.get("null").unwrap(), Some(Value::Null));
    state.set("large", u64::MAX).unwrap();
    assert_eq!(state.get("large").unwrap(), Some(json!(u64::MAX)));
}

#[test]
fn what_cannot_be_is_an_error() {
    let state = state();
    let no_steps = state.global().step("s");
    let refused = no_steps.set("k", 1);
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let long = WorkflowStateManager::new().workflow_state("x".repeat(2000));
    let refused = long.set("k", 1);
    assert!(matches!(refused, Err(Error::LimitExceeded { .. })));
    let state_manager = WorkflowStateManager::default();
    let state = state_manager.workflow_state("w");
    state_manager.close().unwrap();
    assert!(matches!(state.set("k", 1), Err(Error::Closed)));
    assert!(matches!(state.get("k"), Err(Error::Closed)));
}
