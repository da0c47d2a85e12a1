//! Owns the image that is files of our own, without sled: pieces behind each other in
//! data files, and an index of where each of them is.
//!
//! A data file is only appended to, and never after the image was opened anew: what a
//! crash left behind the last sync is in no index, and goes with its file or stays as room that
//! is not used. A file goes when nothing in it counts any more. The index is in memory, and a
//! sync writes all of it, so it says of no piece that it is there before it is durable. As with
//! any backend nothing is believed that the manifest's hashes do not vouch for.

mod index;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ids::BlockId;
use crate::image::choice::{DATA_SUFFIX, INDEX_OF_FILES, Maker, maker_of};
use crate::image::life::{self, Life, failed};
use crate::image::{Image, ImageBackend, ImageError, ImageErrorKind, PIECE_BYTES_MAX, Piece};
use crate::sync::Mutex;
use crate::vfs::{self, OpenMode, RealVfs, Vfs, VfsFile};

use index::{INDEX_BYTES_MAX, Place};

/// What a data file grows to. Each takes a descriptor, and its room comes back as a whole.
const DATA_BYTES: u64 = 256 * 1024 * 1024;

/// Keeps an image in files of its own, in place of sled: chosen by
/// [`Builder::image`](crate::Builder::image), with the feature `file-image`.
///
/// It writes each byte once, so that a state which is overwritten again and again is written some
/// 1.5 times as fast as with sled (`docs/performance.md` has the figures of both). It keeps 24 bytes
/// and the node of a map in memory for each piece, which is a block of 8 KiB in most cases, and an
/// open file for each 256 MiB. It has no threads.
///
/// A store belongs to the backend that made its image, and is opened with it where none is chosen:
/// so the command line opens either. Opened with the other one it is refused or, where a
/// snapshot and the log behind it are there, its image is built anew, and the opening says so in its
/// report. A program that was built without the feature, and chooses none, is refused with
/// [`Error::MissingFeature`](crate::Error::MissingFeature).
///
/// ```
/// use std::sync::Arc;
/// use evenkeel::{FileBackend, Store};
///
/// # let folder = tempfile::tempdir()?;
/// let open = || {
///     let image = Arc::new(FileBackend::default());
///     Store::builder().image(image).open(folder.path().join("state"))
/// };
/// let store = open()?;
/// store.global().set("orders", 3)?;
/// store.checkpoint()?;
/// store.close()?;
///
/// assert_eq!(open()?.global().get("orders")?, Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FileBackend {
    vfs: Arc<dyn Vfs>,
    data_bytes: u64,
}

impl FileBackend {
    /// A backend that keeps its files there. [`Default`] takes the real file system.
    #[must_use]
    pub fn new(vfs: Arc<dyn Vfs>) -> Self {
        Self {
            vfs,
            data_bytes: DATA_BYTES,
        }
    }
}

impl Default for FileBackend {
    fn default() -> Self {
        Self::new(Arc::new(RealVfs))
    }
}

impl ImageBackend for FileBackend {
    fn open(&self, folder: &Path) -> Result<Box<dyn Image>, ImageError> {
        let mut image = FileImage {
            vfs: Arc::clone(&self.vfs),
            folder: folder.to_path_buf(),
            data_bytes: self.data_bytes,
            life: Life::default(),
            tail: Mutex::new(None),
            state: Mutex::new(State::default()),
        };
        image.find()?;
        Ok(Box::new(image))
    }
}

/// Who has both locks took `tail` first.
struct FileImage {
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    data_bytes: u64,
    life: Life,
    /// The file that is appended to; held while something is written or synced.
    tail: Mutex<Option<Tail>>,
    state: Mutex<State>,
}

/// The data file that takes what comes next.
struct Tail {
    number: u32,
    file: Arc<dyn VfsFile>,
    len: u64,
}

#[derive(Default)]
struct State {
    places: BTreeMap<BlockId, Place>,
    files: BTreeMap<u32, DataFile>,
    /// The data files that the index on disk speaks of, of which some may be gone by now: none
    /// other may have their numbers.
    named: BTreeSet<u32>,
    /// The bytes of the index as it is on disk.
    index_bytes: u64,
    /// Changed since the index was written.
    changed: bool,
}

struct DataFile {
    file: Arc<dyn VfsFile>,
    len: u64,
    /// How many pieces in it count.
    live: u64,
    synced: bool,
}

impl fmt::Debug for FileImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("FileImage")
            .field("folder", &self.folder)
            .field("pieces", &state.places.len())
            .field("files", &state.files.len())
            .finish_non_exhaustive()
    }
}

impl State {
    /// The lowest number that a new data file may have. Not the one above all others: an index
    /// that speaks of the highest one there is would leave none.
    fn free_number(&self) -> Option<u32> {
        let is_taken =
            |number: &u32| self.files.contains_key(number) || self.named.contains(number);
        (0..=u32::MAX).find(|number| !is_taken(number))
    }

    /// The piece at this place counts no more; gives the number of the file where it was the
    /// last one in it, which is forgotten then.
    fn let_go(&mut self, place: Place) -> Option<u32> {
        let data = self.files.get_mut(&place.file)?;
        data.live = data.live.saturating_sub(1);
        if data.live > 0 {
            return None;
        }
        self.files.remove(&place.file);
        Some(place.file)
    }
}

impl FileImage {
    /// Reads what is in the folder, and removes what does not count.
    fn find(&mut self) -> Result<(), ImageError> {
        life::require_folder(&*self.vfs, &self.folder)?;
        let names = self.vfs.read_dir(&self.folder);
        let names = names.map_err(|e| failed("list", &self.folder, &e))?;
        if maker_of(&names) == Some(Maker::Sled) {
            let reason = format!("{} has an image of sled", self.folder.display());
            return Err(ImageError::new("open", ImageErrorKind::Damaged, reason));
        }
        let mut state = State {
            places: self.read_index()?,
            ..State::default()
        };
        state.index_bytes = index::len(state.places.len());
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        for place in state.places.values() {
            *live.entry(place.file).or_default() += 1;
        }
        state.named = live.keys().copied().collect();
        for entry in names {
            let Some(number) = number_of(&entry.name) else {
                continue;
            };
            let path = self.data_path(number);
            let Some(&live) = live.get(&number) else {
                let removed = self.vfs.remove_file(&path);
                removed.map_err(|e| failed("remove", &path, &e))?;
                continue;
            };
            let file = self.vfs.open(&path, OpenMode::Read);
            let data = DataFile {
                file: Arc::from(file.map_err(|e| failed("open", &path, &e))?),
                len: entry.len,
                live,
                synced: true,
            };
            state.files.insert(number, data);
        }
        // Deleted before a crash, and the index did not say so yet.
        let files = &state.files;
        state
            .places
            .retain(|_, place| files.contains_key(&place.file));
        self.state = Mutex::new(state);
        Ok(())
    }

    fn read_index(&self) -> Result<BTreeMap<BlockId, Place>, ImageError> {
        let path = self.index_path();
        match vfs::read_file(&*self.vfs, &path, INDEX_BYTES_MAX) {
            Ok(bytes) => index::decode(&bytes).map_err(|e| {
                let reason = format!("{}: {e}", path.display());
                ImageError::new("open", ImageErrorKind::Damaged, reason)
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(e) => Err(failed("open", &path, &e)),
        }
    }

    fn index_path(&self) -> PathBuf {
        self.folder.join(INDEX_OF_FILES)
    }

    fn data_path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:08x}{DATA_SUFFIX}"))
    }

    /// The file that has room for more.
    fn tail<'a>(&self, tail: &'a mut Option<Tail>) -> Result<&'a mut Tail, ImageError> {
        let room = tail.take().filter(|tail| tail.len < self.data_bytes);
        let room = match room {
            Some(room) => room,
            None => self.new_tail()?,
        };
        Ok(tail.insert(room))
    }

    fn new_tail(&self) -> Result<Tail, ImageError> {
        let number = self.state.lock().free_number();
        let number = number.ok_or_else(|| {
            let reason = format!("{} has a data file of each number", self.folder.display());
            ImageError::new("put", ImageErrorKind::Io, reason)
        })?;
        let path = self.data_path(number);
        let file = self.vfs.open(&path, OpenMode::Create);
        let file: Arc<dyn VfsFile> = Arc::from(file.map_err(|e| self.refused("put", &path, &e))?);
        let data = DataFile {
            file: Arc::clone(&file),
            len: 0,
            live: 0,
            synced: false,
        };
        self.state.lock().files.insert(number, data);
        Ok(Tail {
            number,
            file,
            len: 0,
        })
    }

    /// A full disk is no reason to end: what was written behind the end of a data file counts for
    /// nothing and is written over, and the index is there as it was.
    fn refused(&self, op: &'static str, path: &Path, error: &io::Error) -> ImageError {
        match error.kind() {
            io::ErrorKind::StorageFull => failed(op, path, error),
            _ => self.life.end(op, path, error),
        }
    }

    fn remove_files(&self, unused: Vec<u32>) -> Result<(), ImageError> {
        for number in unused {
            let path = self.data_path(number);
            let removed = self.vfs.remove_file(&path);
            removed.map_err(|e| self.life.end("delete", &path, &e))?;
        }
        Ok(())
    }
}

impl Image for FileImage {
    fn get(&self, ids: &[BlockId]) -> Result<Vec<Option<Vec<u8>>>, ImageError> {
        let state = self.state.lock();
        // Under the lock: of a closed image nothing is there, and that is no damage.
        self.life.check("get")?;
        let found = ids.iter().map(|id| {
            let place = *state.places.get(id)?;
            let data = state.files.get(&place.file)?;
            Some((place, Arc::clone(&data.file)))
        });
        let found: Vec<_> = found.collect();
        drop(state);
        let piece = |(place, file): (Place, Arc<dyn VfsFile>)| {
            let mut bytes = vec![0; place.len as usize];
            let read = file.read_at(&mut bytes, place.offset);
            // Of a file that was cut: too short, as whoever compares it with the manifest sees.
            bytes.truncate(read.map_err(|e| failed("get", &self.data_path(place.file), &e))?);
            Ok(bytes)
        };
        let pieces = found.into_iter();
        pieces.map(|found| found.map(piece).transpose()).collect()
    }

    fn put(&self, pieces: Vec<Piece>) -> Result<(), ImageError> {
        let mut tail = self.tail.lock();
        self.life.check("put")?;
        if pieces.is_empty() {
            return Ok(());
        }
        let tail = self.tail(&mut tail)?;
        let bytes = pieces.iter().map(|(_, piece)| piece.len()).sum();
        let mut all = Vec::with_capacity(bytes);
        let mut places = Vec::with_capacity(pieces.len());
        for (id, piece) in &pieces {
            let len = u32::try_from(piece.len()).ok();
            // Nothing is written that the index could not be read with.
            let len = len.filter(|_| piece.len() <= PIECE_BYTES_MAX);
            let too_long = || format!("piece {id} has {} bytes", piece.len());
            let place = Place {
                file: tail.number,
                len: len.ok_or_else(|| ImageError::new("put", ImageErrorKind::Io, too_long()))?,
                offset: tail.len + all.len() as u64,
            };
            places.push((*id, place));
            all.extend_from_slice(piece);
        }
        // No pause: whoever builds blocks takes longer for these than the disk does.
        let written = vfs::write_by_pieces(&*tail.file, &all, tail.len, || ());
        written.map_err(|e| self.refused("put", &self.data_path(tail.number), &e))?;
        tail.len += bytes as u64;

        let mut state = self.state.lock();
        state.changed = true;
        if let Some(data) = state.files.get_mut(&tail.number) {
            data.len = tail.len;
            data.live += places.len() as u64;
            data.synced = false;
        }
        let mut unused = Vec::new();
        for (id, place) in places {
            let former = state.places.insert(id, place);
            unused.extend(former.and_then(|former| state.let_go(former)));
        }
        drop(state);
        self.remove_files(unused)
    }

    fn delete(&self, ids: &[BlockId]) -> Result<(), ImageError> {
        let mut tail = self.tail.lock();
        self.life.check("delete")?;
        let mut unused = Vec::new();
        let mut state = self.state.lock();
        for id in ids {
            if let Some(place) = state.places.remove(id) {
                state.changed = true;
                unused.extend(state.let_go(place));
            }
        }
        drop(state);
        tail.take_if(|tail| unused.contains(&tail.number));
        self.remove_files(unused)
    }

    fn delete_from(&self, first: BlockId) -> Result<(), ImageError> {
        let ids: Vec<_> = {
            let state = self.state.lock();
            state.places.range(first..).map(|(id, _)| *id).collect()
        };
        self.delete(&ids)
    }

    fn sync(&self) -> Result<(), ImageError> {
        let _tail = self.tail.lock();
        self.life.check("sync")?;
        let (unsynced, named, index) = {
            let mut state = self.state.lock();
            if !state.changed {
                return Ok(());
            }
            let named = state.files.keys().copied().collect::<BTreeSet<_>>();
            // Of both: if the writing fails, nobody knows which of the two is there.
            state.named.extend(&named);
            let unsynced = state.files.iter().filter(|(_, data)| !data.synced);
            let unsynced = unsynced.map(|(number, data)| (*number, Arc::clone(&data.file)));
            let unsynced = unsynced.collect::<Vec<_>>();
            (unsynced, named, index::encode(&state.places))
        };
        for (number, file) in &unsynced {
            let synced = file.sync();
            synced.map_err(|e| self.life.end("sync", &self.data_path(*number), &e))?;
        }
        let path = self.index_path();
        // With the folder, and so with the names of the data files.
        let written = vfs::write_file_atomically(&*self.vfs, &path, &index);
        written.map_err(|e| self.refused("sync", &path, &e))?;
        let mut state = self.state.lock();
        state.named = named;
        state.changed = false;
        state.index_bytes = index.len() as u64;
        for (number, _) in unsynced {
            if let Some(data) = state.files.get_mut(&number) {
                data.synced = true;
            }
        }
        Ok(())
    }

    fn bytes_on_disk(&self) -> Result<u64, ImageError> {
        let state = self.state.lock();
        self.life.check("measure")?;
        let data: u64 = state.files.values().map(|data| data.len).sum();
        Ok(data + state.index_bytes)
    }

    fn close(&self) -> Result<(), ImageError> {
        self.life.close();
        *self.tail.lock() = None;
        let mut state = self.state.lock();
        state.files.clear();
        state.places.clear();
        Ok(())
    }
}

fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(DATA_SUFFIX)?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (format!("{number:08x}") == digits).then_some(number)
}

#[cfg(test)]
mod tests;
