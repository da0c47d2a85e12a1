//! Owns the changes of names that are not durable yet, and which of them arrive
//! together or not at all.
//!
//! What must stay true:
//! - Changes of one name arrive in their order.
//! - A rename arrives whole, or not at all; only of the move of a file between two
//!   folders may the new name arrive without the removal of the old.
//! - A file whose creation arrived does not lose its last name to a rename. So a
//!   move waits for the creation of the folders that it leads into, and a folder
//!   goes only after what was moved out of it.
//! - All else arrives in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use super::arrivals::NameId;
use super::crash::Dice;

/// The number of a file or folder, whatever it is called. Never given twice.
pub(super) type NodeId = u64;

/// The names in a folder.
pub(super) type Names = BTreeMap<OsString, NodeId>;

/// A name in a folder, taken or not.
pub(super) type Place = (NodeId, OsString);

/// One change: a creation sets a name, a removal removes one, a rename does both.
#[derive(Clone, Debug, Default)]
pub(super) struct NameChange {
    /// Given when it is made.
    pub(super) id: NameId,
    pub(super) removed: Option<Place>,
    pub(super) set: Option<(Place, NodeId)>,
    /// A folder is never seen in two places, and never within itself: such moves
    /// are not split, and arrive in their order.
    pub(super) moves_folder: bool,
    /// The folders that a rename leads into, from the root on.
    pub(super) within: Vec<NodeId>,
    /// The folder that loses its name without getting another.
    pub(super) removed_folder: Option<NodeId>,
}

impl NameChange {
    fn places(&self) -> impl Iterator<Item = &Place> {
        let set = self.set.as_ref().map(|(place, _)| place);
        self.removed.iter().chain(set)
    }

    fn created(&self) -> Option<NodeId> {
        let set = self.set.as_ref().filter(|_| self.removed.is_none());
        set.map(|(_, node)| *node)
    }

    fn may_be_split(&self) -> bool {
        let from = self.removed.as_ref().map(|place| place.0);
        let to = self.set.as_ref().map(|(place, _)| place.0);
        !self.moves_folder && from.is_some() && to.is_some() && from != to
    }

    /// Splits the removal of the old name off, which comes after this.
    fn split(&mut self) -> Self {
        Self {
            id: self.id,
            removed: self.removed.take(),
            within: self.within.clone(),
            ..Self::default()
        }
    }

    /// What becomes of each name, the old one first.
    pub(super) fn edits(&self) -> impl Iterator<Item = (&Place, Option<NodeId>)> {
        let set = self.set.iter().map(|(place, node)| (place, Some(*node)));
        self.removed.iter().map(|place| (place, None)).chain(set)
    }
}

/// Gives a name to a node, or takes it away.
pub(super) fn set_name(names: &mut Names, name: &OsString, node: Option<NodeId>) {
    match node {
        Some(node) => names.insert(name.clone(), node),
        None => names.remove(name),
    };
}

/// The changes that are not durable yet, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal(Vec<NameChange>);

impl Journal {
    pub(super) fn push(&mut self, change: NameChange) {
        self.0.push(change);
    }

    /// The nodes that may yet get a name.
    pub(super) fn set_nodes(&self) -> impl Iterator<Item = NodeId> {
        self.0
            .iter()
            .filter_map(|change| Some(change.set.as_ref()?.1))
    }

    /// Takes out what becomes durable when a folder is synced, in its order: the
    /// changes of names in it, and what must have come before them.
    pub(super) fn take_due(&mut self, folder: NodeId) -> Vec<NameChange> {
        let mut places = BTreeSet::new();
        let mut created = BTreeSet::new();
        let mut emptied = BTreeSet::new();
        let mut folder_moves = false;
        let (mut due, mut left) = (Vec::new(), Vec::new());
        for mut change in std::mem::take(&mut self.0).into_iter().rev() {
            let is_due = |place: &Place| place.0 == folder || places.contains(place);
            let old_is_due = change
                .removed
                .as_ref()
                .is_some_and(|old| is_due(old) || emptied.contains(&old.0));
            let new_is_due = change.set.as_ref().is_some_and(|(new, _)| is_due(new))
                || change.created().is_some_and(|node| created.contains(&node))
                || (change.moves_folder && folder_moves);
            if !old_is_due && !new_is_due {
                left.push(change);
                continue;
            }
            if !old_is_due && change.may_be_split() {
                left.push(change.split());
            }
            if change.removed.is_some() {
                created.extend(change.within.iter().copied());
            }
            folder_moves |= change.moves_folder;
            emptied.extend(change.removed_folder);
            places.extend(change.places().cloned());
            due.push(change);
        }
        left.reverse();
        due.reverse();
        self.0 = left;
        due
    }

    /// What of it arrives in a power cut, in its order.
    pub(super) fn arrived(&self, dice: &mut Dice) -> Vec<NameChange> {
        let mut places = BTreeSet::new();
        let mut created = BTreeSet::new();
        let mut emptied = BTreeSet::new();
        let mut folder_moves = false;
        let mut arrived = Vec::new();
        for change in &self.0 {
            let follows_lost = change.places().any(|place| places.contains(place))
                || (change.removed.is_some()
                    && change.within.iter().any(|node| created.contains(node)))
                || change
                    .removed_folder
                    .is_some_and(|node| emptied.contains(&node))
                || (change.moves_folder && folder_moves);
            let mut kept = change.clone();
            let lost = if follows_lost || !dice.keeps_name(change.id) {
                std::mem::take(&mut kept)
            } else if kept.may_be_split() && !dice.keeps_rest_of_move(change.id) {
                kept.split()
            } else {
                NameChange::default()
            };
            created.extend(lost.created());
            emptied.extend(lost.removed.as_ref().map(|place| place.0));
            places.extend(lost.places().cloned());
            folder_moves |= lost.moves_folder;
            arrived.push(kept);
        }
        arrived
    }
}
