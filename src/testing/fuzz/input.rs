//! Owns reading a fuzz input: choices and parts, taken from the front. Behind the end
//! everything is zero, so that every input means something, and a short one is simple.
//!
//! Not the crate `arbitrary`: it takes lengths from the back, so that no seed could be
//! written by hand, and the meaning of a corpus would change with its releases.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `count` bytes, fewer at the end.
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(super) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `bound`, from one byte, or from two where one cannot reach it.
    /// 0 if `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        match bound {
            0 => 0,
            1..=256 => usize::from(self.u8()) % bound,
            _ => usize::from(self.u16()) % bound,
        }
    }

    /// One of them. There is at least one.
    pub(super) fn one_of<'t, T>(&mut self, them: &'t [T]) -> &'t T {
        &them[self.below(them.len())]
    }

    pub(super) fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// Up to 255 bytes, after their length.
    pub(super) fn chunk(&mut self) -> &'a [u8] {
        let len = usize::from(self.u8());
        self.take(len)
    }

    /// Up to 65,535 bytes, after their length.
    pub(super) fn long_chunk(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16());
        self.take(len)
    }

    /// Text of a [`chunk`](Self::chunk), whatever its bytes are.
    pub(super) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.chunk()).into_owned()
    }

    /// A number, often one at an edge.
    pub(super) fn number(&mut self) -> u64 {
        match self.u8() {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => u64::MAX - 1,
            4 => i64::MAX.cast_unsigned(),
            5 => 1 << 63,
            6 => u64::from(u32::MAX),
            7 => 1 << 32,
            8 => u64::MAX - (1 << 24),
            9 => u64::from(self.u8()),
            10 => u64::from(self.u16()),
            11 => u64::from(self.u32()),
            12 => self.u64(),
            small => u64::from(small) - 12,
        }
    }
}
