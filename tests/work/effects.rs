//! Effects outside of the store: once, and what is uncertain.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::{
    Activation, Error, ErrorHandler, Failure, Flow, JobStatus, Resolution, Runtime, Store, Value,
    WorkError,
};

use crate::rig::{LONG, start};

fn retried(logic: impl Fn(&mut Activation) -> Result<(), Failure> + Send + Sync + 'static) -> Flow {
    let mut flow = Flow::new("f");
    let routine = flow.add_fn("a", logic).unwrap();
    routine.on_error(ErrorHandler::retry(5).delay(Duration::ZERO));
    flow
}

#[test]
fn an_effect_that_was_done_is_not_done_again() {
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let flow = retried(move |cx| {
        let receipt: String = cx.once("charge", || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Failure>("receipt".to_owned())
        })?;
        if cx.attempt() < 3 {
            return Err(Failure::new("later"));
        }
        cx.result(receipt)?;
        Ok(())
    });
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.status(), JobStatus::Completed);
    assert_eq!(done.load(Ordering::SeqCst), 1);
    assert_eq!(job.results(), [Value::from("receipt")]);
}

#[test]
fn nothing_is_a_result_too() {
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let flow = retried(move |cx| {
        cx.once("notify", || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Failure>(())
        })?;
        match cx.attempt() {
            1 => Err(Failure::new("later")),
            _ => Ok(()),
        }
    });
    let runtime = start(flow);
    runtime
        .post("f", "a", "in", ())
        .unwrap()
        .wait(LONG)
        .unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[test]
fn an_effect_that_failed_was_not_done_and_is_never_uncertain() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let flow = retried(move |cx| {
        cx.once("charge", || match count.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Err(Failure::new("no answer")),
            _ => Ok(1),
        })?;
        Ok(())
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let runtime = Runtime::builder(Store::in_memory())
        .on_uncertain(move |_| {
            asks.fetch_add(1, Ordering::SeqCst);
            Resolution::RunAgain
        })
        .start()
        .unwrap();
    runtime.register(flow).unwrap();
    runtime.exec("f").unwrap();
    runtime
        .post("f", "a", "in", ())
        .unwrap()
        .wait(LONG)
        .unwrap();
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn the_same_name_twice_is_an_error_and_keys_tell_apart() {
    let flow = retried(|cx| {
        cx.once_keyed("send", "a", || Ok::<_, Failure>(1))?;
        cx.once_keyed("send", "b", || Ok::<_, Failure>(2))?;
        let again = cx
            .once_keyed("send", "a", || Ok::<_, Failure>(3))
            .unwrap_err();
        let error = again.downcast_ref::<Error>();
        assert!(
            matches!(error, Some(Error::Work(WorkError::Exists { .. }))),
            "{again:?}"
        );
        cx.result("both")?;
        Ok(())
    });
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.results(), [Value::from("both")]);
}

#[test]
fn an_effect_that_panicked_is_uncertain_and_the_handler_decides() {
    let tries = Arc::new(AtomicUsize::new(0));
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let (count, seen) = (Arc::clone(&tries), Arc::clone(&keys));
    let flow = retried(move |cx| {
        let key = cx.idempotency_key("charge");
        seen.lock().unwrap().push(key);
        let receipt: String = cx.once("charge", || match count.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("the wire was cut"),
            _ => Ok::<_, Failure>("again".to_owned()),
        })?;
        cx.result(receipt)?;
        Ok(())
    });
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let asks = Arc::clone(&asked);
    let runtime = Runtime::builder(Store::in_memory())
        .on_uncertain(move |effect| {
            asks.lock()
                .unwrap()
                .push(effect.idempotency_key().to_owned());
            Resolution::Done("found".into())
        })
        .start()
        .unwrap();
    runtime.register(flow).unwrap();
    runtime.exec("f").unwrap();
    let job = runtime.post("f", "a", "in", ()).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.results(), [Value::from("found")]);
    assert_eq!(tries.load(Ordering::SeqCst), 1);
    let keys = keys.lock().unwrap();
    assert_eq!(*asked.lock().unwrap(), [keys[0].clone()]);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

/// How many entries a store has once a few jobs of this flow have ended.
fn entries_after(flow: Flow) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("state")).unwrap();
    let runtime = crate::rig::start_on(store.clone(), flow);
    for _ in 0..3 {
        runtime
            .post("f", "a", "in", ())
            .unwrap()
            .wait(LONG)
            .unwrap();
    }
    drop(runtime);
    store.checkpoint().unwrap();
    store.stats().unwrap().image_entries
}

#[test]
fn what_was_kept_for_effects_goes_with_the_commit() {
    let with = entries_after(retried(|cx| {
        cx.once("a", || Ok::<_, Failure>(1))?;
        cx.once_keyed("a", "b", || Ok::<_, Failure>(1))?;
        Ok(())
    }));
    assert_eq!(with, entries_after(retried(|_| Ok(()))));
}

#[test]
fn no_attempt_is_left_of_an_activation_with_effects() {
    let flow = retried(|cx| {
        cx.once("a", || Ok::<_, Failure>(1))?;
        Ok(())
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let store = Store::open(&path).unwrap();
    let runtime = crate::rig::start_on(store.clone(), flow);
    runtime
        .post("f", "a", "in", ())
        .unwrap()
        .wait(LONG)
        .unwrap();
    assert_eq!(runtime.worker_details("f").unwrap().retries.len(), 0);
    drop(runtime);
    // A later start finds no attempt that it would have to go on with.
    let again = Runtime::builder(store).start().unwrap();
    let flow = retried(|_| Err(Failure::new("runs again")));
    again.register(flow).unwrap();
    again.wait_until_all_workers_idle(LONG).unwrap();
    assert_eq!(again.worker_details("f").unwrap().retries.len(), 0);
    assert_eq!(again.list_jobs().unwrap().len(), 1);
}
