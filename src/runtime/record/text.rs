//! Owns text in records that memory keeps, of which there may be a lot: short text is held in
//! place, and longer text shared. Imports nothing.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::small_key::SmallKey;

/// Text that is copied without an allocation. serde has `Arc<str>` behind a feature of its
/// own, which any crate of a build would turn on for all of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(SmallKey);

impl Text {
    /// Its bytes, which are in the same order as the text.
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        // It is made of text only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As text does, by which it is looked for.
        str::hash(self, state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        str::fmt(self, f)
    }
}

impl From<&Arc<str>> for Text {
    fn from(text: &Arc<str>) -> Self {
        let short = SmallKey::short(text.as_bytes());
        Self(short.unwrap_or_else(|| SmallKey::Long(Arc::clone(text).into())))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl Visitor<'_> for Reads {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_str(Reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_text_however_long_and_ordered_and_hashed_as_that_is() {
        let texts = [
            "",
            "a",
            "a\0",
            "é",
            &"é".repeat(11),
            &"é".repeat(12),
            &"x".repeat(40),
        ];
        let hash = |hashed: &dyn Fn(&mut std::hash::DefaultHasher)| {
            let mut hasher = std::hash::DefaultHasher::new();
            hashed(&mut hasher);
            hasher.finish()
        };
        for one in texts {
            let text = Text::from(one);
            assert_eq!((&*text, text.as_bytes()), (one, one.as_bytes()));
            assert_eq!(text, Text::from(&Arc::from(one)));
            assert_eq!(format!("{text:?}"), format!("{one:?}"));
            assert_eq!(
                hash(&|hasher| text.hash(hasher)),
                hash(&|hasher| one.hash(hasher))
            );
            for other in texts {
                assert_eq!(text.cmp(&Text::from(other)), one.cmp(other));
            }
        }
    }
}
