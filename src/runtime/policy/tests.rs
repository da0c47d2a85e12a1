//! Tests of activation policies, each behaviour by its name.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::runtime::options::SlotOptions;
use crate::runtime::slot::Room;
use crate::value::Value;

type Queue = SlotQueue<Arc<Event>>;

/// Slots with messages that came at these times.
fn slots(arrivals: &[(&'static str, &[u64])]) -> Vec<(&'static str, Queue)> {
    let slot = |&(name, times): &(&'static str, &[u64])| {
        let mut queue = Queue::new(SlotOptions::new());
        for &at in times {
            let event = Event::posted(Value::from(at), at);
            queue.enqueue(Arc::new(event), Room::Capacity).unwrap();
        }
        (name, queue)
    };
    arrivals.iter().map(slot).collect()
}

fn decide(policy: &ActivationPolicy, slots: &[(&'static str, Queue)], when: When) -> Decision {
    try_decide(policy, slots, when).unwrap()
}

fn try_decide(
    policy: &ActivationPolicy,
    slots: &[(&'static str, Queue)],
    when: When,
) -> Result<Decision, Failure> {
    let views: Vec<_> = slots
        .iter()
        .map(|(name, queue)| SlotView { name, queue })
        .collect();
    policy.decide(&SlotsView::new(&views), when)
}

fn at(now_micros: u64) -> When {
    When {
        now_micros,
        ..When::default()
    }
}

/// Does what a decision says; what was given of each slot.
fn follow(decision: &Decision, slots: &mut [(&'static str, Queue)]) -> Vec<usize> {
    let forms = |name: &str| match &decision.0 {
        Inner::Hold { .. } => None,
        Inner::TakeAll => Some(Form::AllNew),
        Inner::Take(forms) => forms
            .iter()
            .find(|(slot, _)| slot == name)
            .map(|(_, form)| *form),
    };
    slots
        .iter_mut()
        .map(|(name, queue)| forms(name).map_or(0, |form| queue.take(form).given.len()))
        .collect()
}

#[test]
fn immediate_takes_all_new_of_all_slots_as_soon_as_any_has_data() {
    let policy = ActivationPolicy::default();
    let mut slots = slots(&[("a", &[1, 2]), ("b", &[]), ("c", &[3])]);
    assert_eq!(
        follow(&decide(&policy, &slots, at(3)), &mut slots),
        [2, 0, 1]
    );
    assert_eq!(decide(&policy, &slots, at(3)), Decision::hold());
}

#[test]
fn all_slots_ready_takes_one_of_each() {
    let policy = ActivationPolicy::all_slots_ready();
    let mut slots = slots(&[("a", &[1, 2, 3]), ("b", &[4, 5])]);
    assert_eq!(follow(&decide(&policy, &slots, at(5)), &mut slots), [1, 1]);
    assert_eq!(follow(&decide(&policy, &slots, at(5)), &mut slots), [1, 1]);
    assert_eq!(decide(&policy, &slots, at(5)), Decision::hold());
    assert_eq!(slots[0].1.waiting(), 1);
}

#[test]
fn batch_size_takes_exactly_n_of_each_and_goes_on_while_there_are_n_more() {
    let policy = ActivationPolicy::batch_size(3);
    let mut slots = slots(&[("a", &[1; 8]), ("b", &[1; 6])]);
    assert_eq!(follow(&decide(&policy, &slots, at(1)), &mut slots), [3, 3]);
    assert_eq!(follow(&decide(&policy, &slots, at(1)), &mut slots), [3, 3]);
    assert_eq!(decide(&policy, &slots, at(1)), Decision::hold());
    assert_eq!((slots[0].1.waiting(), slots[1].1.waiting()), (2, 0));
}

#[test]
fn a_batch_waits_no_longer_than_it_may() {
    let policy = ActivationPolicy::batch_size(3).max_wait(Duration::from_micros(100));
    let mut slots = slots(&[("a", &[50, 60, 70, 80]), ("b", &[40])]);
    assert_eq!(decide(&policy, &slots, at(80)), Decision::hold_until(140));
    assert_eq!(decide(&policy, &slots, at(139)), Decision::hold_until(140));
    assert_eq!(
        follow(&decide(&policy, &slots, at(140)), &mut slots),
        [3, 1]
    );
    // The next one counts from its own first message.
    assert_eq!(decide(&policy, &slots, at(141)), Decision::hold_until(180));
    assert_eq!(
        follow(&decide(&policy, &slots, at(200)), &mut slots),
        [1, 0]
    );
    assert_eq!(decide(&policy, &slots, at(u64::MAX)), Decision::hold());
}

#[test]
fn time_interval_activates_once_in_an_interval_and_at_its_end() {
    let policy = ActivationPolicy::time_interval(Duration::from_micros(100));
    let mut slots = slots(&[("a", &[1, 2])]);
    assert_eq!(follow(&decide(&policy, &slots, at(10)), &mut slots), [2]);
    let after = |now_micros| When {
        now_micros,
        last_micros: Some(10),
        released: false,
    };
    assert_eq!(
        decide(&policy, &slots, after(20)),
        Decision::hold(),
        "nothing to wait for"
    );
    let event = Event::posted(Value::Null, 20);
    slots[0].1.enqueue(Arc::new(event), Room::Capacity).unwrap();
    assert_eq!(
        decide(&policy, &slots, after(20)),
        Decision::hold_until(110)
    );
    assert_eq!(
        decide(&policy, &slots, after(109)),
        Decision::hold_until(110)
    );
    assert_eq!(
        follow(&decide(&policy, &slots, after(110)), &mut slots),
        [1]
    );
}

#[test]
fn an_interval_without_end_overflows_nothing() {
    let policy = ActivationPolicy::time_interval(Duration::MAX);
    let slots = slots(&[("a", &[1])]);
    let when = When {
        now_micros: 5,
        last_micros: Some(3),
        released: false,
    };
    assert_eq!(
        decide(&policy, &slots, when),
        Decision::hold_until(u64::MAX)
    );
}

#[test]
fn custom_takes_what_its_check_says() {
    let mut some = slots(&[("a", &[1, 2, 3]), ("b", &[4])]);
    let many = ActivationPolicy::custom(|slots| slots.waiting("a") > 2);
    assert_eq!(decide(&many, &some, at(4)), Decision::take_all());
    let pairs =
        ActivationPolicy::custom(|slots| match slots.waiting("a").min(slots.waiting("b")) {
            0 => Decision::hold(),
            n => Decision::take("a", n).and("b", n),
        });
    assert_eq!(follow(&decide(&pairs, &some, at(4)), &mut some), [1, 1]);
    assert_eq!(decide(&pairs, &some, at(4)), Decision::hold());
    assert_eq!(decide(&many, &some, at(4)), Decision::hold());
    let latest = ActivationPolicy::custom(|_| Decision::take_latest("a"));
    assert_eq!(follow(&decide(&latest, &some, at(4)), &mut some), [1, 0]);
    assert_eq!(some[0].1.waiting(), 0, "older ones went with it");
}

#[test]
fn a_custom_check_sees_data_and_times() {
    let slots = slots(&[("a", &[7, 9])]);
    let check = ActivationPolicy::custom(|slots| {
        let data = |event: Arc<Event>| event.data().as_i64();
        assert_eq!(slots.names().collect::<Vec<_>>(), ["a"]);
        assert_eq!(slots.peek_one_new("a").and_then(data), Some(7));
        assert_eq!(slots.peek_latest("a").and_then(data), Some(9));
        assert_eq!(
            (slots.peek_all_new("a").len(), slots.peek_all("a").len()),
            (2, 2)
        );
        assert_eq!(slots.oldest_micros("a"), Some(7));
        assert_eq!(slots.pressure("a"), Pressure::Low);
        Decision::hold_until(100)
    });
    assert_eq!(decide(&check, &slots, at(9)), Decision::hold_until(100));
}

#[test]
fn an_error_in_a_custom_check_is_contained_and_reported() {
    let slots = slots(&[("a", &[1])]);
    let failing = ActivationPolicy::custom(|_| Err::<bool, _>("x".parse::<u8>().unwrap_err()));
    let failure = try_decide(&failing, &slots, at(1)).unwrap_err();
    assert!(failure.downcast_ref::<std::num::ParseIntError>().is_some());
    let panicking = ActivationPolicy::custom(|_| -> bool { panic!("no") });
    let failure = try_decide(&panicking, &slots, at(1)).unwrap_err();
    assert_eq!(failure.kind_name(), Some("panic"));
    let elsewhere = ActivationPolicy::custom(|_| Decision::take("a", 1).and("x", 1));
    let failure = try_decide(&elsewhere, &slots, at(1)).unwrap_err();
    assert!(failure.to_string().contains("\"x\""), "{failure}");
    let mistyped = ActivationPolicy::custom(|slots| slots.waiting("y") > 0);
    let failure = try_decide(&mistyped, &slots, at(1)).unwrap_err();
    assert!(failure.to_string().contains("\"y\""), "{failure}");
    assert_eq!(slots[0].1.waiting(), 1);
}

#[test]
fn an_activation_without_a_message_is_not_made() {
    let none = slots(&[("a", &[]), ("b", &[])]);
    let empty: [(&str, Queue); 0] = [];
    let policies = [
        ActivationPolicy::immediate(),
        ActivationPolicy::all_slots_ready(),
        ActivationPolicy::batch_size(1),
        ActivationPolicy::time_interval(Duration::from_micros(1)),
        ActivationPolicy::custom(|_| true),
    ];
    for policy in policies {
        assert_eq!(decide(&policy, &none, at(9)), Decision::hold(), "{policy}");
        assert_eq!(decide(&policy, &empty, at(9)), Decision::hold(), "{policy}");
    }
    let some = slots(&[("a", &[1]), ("b", &[])]);
    for decision in [
        Decision::take("a", 0),
        Decision::take("b", 3),
        Decision::take_latest("b"),
    ] {
        let policy = ActivationPolicy::custom(move |_| decision.clone());
        assert_eq!(decide(&policy, &some, at(9)), Decision::hold());
    }
}

#[test]
fn a_breakpoint_holds_and_drops_nothing() {
    let mut slots = slots(&[("a", &[1, 2])]);
    let policy = ActivationPolicy::breakpoint();
    assert_eq!(decide(&policy, &slots, at(2)), Decision::hold());
    assert_eq!(slots[0].1.waiting(), 2);
    let released = When {
        released: true,
        ..at(2)
    };
    assert_eq!(follow(&decide(&policy, &slots, released), &mut slots), [2]);
    let batch = ActivationPolicy::batch_size(3).with_breakpoint();
    assert_eq!(decide(&batch, &slots, released), Decision::hold());
}

#[test]
fn a_policy_that_can_never_be_met_is_said() {
    let one = [("in", 2)];
    let fault = |policy: ActivationPolicy| policy.fault(one).is_some();
    assert!(fault(ActivationPolicy::batch_size(0)));
    assert!(fault(ActivationPolicy::batch_size(3)));
    assert!(!fault(ActivationPolicy::batch_size(2)));
    assert!(fault(ActivationPolicy::time_interval(Duration::ZERO)));
    assert!(!fault(ActivationPolicy::breakpoint()));
    let text = ActivationPolicy::batch_size(3)
        .with_breakpoint()
        .to_string();
    assert_eq!(text, "batch of 3, behind a breakpoint");
}

proptest! {
    /// Whatever comes when, every message is given once, and each decision is followed
    /// as the policy says.
    #[test]
    fn every_message_is_given_once_by_any_policy(
        arrivals in vec((0usize..2, 0u64..50), 1..40),
        size in 1usize..4,
        which in 0usize..4,
    ) {
        let interval = Duration::from_micros(40);
        let policy = match which {
            0 => ActivationPolicy::immediate(),
            1 => ActivationPolicy::all_slots_ready(),
            2 => ActivationPolicy::batch_size(size).max_wait(interval),
            _ => ActivationPolicy::time_interval(interval),
        };
        let mut both = slots(&[("a", &[]), ("b", &[])]);
        let (mut came, mut given) = ([0; 2], [0; 2]);
        let mut when = at(1_000);
        let mut until = None;
        for (slot, pause) in arrivals {
            when.now_micros += pause;
            let event = Arc::new(Event::posted(Value::Null, when.now_micros));
            both[slot].1.enqueue(event, Room::Capacity).unwrap();
            came[slot] += 1;
            loop {
                let decision = decide(&policy, &both, when);
                if let Inner::Hold { until_micros } = decision.0 {
                    prop_assert!(until_micros.is_none_or(|until| until > when.now_micros));
                    until = until_micros;
                    break;
                }
                let got = follow(&decision, &mut both);
                prop_assert!(got.iter().sum::<usize>() > 0);
                match which {
                    1 => prop_assert_eq!(&got, &[1, 1]),
                    2 => prop_assert!(got.iter().all(|&n| n <= size)),
                    3 => {
                        let since = when.last_micros.map(|last| when.now_micros - last);
                        prop_assert!(since.is_none_or(|since| since >= 40));
                    }
                    _ => {}
                }
                given[0] += got[0];
                given[1] += got[1];
                when.last_micros = Some(when.now_micros);
            }
        }
        if let Some(until) = until {
            when.now_micros = until;
            let got = follow(&decide(&policy, &both, when), &mut both);
            prop_assert!(got.iter().sum::<usize>() > 0, "a timer that was asked for is due");
            given[0] += got[0];
            given[1] += got[1];
        }
        for slot in 0..2 {
            prop_assert_eq!(given[slot] + both[slot].1.waiting(), came[slot]);
        }
    }
}
