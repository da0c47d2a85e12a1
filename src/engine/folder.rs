//! Owns the folder of a store: its names, its lock, its format file, and how it
//! comes into being.
//!
//! ```text
//! LOCK         empty; whoever holds its lock has the store
//! FORMAT       written last when a folder is made: a folder without it is not a
//!              store yet
//! marks        the durable marks (wal::mark)
//! MANIFEST     what vouches for the image (image::manifest)
//! wal/         segments of the log (wal::segment)
//! image/N/     the image of number N, the backend's own files
//! snapshots/   snapshots, named after their LSN (engine::snapshot)
//!
//! FORMAT := magic   8 bytes "EVENKEEL"
//!           crc     u32  CRC32 of the 52 bytes that follow
//!           format  u32  1
//!           length  u32  64
//!           flags   u32  0
//!           store   16 bytes
//!           time    u64  when it was made, microseconds since 1970
//!           zeros up to 64
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock;
use crate::error::{Corruption, Error, Result};
use crate::ids::{Lsn, OUT_OF_REACH, StoreId};
use crate::sync::Mutex;
use crate::vfs::{Vfs, VfsLock, list, parent, read_file, write_file_atomically};
use crate::wal::create_marks;

/// The format of folders that this version writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"EVENKEEL";
const FORMAT_BYTES: usize = 64;
const CRC_END: usize = 12;
const SNAPSHOT_SUFFIX: &str = ".snap";
const NAMES: [&str; 7] = [
    "LOCK",
    "FORMAT",
    "marks",
    "MANIFEST",
    "wal",
    "image",
    "snapshots",
];

/// A store's folder, locked.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) store: StoreId,
    /// It was there, and not made by this opening.
    found: bool,
    lock: Mutex<Option<Box<dyn VfsLock>>>,
}

impl Folder {
    /// Opens a store's folder, or makes one where there is nothing yet.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::Locked`], [`Error::NewerFormat`],
    /// [`Error::Corrupt`] for a format file that is not whole or a log without one.
    pub(crate) fn open(vfs: Arc<dyn Vfs>, root: &Path, now_micros: u64) -> Result<Self> {
        let root = root.to_path_buf();
        let io = |op| move |e: io::Error| (op, e);
        let fail = |(op, e): (&'static str, io::Error)| Error::io(op, &root, e);
        match vfs.metadata(&root).map_err(io("look at")).map_err(fail)? {
            None => create_dirs(&*vfs, &root)
                .map_err(io("create"))
                .map_err(fail)?,
            Some(found) if !found.is_dir => {
                return Err(Error::NotAStore {
                    path: root,
                    reason: "it is a file, not a folder".into(),
                });
            }
            Some(_) => {}
        }
        check_names(&*vfs, &root)?;
        refuse_newer(&*vfs, &root.join("FORMAT"))?;
        let lock = vfs.lock(&root.join("LOCK")).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => Error::Locked { path: root.clone() },
            _ => Error::io("lock", root.join("LOCK"), e),
        })?;
        let format = root.join("FORMAT");
        let there = vfs
            .metadata(&format)
            .map_err(io("look at"))
            .map_err(fail)?
            .is_some();
        let store = match there {
            true => read_format(&*vfs, &format)?,
            false => create(&*vfs, &root, now_micros)?,
        };
        Ok(Self {
            root,
            vfs,
            store,
            found: there,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Makes what is there durable by name, and the folders inside as far as they are
    /// missing. Apart from this an opening has changed nothing in a store that was there.
    pub(crate) fn settle(&self) -> Result<()> {
        if !self.found {
            return Ok(());
        }
        // Before anything in it is acknowledged: a making or a persisting that was
        // killed has left names that are there and may not be durable.
        let synced = sync_names(&*self.vfs, &self.root);
        synced.map_err(|e| Error::io("sync the names of", &self.root, e))?;
        make_folders(&*self.vfs, &self.root)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Lets go of the folder, so that it can be opened again.
    pub(crate) fn unlock(&self) {
        self.lock.lock().take();
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.root.join("wal")
    }

    pub(crate) fn marks(&self) -> PathBuf {
        self.root.join("marks")
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.root.join("MANIFEST")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("image")
    }

    pub(crate) fn image(&self, number: u64) -> PathBuf {
        self.images().join(number.to_string())
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot(&self, lsn: Lsn) -> PathBuf {
        snapshot_path(&self.snapshots(), lsn)
    }

    /// The snapshots that are there by name, oldest first.
    pub(crate) fn list_snapshots(&self) -> Result<Vec<Lsn>> {
        let folder = self.snapshots();
        let entries = list(&*self.vfs, &folder);
        let entries = entries.map_err(|e| Error::io("list", &folder, e))?;
        let lsn = |name: &str| {
            let digits = name.strip_suffix(SNAPSHOT_SUFFIX)?;
            let valid = digits.len() == 16 && !digits.bytes().any(|b| b.is_ascii_uppercase());
            valid
                .then(|| u64::from_str_radix(digits, 16).ok())
                .flatten()
                .map(Lsn::new)
                // A stranger: no commit could come after it.
                .filter(|lsn| lsn.is_in_reach())
        };
        let mut lsns: Vec<_> = entries
            .iter()
            .filter_map(|entry| lsn(&entry.name))
            .collect();
        lsns.sort_unstable();
        Ok(lsns)
    }

    /// Removes snapshots that are old, and files that were never finished.
    pub(crate) fn remove_snapshots(&self, is_old: impl Fn(Lsn) -> bool) -> Result<()> {
        let folder = self.snapshots();
        let mut old: Vec<_> = self.list_snapshots()?;
        old.retain(|&lsn| is_old(lsn));
        let mut paths: Vec<_> = old.into_iter().map(|lsn| self.snapshot(lsn)).collect();
        let entries = self.vfs.read_dir(&folder);
        let entries = entries.map_err(|e| Error::io("list", &folder, e))?;
        let unfinished = entries.iter().filter(|entry| entry.name.ends_with(".tmp"));
        paths.extend(unfinished.map(|entry| folder.join(&entry.name)));
        for path in &paths {
            self.vfs
                .remove_file(path)
                .map_err(|e| Error::io("remove", path, e))?;
        }
        match paths.is_empty() {
            true => Ok(()),
            false => self
                .vfs
                .sync_dir(&folder)
                .map_err(|e| Error::io("sync", &folder, e)),
        }
    }

    /// The numbers of the images that are there by name.
    pub(crate) fn list_images(&self) -> Result<Vec<u64>> {
        let folder = self.images();
        let found = match self.vfs.read_dir(&folder) {
            // Taken away: it is made anew, and so is the image.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            found => found.map_err(|e| Error::io("list", &folder, e))?,
        };
        let numbers = found
            .iter()
            .filter_map(|entry| entry.name.parse::<u64>().ok());
        Ok(numbers.filter(|&number| number < OUT_OF_REACH).collect())
    }

    /// Removes the folder of an image that is not used any more.
    pub(crate) fn remove_image(&self, number: u64) -> io::Result<()> {
        let folder = self.image(number);
        if self.vfs.metadata(&folder)?.is_some() {
            self.vfs.remove_dir_all(&folder)?;
            self.vfs.sync_dir(&self.images())?;
        }
        Ok(())
    }
}

/// The file of a snapshot.
pub(crate) fn snapshot_path(folder: &Path, lsn: Lsn) -> PathBuf {
    folder.join(format!("{:016x}{SNAPSHOT_SUFFIX}", lsn.get()))
}

/// Creates a folder and those above it that are missing, each durable by name.
pub(crate) fn create_dirs(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    let above = parent(path);
    if vfs.metadata(above)?.is_none() {
        create_dirs(vfs, above)?;
    }
    match vfs.create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    vfs.sync_dir(above)
}

/// A folder is ours if it has a format file, and may become ours if it holds
/// nothing but what making one leaves behind when it is interrupted.
fn check_names(vfs: &dyn Vfs, root: &Path) -> Result<()> {
    let entries = vfs.read_dir(root).map_err(|e| Error::io("list", root, e))?;
    if entries.iter().any(|entry| entry.name == "FORMAT") {
        return Ok(());
    }
    match entries.iter().find(|entry| !is_ours(&entry.name)) {
        None => Ok(()),
        Some(other) => Err(Error::NotAStore {
            path: root.to_path_buf(),
            reason: format!("it has no format file, and {:?} is in it", other.name),
        }),
    }
}

fn is_ours(name: &str) -> bool {
    NAMES.contains(&name.strip_suffix(".tmp").unwrap_or(name))
}

/// True for a folder with nothing in it but what a store has.
pub(crate) fn holds_only_ours(vfs: &dyn Vfs, folder: &Path) -> bool {
    let entries = vfs.read_dir(folder);
    entries.is_ok_and(|entries| entries.iter().all(|entry| is_ours(&entry.name)))
}

/// Refuses a folder in which no store was ever finished.
pub(crate) fn require_store(vfs: &dyn Vfs, root: &Path) -> Result<()> {
    let format = root.join("FORMAT");
    let there = vfs.metadata(&format);
    match there.map_err(|e| Error::io("look at", &format, e))? {
        Some(_) => Ok(()),
        None => Err(Error::NotAStore {
            path: root.to_path_buf(),
            reason: "there is no store yet".into(),
        }),
    }
}

/// A later version may keep its lock elsewhere: ours must not be made in its folder.
/// Any other fault of the format file is for whoever has the lock.
fn refuse_newer(vfs: &dyn Vfs, format: &Path) -> Result<()> {
    let there = vfs.metadata(format);
    if there
        .map_err(|e| Error::io("look at", format, e))?
        .is_none()
    {
        return Ok(());
    }
    match read_format(vfs, format) {
        Ok(_) | Err(Error::Corrupt(_)) => Ok(()),
        Err(e) => Err(e),
    }
}

fn create(vfs: &dyn Vfs, root: &Path, now_micros: u64) -> Result<StoreId> {
    // They are made after it: this was a store.
    for (name, of) in [
        ("wal", "a log"),
        ("snapshots", "a snapshot"),
        ("image", "an image"),
    ] {
        if !is_empty(vfs, &root.join(name))? {
            let what = format!("the format file is missing, but there is {of}");
            return Err(Corruption::new(root.join("FORMAT"), what).into());
        }
    }
    let manifest = root.join("MANIFEST");
    let there = vfs.metadata(&manifest);
    if there
        .map_err(|e| Error::io("look at", &manifest, e))?
        .is_some()
    {
        let what = "the format file is missing, but there is a manifest";
        return Err(Corruption::new(root.join("FORMAT"), what).into());
    }
    make_folders(vfs, root)?;
    let store = StoreId::from_bytes(
        clock::random_bytes().map_err(|e| Error::io("draw an id for", root, e))?,
    );
    // The name of the folder itself may not be durable yet, if its making was cut off.
    sync_names(vfs, root).map_err(|e| Error::io("sync the folder of", root, e))?;
    // From now on missing marks are damage.
    create_marks(vfs, &root.join("marks"), store)?;
    write_format(vfs, root, store, now_micros)?;
    Ok(store)
}

/// True where there is no such folder, or nothing in it.
fn is_empty(vfs: &dyn Vfs, folder: &Path) -> Result<bool> {
    let entries = list(vfs, folder).map_err(|e| Error::io("list", folder, e))?;
    Ok(entries.is_empty())
}

/// Makes the names in a folder and its own name durable.
fn sync_names(vfs: &dyn Vfs, root: &Path) -> io::Result<()> {
    vfs.sync_dir(root)?;
    match vfs.sync_dir(parent(root)) {
        // Whoever may not read the folder above has not made a name in it: that ends
        // with this same call.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Writes the format file, which makes a folder a store.
pub(crate) fn write_format(
    vfs: &dyn Vfs,
    root: &Path,
    store: StoreId,
    now_micros: u64,
) -> Result<()> {
    let path = root.join("FORMAT");
    let mut bytes = Vec::with_capacity(FORMAT_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&(FORMAT_BYTES as u32).to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(store.as_bytes());
    bytes.extend_from_slice(&now_micros.to_le_bytes());
    bytes.resize(FORMAT_BYTES, 0);
    let crc = crc32fast::hash(&bytes[CRC_END..]);
    bytes[8..CRC_END].copy_from_slice(&crc.to_le_bytes());
    write_file_atomically(vfs, &path, &bytes).map_err(|e| Error::io("write", &path, e))
}

/// Makes the folders inside, as far as they are missing, durable by name.
pub(crate) fn make_folders(vfs: &dyn Vfs, root: &Path) -> Result<()> {
    let mut made = false;
    for name in ["wal", "image", "snapshots"] {
        let path = root.join(name);
        if vfs
            .metadata(&path)
            .map_err(|e| Error::io("look at", &path, e))?
            .is_none()
        {
            vfs.create_dir(&path)
                .map_err(|e| Error::io("create", &path, e))?;
            made = true;
        }
    }
    match made {
        true => vfs.sync_dir(root).map_err(|e| Error::io("sync", root, e)),
        false => Ok(()),
    }
}

fn read_format(vfs: &dyn Vfs, path: &Path) -> Result<StoreId> {
    let bytes = read_file(vfs, path, 4096).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => Corruption::new(path, e.to_string()).into(),
        _ => Error::io("read", path, e),
    })?;
    let damaged = |what: &str| Error::from(Corruption::new(path, what).offset(0));
    let field = |at: usize| {
        let bytes = bytes
            .get(at..at + 4)
            .and_then(|field| field.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    if bytes.len() < FORMAT_BYTES || !bytes.starts_with(MAGIC) {
        return Err(damaged("it is not a whole format file"));
    }
    if crc32fast::hash(&bytes[CRC_END..]) != field(8) {
        return Err(damaged("the checksum does not match"));
    }
    if field(12) > FORMAT {
        return Err(Error::NewerFormat {
            path: path.to_path_buf(),
            found: field(12),
            supported: FORMAT,
        });
    }
    if bytes.len() != FORMAT_BYTES
        || field(12) == 0
        || field(20) != 0
        || field(16) as usize != FORMAT_BYTES
    {
        return Err(damaged("format or length are unknown"));
    }
    let mut store = [0; 16];
    store.copy_from_slice(&bytes[24..40]);
    Ok(StoreId::from_bytes(store))
}
