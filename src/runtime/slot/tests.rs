//! Tests of slots: each behaviour by its name, and any sequence of calls against a model
//! that is too simple to be wrong.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn queue(capacity: usize) -> SlotQueue<u32> {
    SlotQueue::new(SlotOptions::new().capacity(capacity))
}

fn filled(capacity: usize, count: u32) -> SlotQueue<u32> {
    let mut queue = queue(capacity);
    for item in 0..count {
        queue.enqueue(item, Room::Capacity).unwrap();
    }
    queue
}

fn items(held: &[Held<u32>]) -> Vec<u32> {
    held.iter().map(|held| held.item).collect()
}

/// Takes and consumes, as an activation does that succeeds.
fn consume(queue: &mut SlotQueue<u32>, form: Form) -> Vec<u32> {
    let taking = queue.take(form);
    queue.consume(&taking.taken);
    items(&taking.given)
}

#[test]
fn what_is_enqueued_is_unconsumed_and_first_in_first_out() {
    let mut queue = filled(10, 5);
    assert_eq!((queue.unconsumed(), queue.total()), (5, 5));
    let one_by_one: Vec<_> = (0..5)
        .flat_map(|_| consume(&mut queue, Form::OneNew))
        .collect();
    assert_eq!(one_by_one, [0, 1, 2, 3, 4]);
    assert_eq!((queue.unconsumed(), queue.total()), (0, 5));
    assert_eq!(consume(&mut queue, Form::OneNew), [0; 0]);
}

#[test]
fn consuming_all_new_drains_once() {
    let mut queue = filled(10, 3);
    assert_eq!(consume(&mut queue, Form::AllNew), [0, 1, 2]);
    assert_eq!(consume(&mut queue, Form::AllNew), [0; 0]);
    queue.enqueue(3, Room::Capacity).unwrap();
    assert_eq!(consume(&mut queue, Form::AllNew), [3]);
}

#[test]
fn capacity_is_exact() {
    let mut queue = filled(3, 3);
    assert!(queue.is_full());
    let full = queue.enqueue(9, Room::Capacity).unwrap_err();
    assert_eq!((full.waiting, full.max, full.wait), (3, 3, false));
    assert_eq!((queue.waiting(), queue.next_seq()), (3, Seq(3)));
    consume(&mut queue, Form::OneNew);
    queue.enqueue(3, Room::Capacity).unwrap();
    assert!(queue.enqueue(9, Room::Capacity).is_err());
    assert_eq!(consume(&mut queue, Form::AllNew), [1, 2, 3]);
}

#[test]
fn what_is_unconsumed_survives_the_trimming_at_the_watermark() {
    let mut queue = filled(10, 7);
    consume(&mut queue, Form::New(4));
    assert_eq!((queue.unconsumed(), queue.total()), (3, 7));
    // The eighth one is at the watermark.
    queue.enqueue(7, Room::Capacity).unwrap();
    assert_eq!((queue.unconsumed(), queue.total()), (4, 8));
    queue.enqueue(8, Room::Capacity).unwrap();
    assert_eq!((queue.unconsumed(), queue.total()), (5, 5));
    assert_eq!(consume(&mut queue, Form::AllNew), [4, 5, 6, 7, 8]);
}

#[test]
fn all_forms_of_consuming_and_peeking() {
    let mut queue = filled(100, 4);
    consume(&mut queue, Form::OneNew);
    let peek = |queue: &SlotQueue<u32>, form| items(&queue.peek(form));
    assert_eq!(peek(&queue, Form::AllNew), [1, 2, 3]);
    assert_eq!(peek(&queue, Form::OneNew), [1]);
    assert_eq!(peek(&queue, Form::New(2)), [1, 2]);
    assert_eq!(peek(&queue, Form::All), [0, 1, 2, 3]);
    assert_eq!(peek(&queue, Form::Latest), [3]);
    assert_eq!(queue.unconsumed(), 3, "a peek takes nothing");

    let mut copy = queue.clone();
    assert_eq!(consume(&mut copy, Form::All), [0, 1, 2, 3]);
    assert_eq!((copy.unconsumed(), copy.total()), (0, 4));
    assert_eq!(
        consume(&mut copy, Form::All),
        [0, 1, 2, 3],
        "what is remembered, again"
    );
    assert_eq!(consume(&mut copy, Form::Latest), [3]);

    assert_eq!(consume(&mut queue, Form::Latest), [3]);
    assert_eq!(
        queue.unconsumed(),
        0,
        "the latest takes all earlier ones with it"
    );
}

#[test]
fn what_was_taken_comes_back_where_it_stood() {
    let mut queue = filled(10, 5);
    let first = queue.take(Form::New(2));
    let second = queue.take(Form::New(2));
    assert_eq!(items(&queue.peek(Form::AllNew)), [4]);
    queue.give_back(&first.taken);
    assert_eq!(items(&queue.peek(Form::AllNew)), [0, 1, 4]);
    queue.consume(&second.taken);
    assert_eq!(consume(&mut queue, Form::AllNew), [0, 1, 4]);
    assert_eq!(queue.unconsumed(), 0);
}

#[test]
fn what_is_taken_is_out_of_the_queue_and_may_come_back_beyond_the_capacity() {
    let mut queue = filled(2, 2);
    let taking = queue.take(Form::AllNew);
    assert_eq!((queue.waiting(), queue.unconsumed()), (0, 2));
    queue.enqueue(2, Room::Capacity).unwrap();
    queue.enqueue(3, Room::Capacity).unwrap();
    queue.give_back(&taking.taken);
    assert_eq!((queue.waiting(), queue.pressure()), (4, Pressure::Critical));
    assert!(queue.enqueue(4, Room::Capacity).is_err());
    assert_eq!(consume(&mut queue, Form::AllNew), [0, 1, 2, 3]);
}

#[test]
fn what_activations_emit_passes_the_capacity_up_to_the_hard_limit() {
    let mut queue = filled(2, 2);
    for item in 2..20 {
        queue.enqueue(item, Room::Hard).unwrap();
    }
    let full = queue.enqueue(20, Room::Hard).unwrap_err();
    assert_eq!((full.waiting, full.max, full.wait), (20, 20, false));
    assert!(queue.room_for(1, Room::Capacity).is_err());
}

#[test]
fn a_full_slot_holds_back_who_emits_to_it_unless_it_drops_its_oldest() {
    for at_capacity in AtCapacity::ALL {
        let options = SlotOptions::new().capacity(1).at_capacity(at_capacity);
        let mut queue = SlotQueue::new(options);
        assert!(!queue.holds_back());
        queue.enqueue(0, Room::Capacity).unwrap();
        let drops = at_capacity == AtCapacity::DropOldest;
        assert_eq!((queue.is_full(), queue.holds_back()), (true, !drops));
    }
}

#[test]
fn at_capacity_the_poster_waits_where_the_slot_says_so() {
    let options = SlotOptions::new().capacity(2).at_capacity(AtCapacity::Wait);
    let mut queue = SlotQueue::new(options);
    assert_eq!(queue.room_for(2, Room::Capacity), Ok(()));
    queue.enqueue(0, Room::Capacity).unwrap();
    assert!(queue.room_for(2, Room::Capacity).unwrap_err().wait);
    assert!(
        !queue.room_for(3, Room::Capacity).unwrap_err().wait,
        "that never fits"
    );
    assert_eq!(queue.room_for(2, Room::Hard), Ok(()));
}

#[test]
fn at_capacity_the_oldest_is_dropped_and_counted_where_the_slot_says_so() {
    let options = SlotOptions::new()
        .capacity(2)
        .at_capacity(AtCapacity::DropOldest);
    let mut queue = SlotQueue::new(options);
    let dropped: Vec<_> = (0..5)
        .flat_map(|item| queue.enqueue(item, Room::Capacity).unwrap().1)
        .map(|held| held.item)
        .collect();
    assert_eq!((dropped, queue.dropped()), (vec![0, 1, 2], 3));
    let taking = queue.take(Form::OneNew);
    queue.enqueue(5, Room::Hard).unwrap();
    let (_, dropped) = queue.enqueue(6, Room::Hard).unwrap();
    assert_eq!(items(&dropped), [4], "what is taken is not dropped");
    queue.give_back(&taking.taken);
    let (_, dropped) = queue.enqueue(7, Room::Capacity).unwrap();
    assert_eq!(items(&dropped), [3, 5], "as many as it takes");
}

#[test]
fn after_a_restart_exactly_what_was_claimed_is_taken_again() {
    let mut before = filled(10, 5);
    before.remove(&BTreeSet::from([Seq(0)]));
    let claimed = before.take(Form::New(2)).taken;
    before.enqueue(5, Room::Capacity).unwrap();
    let stored = before.list().into_iter().map(|(held, _)| held);
    let mut queue = SlotQueue::restore(*before.options(), Seq(0), stored.collect());
    assert_eq!(queue.next_seq(), Seq(6), "no number is given twice");
    assert_eq!(items(&queue.take_again(&claimed).given), [1, 2]);
    assert_eq!(consume(&mut queue, Form::AllNew), [3, 4, 5]);
    let gone = queue.take_again(&[Seq(0), Seq(4), Seq(1)]);
    assert_eq!(gone.taken, [], "gone, consumed, taken already");
}

#[test]
fn a_number_once_given_is_not_given_again_though_nothing_waits() {
    let queue: SlotQueue<u32> = SlotQueue::restore(SlotOptions::new(), Seq(7), Vec::new());
    assert_eq!(queue.next_seq(), Seq(7));
}

#[test]
fn the_last_number_is_refused_and_nothing_overflows() {
    let mut queue = SlotQueue::restore(SlotOptions::new(), Seq(u64::MAX), Vec::new());
    assert!(queue.enqueue(0, Room::Capacity).is_err());
    assert_eq!((queue.waiting(), queue.next_seq()), (0, Seq(u64::MAX)));
}

#[test]
fn what_is_removed_is_gone_wherever_it_was() {
    let mut queue = filled(10, 3);
    queue.take(Form::OneNew);
    queue.remove(&BTreeSet::from([Seq(0), Seq(1), Seq(7)]));
    assert_eq!(items(&queue.peek(Form::AllNew)), [2]);
    queue.remove(&BTreeSet::from([Seq(1)]));
    assert_eq!((queue.waiting(), queue.unconsumed()), (1, 1));
    // The activation that had taken it is committed all the same.
    queue.consume(&[Seq(0)]);
    queue.give_back(&[Seq(0)]);
    assert_eq!((queue.unconsumed(), queue.total()), (1, 1));
}

#[test]
fn a_lower_capacity_keeps_what_waits() {
    let waiting: Vec<_> = filled(10, 5)
        .list()
        .into_iter()
        .map(|(held, _)| held)
        .collect();
    let mut queue = SlotQueue::restore(SlotOptions::new().capacity(2), Seq(0), waiting);
    assert_eq!((queue.waiting(), queue.pressure()), (5, Pressure::Critical));
    assert!(queue.enqueue(9, Room::Capacity).is_err());
    assert_eq!(consume(&mut queue, Form::AllNew), [0, 1, 2, 3, 4]);
}

#[test]
fn the_oldest_is_the_first_of_those_that_wait() {
    let mut queue = filled(10, 3);
    assert_eq!(queue.oldest(), Some(&0));
    let taking = queue.take(Form::OneNew);
    assert_eq!(queue.oldest(), Some(&1));
    queue.take(Form::AllNew);
    assert_eq!(queue.oldest(), None);
    queue.give_back(&taking.taken);
    assert_eq!(queue.oldest(), Some(&0));
}

#[test]
fn what_many_waited_in_is_given_back_once_few_do() {
    let mut queue = filled(10_000, 10_000);
    let taking = queue.take(Form::New(9_000));
    assert!(queue.waiting.capacity() < 8_000);
    queue.give_back(&taking.taken[..1]);
    queue.remove(&(0..9_990).map(Seq).collect());
    assert_eq!(queue.waiting(), 10);
    assert!(queue.waiting.capacity() <= ROOM_MIN);
}

/// What may happen to a queue.
#[derive(Clone, Copy, Debug)]
enum Call {
    Enqueue(Room),
    Take(Form),
    /// Of the activations that run, one is committed.
    Consume(usize),
    /// Of the activations that run, one ends otherwise.
    GiveBack(usize),
    Remove([u64; 2]),
    Restart,
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![
        Just(Form::AllNew),
        Just(Form::OneNew),
        (0usize..4).prop_map(Form::New),
        Just(Form::All),
        Just(Form::Latest),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => prop_oneof![Just(Room::Capacity), Just(Room::Hard)].prop_map(Call::Enqueue),
        3 => form().prop_map(Call::Take),
        2 => (0usize..3).prop_map(Call::Consume),
        1 => (0usize..3).prop_map(Call::GiveBack),
        1 => [0u64..40, 0u64..40].prop_map(Call::Remove),
        1 => Just(Call::Restart),
    ]
}

/// A list of all messages there ever were, with where each is.
#[derive(Default)]
struct Model(Vec<Option<Place>>);

impl Model {
    fn at(&self, place: Place) -> Vec<u64> {
        let at =
            |(seq, found): (usize, &Option<Place>)| (*found == Some(place)).then_some(seq as u64);
        self.0.iter().enumerate().filter_map(at).collect()
    }

    fn put(&mut self, seqs: &[Seq], from: Place, to: Option<Place>) {
        for &Seq(seq) in seqs {
            let place = &mut self.0[seq as usize];
            if *place == Some(from) {
                *place = to;
            }
        }
    }

    fn unconsumed(&self) -> Vec<u64> {
        let mut both = self.at(Place::Waiting);
        both.extend(self.at(Place::Taken));
        both.sort_unstable();
        both
    }
}

fn numbers(seqs: impl IntoIterator<Item = Seq>) -> Vec<u64> {
    seqs.into_iter().map(|Seq(seq)| seq).collect()
}

proptest! {
    #[test]
    fn any_calls_move_messages_as_the_model_says(
        capacity in 1usize..6,
        factor in 1u32..4,
        watermark in 0u32..=10,
        at_capacity in prop_oneof![
            Just(AtCapacity::Refuse), Just(AtCapacity::Wait), Just(AtCapacity::DropOldest)
        ],
        calls in vec(call(), 1..60),
    ) {
        let options = SlotOptions::new()
            .capacity(capacity)
            .watermark(f64::from(watermark) / 10.0)
            .hard_limit_factor(factor)
            .at_capacity(at_capacity);
        let mut queue = SlotQueue::new(options);
        let mut model = Model::default();
        let mut running: Vec<Vec<Seq>> = Vec::new();
        for call in calls {
            let waiting = model.at(Place::Waiting);
            match call {
                Call::Enqueue(room) => {
                    let max = match room {
                        Room::Capacity => capacity,
                        Room::Hard => capacity * factor as usize,
                    };
                    let drops = at_capacity == AtCapacity::DropOldest;
                    match queue.enqueue(model.0.len() as u64, room) {
                        Ok((seq, dropped)) => {
                            prop_assert!(drops || waiting.len() < max);
                            prop_assert_eq!(seq, Seq(model.0.len() as u64));
                            let over = (waiting.len() + 1).saturating_sub(capacity);
                            let over = if drops { over } else { 0 };
                            let gone: Vec<_> = dropped.iter().map(|held| held.seq).collect();
                            prop_assert_eq!(numbers(gone.clone()), &waiting[..over]);
                            model.put(&gone, Place::Waiting, None);
                            model.0.push(Some(Place::Waiting));
                        }
                        Err(full) => {
                            prop_assert!(!drops && waiting.len() >= max);
                            prop_assert_eq!((full.waiting, full.max), (waiting.len(), max));
                            let waits = at_capacity == AtCapacity::Wait && room == Room::Capacity;
                            prop_assert_eq!(full.wait, waits);
                        }
                    }
                }
                Call::Take(form) => {
                    prop_assert_eq!(&queue.peek(form), &queue.clone().take(form).given);
                    let taking = queue.take(form);
                    let given = numbers(taking.given.iter().map(|held| held.seq));
                    let taken = numbers(taking.taken.iter().copied());
                    let new = given.iter().copied().filter(|seq| waiting.contains(seq));
                    match form {
                        Form::AllNew => prop_assert_eq!(&given, &waiting),
                        Form::OneNew => prop_assert_eq!(&given, &waiting[..waiting.len().min(1)]),
                        Form::New(n) => prop_assert_eq!(&given, &waiting[..waiting.len().min(n)]),
                        Form::All => prop_assert_eq!(new.clone().collect::<Vec<_>>(), &waiting[..]),
                        Form::Latest => {
                            prop_assert!(given.len() <= 1);
                            prop_assert!(waiting.is_empty() || given >= waiting[waiting.len() - 1..].to_vec());
                        }
                    }
                    match form {
                        Form::Latest => prop_assert_eq!(&taken, &waiting),
                        _ => prop_assert_eq!(&taken, &new.collect::<Vec<_>>()),
                    }
                    model.put(&taking.taken, Place::Waiting, Some(Place::Taken));
                    running.push(taking.taken);
                }
                Call::Consume(which) if which < running.len() => {
                    let taken = running.swap_remove(which);
                    queue.consume(&taken);
                    model.put(&taken, Place::Taken, Some(Place::Consumed));
                }
                Call::GiveBack(which) if which < running.len() => {
                    let taken = running.swap_remove(which);
                    queue.give_back(&taken);
                    model.put(&taken, Place::Taken, Some(Place::Waiting));
                }
                Call::Consume(_) | Call::GiveBack(_) => {}
                Call::Remove(seqs) => {
                    queue.remove(&seqs.into_iter().map(Seq).collect());
                    for seq in model.unconsumed() {
                        if seqs.contains(&seq) {
                            model.0[seq as usize] = None;
                        }
                    }
                }
                Call::Restart => {
                    let stored: Vec<_> = queue.list().into_iter().map(|(held, _)| held).collect();
                    queue = SlotQueue::restore(options, queue.next_seq(), stored);
                    let all: Vec<_> = (0..model.0.len() as u64).map(Seq).collect();
                    model.put(&all, Place::Taken, Some(Place::Waiting));
                    model.put(&all, Place::Consumed, None);
                    running.clear();
                }
            }
            let all_new = queue.peek(Form::AllNew);
            prop_assert_eq!(numbers(all_new.iter().map(|h| h.seq)), model.at(Place::Waiting));
            prop_assert!(all_new.iter().all(|held| held.item == held.seq.0));
            let list = numbers(queue.list().into_iter().map(|(held, _)| held.seq));
            prop_assert_eq!(list, model.unconsumed());
            // What is remembered was consumed, and is bounded by the watermark.
            let remembered = queue.total() - queue.unconsumed();
            let line = (capacity as f64 * f64::from(watermark) / 10.0).max(1.0);
            prop_assert!(remembered <= model.at(Place::Consumed).len());
            prop_assert!(remembered == 0 || (queue.total() as f64) < line + 1.0);
        }
    }
}
