//! Owns damage at rest: what happens to a disk without any call of the file system.
//! Nothing here is counted, traced, planned against or stopped. What is damaged is
//! so for the process and on the disk alike.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::SimDisk;
use super::file::FileNode;
use super::pages::Pages;

impl SimDisk {
    /// Turns over one bit (0 to 7) of one byte.
    ///
    /// # Errors
    /// There is no such file, or it is not that long.
    pub fn flip(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> io::Result<()> {
        self.damage(path.as_ref(), |file| {
            if offset >= file.live().len() {
                return Err(ErrorKind::InvalidInput.into());
            }
            file.damage(|contents| {
                contents.flip(offset, bit);
            });
            Ok(())
        })
    }

    /// Makes zeros of the bytes in a range, as far as the file has them.
    ///
    /// # Errors
    /// There is no such file.
    pub fn zero(&self, path: impl AsRef<Path>, range: Range<u64>) -> io::Result<()> {
        let zeros = Pages::default();
        self.damage(path.as_ref(), |file| {
            file.damage(|contents| contents.copy_from(&zeros, range.clone()));
            Ok(())
        })
    }

    /// Cuts a file, or extends it by zeros. What was not synced of it counts as synced.
    ///
    /// # Errors
    /// There is no such file.
    pub fn truncate(&self, path: impl AsRef<Path>, len: u64) -> io::Result<()> {
        self.damage(path.as_ref(), |file| {
            let mut contents = file.live().clone();
            contents.set_len(len);
            *file = FileNode::settled(contents);
            Ok(())
        })
    }

    /// Takes a file or a folder with all that is in it away. The names in the folders
    /// on the way to it count as synced.
    ///
    /// # Errors
    /// There is nothing of that name.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let mut state = self.state.lock();
        if state.tree.is_folder(state.tree.find(path)?) {
            let removals = state.tree.removals(path)?;
            state.tree.remove(removals);
        } else {
            state.tree.remove_file(path)?;
        }
        state.tree.sync_way_to(path);
        Ok(())
    }

    /// All files, by their paths from the root, in order, with their lengths.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state.lock();
        let tree = &state.tree;
        let mut files = Vec::new();
        let mut open: Vec<_> = tree
            .find(Path::new(""))
            .map(|root| (PathBuf::new(), root))
            .into_iter()
            .collect();
        while let Some((path, id)) = open.pop() {
            if let Ok(file) = tree.file(id) {
                files.push((path, file.live().len()));
            } else if let Ok(names) = tree.names(id) {
                open.extend(names.iter().map(|(name, id)| (path.join(name), *id)));
            }
        }
        files.sort();
        files
    }

    /// The contents of a file; `None` if there is none of that name.
    #[must_use]
    pub fn read(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let node = state.tree.find_file(path.as_ref()).ok()?;
        Some(state.tree.file(node).ok()?.live().to_vec())
    }

    /// Puts a file there with these contents, whatever was there. The names in the
    /// folders on the way to it count as synced.
    ///
    /// # Errors
    /// The folder is missing, or a folder has that name.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = path.as_ref();
        let mut state = self.state.lock();
        let node = match state.tree.find_file(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => state.tree.create_file(path)?,
            found => found?,
        };
        let mut contents = Pages::default();
        contents.write(bytes, 0);
        *state.tree.file_mut(node)? = FileNode::settled(contents);
        state.tree.sync_way_to(path);
        Ok(())
    }

    fn damage(
        &self,
        path: &Path,
        damage: impl FnOnce(&mut FileNode) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        let node = state.tree.find_file(path)?;
        damage(state.tree.file_mut(node)?)
    }
}
