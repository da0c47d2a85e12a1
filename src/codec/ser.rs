//! Owns the writing of values as bytes, straight from serde: no tree is built.
//! The grammar is in `codec`.
//!
//! What must stay true: never more than the limit is written, and an element or
//! entry that failed leaves nothing behind.
//!
//! Lengths stand in front, but need not be known in front: a list or map is opened
//! with the length that its type promises, and the few bytes of the length are
//! replaced at the end if it was another. (Counting first would serialise twice;
//! a mark at the end instead would leave readers without a bound for allocations.)

use std::ops::Range;

use serde::Serialize;

use super::primitive::{Reader, put_bytes, put_varint, varint, varint_len, zigzag};
use super::{CodecLimits, Tag};
use crate::value::fault::Fault;
use crate::value::ser::{ListSink, MapSink, Model, Sink};

/// Where the bytes go, and how many may.
pub(super) struct Encoder<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
    end_max: usize,
    depth_max: usize,
}

impl<'b> Encoder<'b> {
    pub(super) fn new(out: &'b mut Vec<u8>, limits: &CodecLimits) -> Self {
        let start = out.len();
        Self {
            out,
            start,
            end_max: start.saturating_add(limits.value_bytes_max),
            depth_max: limits.depth_max(),
        }
    }

    pub(super) fn encode<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let start = self.start;
        let slot = Slot {
            encoder: self,
            depth: 0,
            raw: false,
        };
        match value.serialize(Model(slot)) {
            Ok(_) => Ok(()),
            Err(fault) => {
                self.out.truncate(start);
                Err(fault)
            }
        }
    }

    /// Refuses to write `count` bytes more than the limit allows.
    #[inline]
    fn room(&self, count: usize) -> Result<(), Fault> {
        if count <= self.end_max.saturating_sub(self.out.len()) {
            return Ok(());
        }
        let max = self.end_max - self.start;
        Err(Fault::limit(
            "value_bytes",
            max,
            (self.out.len() - self.start).saturating_add(count),
        ))
    }

    #[inline]
    fn tag(&mut self, tag: Tag) -> Result<(), Fault> {
        self.room(1)?;
        self.out.push(tag as u8);
        Ok(())
    }

    #[inline]
    fn int(&mut self, value: i64) -> Result<(), Fault> {
        let number = zigzag(value);
        self.room(1 + varint_len(number))?;
        self.out.push(Tag::Int as u8);
        put_varint(self.out, number);
        Ok(())
    }

    #[inline]
    fn blob(&mut self, tag: Tag, bytes: &[u8]) -> Result<(), Fault> {
        let len = varint_len(bytes.len() as u64);
        self.room(bytes.len().saturating_add(1 + len))?;
        self.out.push(tag as u8);
        put_bytes(self.out, bytes);
        Ok(())
    }

    /// Opens a list or map inside `depth` others.
    #[inline]
    fn open(&mut self, tag: Tag, len: usize, depth: usize) -> Result<Header, Fault> {
        if depth >= self.depth_max {
            return Err(Fault::too_deep(self.depth_max));
        }
        self.room(1 + varint_len(len as u64))?;
        let start = self.out.len();
        self.out.push(tag as u8);
        put_varint(self.out, len as u64);
        Ok(Header { start, len })
    }

    /// Puts the true tag and length over the promised ones.
    #[inline]
    fn close(&mut self, header: Header, tag: Tag, len: usize) -> Result<(), Fault> {
        if let Some(first) = self.out.get_mut(header.start) {
            *first = tag as u8;
        }
        if len == header.len {
            return Ok(());
        }
        let (bytes, count) = varint(len as u64);
        let promised = header.start + 1..header.body();
        self.room(count.saturating_sub(promised.len()))?;
        self.out.splice(promised, bytes.into_iter().take(count));
        Ok(())
    }
}

/// The tag and promised length of a list or map.
#[derive(Clone, Copy)]
struct Header {
    start: usize,
    len: usize,
}

impl Header {
    /// Where the content begins.
    fn body(self) -> usize {
        self.start + 1 + varint_len(self.len as u64)
    }
}

/// A place for one value, inside `depth` lists and maps.
struct Slot<'a, 'b> {
    encoder: &'a mut Encoder<'b>,
    depth: usize,
    /// An integer that came as `u8` is to be written as the one byte that it is.
    raw: bool,
}

/// What was written.
enum Written {
    /// One byte of what may become `Bytes`.
    Raw,
    /// A value.
    Value,
}

impl<'a, 'b> Sink for Slot<'a, 'b> {
    type Ok = Written;
    type List = ListWriter<'a, 'b>;
    type Map = MapWriter<'a, 'b>;

    #[inline]
    fn null(self) -> Result<Written, Fault> {
        self.encoder.tag(Tag::Null)?;
        Ok(Written::Value)
    }

    #[inline]
    fn bool(self, value: bool) -> Result<Written, Fault> {
        self.encoder
            .tag(if value { Tag::True } else { Tag::False })?;
        Ok(Written::Value)
    }

    #[inline]
    fn byte(self, value: u8) -> Result<Written, Fault> {
        if !self.raw {
            return self.int(i64::from(value));
        }
        self.encoder.room(1)?;
        self.encoder.out.push(value);
        Ok(Written::Raw)
    }

    #[inline]
    fn int(self, value: i64) -> Result<Written, Fault> {
        self.encoder.int(value)?;
        Ok(Written::Value)
    }

    fn big_uint(self, value: u64) -> Result<Written, Fault> {
        self.encoder.room(1 + varint_len(value))?;
        self.encoder.out.push(Tag::UInt as u8);
        put_varint(self.encoder.out, value);
        Ok(Written::Value)
    }

    #[inline]
    fn float(self, value: f64) -> Result<Written, Fault> {
        self.encoder.room(9)?;
        self.encoder.out.push(Tag::Float as u8);
        self.encoder.out.extend_from_slice(&value.to_le_bytes());
        Ok(Written::Value)
    }

    #[inline]
    fn str(self, value: &str) -> Result<Written, Fault> {
        self.encoder.blob(Tag::String, value.as_bytes())?;
        Ok(Written::Value)
    }

    #[inline]
    fn bytes(self, value: &[u8]) -> Result<Written, Fault> {
        self.encoder.blob(Tag::Bytes, value)?;
        Ok(Written::Value)
    }

    #[inline]
    fn list(self, len: Option<usize>) -> Result<ListWriter<'a, 'b>, Fault> {
        let header = self
            .encoder
            .open(Tag::List, len.unwrap_or_default(), self.depth)?;
        Ok(ListWriter {
            encoder: self.encoder,
            depth: self.depth + 1,
            header,
            count: 0,
            raw: true,
        })
    }

    #[inline]
    fn map(self, len: Option<usize>) -> Result<MapWriter<'a, 'b>, Fault> {
        let header = self
            .encoder
            .open(Tag::Map, len.unwrap_or_default(), self.depth)?;
        Ok(MapWriter {
            encoder: self.encoder,
            depth: self.depth + 1,
            header,
            count: 0,
            key: None,
        })
    }

    fn variant(self, name: &'static str) -> Result<Self, Fault> {
        self.encoder.open(Tag::Map, 1, self.depth)?;
        self.encoder
            .room(name.len().saturating_add(varint_len(name.len() as u64)))?;
        put_bytes(self.encoder.out, name.as_bytes());
        Ok(Self {
            encoder: self.encoder,
            depth: self.depth + 1,
            raw: false,
        })
    }

    fn close_variant(_: &'static str, _: Written) -> Written {
        Written::Value
    }
}

/// Writes elements: bytes as they are, until the first that is something else.
struct ListWriter<'a, 'b> {
    encoder: &'a mut Encoder<'b>,
    depth: usize,
    header: Header,
    count: usize,
    /// All elements so far were written raw.
    raw: bool,
}

impl ListWriter<'_, '_> {
    /// Turns the raw bytes in front of the first other element into integers.
    #[cold]
    fn expand(&mut self) -> Result<(), Fault> {
        self.raw = false;
        let body = self.header.body();
        let raw = body..body + self.count;
        let mut integers = Vec::with_capacity(raw.len() * 2);
        for &byte in self.encoder.out.get(raw.clone()).unwrap_or_default() {
            integers.push(Tag::Int as u8);
            put_varint(&mut integers, zigzag(i64::from(byte)));
        }
        self.encoder.room(integers.len() - raw.len())?;
        self.encoder.out.splice(raw, integers);
        Ok(())
    }
}

impl ListSink for ListWriter<'_, '_> {
    type Ok = Written;

    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let before = self.encoder.out.len();
        let slot = Slot {
            encoder: self.encoder,
            depth: self.depth,
            raw: self.raw,
        };
        let written = match value.serialize(Model(slot)) {
            Ok(written) => written,
            Err(fault) => {
                self.encoder.out.truncate(before);
                return Err(fault.at_index(self.count));
            }
        };
        if self.raw && matches!(written, Written::Value) {
            if self.count > 0 {
                self.expand()?;
            }
            self.raw = false;
        }
        self.count += 1;
        Ok(())
    }

    #[inline]
    fn end(self) -> Result<Written, Fault> {
        let tag = if self.raw && self.count > 0 {
            Tag::Bytes
        } else {
            Tag::List
        };
        self.encoder.close(self.header, tag, self.count)?;
        Ok(Written::Value)
    }
}

/// Writes keys and values in turn.
struct MapWriter<'a, 'b> {
    encoder: &'a mut Encoder<'b>,
    depth: usize,
    header: Header,
    count: usize,
    /// The key, with its length, that waits for its value.
    key: Option<Range<usize>>,
}

impl MapWriter<'_, '_> {
    /// The text of a key that was written, for an error.
    #[cold]
    fn at_key(&self, fault: Fault, key: Range<usize>) -> Fault {
        let written = self.encoder.out.get(key).unwrap_or_default();
        let text = Reader::new(written).bytes().unwrap_or_default();
        fault.at_key(&String::from_utf8_lossy(text))
    }
}

impl MapSink for MapWriter<'_, '_> {
    type Ok = Written;

    #[inline]
    fn key(&mut self, key: &str) -> Result<(), Fault> {
        if self.key.is_some() {
            return Err(Fault::mismatch("a key without a value").at_key(key));
        }
        let len = varint_len(key.len() as u64);
        self.encoder.room(key.len().saturating_add(len))?;
        let start = self.encoder.out.len();
        put_bytes(self.encoder.out, key.as_bytes());
        self.key = Some(start..start + len + key.len());
        Ok(())
    }

    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let Some(key) = self.key.take() else {
            return Err(Fault::mismatch("a value without a key"));
        };
        let slot = Slot {
            encoder: self.encoder,
            depth: self.depth,
            raw: false,
        };
        if let Err(fault) = value.serialize(Model(slot)) {
            let start = key.start;
            let fault = self.at_key(fault, key);
            self.encoder.out.truncate(start);
            return Err(fault);
        }
        self.count += 1;
        Ok(())
    }

    #[inline]
    fn end(self) -> Result<Written, Fault> {
        if self.key.is_some() {
            return Err(Fault::mismatch("a key without a value"));
        }
        self.encoder.close(self.header, Tag::Map, self.count)?;
        Ok(Written::Value)
    }
}
