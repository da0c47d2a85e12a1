//! Async routines: all that holds for others holds for them, they hold no thread while they
//! await, and each poll is inside of its own activation.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::{
    AsyncActivation, Error, ErrorHandler, Failure, Flow, JobContext, JobStatus, Resolution,
    Runtime, Shutdown, Store, Value, WorkError, current_job,
};
use serde_json::json;
use tokio::sync::{Barrier, Notify};

use crate::rig::{LONG, builder, finish, gate, start, start_on, store};

fn run(runtime: Runtime, flow: Flow) -> Runtime {
    let name = flow.name().to_owned();
    runtime.register(flow).unwrap();
    runtime.exec(&name).unwrap();
    runtime
}

fn is_over(error: &Error) -> bool {
    matches!(error, Error::Work(WorkError::ActivationOver { .. }))
}

#[test]
fn async_logic_emits_to_what_is_not() {
    async fn fetch() -> Result<u32, std::io::Error> {
        tokio::task::yield_now().await;
        Ok(20)
    }
    let mut flow = Flow::new("f");
    flow.add_async("fetch", async |cx: AsyncActivation| {
        let fetched = cx.once("get", fetch).await?;
        let add = cx.one("in").and_then(|event| event.get("add")?.as_u64());
        cx.emit("out", u64::from(fetched) + add.unwrap_or(0))?;
        Ok(())
    })
    .unwrap();
    flow.add_fn("total", |cx| {
        cx.result(cx.one("in").map(|event| event.data().clone()))?;
        Ok(())
    })
    .unwrap();
    flow.connect("fetch.out", "total.in").unwrap();
    let runtime = start(flow);
    let job = runtime.post("f", "fetch", "in", json!({"add": 1})).unwrap();
    finish(&runtime);
    assert_eq!(job.results(), [Value::from(21)]);
}

#[test]
fn many_await_at_once_on_no_thread_of_the_runtime() {
    const AT_ONCE: usize = 50;
    let barrier = Arc::new(Barrier::new(AT_ONCE));
    let mut flow = Flow::new("f");
    let (gate, keeper) = gate();
    flow.add_fn("blocks", move |_| {
        gate.pass();
        Ok(())
    })
    .unwrap();
    flow.add_async("meets", async move |_| {
        // Nobody gets through before all are here.
        barrier.wait().await;
        Ok(())
    })
    .unwrap()
    .concurrency(AT_ONCE)
    .policy(evenkeel::ActivationPolicy::batch_size(1));
    let runtime = run(builder().threads(1).start().unwrap(), flow);
    let jobs: Vec<_> = (0..AT_ONCE)
        .map(|at| runtime.post("f", "meets", "in", at).unwrap())
        .collect();
    for job in jobs {
        job.wait(LONG).unwrap();
    }
    // And the only thread is free for others.
    runtime.post("f", "blocks", "in", ()).unwrap();
    keeper.wait();
    keeper.open();
    finish(&runtime);
}

#[test]
fn no_more_run_at_once_than_was_said() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (counted, seen) = (Arc::clone(&running), Arc::clone(&most));
    let mut flow = Flow::new("f");
    flow.add_async("a", async move |_| {
        seen.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        counted.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    })
    .unwrap()
    .concurrency(100)
    .policy(evenkeel::ActivationPolicy::batch_size(1));
    let runtime = run(builder().async_activations(3).start().unwrap(), flow);
    for at in 0..100 {
        runtime.post("f", "a", "in", at).unwrap();
    }
    finish(&runtime);
    assert!(most.load(Ordering::SeqCst) <= 3);
    assert_eq!(runtime.stats().activations_completed, 100);
}

#[test]
fn each_poll_is_inside_of_its_own_activation() {
    const JOBS: usize = 20;
    let mut flow = Flow::new("f");
    flow.add_async("a", async |cx: AsyncActivation| {
        // It need not be `Send`.
        let polls = Rc::new(Cell::new(0));
        let own = cx.current_job().ok_or_else(|| Failure::new("no job"))?;
        for _ in 0..50 {
            tokio::task::yield_now().await;
            polls.set(polls.get() + 1);
            let here = current_job().ok_or_else(|| Failure::new("nowhere"))?;
            if here.job_id() != own.job_id() {
                return Err(Failure::new("in the activation of somebody else"));
            }
        }
        let beside = tokio::spawn(async { current_job().is_none() });
        cx.result(polls.get())?;
        cx.result(beside.await?)?;
        Ok(())
    })
    .unwrap()
    .concurrency(JOBS)
    .policy(evenkeel::ActivationPolicy::batch_size(1));
    let runtime = start(flow);
    let jobs: Vec<_> = (0..JOBS)
        .map(|at| runtime.post("f", "a", "in", at).unwrap())
        .collect();
    finish(&runtime);
    for job in jobs {
        assert_eq!(job.error(), None);
        assert_eq!(job.results(), [Value::from(50), Value::from(true)]);
    }
}

#[test]
fn what_outlives_its_activation_can_do_nothing() {
    let kept: Arc<Mutex<Vec<AsyncActivation>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let mut flow = Flow::new("f");
    flow.add_async("a", async move |cx: AsyncActivation| {
        keep.lock().unwrap().push(cx.clone());
        cx.emit("out", 1)?;
        Ok(())
    })
    .unwrap();
    let runtime = start(flow);
    runtime.post("f", "a", "in", ()).unwrap();
    finish(&runtime);
    let cx = kept.lock().unwrap().pop().unwrap();
    assert!(cx.is_cancelled());
    assert!(is_over(&cx.emit("out", 2).unwrap_err()));
    assert!(is_over(&cx.transaction().unwrap_err()));
    assert!(is_over(&cx.state_accessor().set("n", 1).unwrap_err()));
    // From a thread of another runtime of tokio too.
    let outside = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let once = outside.block_on(cx.once("late", async || Ok::<_, Failure>(())));
    let once = once.unwrap_err();
    assert!(once.downcast_ref::<Error>().is_some_and(is_over), "{once}");
    runtime.shutdown(Shutdown::Drain).unwrap();
    let once = outside.block_on(cx.once("later", async || Ok::<_, Failure>(())));
    assert!(once.is_err());
    drop(runtime);
    assert!(cx.emit("out", 3).is_err());
}

#[test]
fn an_async_effect_is_done_once_over_all_attempts() {
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let mut flow = Flow::new("f");
    flow.add_async("a", async move |cx: AsyncActivation| {
        let charge = async || {
            tokio::task::yield_now().await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Failure>(cx.idempotency_key("charge"))
        };
        let key = cx.once("charge", charge).await?;
        let twice = cx.once("charge", async || Ok::<_, Failure>(String::new()));
        assert!(twice.await.is_err(), "a name is given once");
        for card in ["a", "b"] {
            cx.once_keyed("card", card, async || Ok::<_, Failure>(()))
                .await?;
        }
        match cx.attempt() {
            1 | 2 => Err(Failure::new("later")),
            _ => Ok(cx.result(key == cx.idempotency_key("charge"))?),
        }
    })
    .unwrap()
    .on_error(ErrorHandler::retry(5).delay(Duration::ZERO));
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    finish(&runtime);
    assert_eq!(job.error(), None);
    assert_eq!(job.results(), [Value::from(true)]);
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[test]
fn async_logic_that_panics_has_failed() {
    let mut flow = Flow::new("f");
    flow.add_async("a", async |_| {
        tokio::task::yield_now().await;
        panic!("on purpose")
    })
    .unwrap();
    // The panic of something that is dropped is one too.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose, while it is dropped");
        }
    }
    flow.add_async("b", async |_| {
        let _bomb = Bomb;
        tokio::task::yield_now().await;
        Ok(())
    })
    .unwrap();
    flow.add_fn("c", |_| Ok(())).unwrap();
    let runtime = start(flow);
    let jobs = ["a", "b", "c"].map(|to| runtime.post("f", to, "in", ()).unwrap());
    finish(&runtime);
    let ends = jobs.each_ref().map(JobContext::status);
    assert_eq!(
        ends,
        [JobStatus::Failed, JobStatus::Failed, JobStatus::Completed]
    );
    let error = jobs[0].error().unwrap();
    assert!(error.contains("on purpose"), "{error}");
}

#[test]
fn one_that_takes_too_long_is_dropped_where_it_awaits() {
    struct Told(Arc<Notify>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (store, clock) = store();
    let (gate, keeper) = gate();
    let dropped = Arc::new(Notify::new());
    let telling = Arc::clone(&dropped);
    let mut flow = Flow::new("f");
    flow.add_async("a", async move |cx: AsyncActivation| {
        if cx.attempt() == 1 {
            let _told = Told(Arc::clone(&telling));
            gate.pass();
            std::future::pending::<()>().await;
        }
        cx.result("second")?;
        Ok(())
    })
    .unwrap()
    .timeout(Duration::from_secs(10))
    .on_error(ErrorHandler::retry(1).delay(Duration::ZERO));
    let runtime = start_on(store, flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    keeper.wait();
    keeper.open();
    clock.advance(Duration::from_secs(11));
    finish(&runtime);
    assert_eq!(job.results(), [Value::from("second")]);
    let outside = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    outside.block_on(dropped.notified());
}

#[test]
fn an_effect_that_was_cut_off_is_uncertain() {
    let (store, clock) = store();
    let (gate, keeper) = gate();
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let runtime = Runtime::builder(store)
        .threads(1)
        .on_uncertain(move |effect| {
            assert_eq!((effect.routine(), effect.name()), ("a", "charge"));
            asks.fetch_add(1, Ordering::SeqCst);
            Resolution::Done(Value::from("found"))
        });
    let mut flow = Flow::new("f");
    flow.add_async("a", async move |cx: AsyncActivation| {
        let charge = async || {
            gate.pass();
            std::future::pending::<()>().await;
            Ok::<_, Failure>(String::new())
        };
        cx.result(cx.once("charge", charge).await?)?;
        Ok(())
    })
    .unwrap()
    .timeout(Duration::from_secs(10))
    .on_error(ErrorHandler::retry(1).delay(Duration::ZERO));
    let runtime = run(runtime.start().unwrap(), flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    keeper.wait();
    keeper.open();
    clock.advance(Duration::from_secs(11));
    finish(&runtime);
    assert_eq!(job.results(), [Value::from("found")]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn races_are_lost_and_run_again() {
    const JOBS: u64 = 60;
    let mut flow = Flow::new("f");
    flow.add_async("a", async |cx: AsyncActivation| {
        let counter = cx.transaction()?.scope(evenkeel::Scope::Global);
        let before: Option<u64> = counter.get("n")?;
        tokio::task::yield_now().await;
        counter.set("n", before.unwrap_or(0) + 1)?;
        Ok(())
    })
    .unwrap()
    .concurrency(8)
    .policy(evenkeel::ActivationPolicy::batch_size(1));
    let runtime = start(flow);
    for at in 0..JOBS {
        runtime.post("f", "a", "in", at).unwrap();
    }
    finish(&runtime);
    let counter = runtime.store().scope(evenkeel::Scope::Global);
    assert_eq!(counter.get::<u64>("n").unwrap(), Some(JOBS));
}

#[test]
fn aborted_it_is_dropped_and_runs_again_at_the_next_start() {
    let store = Store::in_memory();
    let (gate, keeper) = gate();
    let flow = |waits: bool, gate: Option<crate::rig::Gate>| {
        let mut flow = Flow::new("f");
        flow.add_async("a", async move |cx: AsyncActivation| {
            if let Some(gate) = &gate {
                gate.pass();
            }
            if waits {
                std::future::pending::<()>().await;
            }
            cx.result("done")?;
            Ok(())
        })
        .unwrap();
        flow
    };
    let runtime = start_on(store.clone(), flow(true, Some(gate)));
    let id = runtime
        .post("f", "a", "in", ())
        .unwrap()
        .job_id()
        .to_owned();
    keeper.wait();
    keeper.open();
    runtime.shutdown(Shutdown::Abort).unwrap();
    drop(runtime);
    let runtime = start_on(store, flow(false, None));
    finish(&runtime);
    let job = runtime.get_job(&id).unwrap().unwrap();
    assert_eq!(job.results(), [Value::from("done")]);
}

#[test]
fn dropping_the_runtime_lets_end_what_runs() {
    let store = Store::in_memory();
    let go_on = Arc::new(Notify::new());
    let (gate, keeper) = gate();
    let mut flow = Flow::new("f");
    let goes_on = Arc::clone(&go_on);
    flow.add_async("a", async move |cx: AsyncActivation| {
        gate.pass();
        goes_on.notified().await;
        cx.result("done")?;
        Ok(())
    })
    .unwrap();
    let runtime = start_on(store.clone(), flow);
    let id = runtime
        .post("f", "a", "in", ())
        .unwrap()
        .job_id()
        .to_owned();
    keeper.wait();
    keeper.open();
    go_on.notify_one();
    drop(runtime);
    let runtime = Runtime::builder(store).start().unwrap();
    let job = runtime.get_job(&id).unwrap().unwrap();
    assert_eq!(job.status(), JobStatus::Completed);
}

#[test]
fn waiting_for_a_job_inside_of_async_logic_is_refused() {
    let mut flow = Flow::new("f");
    let held: Arc<Mutex<Option<Runtime>>> = Arc::default();
    let holder = Arc::clone(&held);
    flow.add_async("a", async move |_| {
        tokio::task::yield_now().await;
        let runtime = holder
            .lock()
            .unwrap()
            .take()
            .ok_or_else(|| Failure::new("nobody"))?;
        match runtime.wait_until_all_jobs_finished(LONG) {
            Err(Error::Work(WorkError::InsideLogic { .. })) => Ok(()),
            other => Err(Failure::new(format!("{other:?}"))),
        }
    })
    .unwrap();
    let runtime = start(flow);
    *held.lock().unwrap() = Some(runtime.clone());
    let job = runtime.post("f", "a", "in", ()).unwrap();
    finish(&runtime);
    assert_eq!(job.error(), None);
}

#[test]
fn several_effects_at_once() {
    let mut flow = Flow::new("f");
    flow.add_async("a", async |cx: AsyncActivation| {
        let spawned = {
            let cx = cx.clone();
            tokio::spawn(async move { cx.once("b", async || Ok::<_, Failure>(2)).await })
        };
        let one = cx.once("a", async || Ok::<_, Failure>(1)).await?;
        cx.result(one + spawned.await??)?;
        Ok(())
    })
    .unwrap();
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    finish(&runtime);
    assert_eq!(job.error(), None);
    assert_eq!(job.results(), [Value::from(3)]);
}

#[test]
fn what_is_emitted_once_the_logic_has_ended_is_refused_and_not_lost() {
    let kept: Arc<Mutex<Option<AsyncActivation>>> = Arc::default();
    let refused = Arc::new(AtomicUsize::new(0));
    let (keep, count) = (Arc::clone(&kept), Arc::clone(&refused));
    let mut flow = Flow::new("f");
    flow.add_async("a", async move |cx: AsyncActivation| {
        *keep.lock().unwrap() = Some(cx.clone());
        cx.emit("out", 1)?;
        Ok(())
    })
    .unwrap();
    flow.add_fn("b", |_| Ok(())).unwrap();
    // It is asked between the end of the logic and its commit.
    flow.connect_when("a.out", "b.in", move |_, _| {
        let cx = kept.lock().unwrap().take();
        let late = cx.map(|cx| cx.emit("out", 2));
        if late.is_some_and(|late| late.is_err_and(|e| is_over(&e))) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        true
    })
    .unwrap();
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    finish(&runtime);
    assert_eq!(job.error(), None);
    assert_eq!(refused.load(Ordering::SeqCst), 1);
    assert_eq!(runtime.stats().activations_completed, 2);
}
