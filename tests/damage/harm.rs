//! Owns the kinds of damage, and every one of each kind that a store can take.

use evenkeel::testing::Random;

use crate::fixture::Place;

/// What a disk, or a person, does to one file or folder of a store.
#[derive(Clone, Debug)]
pub(crate) enum Harm {
    /// One bit of the byte at this offset is turned over.
    Flip(String, u64),
    Cut(String, u64),
    Zero(String, u64, u64),
    Remove(String),
    /// Bytes are added at the end.
    Grow(String, Vec<u8>),
    /// The file's bytes are those of another one, which is named.
    Swap(String, Vec<u8>, String),
}

impl Harm {
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Flip(path, ..)
            | Self::Cut(path, ..)
            | Self::Zero(path, ..)
            | Self::Remove(path)
            | Self::Grow(path, ..)
            | Self::Swap(path, ..) => path,
        }
    }

    /// For a list of cases.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Flip(path, at) => format!("flip {path} at {at}"),
            Self::Cut(path, len) => format!("cut {path} to {len}"),
            Self::Zero(path, from, to) => format!("zero {path} from {from} to {to}"),
            Self::Remove(path) => format!("remove {path}"),
            Self::Grow(path, bytes) => format!("grow {path} by {} of {:?}", bytes.len(), bytes[0]),
            Self::Swap(path, _, from) => format!("swap {path} for {from}"),
        }
    }

    /// Does it. False where nothing would change.
    pub(crate) fn apply(&self, place: &Place) -> bool {
        if let Self::Remove(path) = self {
            place.remove(path);
            return true;
        }
        let old = place.read(self.path());
        let mut bytes = old.clone();
        match self {
            Self::Flip(_, at) => {
                let mut random = Random::new(*at);
                bytes[*at as usize] ^= 1 << random.below(8);
            }
            Self::Cut(_, len) => bytes.truncate(*len as usize),
            Self::Zero(_, from, to) => bytes[*from as usize..*to as usize].fill(0),
            Self::Grow(_, more) => bytes.extend_from_slice(more),
            Self::Swap(_, other, _) => bytes.clone_from(other),
            Self::Remove(_) => {}
        }
        place.write(self.path(), &bytes);
        bytes != old
    }
}

/// Each byte of a file flipped.
pub(crate) fn flips((path, len): &(String, u64)) -> Vec<Harm> {
    (0..*len).map(|at| Harm::Flip(path.clone(), at)).collect()
}

/// A file cut and zeroed at each sector, zeroed as a whole, removed and made longer.
pub(crate) fn blows((path, len): &(String, u64)) -> Vec<Harm> {
    let mut harms = vec![
        Harm::Remove(path.clone()),
        Harm::Zero(path.clone(), 0, *len),
        Harm::Grow(path.clone(), vec![0xff]),
        Harm::Grow(path.clone(), vec![0xa5; 600]),
        Harm::Grow(path.clone(), vec![0; 512]),
    ];
    for at in (0..*len).step_by(512) {
        harms.push(Harm::Cut(path.clone(), at));
        harms.push(Harm::Zero(path.clone(), at, (at + 512).min(*len)));
    }
    if *len > 1 {
        harms.push(Harm::Cut(path.clone(), *len - 1));
        harms.push(Harm::Cut(path.clone(), 1));
    }
    harms
}

/// Each file replaced by each of another store that has the same place in it.
pub(crate) fn swaps(place: &Place, other: &Place, whose: &str) -> Vec<Harm> {
    let kind = |path: &str| {
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        folder.to_owned()
    };
    let mut harms = Vec::new();
    for (path, _) in place.files() {
        for (from, _) in other.files() {
            if kind(&path) == kind(&from) {
                let bytes = other.read(&from);
                harms.push(Harm::Swap(path.clone(), bytes, format!("{from} of {whose}")));
            }
        }
    }
    harms
}

/// A seeded share of cases.
pub(crate) fn share(mut harms: Vec<Harm>, count: usize, seed: u64) -> Vec<Harm> {
    let mut random = Random::new(seed);
    for at in 0..harms.len().min(count) {
        let other = at as u64 + random.below((harms.len() - at) as u64);
        harms.swap(at, other as usize);
    }
    harms.truncate(count);
    harms
}
