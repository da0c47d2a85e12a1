//! Owns the reading of values from bytes, straight into serde: no tree is built.
//! The grammar is in `codec`.
//!
//! What must stay true, whatever the bytes and whatever the type does with them:
//! nothing panics; lists and maps are opened only with as many entries as the rest
//! of the input can hold, and not deeper than the limit; damage that was seen is
//! reported even if the type swallows the error; and a part that a type left
//! unread, or gave up on, is skipped rather than read as something else.

use std::cell::Cell;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::primitive::Reader;
use super::{CodecLimits, Tag};
use crate::value::de::{ListSource, MapSource, Source, Token, TokenDeserializer};
use crate::value::fault::{Cause, Fault};

/// The bytes, and how far they were read. Shared by all lists and maps that are open.
pub(super) struct Decoder<'de> {
    bytes: &'de [u8],
    position: Cell<usize>,
    /// How many lists and maps were opened and not closed.
    open: Cell<usize>,
    damaged: Cell<bool>,
    depth_max: usize,
}

impl<'de> Decoder<'de> {
    #[inline]
    pub(super) fn new(bytes: &'de [u8], limits: &CodecLimits) -> Self {
        Self {
            bytes,
            position: Cell::new(0),
            open: Cell::new(0),
            damaged: Cell::new(false),
            depth_max: limits.depth_max(),
        }
    }

    /// All of the bytes as one `T`.
    #[inline]
    pub(super) fn decode<T: Deserialize<'de>>(&self) -> Result<T, Fault> {
        let result = self
            .read(0)
            .and_then(|token| T::deserialize(TokenDeserializer::new(token)))
            .and_then(|value| self.finish().map(|()| value));
        match result {
            Err(fault) if !matches!(fault.cause(), Cause::Damaged(_)) => {
                // Bytes that mean nothing are damage first, of whatever type they
                // were thought to be.
                self.check()?;
                Err(fault)
            }
            result => result,
        }
    }

    #[inline]
    fn finish(&self) -> Result<(), Fault> {
        if self.damaged.get() {
            return self.check();
        }
        self.settle(0, 0)?;
        match self.bytes.len() - self.position.get() {
            0 => Ok(()),
            left => Err(self.damage(&format!("{left} bytes follow the value"))),
        }
    }

    /// Reads everything, as nothing in particular.
    #[cold]
    fn check(&self) -> Result<(), Fault> {
        let fresh = Self {
            bytes: self.bytes,
            position: Cell::new(0),
            open: Cell::new(0),
            damaged: Cell::new(false),
            depth_max: self.depth_max,
        };
        fresh.skip(0)?;
        fresh.finish()
    }

    fn skip(&self, depth: usize) -> Result<(), Fault> {
        IgnoredAny::deserialize(TokenDeserializer::new(self.read(depth)?)).map(|_| ())
    }

    /// Sees to it that the value is behind us that began at `start`, inside `depth`
    /// lists and maps, which are all that is open then.
    #[inline]
    fn settle(&self, start: usize, depth: usize) -> Result<(), Fault> {
        if self.open.get() == depth {
            return Ok(());
        }
        self.open.set(depth);
        self.position.set(start);
        self.skip(depth)
    }

    #[cold]
    fn damage(&self, what: &str) -> Fault {
        self.damaged.set(true);
        Fault::damaged(format!("{what}, at byte {}", self.position.get()))
    }

    #[inline]
    fn primitive<T>(
        &self,
        read: impl FnOnce(&mut Reader<'de>) -> Option<T>,
        what: &str,
    ) -> Result<T, Fault> {
        let mut reader = Reader::at(self.bytes, self.position.get());
        match read(&mut reader) {
            Some(value) => {
                self.position.set(reader.position());
                Ok(value)
            }
            None => Err(self.damage(what)),
        }
    }

    #[inline]
    fn text(&self) -> Result<&'de str, Fault> {
        let bytes = self.primitive(Reader::bytes, "a string is cut short")?;
        std::str::from_utf8(bytes).map_err(|_| self.damage("a string is not UTF-8"))
    }

    /// Opens a list or map whose entries take at least `bytes_min` each.
    #[inline]
    fn open(&self, depth: usize, bytes_min: usize) -> Result<usize, Fault> {
        if depth >= self.depth_max {
            return Err(self.damage(&format!("nested deeper than {}", self.depth_max)));
        }
        let len = self.primitive(Reader::varint, "a length is cut short")?;
        let most = (self.bytes.len() - self.position.get()) / bytes_min;
        match usize::try_from(len) {
            Ok(len) if len <= most => {
                self.open.set(depth + 1);
                Ok(len)
            }
            _ => Err(self.damage(&format!("{len} entries cannot be in what remains"))),
        }
    }

    /// The next value, which stands inside `depth` lists and maps. What is common is made
    /// where it is used: passed on in memory, each token is waited for.
    #[inline(always)]
    fn read<'d>(&'d self, depth: usize) -> Result<Token<'de, Bytes<'d, 'de>>, Fault> {
        let byte = self.primitive(Reader::u8, "a value is missing")?;
        if byte == Tag::Bytes as u8 {
            let bytes = self.primitive(Reader::bytes, "bytes are cut short")?;
            return Ok(Token::Bytes(bytes));
        }
        if byte == Tag::String as u8 {
            return Ok(Token::Str(self.text()?));
        }
        self.read_tagged(byte, depth)
    }

    /// The value behind its tag.
    fn read_tagged<'d>(
        &'d self,
        byte: u8,
        depth: usize,
    ) -> Result<Token<'de, Bytes<'d, 'de>>, Fault> {
        let tag = Tag::try_from(byte).map_err(|unknown| self.damage(&unknown.to_string()))?;
        Ok(match tag {
            Tag::Null => Token::Null,
            Tag::False => Token::Bool(false),
            Tag::True => Token::Bool(true),
            Tag::Int => Token::Int(self.primitive(Reader::int, "an integer is cut short")?),
            Tag::UInt => {
                let value = self.primitive(Reader::varint, "an integer is cut short")?;
                if i64::try_from(value).is_ok() {
                    return Err(self.damage("a small integer is encoded as a large one"));
                }
                Token::UInt(value)
            }
            Tag::Float => {
                let bits = self.primitive(Reader::u64_le, "a float is cut short")?;
                Token::Float(f64::from_bits(bits))
            }
            Tag::String => Token::Str(self.text()?),
            Tag::Bytes => Token::Bytes(self.primitive(Reader::bytes, "bytes are cut short")?),
            Tag::List => {
                let left = self.open(depth, 1)?;
                Token::List(Part::new(self, depth + 1, left))
            }
            Tag::Map => {
                let left = self.open(depth, 2)?;
                Token::Map(Part::new(self, depth + 1, left))
            }
        })
    }
}

/// Tokens from bytes.
pub(super) struct Bytes<'d, 'de>(std::marker::PhantomData<&'d Decoder<'de>>);

impl<'d, 'de> Source<'de> for Bytes<'d, 'de> {
    type List = Part<'d, 'de>;
    type Map = Part<'d, 'de>;
}

/// A list or map that is open.
pub(super) struct Part<'d, 'de> {
    decoder: &'d Decoder<'de>,
    /// How many lists and maps its entries stand inside.
    depth: usize,
    /// How many elements or keys are left.
    left: usize,
    /// Where the value begins that was handed out last.
    start: usize,
    /// The value of the last key was not asked for yet.
    value_waits: bool,
}

impl<'d, 'de> Part<'d, 'de> {
    fn new(decoder: &'d Decoder<'de>, depth: usize, left: usize) -> Self {
        Self {
            decoder,
            depth,
            left,
            start: decoder.position.get(),
            value_waits: false,
        }
    }

    /// Puts everything that was handed out behind us.
    #[inline]
    fn settle(&mut self) -> Result<(), Fault> {
        if self.decoder.damaged.get() {
            return Err(Fault::damaged("read on after damage"));
        }
        self.decoder.settle(self.start, self.depth)?;
        if self.value_waits {
            self.value_waits = false;
            self.decoder.skip(self.depth)?;
        }
        Ok(())
    }

    #[inline]
    fn hand_out(&mut self) -> Result<Token<'de, Bytes<'d, 'de>>, Fault> {
        self.start = self.decoder.position.get();
        self.decoder.read(self.depth)
    }

    fn finish(mut self) -> Result<(), Fault> {
        self.settle()?;
        self.decoder.open.set(self.depth.saturating_sub(1));
        Ok(())
    }
}

impl<'d, 'de> ListSource<'de> for Part<'d, 'de> {
    type Source = Bytes<'d, 'de>;

    fn left(&self) -> usize {
        self.left
    }

    #[inline]
    fn next(&mut self) -> Result<Option<Token<'de, Bytes<'d, 'de>>>, Fault> {
        self.settle()?;
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.hand_out().map(Some)
    }

    fn close(self) -> Result<(), Fault> {
        self.finish()
    }
}

impl<'d, 'de> MapSource<'de> for Part<'d, 'de> {
    type Source = Bytes<'d, 'de>;

    fn left(&self) -> usize {
        self.left
    }

    #[inline]
    fn next_key(&mut self) -> Result<Option<&'de str>, Fault> {
        self.settle()?;
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let key = self.decoder.text()?;
        self.value_waits = true;
        Ok(Some(key))
    }

    #[inline]
    fn value(&mut self) -> Result<Token<'de, Bytes<'d, 'de>>, Fault> {
        if !self.value_waits {
            return Err(Fault::mismatch("a value was asked for before its key"));
        }
        self.value_waits = false;
        self.hand_out()
    }

    fn close(self) -> Result<(), Fault> {
        self.finish()
    }
}
