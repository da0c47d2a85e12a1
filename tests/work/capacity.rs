//! What happens at the capacity of a slot, and policies that wait for others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use evenkeel::{
    Activation, ActivationPolicy, AtCapacity, Decision, Error, ErrorHandler, Event, Flow,
    JobStatus, Pressure, SlotOptions, WorkError,
};
use serde_json::json;

use crate::rig::{LONG, builder, finish, gate, start};

fn sized(policy: ActivationPolicy, options: SlotOptions) -> (Flow, Arc<Mutex<Vec<usize>>>) {
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |cx: &mut Activation| {
        sink.lock().unwrap().push(cx.data("in").count());
        Ok(())
    })
    .unwrap()
    .slot_with("in", options)
    .policy(policy);
    (flow, seen)
}

#[test]
fn capacity_is_exact_and_there_is_room_again_after_consumption() {
    let (flow, _) = sized(
        ActivationPolicy::immediate(),
        SlotOptions::new().capacity(3),
    );
    let runtime = start(flow);
    runtime.pause_worker("f").unwrap();
    for _ in 0..3 {
        runtime.post("f", "a", "in", ()).unwrap();
    }
    let full = runtime.post("f", "a", "in", ());
    assert!(
        matches!(
            full,
            Err(Error::Work(WorkError::SlotFull {
                waiting: 3,
                max: 3,
                ..
            }))
        ),
        "{full:?}"
    );
    assert_eq!(runtime.list_jobs().unwrap().len(), 3);
    let slot = runtime.worker_details("f").unwrap().slots.remove(0);
    assert_eq!((slot.waiting, slot.pressure), (3, Pressure::Critical));
    runtime.resume_worker("f").unwrap();
    finish(&runtime);
    runtime.post("f", "a", "in", ()).unwrap();
    finish(&runtime);
}

#[test]
fn the_oldest_is_dropped_and_counted_in_its_job() {
    let options = SlotOptions::new()
        .capacity(2)
        .at_capacity(AtCapacity::DropOldest);
    let (flow, seen) = sized(ActivationPolicy::immediate(), options);
    let runtime = start(flow);
    runtime.pause_worker("f").unwrap();
    let jobs: Vec<_> = (0..5)
        .map(|_| runtime.post("f", "a", "in", ()).unwrap())
        .collect();
    let dropped: Vec<_> = jobs.iter().map(|job| job.dropped()).collect();
    assert_eq!(dropped, [1, 1, 1, 0, 0]);
    assert_eq!(jobs[0].status(), JobStatus::Completed);
    runtime.resume_worker("f").unwrap();
    finish(&runtime);
    assert_eq!(*seen.lock().unwrap(), [2]);
}

#[test]
fn who_waits_for_room_gets_it() {
    let options = SlotOptions::new().capacity(1).at_capacity(AtCapacity::Wait);
    let (flow, seen) = sized(ActivationPolicy::batch_size(1), options);
    let runtime = start(flow);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    runtime.post("f", "a", "in", ()).unwrap();
                }
            });
        }
    });
    finish(&runtime);
    assert_eq!(seen.lock().unwrap().len(), 100);
}

#[test]
fn who_waits_too_long_is_refused() {
    let options = SlotOptions::new().capacity(1).at_capacity(AtCapacity::Wait);
    let (flow, _) = sized(ActivationPolicy::immediate(), options);
    let runtime = builder()
        .post_wait(std::time::Duration::from_millis(1))
        .start()
        .unwrap();
    runtime.register(flow).unwrap();
    runtime.exec("f").unwrap();
    runtime.pause_worker("f").unwrap();
    runtime.post("f", "a", "in", ()).unwrap();
    let full = runtime.post("f", "a", "in", ());
    assert!(matches!(full, Err(Error::Work(WorkError::SlotFull { .. }))));
}

#[test]
fn an_activation_is_not_started_while_its_target_is_full() {
    let (gate, keeper) = gate();
    let started = Arc::new(AtomicUsize::new(0));
    let starts = Arc::clone(&started);
    let mut flow = Flow::new("f");
    flow.add_fn("source", move |cx| {
        starts.fetch_add(1, Ordering::SeqCst);
        cx.emit("out", ())?;
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(1));
    flow.add_fn("slow", move |_| {
        gate.pass();
        Ok(())
    })
    .unwrap()
    .slot_with("in", SlotOptions::new().capacity(2))
    .policy(ActivationPolicy::batch_size(1));
    flow.connect("source.out", "slow.in").unwrap();
    let runtime = start(flow);
    for _ in 0..10 {
        runtime.post("f", "source", "in", ()).unwrap();
    }
    for done in 0..10 {
        keeper.wait();
        // One runs, two wait, and no source runs on top of that.
        assert!(started.load(Ordering::SeqCst) <= done + 3);
        keeper.open();
    }
    finish(&runtime);
    assert_eq!(started.load(Ordering::SeqCst), 10);
}

#[test]
fn in_a_cycle_emits_may_pass_the_capacity_up_to_the_hard_limit() {
    let emits = |many: i64| {
        let mut flow = Flow::new("f");
        flow.add_fn("loop", move |cx| {
            if cx.one("in").unwrap().event_name().is_none() {
                for n in 0..many {
                    cx.emit("out", json!({"n": n}))?;
                }
            }
            Ok(())
        })
        .unwrap()
        .slot_with("in", SlotOptions::new().capacity(2).hard_limit_factor(3))
        .on_error(ErrorHandler::retry(1).delay(std::time::Duration::ZERO));
        flow.connect("loop.out", "loop.in").unwrap();
        let runtime = start(flow);
        let job = runtime.post("f", "loop", "in", ()).unwrap();
        job.wait(LONG).unwrap();
        (job.status(), runtime.dead_letters(0, 10).unwrap())
    };
    let (status, letters) = emits(6);
    assert_eq!((status, letters.len()), (JobStatus::Completed, 0));
    let (status, letters) = emits(7);
    assert_eq!(status, JobStatus::Failed);
    assert_eq!(
        (letters[0].kind(), letters[0].attempts()),
        (Some("slot full"), 2)
    );
}

#[test]
fn batches_are_exact_and_go_on_while_there_are_as_many_again() {
    let (flow, seen) = sized(ActivationPolicy::batch_size(3), SlotOptions::new());
    let runtime = start(flow);
    runtime.pause_worker("f").unwrap();
    let jobs: Vec<_> = (0..8)
        .map(|_| runtime.post("f", "a", "in", ()).unwrap())
        .collect();
    runtime.resume_worker("f").unwrap();
    jobs[5].wait(LONG).unwrap();
    assert_eq!(*seen.lock().unwrap(), [3, 3]);
    let left = jobs.iter().filter(|job| job.status() == JobStatus::Pending);
    assert_eq!(left.count(), 2);
    let waited = runtime.wait_until_all_jobs_finished(std::time::Duration::ZERO);
    match waited {
        Err(Error::Work(WorkError::TimedOut { holding, .. })) => {
            assert_eq!(holding.len(), 2);
            assert!(holding[0].contains("wait in slot \"in\""), "{holding:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_breakpoint_holds_and_drops_nothing_until_it_is_released() {
    let (flow, seen) = sized(ActivationPolicy::breakpoint(), SlotOptions::new());
    let runtime = start(flow);
    for _ in 0..4 {
        runtime.post("f", "a", "in", ()).unwrap();
    }
    assert_eq!(runtime.worker_details("f").unwrap().slots[0].waiting, 4);
    runtime.release("f", "a").unwrap();
    finish(&runtime);
    assert_eq!(seen.lock().unwrap().iter().sum::<usize>(), 4);
}

#[test]
fn an_error_in_a_custom_check_is_contained_and_reported() {
    let checks = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&checks);
    let check = move |slots: &evenkeel::SlotsView<'_>| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => panic!("not today"),
        _ => slots.waiting("in") >= 2,
    };
    let (flow, seen) = sized(ActivationPolicy::custom(check), SlotOptions::new());
    let runtime = start(flow);
    for _ in 0..3 {
        runtime.post("f", "a", "in", ()).unwrap();
        runtime.wait_until_all_workers_idle(LONG).unwrap();
    }
    // The panic held the first one, and the next ones were asked about.
    assert_eq!(*seen.lock().unwrap(), [2]);
    let worker = runtime.get_worker("f").unwrap();
    assert!(worker.error().unwrap().contains("not today"));
}

/// What logic is given when three wait, and then three more, and what it sees beside.
fn given_and_seen(decide: fn() -> Decision) -> Vec<(Vec<u64>, Vec<u64>, [usize; 2])> {
    let told: Arc<Mutex<Vec<_>>> = Arc::default();
    let tell = Arc::clone(&told);
    let number = |event: &Event| event.data().as_u64().unwrap_or(u64::MAX);
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |cx: &mut Activation| {
        let given = cx.data("in").map(number).collect();
        let waiting = cx.peek_all_new("in");
        assert_eq!(cx.peek_one_new("in"), waiting.first().cloned());
        assert_eq!(cx.waiting("in"), waiting.len());
        assert!(cx.peek_all("in").len() >= waiting.len());
        let last = cx.peek_latest("in");
        assert_eq!(last, cx.peek_all("in").last().cloned());
        assert_eq!(cx.pressure("in"), Pressure::Low);
        assert_eq!((cx.waiting("none"), cx.total("none")), (0, 0));
        assert!(cx.peek_all_new("none").is_empty());
        let waiting = waiting.iter().map(|event| number(event)).collect();
        let counts = [cx.total("in"), cx.peek_all("in").len()];
        tell.lock().unwrap().push((given, waiting, counts));
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::custom(move |slots| {
        match slots.waiting("in") {
            0 => Decision::hold(),
            _ => decide(),
        }
    }));
    let runtime = start(flow);
    for three in [[0, 1, 2], [3, 4, 5]] {
        runtime.pause_worker("f").unwrap();
        let jobs = three.map(|n| runtime.post("f", "a", "in", n).unwrap());
        runtime.resume_worker("f").unwrap();
        for job in jobs {
            job.wait(LONG).unwrap();
            assert_eq!((job.status(), job.error()), (JobStatus::Completed, None));
        }
    }
    let told = told.lock().unwrap();
    told.clone()
}

#[test]
fn every_form_consumes_and_leaves_what_it_says() {
    let all_new = [
        (vec![0, 1, 2], vec![], [3, 0]),
        (vec![3, 4, 5], vec![], [6, 3]),
    ];
    assert_eq!(given_and_seen(Decision::take_all), all_new);
    let two = [
        (vec![0, 1], vec![2], [3, 1]),
        (vec![2], vec![], [3, 2]),
        (vec![3, 4], vec![5], [6, 4]),
        (vec![5], vec![], [6, 5]),
    ];
    assert_eq!(given_and_seen(|| Decision::take("in", 2)), two);
    // The newest only; all older ones are consumed with it.
    let latest = [(vec![2], vec![], [3, 0]), (vec![5], vec![], [6, 3])];
    assert_eq!(given_and_seen(|| Decision::take_latest("in")), latest);
    let with_consumed = [
        (vec![0, 1, 2], vec![], [3, 0]),
        (vec![0, 1, 2, 3, 4, 5], vec![], [6, 3]),
    ];
    assert_eq!(
        given_and_seen(|| Decision::take_with_consumed("in")),
        with_consumed
    );
}
