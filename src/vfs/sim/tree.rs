//! Owns the folders of a simulated disk: the names that a process sees and those that
//! are on the disk.
//!
//! What must stay true: a path is taken by its words alone. `.` and the root are the
//! same folder, which is always there; `..` takes the last word away.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use super::arrivals::NameId;
use super::crash::Dice;
use super::file::FileNode;
use super::names::{Journal, NameChange, Names, NodeId, Place, set_name};

const ROOT: NodeId = 0;

/// All files and folders.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    unsynced: Journal,
    next: NodeId,
    /// What the next change of a name is called.
    change: NameId,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(FileNode),
    Folder(Folder),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    live: Names,
    durable: Names,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Folder(Folder::default()))]),
            unsynced: Journal::default(),
            next: ROOT + 1,
            change: NameId::default(),
        }
    }

    /// What has this path.
    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        words(path).iter().try_fold(ROOT, |folder, word| {
            let names = self.names(folder)?;
            names
                .get(word)
                .copied()
                .ok_or_else(|| ErrorKind::NotFound.into())
        })
    }

    /// The file with this path.
    pub(super) fn find_file(&self, path: &Path) -> io::Result<NodeId> {
        let id = self.find(path)?;
        match self.nodes.get(&id) {
            Some(Node::File(_)) => Ok(id),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// The folder that a path is in, and its name there. The root has none.
    fn place(&self, path: &Path) -> io::Result<Place> {
        let name = words(path).pop().ok_or(ErrorKind::ResourceBusy)?;
        let folder = self.find(&path.join(".."))?;
        self.names(folder)?;
        Ok((folder, name))
    }

    pub(super) fn names(&self, folder: NodeId) -> io::Result<&Names> {
        match self.nodes.get(&folder) {
            Some(Node::Folder(folder)) => Ok(&folder.live),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// The folders on the way to a path, from the root on.
    fn way(&self, words: &[OsString]) -> Vec<NodeId> {
        let mut way = vec![ROOT];
        for word in words {
            let last = way
                .last()
                .and_then(|folder| self.names(*folder).ok()?.get(word));
            way.extend(last.copied().filter(|node| self.is_folder(*node)));
        }
        way
    }

    fn at(&self, place: &Place) -> Option<NodeId> {
        self.names(place.0).ok()?.get(&place.1).copied()
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Writes to a file, as a part of the operation that has begun.
    pub(super) fn write(&mut self, id: NodeId, bytes: &[u8], offset: u64) -> io::Result<()> {
        let operation = self.change.operation;
        self.file_mut(id)?.write(operation, bytes, offset);
        Ok(())
    }

    /// Cuts or extends a file, as a part of the operation that has begun.
    pub(super) fn set_len(&mut self, id: NodeId, len: u64) -> io::Result<()> {
        let operation = self.change.operation;
        self.file_mut(id)?.set_len(operation, len);
        Ok(())
    }

    pub(super) fn is_folder(&self, id: NodeId) -> bool {
        matches!(self.nodes.get(&id), Some(Node::Folder(_)))
    }

    /// The nodes that have a name.
    pub(super) fn named(&self) -> BTreeSet<NodeId> {
        let folders = self.nodes.values().filter_map(|node| match node {
            Node::Folder(folder) => Some(folder),
            Node::File(_) => None,
        });
        folders
            .flat_map(|folder| folder.live.values().copied())
            .collect()
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<NodeId> {
        self.create(path, Node::File(FileNode::default()))
    }

    pub(super) fn create_folder(&mut self, path: &Path) -> io::Result<NodeId> {
        self.create(path, Node::Folder(Folder::default()))
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        if words(path).is_empty() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let place = self.place(path)?;
        if self.at(&place).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.change(NameChange {
            set: Some((place, id)),
            ..NameChange::default()
        });
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_words, to_words) = (words(from), words(to));
        let within = self.way(&to_words);
        let (from, to) = (self.place(from)?, self.place(to)?);
        let node = self.at(&from).ok_or(ErrorKind::NotFound)?;
        if to_words.len() > from_words.len() && to_words.starts_with(&from_words) {
            return Err(ErrorKind::InvalidInput.into());
        }
        match self.at(&to) {
            Some(replaced) if replaced == node => return Ok(()),
            Some(replaced) => match (self.is_folder(node), self.is_folder(replaced)) {
                (true, false) => return Err(ErrorKind::NotADirectory.into()),
                (false, true) => return Err(ErrorKind::IsADirectory.into()),
                (true, true) if !self.names(replaced)?.is_empty() => {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            },
            None => {}
        }
        let replaced = self.at(&to);
        self.change(NameChange {
            removed: Some(from),
            set: Some((to, node)),
            moves_folder: self.is_folder(node),
            within,
            removed_folder: replaced.filter(|node| self.is_folder(*node)),
            ..NameChange::default()
        });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.find_file(path)?;
        let place = self.place(path)?;
        self.remove([place]);
        Ok(())
    }

    /// The names that go when a folder is removed, in their order: what is within
    /// before what it is within.
    pub(super) fn removals(&self, path: &Path) -> io::Result<Vec<Place>> {
        let place = self.place(path)?;
        let top = self.at(&place).ok_or(ErrorKind::NotFound)?;
        self.names(top)?;
        let (mut removals, mut open) = (vec![place], vec![top]);
        while let Some(folder) = open.pop() {
            for (name, id) in self.names(folder)? {
                removals.push((folder, name.clone()));
                if self.is_folder(*id) {
                    open.push(*id);
                }
            }
        }
        removals.reverse();
        Ok(removals)
    }

    pub(super) fn remove(&mut self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            let removed_folder = self.at(&place).filter(|node| self.is_folder(*node));
            self.change(NameChange {
                removed: Some(place),
                removed_folder,
                ..NameChange::default()
            });
        }
    }

    /// All changes of names up to the next call are those of this operation.
    pub(super) fn begin(&mut self, operation: u64) {
        self.change = NameId { operation, part: 0 };
    }

    fn change(&mut self, mut change: NameChange) {
        change.id = self.change;
        self.change.part += 1;
        for ((folder, name), node) in change.edits() {
            if let Some(Node::Folder(folder)) = self.nodes.get_mut(folder) {
                set_name(&mut folder.live, name, node);
            }
        }
        self.unsynced.push(change);
    }

    /// Makes the names in a folder durable, and what must have come before them.
    pub(super) fn sync_folder(&mut self, folder: NodeId) {
        for change in self.unsynced.take_due(folder) {
            for ((folder, name), node) in change.edits() {
                if let Some(Node::Folder(folder)) = self.nodes.get_mut(folder) {
                    set_name(&mut folder.durable, name, node);
                }
            }
        }
    }

    /// Makes every name on the way to a path durable.
    pub(super) fn sync_way_to(&mut self, path: &Path) {
        for folder in path.ancestors().skip(1) {
            if let Ok(folder) = self.find(folder) {
                self.sync_folder(folder);
            }
        }
        self.sync_folder(ROOT);
    }

    /// Forgets the nodes that nobody can come to any more.
    pub(super) fn collect(&mut self, is_open: impl Fn(NodeId) -> bool) {
        let mut used = self.named();
        used.insert(ROOT);
        for node in self.nodes.values() {
            if let Node::Folder(folder) = node {
                used.extend(folder.durable.values());
            }
        }
        used.extend(self.unsynced.set_nodes());
        self.nodes.retain(|id, _| used.contains(id) || is_open(*id));
    }

    /// The tree that is found after a power cut; without dice, nothing of what was
    /// not synced.
    pub(super) fn after_power_cut(&self, mut dice: Option<&mut Dice>) -> Self {
        let mut names = self.names_after_power_cut(dice.as_deref_mut());
        let mut nodes = BTreeMap::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if let Some(found) = names.remove(&id) {
                open.extend(found.values());
                let folder = Folder {
                    live: found.clone(),
                    durable: found,
                };
                nodes.insert(id, Node::Folder(folder));
            } else if let Some(Node::File(file)) = self.nodes.get(&id)
                && !nodes.contains_key(&id)
            {
                let contents = file.after_power_cut(dice.as_deref_mut());
                nodes.insert(id, Node::File(FileNode::settled(contents)));
            }
        }
        Self {
            nodes,
            unsynced: Journal::default(),
            next: self.next,
            change: NameId::default(),
        }
    }

    fn names_after_power_cut(&self, dice: Option<&mut Dice>) -> BTreeMap<NodeId, Names> {
        let mut names: BTreeMap<_, _> = self
            .nodes
            .iter()
            .filter_map(|(id, node)| match node {
                Node::Folder(folder) => Some((*id, folder.durable.clone())),
                Node::File(_) => None,
            })
            .collect();
        for change in dice
            .map(|dice| self.unsynced.arrived(dice))
            .unwrap_or_default()
        {
            for ((folder, name), node) in change.edits() {
                if let Some(names) = names.get_mut(folder) {
                    set_name(names, name, node);
                }
            }
        }
        names
    }
}

fn words(path: &Path) -> Vec<OsString> {
    let mut words = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(word) => words.push(word.to_owned()),
            Component::ParentDir => {
                words.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    words
}
