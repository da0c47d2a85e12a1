//! Owns the body of a commit frame: what a commit did, as resulting values, so
//! that replaying it twice changes nothing.
//!
//! ```text
//! body    := schema varint, origin bytes, op*
//! op      := 1 scope bytes          the ops that follow are in this scope
//!          | 2 key bytes cell bytes  put
//!          | 3 key bytes             delete
//!          | 4                       clear the scope; comes before its puts
//! bytes   := length varint, that many bytes
//! varint  as bincode writes it: one byte below 251; 251, 252 or 253 and then a
//!            u16, u32 or u64, little endian
//! ```
//! `schema` is the schema version of the values (0: none declared) and `origin`
//! names the job or routine that made the commit (empty: none). `scope` is the
//! encoding of a scope, `key` the raw key, `cell` a value with its fields
//! (`state::cell`).

use std::sync::Arc;

use crate::codec::primitive::{Reader, put_bytes, put_varint};
use crate::codec::scratch::Scratch;
use crate::scope::Scope;

const SCOPE: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const CLEAR: u8 = 4;

/// Makes a body, op by op.
#[derive(Debug)]
pub(crate) struct BodyWriter {
    schema: u32,
    bytes: Scratch,
}

impl BodyWriter {
    pub(crate) fn new(schema: u32) -> Self {
        let mut bytes = Scratch::take();
        put_varint(&mut bytes, u64::from(schema));
        put_bytes(&mut bytes, &[]);
        Self { schema, bytes }
    }

    /// The schema version that it says.
    pub(crate) fn schema(&self) -> u32 {
        self.schema
    }

    pub(crate) fn scope(&mut self, scope: &[u8]) {
        self.bytes.push(SCOPE);
        put_bytes(&mut self.bytes, scope);
    }

    pub(crate) fn write(&mut self, key: &[u8], cell: &Option<Arc<[u8]>>) {
        match cell {
            Some(cell) => {
                self.bytes.push(PUT);
                put_bytes(&mut self.bytes, key);
                put_bytes(&mut self.bytes, cell);
            }
            None => {
                self.bytes.push(DELETE);
                put_bytes(&mut self.bytes, key);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.push(CLEAR);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What one op of a body does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyOp<'a> {
    Scope(&'a [u8]),
    Put(&'a [u8], &'a [u8]),
    Delete(&'a [u8]),
    Clear,
}

/// Reads the ops of a body in order. `Err` says where it makes no sense.
pub(crate) fn read_body<'a>(
    body: &'a [u8],
    mut visitor: impl FnMut(BodyOp<'a>) -> crate::error::Result<()>,
) -> Result<crate::error::Result<()>, String> {
    let mut reader = Reader::new(body);
    let malformed = |at: usize| format!("the commit makes no sense at byte {at} of its body");
    if read_schema(&mut reader).zip(reader.bytes()).is_none() {
        return Err(malformed(0));
    }
    while reader.remaining() > 0 {
        let at = reader.position();
        let op = match reader.u8() {
            Some(SCOPE) => reader.bytes().filter(is_scope).map(BodyOp::Scope),
            Some(PUT) => reader
                .bytes()
                .zip(reader.bytes())
                .map(|(key, cell)| BodyOp::Put(key, cell)),
            Some(DELETE) => reader.bytes().map(BodyOp::Delete),
            Some(CLEAR) => Some(BodyOp::Clear),
            _ => None,
        };
        let Some(op) = op else {
            return Err(malformed(at));
        };
        if let Err(e) = visitor(op) {
            return Ok(Err(e));
        }
    }
    Ok(Ok(()))
}

/// The schema version that a body says; `None` where it makes no sense.
pub(crate) fn schema_of(body: &[u8]) -> Option<u32> {
    read_schema(&mut Reader::new(body))
}

fn read_schema(reader: &mut Reader<'_>) -> Option<u32> {
    reader
        .varint()
        .and_then(|schema| u32::try_from(schema).ok())
}

/// Whether bytes are the encoding of a scope, and nothing more. What is not would be in
/// no list of scopes and in no handle's reach, and no image could hold it.
fn is_scope(prefix: &&[u8]) -> bool {
    Scope::decode(prefix).is_some_and(|(_, len)| len == prefix.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_reads_back() {
        let mut writer = BodyWriter::new(0);
        writer.scope(&Scope::custom("s").encode());
        writer.clear();
        writer.write(b"k", &Some(Arc::from(b"v".as_slice())));
        writer.write(b"d", &None);
        let mut ops = Vec::new();
        let bytes = writer.bytes().to_vec();
        read_body(&bytes, |op| {
            ops.push(op);
            Ok(())
        })
        .unwrap()
        .unwrap();
        assert_eq!(
            ops,
            [
                BodyOp::Scope(&Scope::custom("s").encode()),
                BodyOp::Clear,
                BodyOp::Put(b"k", b"v"),
                BodyOp::Delete(b"d")
            ]
        );
    }

    #[test]
    fn a_cut_body_is_refused() {
        let mut writer = BodyWriter::new(0);
        writer.scope(&Scope::custom("scope").encode());
        let bytes = writer.bytes();
        assert!(read_body(&bytes[..bytes.len() - 1], |_| Ok(())).is_err());
    }

    #[test]
    fn a_scope_that_is_none_is_refused() {
        let whole = Scope::workflow("w").encode();
        let cut = whole.len() - 1;
        for prefix in [&b""[..], b"s", &whole[..cut], &[&whole[..], b"x"].concat()] {
            let mut writer = BodyWriter::new(0);
            writer.scope(prefix);
            writer.clear();
            assert!(read_body(writer.bytes(), |_| Ok(())).is_err(), "{prefix:?}");
        }
    }
}
