//! Tables and slots: which version counts, what is kept, and what is given back.

use super::*;

const NO_VIEWS: Pins = Pins {
    views: None,
    bottom: false,
};

fn cell(byte: u8) -> Stored {
    Some(Arc::from([byte].as_slice()))
}

fn key(bytes: &[u8]) -> SmallKey {
    bytes.into()
}

fn lsn(raw: u64) -> Lsn {
    Lsn::new(raw)
}

/// As a commit does, whose garbage goes at once.
impl SlotState {
    fn add(&mut self, key: &SmallKey, lsn: Lsn, cell: Stored, pins: Pins) -> i64 {
        self.put(key, (lsn, cell), pins, &mut Garbage::default())
    }

    fn wipe(&mut self, lsn: Lsn, pins: Pins) -> i64 {
        self.clear(lsn, pins, &mut Garbage::default())
    }
}

#[test]
fn the_newest_version_up_to_an_lsn_counts() {
    let pins = Pins {
        views: Some((lsn(1), lsn(9))),
        bottom: false,
    };
    let slot = Slot::new(0, b"", 0, Quota::new());
    slot.write().add(&key(b"k"), lsn(2), cell(2), pins);
    slot.write().add(&key(b"k"), lsn(5), cell(5), pins);
    assert_eq!(slot.find(b"k", lsn(1)), Found::Unknown);
    assert_eq!(slot.find(b"k", lsn(4)), Found::Version(lsn(2), cell(2)));
    assert_eq!(slot.find(b"k", lsn(5)), Found::Version(lsn(5), cell(5)));
}

#[test]
fn a_clear_hides_what_was_before_it_and_nothing_after() {
    let slot = Slot::new(0, b"", 0, Quota::new());
    slot.write().add(&key(b"a"), lsn(1), cell(1), NO_VIEWS);
    slot.write().wipe(lsn(2), NO_VIEWS);
    slot.write().add(&key(b"b"), lsn(2), cell(2), NO_VIEWS);
    assert_eq!(slot.find(b"a", lsn(9)), Found::Version(lsn(2), None));
    assert_eq!(slot.find(b"z", lsn(9)), Found::Version(lsn(2), None));
    assert_eq!(slot.find(b"b", lsn(9)), Found::Version(lsn(2), cell(2)));
}

#[test]
fn versions_go_when_no_view_needs_them() {
    let slot = Slot::new(0, b"", 0, Quota::new());
    let pins = Pins {
        views: Some((lsn(1), lsn(3))),
        bottom: false,
    };
    slot.write().add(&key(b"k"), lsn(1), cell(1), pins);
    slot.write().add(&key(b"k"), lsn(4), cell(4), pins);
    assert_eq!(slot.find(b"k", lsn(3)), Found::Version(lsn(1), cell(1)));
    slot.write().add(&key(b"k"), lsn(5), cell(5), NO_VIEWS);
    assert_eq!(slot.find(b"k", lsn(3)), Found::Unknown);
}

#[test]
fn generations_are_sealed_in_order_and_retired() {
    let slot = Slot::new(0, b"", 0, Quota::new());
    slot.write().enter(1);
    slot.write().add(&key(b"k"), lsn(1), cell(1), NO_VIEWS);
    assert!(slot.write().enter(2).is_some());
    slot.write().add(&key(b"k"), lsn(2), cell(2), NO_VIEWS);
    assert_eq!(slot.find(b"k", lsn(9)), Found::Version(lsn(2), cell(2)));
    let sealed = slot.write().sealed(0, 1);
    assert_eq!(sealed.len(), 1);
    slot.write().retire(1);
    assert_eq!(slot.find(b"k", lsn(1)), Found::Unknown);
    assert_eq!(slot.find(b"k", lsn(2)), Found::Version(lsn(2), cell(2)));
}

#[test]
fn a_range_knows_what_changed_in_it() {
    let slot = Slot::new(0, b"", 0, Quota::new());
    slot.write().add(&key(b"k"), lsn(5), cell(1), NO_VIEWS);
    let changed = |from: &[u8], to: &[u8], since| {
        slot.read()
            .changed_since(Bound::Included(from), Bound::Excluded(to), lsn(since))
    };
    assert!(changed(b"a", b"z", 4));
    assert!(!changed(b"a", b"z", 5));
    assert!(!changed(b"l", b"z", 4));
}

/// Nothing below, and views at these LSNs, if any.
fn bottom(views: Option<(u64, u64)>) -> Pins {
    Pins {
        views: views.map(|(lowest, highest)| (lsn(lowest), lsn(highest))),
        bottom: true,
    }
}

fn changed(state: &SlotState, key: &[u8], since: u64) -> bool {
    state.changed_since(Bound::Included(key), Bound::Included(key), lsn(since))
}

#[test]
fn what_is_deleted_at_the_bottom_takes_nothing() {
    let slot = Slot::new(0, b"", 0, Quota::new());
    let mut state = slot.write();
    let mut held = state.enter(1).unwrap();
    held += state.add(&key(b"a"), lsn(1), cell(1), bottom(None));
    held += state.add(&key(b"b"), lsn(2), cell(1), bottom(None));
    held += state.add(&key(b"a"), lsn(3), None, bottom(None));
    // Who read it before is told, and who read what is still there is not.
    assert!(changed(&state, b"a", 2) && !changed(&state, b"a", 3));
    assert!(!changed(&state, b"b", 2));
    assert!(state.changed_since(Bound::Unbounded, Bound::Unbounded, lsn(2)));
    // Of one that is not there nothing changes.
    held += state.add(&key(b"z"), lsn(4), None, bottom(None));
    held += state.add(&key(b"z"), lsn(4), None, bottom(Some((4, 4))));
    assert!(!changed(&state, b"z", 3));
    assert_eq!(state.upper_bound().0, 1);
    held += state.add(&key(b"b"), lsn(5), None, bottom(None));
    assert!(state.is_empty());
    assert_eq!((held, state.upper_bound()), (0, (0, 0)));
    // Where something is below, it has to be known that a key is gone.
    state.enter(1);
    state.add(&key(b"a"), lsn(6), None, NO_VIEWS);
    assert_eq!(state.find(b"a", lsn(9)), Found::Version(lsn(6), None));
}

#[test]
fn what_views_keep_goes_with_them() {
    let slot = Slot::new(0, b"", 0, Quota::new());
    let mut state = slot.write();
    let mut held = state.enter(1).unwrap();
    for (at, name) in [b"a", b"b", b"c"].into_iter().enumerate() {
        held += state.add(&key(name), lsn(1 + at as u64), cell(1), bottom(None));
    }
    assert_eq!(state.keeps_since(), None);
    let before = held;
    held += state.add(&key(b"a"), lsn(4), cell(2), bottom(Some((3, 3))));
    held += state.add(&key(b"b"), lsn(5), None, bottom(Some((3, 3))));
    held += state.add(&key(b"a"), lsn(6), cell(3), bottom(Some((3, 5))));
    held += state.add(&key(b"a"), lsn(7), None, bottom(Some((3, 5))));
    assert_eq!(state.keeps_since(), Some(lsn(4)));
    assert_eq!(state.settle(lsn(3)), 0);
    assert_eq!(state.find(b"a", lsn(3)), Found::Version(lsn(1), cell(1)));
    assert_eq!(state.find(b"b", lsn(3)), Found::Version(lsn(2), cell(1)));
    // The view at 3 is closed, the one at 5 is open.
    held += state.settle(lsn(5));
    assert_eq!(state.find(b"a", lsn(5)), Found::Version(lsn(4), cell(2)));
    assert_eq!(state.find(b"a", lsn(3)), Found::Unknown);
    assert_eq!(state.find(b"b", lsn(5)), Found::Unknown);
    assert_eq!(state.keeps_since(), Some(lsn(7)));
    held += state.settle(lsn(7));
    assert_eq!((state.keeps_since(), state.upper_bound().0), (None, 1));
    assert!(held < before);
    held += state.add(&key(b"c"), lsn(8), None, bottom(None));
    assert_eq!(held, 0);
}

#[test]
fn what_is_cleared_at_the_bottom_takes_nothing_either() {
    let slot = Slot::new(0, b"", 0, Quota::new());
    let mut state = slot.write();
    for views in [None, Some((2, 2))] {
        let mut held = state.enter(1).unwrap();
        held += state.add(&key(b"a"), lsn(1), cell(1), bottom(None));
        held += state.add(&key(b"b"), lsn(2), cell(1), bottom(None));
        held += state.wipe(lsn(3), bottom(views));
        held += state.add(&key(b"b"), lsn(3), cell(2), bottom(views));
        if views.is_some() {
            assert_eq!(state.find(b"a", lsn(2)), Found::Version(lsn(1), cell(1)));
            assert_eq!(state.find(b"a", lsn(3)), Found::Version(lsn(3), None));
            assert_eq!(state.keeps_since(), Some(lsn(3)));
            held += state.settle(lsn(3));
        }
        assert_eq!(state.find(b"a", lsn(3)), Found::Unknown);
        assert_eq!(state.find(b"b", lsn(3)), Found::Version(lsn(3), cell(2)));
        assert_eq!((state.keeps_since(), state.upper_bound().0), (None, 1));
        assert!(changed(&state, b"a", 2) && !changed(&state, b"b", 3));
        held += state.add(&key(b"b"), lsn(4), None, bottom(None));
        assert_eq!(held, 0, "{views:?}");
    }
}
